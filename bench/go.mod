module github.com/ephemera-go/ephemera/bench

go 1.26.0

require (
	github.com/bits-and-blooms/bitset v1.29.0
	github.com/ephemera-go/ephemera v0.0.0
	github.com/puzpuzpuz/xsync/v4 v4.5.0
	golang.org/x/sys v0.49.0
	gvisor.dev/gvisor v0.0.0-20250503011706-39ed1f5ac29c
)

require (
	github.com/google/btree v1.1.2 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/time v0.7.0 // indirect
)

replace github.com/ephemera-go/ephemera => ..
