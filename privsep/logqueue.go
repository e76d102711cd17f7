package privsep

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxLogged is how many records may wait for a log that is slow.
const maxLogged = 4096

// A logQueue keeps those who log from waiting for the log: nobody who reads it, or
// does not, can stop the daemon. Records that have no room in the queue are
// counted, and the count is logged when there is room again.
type logQueue struct {
	most int           // records that may wait
	done chan struct{} // closed when all are written

	mu      sync.Mutex
	changed sync.Cond
	records []logRecord
	lost    int
	closed  bool
}

type logRecord struct {
	to slog.Handler
	slog.Record
}

// newLogQueue makes a queue, whose run is for a goroutine.
func newLogQueue(most int) *logQueue {
	q := &logQueue{most: most, done: make(chan struct{})}
	q.changed.L = &q.mu
	return q
}

// logger returns a logger that hands its records to l, later.
func (q *logQueue) logger(l *slog.Logger) *slog.Logger {
	return slog.New(queueHandler{q, l.Handler()})
}

func (q *logQueue) run() {
	defer close(q.done)
	for {
		r, n, ok := q.take()
		if !ok {
			return
		}
		if n > 0 {
			rec := slog.NewRecord(time.Now(), slog.LevelWarn, "log records were lost: the log is too slow", 0)
			rec.AddAttrs(slog.Int("lost", n))
			_ = r.to.Handle(context.Background(), rec)
		}
		_ = r.to.Handle(context.Background(), r.Record)
	}
}

// take waits for the next record, and returns how many were lost before; there is
// none any more if the queue is closed.
func (q *logQueue) take() (r logRecord, lost int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.records) == 0 {
		if q.closed {
			return r, 0, false
		}
		q.changed.Wait()
	}
	r, q.records[0] = q.records[0], r
	q.records = q.records[1:]
	lost, q.lost = q.lost, 0
	return r, lost, true
}

func (q *logQueue) add(r logRecord) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
	case len(q.records) < q.most:
		q.records = append(q.records, r)
		q.changed.Signal()
	default:
		q.lost++
	}
}

// close waits until all records are written, but not for longer than that.
func (q *logQueue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.changed.Signal()
	q.mu.Unlock()
	select {
	case <-q.done:
	case <-time.After(patience):
	}
}

// queueHandler is a slog.Handler whose Handle never waits.
type queueHandler struct {
	q  *logQueue
	to slog.Handler
}

func (h queueHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.to.Enabled(ctx, l) }

func (h queueHandler) Handle(_ context.Context, r slog.Record) error {
	h.q.add(logRecord{h.to, r.Clone()})
	return nil
}

func (h queueHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queueHandler{h.q, h.to.WithAttrs(attrs)}
}

func (h queueHandler) WithGroup(name string) slog.Handler {
	return queueHandler{h.q, h.to.WithGroup(name)}
}
