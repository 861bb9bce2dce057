// Package seccomp lets a test see what a sandbox does to a program: the kernel refuses a system call, or accepts it
// and does nothing.
package seccomp
