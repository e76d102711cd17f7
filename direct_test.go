package imsg

import (
	"bytes"
	"context"
	"testing"
)

// TestDirectClears looks at the memory through which small messages went.
func TestDirectClears(t *testing.T) {
	a, b, err := Pair(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	used := false
	for range 100 {
		small := smallBufs.Get().(*[smallSend]byte)
		small[smallSend-1] = 1 // to know it again
		smallBufs.Put(small)
		if err := a.Send(context.Background(), Header{Type: 1}, nil, bytes.Repeat([]byte{0x5e}, 1000)); err != nil {
			t.Fatal(err)
		}
		m, err := b.Receive(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		small = smallBufs.Get().(*[smallSend]byte)
		used = used || small[smallSend-1] == 1
		small[smallSend-1] = 0
		if bytes.IndexByte(small[:], 0x5e) >= 0 {
			t.Fatal("a payload is still there")
		}
		smallBufs.Put(small)
	}
	if !used {
		t.Error("never the same memory")
	}
}
