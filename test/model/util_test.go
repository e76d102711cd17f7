//go:build linux

package model_test

import (
	"context"
	"fmt"
	"math/rand/v2"

	"example.org/imsg/internal/testutil"
)

// A modelFailure is what ends a program: the model and the library disagree.
type modelFailure string

func modelFail(format string, args ...any) { panic(modelFailure(fmt.Sprintf(format, args...))) }

// modelExpect fails unless err is one of want, or nil if there is none.
func modelExpect(what string, err error, want ...error) {
	for _, w := range want {
		if refIs(err, w) {
			return
		}
	}
	if err != nil || len(want) > 0 {
		modelFail("%s: error %v, want %v", what, err, want)
	}
}

func modelSame[T comparable](what string, got, want T) {
	if got != want {
		modelFail("%s: %+v, want %+v", what, got, want)
	}
}

// modelBytes is where all payloads come from: some bytes of it are NUL.
var modelBytes = func() []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 256<<10)
	for i := range p {
		p[i] = byte(max(0, rnd.IntN(270)-14))
	}
	return p
}()

// A modelCtx ends as soon as somebody begins to wait for its end.
type modelCtx struct {
	context.Context
	cancel func()
}

func (c *modelCtx) Value(any) any { return nil }

func (c *modelCtx) AfterFunc(f func()) (stop func() bool) {
	c.cancel()
	return context.AfterFunc(c.Context, f)
}

var modelCancelled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// modelContext is a context as an operation's argument says; now says that the
// operation need not wait.
func modelContext(arg int, now bool) (ctx context.Context, cancel func(), gaveUp []error) {
	switch {
	case arg == 2:
		return modelCancelled, func() {}, []error{context.Canceled}
	case arg == 0 && now:
		return context.Background(), func() {}, nil
	}
	ctx, cancel = context.WithTimeout(context.Background(), testutil.Bound)
	return &modelCtx{ctx, cancel}, cancel, []error{context.Canceled}
}
