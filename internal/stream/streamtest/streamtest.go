// Package streamtest has what the tests of ibuf and of internal/stream share:
// a framing of their own, as package testutil needs both.
package streamtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"example.org/imsg/internal/check"
)

// The header of the tests: 32 bits of length with the header, the highest of
// which is a mark, and one byte of nothing.
const (
	HeaderSize = 5
	Limit      = 20000
	Mark       = 1 << 31
)

// Parse is the HeaderFunc of that header.
func Parse(hdr []byte) (int, bool, error) {
	word := binary.NativeEndian.Uint32(hdr)
	n := int(word &^ Mark)
	if n < HeaderSize || n > Limit {
		return 0, false, fmt.Errorf("length %d", n)
	}
	return n, word&Mark != 0, nil
}

// Msg returns a message of n bytes, all fill behind its length.
func Msg(n int, mark bool, fill byte) []byte {
	p := bytes.Repeat([]byte{fill}, n)
	word := uint32(n)
	if mark {
		word |= Mark
	}
	binary.NativeEndian.PutUint32(p, word)
	return p
}

// Pipe returns a pipe whose read end is closed when the test ends.
func Pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	check.Must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, w
}
