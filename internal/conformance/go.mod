module github.com/ephemera-go/ephemera/internal/conformance

go 1.26.0

require (
	github.com/ephemera-go/ephemera v0.0.0
	golang.org/x/net v0.62.0
)

require (
	github.com/bits-and-blooms/bitset v1.29.0 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/ephemera-go/ephemera => ../..
