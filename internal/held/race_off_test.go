//go:build !race

package held_test

const raceEnabled = false
