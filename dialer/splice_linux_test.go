package dialer_test

import (
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
)

func openPipes(t *testing.T) (n int) {
	for _, f := range openFiles(t) {
		if strings.HasPrefix(f, "pipe:") {
			n++
		}
	}
	return n
}

// io.Copy between two connections splices, in both directions, wherever one of them came from: the pipe that splice(2)
// needs is open meanwhile.
func TestCopySplices(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	d := &dialer.Dialer{TCP: pool("1024-65535")}
	idle := openPipes(t)
	for _, c := range []struct {
		name string
		ends func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) (dst io.Writer, src io.Reader, in, out *net.TCPConn)
	}{
		{"dialled to dialled", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) (io.Writer, io.Reader, *net.TCPConn, *net.TCPConn) {
			return y, x, ax, ay
		}},
		{"accepted to dialled", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) (io.Writer, io.Reader, *net.TCPConn, *net.TCPConn) {
			return y, ax, x.TCPConn, ay
		}},
		{"dialled to accepted", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) (io.Writer, io.Reader, *net.TCPConn, *net.TCPConn) {
			return ay, x, ax, y.TCPConn
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := dial(t, d, to.addr())
			ax := to.accept(t, x)
			y := dial(t, d, to.addr())
			ay := to.accept(t, y)
			dst, src, in, out := c.ends(x, y, ax, ay)

			before := -1
			require.Eventually(t, func() bool { // package net keeps a pipe for the next time, until it is collected
				runtime.GC()
				before = openPipes(t)
				return before == idle
			}, soon, time.Millisecond)
			var copying sync.WaitGroup
			copying.Go(func() { io.Copy(dst, src) })
			_, err := in.Write([]byte("through"))
			require.NoError(t, err)
			got := make([]byte, len("through"))
			_, err = io.ReadFull(out, got)
			require.NoError(t, err)
			require.Equal(t, "through", string(got))
			require.Equal(t, before+2, openPipes(t), "both ends of the pipe")
			require.NoError(t, in.Close())
			copying.Wait()
		})
	}
}
