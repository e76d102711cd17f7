package main

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"example.org/imsg"
)

// A printer shows the messages of one channel, one row each. Its trace method
// is the channel's Config.Trace: it only takes notes, because it runs inside
// the channel's locks. The rows are written when print is called.
type printer struct {
	w     io.Writer
	start time.Time
	ways  [2]string // of the directions Sent and Received

	mu   sync.Mutex
	rows []row  // noted, not written
	file string // name of the next file that is sent: an event does not tell

	last row // for print
	held int // messages like last that were not written, last included
	err  error
}

// A row is one message.
type row struct {
	at         time.Duration
	dir        imsg.Direction
	h          imsg.Header
	name       string // of the type, or its number
	n          int    // bytes, header included
	file, text string
}

func (p *printer) trace(e imsg.Event) {
	const most = 56 // bytes of a payload to be shown
	b, more := e.Payload.Bytes(), ""
	if len(b) > most {
		b, more = b[:most], "..."
	}
	// Quoted: the peer may have chosen the bytes to upset a terminal.
	r := row{time.Since(p.start), e.Direction, e.Header, demoName(e.Header.Type), imsg.HeaderSize + e.Payload.Len(), "-", strconv.QuoteToASCII(string(b)) + more}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.FileLost:
		r.file = "lost"
	case e.HasFile && e.Direction == imsg.Sent:
		r.file = p.file
	case e.HasFile:
		r.file = "yes"
	}
	p.rows = append(p.rows, r)
}

// sending tells the name of the file that goes with the next message.
func (p *printer) sending(name string) {
	p.mu.Lock()
	p.file = name
	p.mu.Unlock()
}

const layout = "%9v  %-16v  %-7v  %4v  %8v  %6v  %-10v  %v\n"

func (p *printer) heading() {
	p.printf(layout, "ms", "direction", "type", "id", "pid", "bytes", "file", "text")
}

// print writes the rows that have come since the last call. Of many messages
// of the same type in a row it writes the first and, when another type comes,
// how many there were and the last. The error is the writer's first.
func (p *printer) print() error {
	p.mu.Lock()
	rows := p.rows
	p.rows = nil
	p.mu.Unlock()
	for _, r := range rows {
		if r.dir == p.last.dir && r.h.Type == p.last.h.Type {
			p.held++
		} else {
			p.release()
			p.row(r)
		}
		p.last = r
	}
	return p.err
}

// release writes what print has held back.
func (p *printer) release() {
	if p.held > 1 {
		p.printf("%9s  %-16s  ... %d more\n", "", p.ways[p.last.dir], p.held-1)
	}
	if p.held > 0 {
		p.row(p.last)
	}
	p.held = 0
}

func (p *printer) row(r row) {
	ms := fmt.Sprintf("%.3f", r.at.Seconds()*1000)
	p.printf(layout, ms, p.ways[r.dir], r.name, r.h.ID, r.h.PID, r.n, r.file, r.text)
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
