//go:build cgo

package sandbox

// withCgo: threads may belong to C. Below Landlock ABI 8 they are then reached by
// a signal each, and found in /proc.
const withCgo = true
