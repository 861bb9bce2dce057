package main

import (
	"os"
	"testing"
)

// TestMain makes the test binary the command: the tests run it as `ephemera beyond`, and it runs itself as
// `ephemera worker`.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "beyond" || os.Args[1] == "worker") {
		main()
		return
	}
	os.Exit(m.Run())
}
