package conformance

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// option returns a socket option of a connection, whose type must be exactly *net.TCPConn.
func option(t *testing.T, c net.Conn, level, name int) (value int) {
	t.Helper()
	require.IsType(t, (*net.TCPConn)(nil), c)
	raw, err := c.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) { value, failed = unix.GetsockoptInt(int(fd), level, name) }))
	require.NoError(t, failed)
	return value
}
