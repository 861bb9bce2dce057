package sockopt_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ephemera-go/ephemera/internal/netns"
	"github.com/ephemera-go/ephemera/internal/sockopt"
)

// holds names the lock that a process of this binary is to take, in its environment.
const holds = "EPHEMERA_SOCKOPT_LOCK"

func TestMain(m *testing.M) {
	name := os.Getenv(holds)
	if name == "" {
		os.Exit(m.Run())
	}
	_, err := sockopt.Lock(name)
	fmt.Println(err)
	select {} // until it is killed
}

func TestLockHasOneHolder(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	unlock, err := sockopt.Lock("a")
	require.NoError(t, err)
	_, err = sockopt.Lock("a")
	require.ErrorIs(t, err, unix.EADDRINUSE)
	other, err := sockopt.Lock("b")
	require.NoError(t, err)
	unlock()
	unlock, err = sockopt.Lock("a")
	require.NoError(t, err)
	_, err = sockopt.Lock("b")
	require.ErrorIs(t, err, unix.EADDRINUSE)
	unlock()
	other()
}

func TestLockIsGivenBackByTheDead(t *testing.T) {
	if !netns.Isolate(t) {
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	holder := exec.Command(self)
	holder.Env = append(os.Environ(), holds+"=a")
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "<nil>\n", said)
	_, err = sockopt.Lock("a")
	require.ErrorIs(t, err, unix.EADDRINUSE)
	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())
	unlock, err := sockopt.Lock("a")
	require.NoError(t, err)
	unlock()
}
