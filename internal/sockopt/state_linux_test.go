package sockopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

func read(t *testing.T, fd int) sockopt.State {
	t.Helper()
	s, err := sockopt.Read(fd)
	require.NoError(t, err)
	return s
}

func linger(t *testing.T, fd int, on, seconds int32) {
	t.Helper()
	l := &unix.Linger{Onoff: on, Linger: seconds}
	require.NoError(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, l))
}

// receive reads until the peer has closed, or to the last byte.
func receive(t *testing.T, fd int, want string) {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Read(fd, buf)
	require.NoError(t, err)
	require.Equal(t, want, string(buf[:n]))
}

func send(t *testing.T, fd int, text string) {
	t.Helper()
	_, err := unix.Write(fd, []byte(text))
	require.NoError(t, err)
}

func TestReadTellsHowTheConnectionStands(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.tcp_timestamps=1") {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		client, server := f.pair(t)
		s := read(t, client)
		require.Positive(t, s.RTT)
		require.Equal(t, sockopt.State{TCP: sockopt.Established, Timestamps: true, RTT: s.RTT}, s)

		t.Run("closed by the peer", func(t *testing.T) {
			client, server := f.pair(t)
			require.NoError(t, unix.Close(server))
			receive(t, client, "")
			linger(t, client, 1, 0)
			s := read(t, client)
			require.Equal(t, sockopt.State{TCP: sockopt.CloseWait, Timestamps: true, RTT: s.RTT}, s)
		})
		t.Run("shut down", func(t *testing.T) {
			client, server := f.pair(t)
			require.NoError(t, unix.Shutdown(client, unix.SHUT_WR))
			receive(t, server, "")
			require.Contains(t, []uint8{sockopt.FinWait1, sockopt.FinWait2}, read(t, client).TCP)
			require.EqualValues(t, sockopt.CloseWait, read(t, server).TCP)
		})
		t.Run("reset", func(t *testing.T) {
			client, server := f.pair(t)
			require.NoError(t, unix.BindToDevice(client, "lo"))
			linger(t, server, 1, 0)
			require.NoError(t, unix.Close(server))
			_, err := unix.Read(client, make([]byte, 1))
			require.ErrorIs(t, err, unix.ECONNRESET)
			s := read(t, client)
			require.EqualValues(t, sockopt.Close, s.TCP)
			require.Equal(t, sockopt.Path{Device: "lo"}, s.Path)
			require.Equal(t, sockopt.Namespace(client), s.Namespace)
		})
		require.EqualValues(t, sockopt.Established, read(t, server).TCP)
	})
}

func TestReadTellsWhatCloseWillDo(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		client, server := f.pair(t)
		for _, l := range [][2]int32{{0, 0}, {1, 5}, {1, 0}, {0, 5}, {0, 0}} {
			linger(t, client, l[0], l[1])
			require.Equal(t, l == [2]int32{1, 0}, read(t, client).Abort, "%v", l)
		}
		require.False(t, read(t, client).Unread)
		send(t, server, "unread")
		await(t, client, unix.POLLIN)
		require.NoError(t, unix.BindToDevice(client, "lo"))
		s := read(t, client)
		require.True(t, s.Unread)
		require.Equal(t, sockopt.Path{Device: "lo"}, s.Path)
		require.Equal(t, sockopt.Namespace(client), s.Namespace)
		receive(t, client, "unread")
		s = read(t, client)
		require.False(t, s.Unread)
		require.Zero(t, s.Path)

		send(t, server, "again")
		await(t, client, unix.POLLIN)
		linger(t, client, 1, 0) // then it does not matter
		s = read(t, client)
		require.True(t, s.Abort && !s.Unread)
		require.Equal(t, sockopt.Established, int(s.TCP))
	})
}

func TestReadTellsThatThereAreNoTimestamps(t *testing.T) {
	if !netns.Isolate(t, "net.ipv4.tcp_timestamps=0") {
		return
	}
	eachFamily(t, func(t *testing.T, f family) {
		client, _ := f.pair(t)
		require.False(t, read(t, client).Timestamps)
	})
}

func TestReadOfWhatIsNoConnection(t *testing.T) {
	eachFamily(t, func(t *testing.T, f family) {
		fd := f.tcp(t)
		s := read(t, fd)
		require.Equal(t, sockopt.State{TCP: sockopt.Close, Namespace: sockopt.Namespace(fd)}, s)
		_, err := sockopt.Read(f.socket(t, unix.SOCK_DGRAM, 0))
		require.Error(t, err)
	})
	_, err := sockopt.Read(closed(t))
	require.ErrorIs(t, err, unix.EBADF)
	require.ErrorContains(t, err, "TCP_INFO")
}

func TestReadDoesNotAllocate(t *testing.T) {
	client, _ := families[0].pair(t)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = sockopt.Read(client) }))
}
