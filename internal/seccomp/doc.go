// Package seccomp makes the kernel refuse a system call in a test, or accept it and do nothing, as in a sandbox.
package seccomp
