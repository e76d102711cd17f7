package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"example.org/imsg"
)

// What a side with a Conn sends, and how: with Send, Queue or a Builder, with
// and without files, patiently or not.

// load sends in bursts until it is told to stop or cannot go on.
func (l *link) load(no uint32) {
	rnd := l.rand(uint64(no))
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		for range rnd.IntN(40) {
			if err := l.one(no, rnd); err != nil {
				if err := l.order.judge(err); err != nil {
					l.fail(err)
				}
				return
			}
		}
		pause.Reset(time.Duration(rnd.IntN(3000)) * time.Microsecond)
		select {
		case <-pause.C:
		case <-l.quit:
			return
		}
	}
}

// one sends one message somehow.
func (l *link) one(no uint32, rnd *rand.Rand) error {
	ctx, done := l.patience(rnd)
	defer done()
	var f *os.File
	if l.order.mayFile(l.side, l.conn.Dialect()) && rnd.IntN(6) == 0 {
		f = l.file()
	}
	flags := uint32(0)
	if l.side == workerSide && rnd.IntN(5) == 0 {
		flags = wantForward
	}
	a, b := l.payload(rnd)
	return l.post(no, flags, f, l.way(ctx, rnd), a, b)
}

// patience is for ever in most cases.
func (l *link) patience(rnd *rand.Rand) (ctx context.Context, done func()) {
	ctx = context.Background()
	d := time.Duration(rnd.IntN(3000)) * time.Microsecond
	switch rnd.IntN(16) {
	case 0:
		return context.WithTimeout(ctx, d)
	case 1:
		ctx, cancel := context.WithCancel(ctx)
		t := time.AfterFunc(d, cancel)
		return ctx, func() { t.Stop(); cancel() }
	case 2:
		l.conn.SetWriteDeadline(time.Now().Add(d)) // for all lanes
		return ctx, func() { l.conn.SetWriteDeadline(time.Time{}) }
	}
	return ctx, func() {}
}

// way draws how a message is sent.
func (l *link) way(ctx context.Context, rnd *rand.Rand) put {
	flush := rnd.IntN(3) > 0
	switch rnd.IntN(4) {
	case 0:
		return func(h imsg.Header, f *os.File, parts [][]byte) (outcome, error) {
			err := l.conn.Compose(h, f, parts...)
			if err != nil {
				f.Close()
			}
			return l.queued(ctx, err, flush)
		}
	case 1:
		return func(h imsg.Header, f *os.File, parts [][]byte) (outcome, error) {
			b, err := l.conn.Create(h, 0)
			if err != nil {
				f.Close()
				return failed, err
			}
			defer b.Discard()
			b.SetFile(f)
			for _, p := range parts {
				if err := b.Add(p); err != nil {
					return failed, err
				}
			}
			return l.queued(ctx, b.Commit(), flush)
		}
	}
	return l.send(ctx)
}

func (l *link) send(ctx context.Context) put {
	return func(h imsg.Header, f *os.File, parts [][]byte) (outcome, error) {
		defer f.Close()
		err := l.conn.Send(ctx, h, f, parts...)
		switch {
		case err == nil:
			return told, nil
		case transient(err):
			return failed, nil
		}
		return failed, err
	}
}

// queued goes on after a message was queued, or not.
func (l *link) queued(ctx context.Context, err error, flush bool) (outcome, error) {
	out := accepted
	if err != nil {
		out = failed
		if !errors.Is(err, imsg.ErrQueueFull) {
			return out, err
		}
	} else if !flush {
		return out, nil
	}
	err = l.conn.Flush(ctx)
	if err == nil && out == accepted {
		return told, nil
	}
	if transient(err) {
		err = nil
	}
	return out, err
}
