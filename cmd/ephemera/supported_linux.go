package main

// supported says whether this system can do what the command does.
func supported() error { return nil }
