package cooling

import "time"

// schedule is the order of time. The items of one kind and delay are a series: they come free in the order in which
// they came. A heap orders the series by the times of their first items. Programs use few delays, so it is small.
type schedule struct {
	series  []series                        // the first is not in use
	free    uint32                          // a series that is not in use, 0 if there is none; last links them
	heap    []due                           // of the series that have items; the parent of i is (i-1)/2
	byDelay [kinds]map[time.Duration]uint32 // of the series that have items or are idle
	busy    [kinds]int                      // how many have items
}

// series is the items of one kind and delay.
type series struct {
	delay       time.Duration // -1: they have no time
	first, last uint32        // first is 0 if there are none
	at          uint32        // its index in the heap
	kind        Kind
}

// due is when the first item of a series comes free.
type due struct {
	until  int64
	series uint32
}

// idleSeries bounds how many series of a kind are idle: they have no items, and are kept for the next one of their
// delay.
const idleSeries = 8

// find returns the series of a kind and a delay. It adds the series if there is none.
func (c *schedule) find(kind Kind, delay time.Duration) uint32 {
	if id, ok := c.byDelay[kind][delay]; ok {
		return id
	}
	if c.byDelay[kind] == nil {
		c.byDelay[kind] = map[time.Duration]uint32{}
	}
	id := c.free
	if id != 0 {
		c.free = c.series[id].last
	} else {
		if len(c.series) == 0 {
			c.series = make([]series, 1, 2)
		}
		id = uint32(len(c.series))
		c.series = append(c.series, series{})
	}
	c.series[id] = series{delay: delay, kind: kind}
	c.byDelay[kind][delay] = id
	return id
}

// next returns the time of the first item of all, Never if there is none.
func (c *schedule) next() int64 {
	if len(c.heap) == 0 {
		return Never
	}
	return c.heap[0].until
}

// first returns the first item of all. There must be one.
func (c *schedule) first() uint32 { return c.series[c.heap[0].series].first }

// start says that a series has an item now, and when the time of that comes.
func (c *schedule) start(id uint32, until int64) {
	c.busy[c.series[id].kind]++
	c.heap = append(c.heap, due{until, id})
	c.up(len(c.heap) - 1)
}

// advance says that the next item of s is the first now, and when the time of that comes.
func (c *schedule) advance(s *series, until int64) {
	at := int(s.at)
	c.heap[at].until = until
	c.down(at)
}

// stop says that a series has no items any more.
func (c *schedule) stop(id uint32) {
	s := &c.series[id]
	at, last := int(s.at), len(c.heap)-1
	moved := c.heap[last]
	c.heap = c.heap[:last]
	if at < last {
		c.put(at, moved)
		c.down(at)
		c.up(int(c.series[moved.series].at))
	}
	c.busy[s.kind]--
	if len(c.byDelay[s.kind])-c.busy[s.kind] > idleSeries {
		delete(c.byDelay[s.kind], s.delay)
		*s = series{last: c.free}
		c.free = id
	}
}

func (c *schedule) up(at int) {
	d := c.heap[at]
	for at > 0 {
		parent := (at - 1) / 2
		if c.heap[parent].until <= d.until {
			break
		}
		c.put(at, c.heap[parent])
		at = parent
	}
	c.put(at, d)
}

func (c *schedule) down(at int) {
	d := c.heap[at]
	for {
		child := 2*at + 1
		if child >= len(c.heap) {
			break
		}
		if right := child + 1; right < len(c.heap) && c.heap[right].until < c.heap[child].until {
			child = right
		}
		if d.until <= c.heap[child].until {
			break
		}
		c.put(at, c.heap[child])
		at = child
	}
	c.put(at, d)
}

func (c *schedule) put(at int, d due) {
	c.heap[at] = d
	c.series[d.series].at = uint32(at)
}
