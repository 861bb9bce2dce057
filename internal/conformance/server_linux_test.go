package conformance

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program finds a program of a server's, which Debian keeps off the PATH: where the pattern says.
func program(t *testing.T, name, pattern string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob(pattern)
	require.NoError(t, err)
	if len(found) == 0 {
		t.Skipf("no %s on the PATH, nor at %s: install the server that it belongs to", name, pattern)
	}
	return slices.Max(found)
}

// serverDir makes a directory for a server, until the test ends. It has a name short enough for a socket in it.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ephemera-server")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// command is one to be run by nobody, to whom dir then belongs.
func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = nobodyOf(t, dir)
	return cmd
}

// nobodyOf returns the attributes of a process that is nobody, to whom dir then belongs: the servers refuse to be
// root, which the user of a private network is. Where root is the only user of the namespace, it is nobody in a
// namespace of its own.
func nobodyOf(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	const nobody = 65534
	if os.Chown(dir, nobody, nobody) == nil {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	id := []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id, GidMappings: id}
}

// serverAt returns addresses for a server that differ in the host alone.
func serverAt(port uint16) (at []netip.AddrPort, hosts string) {
	var all []string
	for i := range servers {
		host := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)})
		at = append(at, netip.AddrPortFrom(host, port))
		all = append(all, host.String())
	}
	return at, strings.Join(all, ",")
}

// startServer starts a server until the test ends, which SIGQUIT ends as well, and waits until it answers.
func startServer(t *testing.T, server *exec.Cmd, answers func() bool) {
	t.Helper()
	log, err := os.Create(filepath.Join(server.Dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	server.SysProcAttr.Pdeathsig = syscall.SIGQUIT // when the thread ends that started it
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			server.Wait()
		}
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT) // to its children as well, without ado
		<-ended
	})
	require.Eventually(t, answers, soon, 10*time.Millisecond, "what the server says: %v", fileText{log.Name()})
}

// fileText is the text of a file at the time when it is printed.
type fileText struct{ name string }

func (f fileText) String() string {
	text, err := os.ReadFile(f.name)
	return fmt.Sprintf("%s (%v)", text, err)
}
