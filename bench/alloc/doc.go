// Package alloc measures alloc.Ports beside other ways to hand out ports:
//
//	go test -run='^$' -bench=. -count=10 ./bench/alloc
package alloc
