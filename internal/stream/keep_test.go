package stream

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// collected reports whether the garbage collector takes what p points to, and
// with it the memory that keep kept: finalizers run on a goroutine of their own.
func collected[T any](p func() weak.Pointer[T]) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		runtime.GC()
		if p().Value() == nil {
			return true
		}
	}
	return false
}

func TestKeep(t *testing.T) {
	type thing struct {
		kept
		_ [64]byte
	}
	p := new(thing)
	w := keep(p, &p.kept)
	p = nil
	for range 10 {
		p := w.Value()
		if p == nil {
			t.Fatal("memory that is used was collected")
		}
		p.use()
		runtime.GC()
		for p.used.Load() { // until the collector's news has arrived
			runtime.Gosched()
		}
	}
	if !collected(func() weak.Pointer[thing] { return w }) {
		t.Error("memory that is not used stays")
	}
}
