package dialer_test

import (
	"testing"

	"github.com/ephemera-go/ephemera/dialer"
)

// A pool with more tuples than an int counts, such as a /8 on 32 bits, has a source even if something is held.
func TestWidePoolHasASource(t *testing.T) {
	d := &dialer.Dialer{TCP: pool("20000-29999", "127.0.0.0/8")}
	address := listen(t, "tcp4", "127.0.0.1:0").addr()
	for range 3 {
		dial(t, d, address)
	}
}
