package relay

import (
	"sync"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
)

// Limits of what waits in a Recorder. With more, whoever has a message waits.
const (
	maxWaiting      = 16 << 10 // messages
	maxWaitingBytes = 16 << 20 // of payload
)

// A Recorder takes messages from many goroutines and gives them to a
// capture.Writer on a goroutine of its own: a slow one holds messages up only
// when it is far behind. A nil Recorder takes nothing.
type Recorder struct {
	w    capture.Writer
	fail func(error)
	done chan struct{}

	mu       sync.Mutex
	change   sync.Cond // waiting has become empty, or not, or closed is set
	waiting  records
	closed   bool
	totals   Totals
	firstErr error // the Writer's
}

// Totals count what was recorded.
type Totals struct{ Messages, Bytes, Files int64 }

// records are records and what they refer to.
type records struct {
	list    []capture.Record
	payload []byte
	files   []capture.File
}

// NewRecorder returns a Recorder that writes to w, from one goroutine, and
// flushes w, if it has such a method, when nothing waits. When w fails, fail is
// told, once, and what comes afterwards is not written.
func NewRecorder(w capture.Writer, fail func(error)) *Recorder {
	r := &Recorder{w: w, fail: fail, done: make(chan struct{})}
	r.change.L = &r.mu
	go r.run()
	return r
}

// Totals returns how much was recorded up to now.
func (r *Recorder) Totals() Totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.totals
}

// Close writes what is left, closes the Writer, and returns its first error.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	r.change.Broadcast()
	r.mu.Unlock()
	<-r.done
	if err := r.w.Close(); r.firstErr == nil {
		return err
	}
	return r.firstErr
}

// run writes what has come, until Close.
func (r *Recorder) run() {
	defer close(r.done)
	var batch records
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.waiting.list) == 0 {
			if r.closed {
				return
			}
			r.change.Wait()
		}
		batch, r.waiting = r.waiting, batch
		r.change.Broadcast()
		r.mu.Unlock()
		for i := range batch.list {
			r.try(func() error { return r.w.Write(&batch.list[i]) })
		}
		clear(batch.list)
		clear(batch.payload)
		batch = records{batch.list[:0], batch.payload[:0], batch.files[:0]}
		r.mu.Lock()
		if f, ok := r.w.(interface{ Flush() error }); ok && len(r.waiting.list) == 0 {
			r.mu.Unlock()
			r.try(f.Flush)
			r.mu.Lock()
		}
	}
}

// try writes something, as long as all has gone well. Only run's goroutine sets
// firstErr.
func (r *Recorder) try(write func() error) {
	if r.firstErr != nil {
		return
	}
	if r.firstErr = write(); r.firstErr != nil {
		r.fail(r.firstErr)
	}
}

// add records the messages that w passes on.
func (r *Recorder) add(w *way, ms []imsg.Message) {
	if r == nil {
		return
	}
	now, dialect, files := time.Now(), known(w.from.Conn.Dialect()), w.files
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.waiting.list) >= maxWaiting || len(r.waiting.payload) >= maxWaitingBytes {
		r.change.Wait()
	}
	for i, m := range ms {
		rec := capture.Record{
			Time: now, Wait: -1, Channel: w.channel, Name: w.cfg.Name, Dir: w.dir, From: w.from.Who, To: w.to.Who,
			Header: w.out[i].Header, Dialect: dialect, Len: imsg.HeaderSize + len(w.out[i].Data),
			Payload: keep(&r.waiting.payload, w.out[i].Data),
			Marked:  w.out[i].File != nil || m.FileErr() != nil,
		}
		if rec.Marked {
			rec.Files = keep(&r.waiting.files, files[:1])
			files = files[1:]
			if !rec.Files[0].Lost {
				r.totals.Files++
			}
		}
		r.waiting.list = append(r.waiting.list, rec)
		r.totals.Bytes += int64(rec.Len)
	}
	r.totals.Messages += int64(len(ms))
	r.change.Broadcast()
}

// keep puts a copy of p at the end of all, and returns it.
func keep[T any](all *[]T, p []T) []T {
	at := len(*all)
	*all = append(*all, p...)
	return (*all)[at:len(*all):len(*all)]
}

func known(d imsg.Dialect) capture.Dialect {
	switch d {
	case imsg.Current:
		return capture.Current
	case imsg.Legacy:
		return capture.Legacy
	}
	return capture.Either
}
