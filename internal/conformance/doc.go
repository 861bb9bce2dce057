// Package conformance holds the dialer to what others expect of it: the tests that golang.org/x/net has for every
// net.Conn, and the libraries that take a dialer, each through its own hook, with servers of their own. It is a
// module of its own so that whoever imports ephemera does not inherit them.
package conformance
