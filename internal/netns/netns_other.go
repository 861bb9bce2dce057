//go:build !linux

package netns

import (
	"net/netip"
	"runtime"
	"testing"
)

// Isolate skips the test: only Linux has network namespaces. It does not return.
func Isolate(t *testing.T, sysctls ...string) (inside bool) {
	t.Helper()
	for _, s := range sysctls {
		setting(t, s)
	}
	t.Skipf("netns: %s has no network namespaces", runtime.GOOS)
	return false
}

// AddAddr fails the test: it is never inside a private network.
func AddAddr(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	t.Fatalf("netns: %s would be added to the host's own network; %s has no private ones", prefix, runtime.GOOS)
}

// AddRoute fails the test as AddAddr does.
func AddRoute(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	AddAddr(t, prefix)
}
