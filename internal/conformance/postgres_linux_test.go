package conformance

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// postgresTool finds a program of PostgreSQL, which Debian keeps off the PATH.
func postgresTool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	require.NoError(t, err)
	if len(found) == 0 {
		t.Skipf("no %s on the PATH, nor in /usr/lib/postgresql/*/bin: install PostgreSQL's server", name)
	}
	return slices.Max(found)
}

// nobodyOf returns the attributes of a process that is nobody, to whom dir then belongs: PostgreSQL refuses to be root, which
// the user of a private network is. Where root is the only user of the namespace, it is nobody in a namespace of its own.
func nobodyOf(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	const nobody = 65534
	if os.Chown(dir, nobody, nobody) == nil {
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	id := []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: id, GidMappings: id}
}

// startPostgres starts a server at the given addresses, for the user postgres, until the test ends.
func startPostgres(t *testing.T, at []netip.AddrPort) {
	t.Helper()
	initdb, postgres := postgresTool(t, "initdb"), postgresTool(t, "postgres")
	dir, err := os.MkdirTemp("", "ephemera-postgres")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
		cmd.SysProcAttr = nobodyOf(t, dir)
		return cmd
	}
	output, err := run(initdb, "--no-sync", "--username=postgres", "--encoding=UTF8", "--pgdata="+data).CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.NoError(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("host all all 127.0.0.0/8 trust\n"), 0o600))

	var hosts []string
	for _, a := range at {
		hosts = append(hosts, a.Addr().String())
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	server := run(postgres, "-D", data, "-p", strconv.Itoa(int(at[0].Port())), "-c", "listen_addresses="+strings.Join(hosts, ","),
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=1MB")
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
	require.Eventually(t, func() bool {
		c, err := pgx.Connect(context.Background(), postgresURL(at[0]))
		return err == nil && c.Close(context.Background()) == nil
	}, soon, 10*time.Millisecond, "what the server says: %v", fileText{log.Name()})
}

// fileText is the text of a file at the time when it is printed.
type fileText struct{ name string }

func (f fileText) String() string {
	text, err := os.ReadFile(f.name)
	return fmt.Sprintf("%s (%v)", text, err)
}

func postgresURL(server netip.AddrPort) string {
	return "postgres://postgres@" + server.String() + "/postgres?sslmode=disable"
}

// pgx, by the DialFunc of its Config.
func TestPostgres(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	var at []netip.AddrPort
	for i := range servers {
		at = append(at, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), 5432))
	}
	startPostgres(t, at)
	d := newDialer()
	var mu sync.Mutex
	var conns []*pgx.Conn
	forEach(at, func(server netip.AddrPort, _ int) error {
		config, err := pgx.ParseConfig(postgresURL(server))
		if err != nil {
			return err
		}
		config.DialFunc = d.DialContext
		c, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			return err
		}
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		return c.Ping(t.Context())
	}).wait(t)
	requireShared(t, sockdiag.TCP, at)
	for _, c := range conns { // PostgreSQL sees the port that the pool gave
		var port uint16
		require.NoError(t, c.QueryRow(t.Context(), "select inet_client_port()").Scan(&port))
		require.Contains(t, []uint16{inRange, outside}, port)
		require.NoError(t, c.Close(t.Context()))
	}
	requireNothingHeld(t, d)
}
