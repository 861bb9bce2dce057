//go:build !linux

package netns

import (
	"net/netip"
	"runtime"
	"testing"
)

// Isolate skips the test and does not return: only Linux has network namespaces.
func Isolate(t *testing.T, sysctls ...string) (inside bool) {
	t.Helper()
	for _, s := range sysctls {
		setting(t, s)
	}
	t.Skipf("netns: %s has no network namespaces", runtime.GOOS)
	return false
}

// AddAddr fails the test, which is never in a private network.
func AddAddr(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	t.Fatalf("netns: cannot change the host's network: %s has no private ones: add %s", runtime.GOOS, prefix)
}

// AddRoute fails the test as AddAddr does.
func AddRoute(t *testing.T, prefix netip.Prefix) {
	t.Helper()
	AddAddr(t, prefix)
}
