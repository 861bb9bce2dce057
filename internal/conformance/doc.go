// Package conformance tests the dialer with the code of others. It runs the tests of golang.org/x/net for a net.Conn,
// and libraries that accept a dialer, each through its own hook and with its own servers. It is a separate module, so
// that a program that imports ephemera does not inherit these libraries.
package conformance
