module github.com/ephemera-go/ephemera/bench

go 1.26.0

require (
	github.com/bits-and-blooms/bitset v1.29.0
	github.com/ephemera-go/ephemera v0.0.0
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.6 // indirect

replace github.com/ephemera-go/ephemera => ..
