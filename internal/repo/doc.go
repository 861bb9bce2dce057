// Package repo holds the rules of this repository that no compiler checks, as
// tests: who imports whom, what is documented, what the root module requires.
package repo
