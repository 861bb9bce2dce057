package dialer_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/dialer"
	"github.com/ephemera-go/ephemera/internal/netns"
)

// bytesRead returns how many bytes this process got from read(2) and similar calls (proc_pid_io(5)). Bytes that
// splice(2) moves do not count.
func bytesRead(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("the kernel keeps no account of what a process reads:", err)
	}
	_, err = fmt.Sscanf(string(text), "rchar: %d", &n)
	require.NoError(t, err)
	return n
}

// stream is what one goroutine copies from src to dst. The test writes to in, and expects the bytes at out.
type stream struct {
	in  *net.TCPConn
	src io.Reader
	dst io.Writer
	out *net.TCPConn
}

// io.Copy between two connections splices in each direction of a proxy, wherever the connections come from. Only the
// bytes that the test itself reads enter the process.
func TestCopySplices(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	to := listen(t, "tcp", "127.0.0.1:9000")
	d := &dialer.Dialer{TCP: pool("1024-65535")}
	sent := bytes.Repeat([]byte("through "), 1<<17)
	all := func(dst io.Writer, src io.Reader) (int64, error) { return io.Copy(dst, src) }
	some := func(dst io.Writer, src io.Reader) (int64, error) { return io.CopyN(dst, src, int64(len(sent))) }
	for _, c := range []struct {
		name string
		// x and y were dialled. ax and ay are their accepted ends.
		streams func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) []stream
		copy    func(dst io.Writer, src io.Reader) (int64, error)
		copies  int // how many streams bring their bytes into the process
	}{
		{"dialled and dialled", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) []stream {
			return []stream{{ax, x, y, ay}, {ay, y, x, ax}}
		}, all, 0},
		{"accepted and dialled", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) []stream {
			return []stream{{x.TCPConn, ax, y, ay}, {ay, y, ax, x.TCPConn}}
		}, all, 0},
		// An io.LimitedReader hides the type of what it reads, and only of net's own does net look into it.
		{"a part, by NetConn", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) []stream {
			return []stream{{ax, x.NetConn(), y, ay}, {ay, y.NetConn(), x, ax}}
		}, some, 0},
		{"this test sees what does not", func(x, y *dialer.TCPConn, ax, ay *net.TCPConn) []stream {
			return []stream{{ax, struct{ io.Reader }{x}, y, ay}, {ay, y, x, ax}}
		}, all, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := dial(t, d, to.addr())
			ax := to.accept(t, x)
			y := dial(t, d, to.addr())
			ay := to.accept(t, y)
			streams := c.streams(x, y, ax, ay)

			before := bytesRead(t)
			var running sync.WaitGroup
			for _, s := range streams {
				deadline := time.Now().Add(soon)
				require.NoError(t, s.in.SetDeadline(deadline))
				running.Go(func() { c.copy(s.dst, s.src) })
				running.Go(func() {
					s.in.Write(sent)
					s.in.CloseWrite()
				})
				running.Go(func() {
					got := make([]byte, len(sent))
					n, err := io.ReadFull(s.out, got)
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d bytes of %d arrive as they were sent: %v", n, len(sent), err)
					}
				})
			}
			running.Wait()
			read := bytesRead(t) - before - len(streams)*len(sent)
			require.Less(t, read, c.copies*len(sent)+len(sent)/2)
			require.GreaterOrEqual(t, read, c.copies*len(sent))
		})
	}
}
