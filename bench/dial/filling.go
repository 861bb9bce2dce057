//go:build linux

package main

import "math/rand/v2"

// filling is what a contender holds towards the destination.
type filling struct {
	holders
	contender *contender
	held      int
	named     []bool // of the second half of the ports, see next
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
// Where a pool chooses, it is that of this process: choices and account are then as if this process held all.
//
// Otherwise the kernel fills one half: connect(2) takes the ports at even distances from the first and bind(2) those
// at odd ones. Then each searches all of those, up to some milliseconds, before it takes another: of 64,512 ports
// net.Dialer fills the other half in minutes. So that half is named: the next free port after one at random, much as
// the kernel chooses. It leaves the same state: with 28,232 ports of which net.Dialer chose all, and with half of
// them named, three times each in turns, it took 671-699 and 693-976 µs at 80 %, 712-774 and 683-750 at 99.9 %.
func (f *filling) next() (uint16, error) {
	c, half := f.contender, f.contender.ports()/2
	switch {
	case c.pool != nil:
		t, err := c.pool.TryAcquire(destination)
		return t.Src().Port(), err
	case c.name == "oneliner" || f.held < half:
		return 0, nil
	}
	if f.named == nil {
		f.named = make([]bool, half)
	}
	i := rand.IntN(half)
	for f.named[i] {
		i = (i + 1) % half
	}
	f.named[i] = true
	port := c.first + uint16(2*i)
	if c.name == "net" {
		port++
	}
	return port, nil
}
