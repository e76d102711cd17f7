package stream

import (
	"runtime"
	"sync/atomic"
	"weak"
)

// A kept says whether memory was used since the garbage collector last ran. It
// is embedded in what an idle channel gives up but would like to find again.
type kept struct{ used atomic.Bool }

// use is called whenever the memory is put to use.
func (k *kept) use() {
	if !k.used.Load() {
		k.used.Store(true)
	}
}

// keep returns a weak pointer to p that stays valid as long as p is used: it
// ends when the garbage collector has run two or three times without a use.
// Strong pointers would let a thousand idle channels hold their buffers, and
// mere weak ones would make a thousand busy ones allocate new buffers after
// each run. k is p's own.
func keep[T any](p *T, k *kept) weak.Pointer[T] {
	k.use()
	runtime.SetFinalizer(&keeper[T]{p, k}, (*keeper[T]).collected)
	return weak.Make(p)
}

// A keeper is known to nobody: it is collected in every run, lives on for as
// long as p is used, and p with it.
type keeper[T any] struct {
	p *T
	k *kept
}

func (k *keeper[T]) collected() {
	if k.k.used.Swap(false) {
		runtime.SetFinalizer(k, (*keeper[T]).collected)
	}
}
