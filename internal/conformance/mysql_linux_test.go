package conformance

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockdiag"
)

// startMariaDB starts a server at the given addresses until the test ends. It accepts every user and has no tables.
func startMariaDB(t *testing.T, at []netip.AddrPort, hosts string) {
	t.Helper()
	mariadbd := program(t, "mariadbd", "/usr/sbin/mariadbd")
	dir := serverDir(t)
	server := command(t, dir, mariadbd, "--no-defaults", "--skip-grant-tables", "--skip-name-resolve",
		"--skip-innodb", "--default-storage-engine=MyISAM", "--datadir="+dir, "--socket="+filepath.Join(dir, "socket"),
		"--pid-file="+filepath.Join(dir, "pid"), fmt.Sprint("--port=", at[0].Port()), "--bind-address="+hosts)
	startServer(t, server, func() bool {
		db := openMySQL(mysqlConfig(at[0]))
		defer db.Close()
		return db.Ping() == nil
	})
}

func mysqlConfig(server netip.AddrPort) *mysql.Config {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", server.String()
	config.Logger = new(mysql.NopLogger) // it logs each attempt that fails before the server is ready
	return config
}

func openMySQL(config *mysql.Config) *sql.DB {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		panic(err)
	}
	return sql.OpenDB(connector)
}

// go-sql-driver/mysql with DialFunc. It switches keepalive on if the connection is a *net.TCPConn. To see that, the
// dialer here leaves keepalive off. It looks for a syscall.Conn before it uses a connection again.
func TestMySQL(t *testing.T) {
	for name, raw := range map[string]bool{"DialContext": false, "Tracker": true} {
		t.Run(name, func(t *testing.T) {
			if !netns.Isolate(t) {
				return
			}
			at, hosts := serverAt(3306)
			startMariaDB(t, at, hosts)
			d := newDialer()
			d.NetDialer = &net.Dialer{KeepAlive: -1}
			if raw {
				d.Tracker = newTracker(t)
			}
			testMySQL(t, d, at)
		})
	}
}

func testMySQL(t *testing.T, d *dialer.Dialer, at []netip.AddrPort) {
	t.Helper()
	var dialled opened[net.Conn]
	var dbs opened[*sql.DB]
	forEach(at, func(server netip.AddrPort, _ int) error {
		config := mysqlConfig(server)
		config.DialFunc = d.DialContext
		dial := config.DialFunc
		config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialled.keep(dial(ctx, network, addr))
		}
		db := openMySQL(config)
		dbs.add(db)
		return db.PingContext(t.Context())
	}).wait(t)
	for _, db := range dbs.all {
		require.NoError(t, db.PingContext(t.Context())) // again, on the existing connection
	}
	requireShared(t, sockdiag.TCP, at)
	require.Len(t, dialled.all, each*servers)
	if d.Tracker != nil {
		for _, c := range dialled.all {
			require.Equal(t, 1, option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE))
		}
	}
	dbs.close(t)
	requireNothingHeld(t, d)
}
