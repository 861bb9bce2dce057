package shrink

import "container/heap"

// Element is what a Heap holds: something with an order, which remembers where it lies.
type Element[T any] interface {
	Before(other T) bool
	Place() *int // where the Heap notes the index
}

// Heap is a binary heap whose elements can be removed and moved. It is a slice in heap order, with the first element at
// index 0. Its capacity shrinks with its length. The zero Heap is empty and ready to use. It is not safe for concurrent
// use.
type Heap[T Element[T]] []T

// Add puts in an element.
func (h *Heap[T]) Add(x T) { heap.Push((*adapter[T])(h), x) }

// Remove takes out an element, which must be in.
func (h *Heap[T]) Remove(x T) { heap.Remove((*adapter[T])(h), *x.Place()) }

// Moved puts an element, which must be in, where it belongs after its order has changed.
func (h *Heap[T]) Moved(x T) { heap.Fix((*adapter[T])(h), *x.Place()) }

// adapter is the heap.Interface of a Heap.
type adapter[T Element[T]] []T

func (h adapter[T]) Len() int           { return len(h) }
func (h adapter[T]) Less(i, j int) bool { return h[i].Before(h[j]) }

func (h adapter[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].Place(), *h[j].Place() = i, j
}

func (h *adapter[T]) Push(x any) {
	*x.(T).Place() = len(*h)
	*h = append(*h, x.(T))
}

func (h *adapter[T]) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	clear((*h)[last:])
	*h = (*h)[:last]
	if c := cap(*h); c > small && last < c/4 {
		*h = append(make(adapter[T], 0, c/2), *h...)
	}
	return x
}
