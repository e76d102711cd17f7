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
	records chan logRecord
	done    chan struct{}

	mu     sync.Mutex
	lost   int
	closed bool
}

type logRecord struct {
	to slog.Handler
	slog.Record
}

func newLogQueue() *logQueue {
	q := &logQueue{records: make(chan logRecord, maxLogged), done: make(chan struct{})}
	go q.run()
	return q
}

// logger returns a logger that hands its records to l, later.
func (q *logQueue) logger(l *slog.Logger) *slog.Logger {
	return slog.New(queueHandler{q, l.Handler()})
}

func (q *logQueue) run() {
	defer close(q.done)
	for r := range q.records {
		if n := q.takeLost(); n > 0 {
			rec := slog.NewRecord(time.Now(), slog.LevelWarn, "log records were lost: the log is too slow", 0)
			rec.AddAttrs(slog.Int("lost", n))
			_ = r.to.Handle(context.Background(), rec)
		}
		_ = r.to.Handle(context.Background(), r.Record)
	}
}

func (q *logQueue) takeLost() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.lost
	q.lost = 0
	return n
}

func (q *logQueue) add(r logRecord) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	select {
	case q.records <- r:
	default:
		q.lost++
	}
}

// close waits until all records are written, but not for longer than that.
func (q *logQueue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	close(q.records)
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
