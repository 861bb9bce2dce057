// Package conformance holds the dialer's connections to the tests that golang.org/x/net has for every net.Conn. It is a
// module of its own so that whoever imports ephemera does not inherit golang.org/x/net.
package conformance
