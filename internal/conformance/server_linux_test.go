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

// program finds a program of a server on the PATH, or by the pattern, because Debian does not put it on the PATH.
func program(t *testing.T, name, pattern string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob(pattern)
	require.NoError(t, err)
	if len(found) == 0 {
		t.Skipf("cannot find %s on the PATH or at %s: install the server that it belongs to", name, pattern)
	}
	return slices.Max(found)
}

// serverDir makes a directory for a server, until the test ends. Its name is short enough for a Unix socket in it.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ephemera-server")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// command returns a command that runs as the user nobody, and makes nobody the owner of dir.
func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = nobodyOf(t, dir)
	return cmd
}

// nobodyOf returns the attributes of a process that runs as nobody, and makes nobody the owner of dir. The servers
// refuse to run as root, which is the user in a private network. If the namespace has no other user, the process gets a
// new user namespace, in which it is nobody.
func nobodyOf(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	const nobody = 65534
	if os.Chown(dir, nobody, nobody) == nil {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	id := []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id, GidMappings: id}
}

// serverAt returns addresses for a server, with the same port.
func serverAt(port uint16) (at []netip.AddrPort, hosts string) {
	var all []string
	for i := range servers {
		host := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)})
		at = append(at, netip.AddrPortFrom(host, port))
		all = append(all, host.String())
	}
	return at, strings.Join(all, ",")
}

// startServer starts a server, and waits until it answers. At the end of the test it stops the server with SIGQUIT.
func startServer(t *testing.T, server *exec.Cmd, answers func() bool) {
	t.Helper()
	log, err := os.Create(filepath.Join(server.Dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	server.SysProcAttr.Pdeathsig = syscall.SIGQUIT // when the thread that started it ends
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
		server.Process.Signal(syscall.SIGQUIT) // the server and its children end at once
		<-ended
	})
	require.Eventually(t, answers, soon, 10*time.Millisecond, "the server's log: %v", fileText{log.Name()})
}

// fileText prints as the text of a file, which it reads when it is printed.
type fileText struct{ name string }

func (f fileText) String() string {
	text, err := os.ReadFile(f.name)
	return fmt.Sprintf("%s (%v)", text, err)
}
