package dialer

import (
	"bytes"
	"runtime"
)

// inBubble reports whether the calling goroutine is in a testing/synctest bubble. The first line of its stack tells:
// "goroutine 7 [running, synctest bubble 1]:".
func inBubble() bool {
	var header [128]byte
	line, _, _ := bytes.Cut(header[:runtime.Stack(header[:], false)], []byte("\n"))
	return bytes.Contains(line, []byte("synctest bubble"))
}
