package tmux

import (
	"bytes"
	"strconv"
)

// A guard is one of the lines around a reply: %begin, %end or %error, with
// three numbers.
type guard struct {
	time, number, flags uint64
}

// parseGuard parses a line that has the given name.
func parseGuard(line []byte, name string) (g guard, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(name))
	if !ok {
		return g, false
	}
	f := bytes.Split(rest, []byte(" "))
	if len(f) != 3 {
		return g, false
	}
	for i, n := range []*uint64{&g.time, &g.number, &g.flags} {
		var err error
		if *n, err = strconv.ParseUint(string(f[i]), 10, 64); err != nil {
			return g, false
		}
	}
	return g, true
}

// A controlReader takes what a control client is sent apart: replies, which
// stand between two guards with the same numbers, and events. What is between
// guards is never an event, whatever it looks like.
type controlReader struct {
	handler controlHandler
	max     int // of the bytes of a line; the rest of a longer one is dropped

	line    []byte // incomplete
	cut     bool   // the rest of the line is dropped
	inReply bool
	guard   guard
}

// A controlHandler gets what a controlReader finds. Lines have no newline and
// are valid during the call only.
type controlHandler interface {
	begin(g guard)
	text(line []byte, g guard, inReply bool) // part of a reply, or behind one that did not wait for it
	end(g guard, failed bool)
	event(e Event, size int)
}

// write takes some bytes.
func (r *controlReader) write(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i >= 0 && len(r.line) == 0 && !r.cut && i <= r.max {
			r.take(p[:i])
			p = p[i+1:]
			continue
		}
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if !r.cut {
			r.line = append(r.line, part[:min(len(part), r.max-len(r.line))]...)
			r.cut = len(r.line) == r.max
		}
		if i < 0 {
			return
		}
		r.take(r.line)
		r.line, r.cut = r.line[:0], false
		if cap(r.line) > 1<<20 {
			r.line = nil
		}
		p = p[i+1:]
	}
}

// take takes a line.
func (r *controlReader) take(line []byte) {
	if r.inReply {
		for _, name := range []string{"%end ", "%error "} {
			if g, ok := parseGuard(line, name); ok && g == r.guard {
				r.inReply = false
				r.handler.end(g, name == "%error ")
				return
			}
		}
		r.handler.text(line, r.guard, true)
		return
	}
	if g, ok := parseGuard(line, "%begin "); ok {
		r.inReply, r.guard = true, g
		r.handler.begin(g)
		return
	}
	if len(line) > 0 && line[0] == '%' {
		r.handler.event(parseEvent(line), len(line))
		return
	}
	r.handler.text(line, guard{}, false)
}
