package alloc_test

import (
	"fmt"

	"github.com/ephemera-go/ephemera/alloc"
)

func ExampleParseSet() {
	set, err := alloc.ParseSet("1024-65535, !8080, !9000-9100")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(set)
	fmt.Println(set.Len(), set.Contains(8080))

	_, err = alloc.ParseSet("1024-65535, !9100-9000")
	fmt.Println(err)
	// Output:
	// 1024-8079,8081-8999,9101-65535
	// 64410 false
	// alloc: invalid port set: a range begins after its end: write 9000-9100 instead: "1024-65535, !9100-9000"
}

// Three hosts share one address and divide its ports.
func ExampleSet_Slice() {
	set := alloc.RangeSet(1024, 65535)
	for host := range 3 {
		fmt.Println(host, set.Slice(host, 3))
	}
	// Output:
	// 0 1024-22527
	// 1 22528-44031
	// 2 44032-65535
}

func ExamplePorts() {
	ports := alloc.New(alloc.RangeSet(40000, 40002))
	ports.Reserve(40001) // another program uses it already

	for {
		port, ok := ports.Acquire()
		if !ok {
			fmt.Println("none is free:", ports.Len(), "in use")
			break
		}
		defer ports.Release(port)
		fmt.Println(port != 40001, ports.Free(), "free")
	}
	// Output:
	// true 1 free
	// true 0 free
	// none is free: 3 in use
}
