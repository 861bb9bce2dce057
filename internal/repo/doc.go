// Package repo tests the rules of this repository that no compiler checks: which package may import which, what must be
// documented, and what the root module requires.
package repo
