package main

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"example.org/imsg"
)

// maxText is how much of a payload a row shows, in bytes.
const maxText = 56

// A printer shows the messages of one channel, one row each. Its trace method
// is the channel's Config.Trace: it only takes notes, because it runs inside
// the channel's locks. The rows are written when print is called.
type printer struct {
	w        io.Writer
	start    time.Time
	sent     string // "this side -> that side"
	received string
	names    map[uint32]string // of the message types

	mu   sync.Mutex
	rows []row
	file string // name of the next file that is sent

	// For print:
	last row
	n    int // messages in a row like last, which is not written if n > 1
	err  error
}

// A row is one message.
type row struct {
	at   time.Duration
	dir  imsg.Direction
	h    imsg.Header
	n    int // bytes, header included
	file string
	text string
}

// trace notes one message. Its payload is valid only now.
func (p *printer) trace(e imsg.Event) {
	r := row{time.Since(p.start), e.Direction, e.Header, imsg.HeaderSize + e.Payload.Len(), "-", quote(e.Payload.Bytes())}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.FileLost:
		r.file = "lost"
	case e.HasFile && e.Direction == imsg.Sent:
		r.file = p.file
	case e.HasFile:
		r.file = "file"
	}
	p.rows = append(p.rows, r)
}

// sending tells the name of the file that goes with the next message: an event
// only says that there is one.
func (p *printer) sending(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file = name
}

// heading writes the names of the columns.
func (p *printer) heading() {
	p.columns("ms", "direction", "type", "id", "pid", "bytes", "file", "text")
}

// print writes the rows that have come since the last call. A run of messages
// of the same type is written as its first and, when it has ended, its last.
// The error is the first that a write returned.
func (p *printer) print() error {
	p.mu.Lock()
	rows := p.rows
	p.rows = nil
	p.mu.Unlock()
	for _, r := range rows {
		if p.n > 0 && r.dir == p.last.dir && r.h.Type == p.last.h.Type {
			p.n++
		} else {
			p.endRun()
			p.row(r)
			p.n = 1
		}
		p.last = r
	}
	return p.err
}

// finish writes what print has held back.
func (p *printer) finish() error {
	p.print()
	p.endRun()
	return p.err
}

func (p *printer) endRun() {
	if p.n > 2 {
		p.columns("", p.direction(p.last.dir), fmt.Sprintf("... %d more", p.n-2))
	}
	if p.n > 1 {
		p.row(p.last)
	}
	p.n = 0
}

func (p *printer) row(r row) {
	name := p.names[r.h.Type]
	if name == "" {
		name = strconv.FormatUint(uint64(r.h.Type), 10)
	}
	p.columns(fmt.Sprintf("%.3f", float64(r.at.Microseconds())/1000), p.direction(r.dir), name,
		strconv.FormatUint(uint64(r.h.ID), 10), strconv.Itoa(int(r.h.PID)), strconv.Itoa(r.n), r.file, r.text)
}

func (p *printer) direction(d imsg.Direction) string {
	if d == imsg.Sent {
		return p.sent
	}
	return p.received
}

// columns writes one line. Cells on the right may be missing.
func (p *printer) columns(cell ...string) {
	widths := [...]int{9, -16, -7, 4, 8, 6, -12, 0} // negative: left aligned
	line := ""
	for i, s := range cell {
		if i > 0 {
			line += "  "
		}
		if i == len(cell)-1 && widths[i] <= 0 {
			line += s // no blanks at the end
		} else {
			line += fmt.Sprintf("%*s", widths[i], s)
		}
	}
	p.printf("%s\n", line)
}

// printf writes to the printer's writer and keeps the first error.
func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// quote makes a payload, which the peer may have chosen to upset a terminal,
// fit for a row.
func quote(b []byte) string {
	if len(b) > maxText {
		return strconv.QuoteToASCII(string(b[:maxText])) + "..."
	}
	return strconv.QuoteToASCII(string(b))
}
