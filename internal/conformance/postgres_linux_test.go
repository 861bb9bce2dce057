package conformance

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// startPostgres starts a server for the user postgres at the given addresses, until the test ends.
func startPostgres(t *testing.T, at []netip.AddrPort, hosts string) {
	t.Helper()
	const pattern = "/usr/lib/postgresql/*/bin/"
	initdb, postgres := program(t, "initdb", pattern+"initdb"), program(t, "postgres", pattern+"postgres")
	dir := serverDir(t)
	data := filepath.Join(dir, "data")
	output, err := command(t, dir, initdb,
		"--no-sync", "--username=postgres", "--encoding=UTF8", "--pgdata="+data).CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.NoError(t, os.WriteFile(
		filepath.Join(data, "pg_hba.conf"), []byte("host all all 127.0.0.0/8 trust\n"), 0o600))
	server := command(t, dir, postgres, "-D", data, "-p", strconv.Itoa(int(at[0].Port())),
		"-c", "listen_addresses="+hosts, "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=1MB")
	startServer(t, server, func() bool {
		c, err := pgx.Connect(context.Background(), postgresURL(at[0]))
		return err == nil && c.Close(context.Background()) == nil
	})
}

func postgresURL(server netip.AddrPort) string {
	return "postgres://postgres@" + server.String() + "/postgres?sslmode=disable"
}

// pgx with the DialFunc of its Config.
func TestPostgres(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	at, hosts := serverAt(5432)
	startPostgres(t, at, hosts)
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
