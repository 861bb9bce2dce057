//go:build linux

package main

import "math/rand/v2"

// filling is what a contender holds towards its destination.
type filling struct {
	holders
	contender *contender
	held      int
	taken     map[uint16]bool // by name, see next
}

// fill holds connections until there are n. Each contender fills in its own way, for that is what its dials then meet.
func (f *filling) fill(n int) error {
	var ports []uint16
	for ; f.held < n; f.held++ {
		port, err := f.next()
		if err != nil {
			return err
		}
		ports = append(ports, port)
	}
	return f.hold(f.contender, ports)
}

// next returns the port of the next connection, 0 if the kernel is to choose it.
//
// Where a pool chooses, it is that of this process: the choice and the account are then as if it held all by itself.
//
// For a LocalAddr, bind(2) takes the ports at odd distances from the first, and when they are gone searches all of them, some
// milliseconds each time, before it takes the others: 64,512 ports would take it four minutes. So those are named, and chosen
// as the kernel does: the next free one after one at random.
func (f *filling) next() (uint16, error) {
	c := f.contender
	switch {
	case c.pool != nil:
		t, err := c.pool.TryAcquire(c.to)
		return t.Src().Port(), err
	case c.source == nil || f.held < c.ports()/2:
		return 0, nil
	}
	if f.taken == nil {
		f.taken = map[uint16]bool{}
	}
	half := c.ports() / 2
	for i := rand.IntN(half); ; i++ {
		port := c.first + uint16(2*(i%half))
		if !f.taken[port] {
			f.taken[port] = true
			return port, nil
		}
	}
}
