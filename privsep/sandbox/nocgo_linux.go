//go:build !cgo

package sandbox

// withCgo: every thread belongs to the Go runtime, which can make a call on all of them.
const withCgo = false
