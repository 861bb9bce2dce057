package cooling

// slab is the memory of the items. They name each other by index instead of by pointer, so that the garbage collector
// does not look at them. Index 0 means no item.
//
// A circular buffer for each series would be as fast at Add and Pop with one delay. With several delays and 10,000
// items or more it would be up to a third faster, because the items of a series would lie together. But no item could
// leave it from the middle, so an Ordered Queue would still need the slab. Buffers that double also take more memory:
// 40 to 80 bytes an item instead of 48 to 60 with one delay, and twice as much as the slab if all delays differ.
type slab[K comparable] struct {
	nodes []node[K] // the first is not in use
	free  uint32    // the node to use next, 0 if none is free; node.next links the free ones
	freed uint32    // the last of the free ones
}

type node[K comparable] struct {
	key    K
	hold   uint64
	until  int64
	next   uint32 // the next one in its series, 0 if it is the last
	series uint32
}

// take returns the index of a node that is not in use: the one that has been free longest. Items that come and go in
// the same order then lie in that order in memory.
func (s *slab[K]) take() uint32 {
	if i := s.free; i != 0 {
		s.free = s.nodes[i].next
		return i
	}
	if len(s.nodes) == 0 {
		s.nodes = make([]node[K], 1, 4)
	}
	i := uint32(len(s.nodes))
	if i == 0 {
		panic("cooling: a queue is full")
	}
	s.nodes = append(s.nodes, node[K]{})
	return i
}

// give makes node i one that is not in use.
func (s *slab[K]) give(i uint32) {
	s.nodes[i].next = 0
	if s.free == 0 {
		s.free = i
	} else {
		s.nodes[s.freed].next = i
	}
	s.freed = i
}

// smallSlab is how many nodes are too few for shrink.
const smallSlab = 16

// shrink gives memory back if at most a quarter of the nodes is in use.
//
// A series that is not idle has an item, and so has a line. The number of nodes therefore bounds all that a Queue
// allocates, and all of it is rebuilt together. Three quarters of the nodes come free before that, so the cost of a
// removal is O(1), amortised.
func (q *Queue[K, C]) shrink() {
	if len(q.slab.nodes) > smallSlab && q.len <= len(q.slab.nodes)/4 {
		q.rebuild()
	}
}

// rebuild moves all items to new memory, series by series. In the old nodes, series becomes the index of the new one.
func (q *Queue[K, C]) rebuild() {
	old, from := q.slab.nodes, q.schedule
	q.schedule = schedule{}
	nodes := make([]node[K], 1, max(4, q.len+1))
	for at := range from.heap {
		s := from.series[from.heap[at].series]
		id := q.schedule.find(s.kind, s.delay)
		first := uint32(len(nodes))
		for i := s.first; i != 0; i = old[i].next {
			n := old[i]
			n.series, n.next = id, uint32(len(nodes))+1
			old[i].series = uint32(len(nodes))
			nodes = append(nodes, n)
		}
		last := uint32(len(nodes)) - 1
		nodes[last].next = 0
		to := &q.schedule.series[id]
		to.first, to.last = first, last
		q.schedule.start(id, nodes[first].until)
	}
	q.slab = slab[K]{nodes: nodes}
	if q.Ordered {
		q.lines.move(nodes, old)
	}
}
