// Package waiting keeps who waits for what, first come, first served.
//
// Those who ask for the same are a [Flow], because what keeps one of them waiting keeps them all. A [Line] is the flows
// that wait for one thing, in the order in which their first waiters came. A [Room] bounds how many wait in some lines
// together, and divides its places fairly among owners. A [Hall] has the flows of one lock.
//
// The package knows nothing about what is waited for. Its caller holds a lock around each call, except for receiving
// from [Waiter.Got], and delivers what a waiter gets under that lock, so that nobody barges in.
package waiting
