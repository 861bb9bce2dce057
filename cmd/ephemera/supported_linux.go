package main

// supported returns an error if the command does not work on this system.
func supported() error { return nil }
