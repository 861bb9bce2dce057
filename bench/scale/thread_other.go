//go:build !linux

package main

import "time"

// threadTime needs Linux.
func threadTime() (time.Duration, bool) { return 0, false }
