//go:build linux

package model_test

import (
	"context"
	"fmt"
	"math/rand/v2"

	"example.org/imsg/internal/testutil"
)

// A failure is what ends a program: the model and the library disagree.
type failure string

func fail(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// expect fails unless err is one of want, or nil if there is none.
func expect(what string, err error, want ...error) {
	for _, w := range want {
		if refIs(err, w) {
			return
		}
	}
	if err != nil || len(want) > 0 {
		fail("%s: error %v, want %v", what, err, want)
	}
}

func same[T comparable](what string, got, want T) {
	if got != want {
		fail("%s: %+v, want %+v", what, got, want)
	}
}

// material is where all payloads come from: some bytes of it are NUL.
var material = func() []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 256<<10)
	for i := range p {
		p[i] = byte(max(0, rnd.IntN(270)-14))
	}
	return p
}()

// A endingCtx ends as soon as somebody begins to wait for its end.
type endingCtx struct {
	context.Context
	cancel func()
}

func (c *endingCtx) Value(any) any { return nil }

func (c *endingCtx) AfterFunc(f func()) (stop func() bool) {
	c.cancel()
	return context.AfterFunc(c.Context, f)
}

var cancelledCtx = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// contextFor is a context as an operation's argument says; now says that the
// operation need not wait.
func contextFor(arg int, now bool) (ctx context.Context, cancel func(), gaveUp []error) {
	switch {
	case arg == 2:
		return cancelledCtx, func() {}, []error{context.Canceled}
	case arg == 0 && now:
		return context.Background(), func() {}, nil
	}
	ctx, cancel = context.WithTimeout(context.Background(), testutil.Bound)
	return &endingCtx{ctx, cancel}, cancel, []error{context.Canceled}
}
