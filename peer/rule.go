package peer

import (
	"context"
	"fmt"
	"slices"

	"example.org/imsg"
)

// A FileRule says whether a request may carry a file.
type FileRule uint8

// The rules; a message that breaks one ends the peer.
const (
	FileForbidden FileRule = iota // a request with a file is a violation
	FileOptional                  // both are allowed
	FileRequired                  // a request without a file is a violation
)

// A Handler handles one request. ctx ends when the other end is gone or gives
// the request up, or the peer is closed.
//
// An error is answered with a message of Config.ErrorType and the error's text;
// without one, and if the error wraps ErrViolation, it ends the peer. A handler
// that has replied with what ends its answer should return nil. With ByID, a
// request whose handler returns nil without any Reply is answered with an error
// too, unless it has called ReplyLater.
//
// A handler that panics does not end the program. If there is a Config.Report,
// it gets a *PanicError, the other end an error that says nothing of it, and the
// peer goes on; otherwise the *PanicError ends the peer and is what Serve and
// Err return. What the handler had locked stays locked: unlock with defer.
type Handler func(ctx context.Context, r *Incoming) error

// A Rule is one row of the table of what the other end may ask for. Whatever
// is not in the table, or is asked otherwise than it says, ends the peer.
type Rule struct {
	Type   uint32
	Handle Handler
	File   FileRule
	Once   bool     // only once in the life of the channel
	States []string // the states in which it is allowed; nil: in all
}

// A row is a rule and whether it was used.
type row struct {
	Rule
	used bool
}

// Handle adds rules to the table; it should be called before the first Call,
// Stream or Serve. A type that is in the table already or is Config.ErrorType or
// CancelType, and a rule without a handler, are programming errors: it panics.
func (p *Peer) Handle(rules ...Rule) {
	q := &p.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rules {
		if q.rules[r.Type] != nil || p.cfg.isError(r.Type) || p.cfg.isCancel(r.Type) || r.Handle == nil {
			panic(fmt.Sprintf("peer: Handle: type %d is in use or has no handler", r.Type))
		}
		r.States = slices.Clone(r.States)
		q.rules[r.Type] = &row{Rule: r}
	}
}

// State returns the state of the channel that SetState has set; "" at first.
func (p *Peer) State() string {
	p.requests.mu.Lock()
	defer p.requests.mu.Unlock()
	return p.requests.state
}

// SetState sets the state of the channel, which says what the other end may
// ask for: see Rule. It applies to requests whose handlers have not begun.
func (p *Peer) SetState(s string) {
	p.requests.mu.Lock()
	defer p.requests.mu.Unlock()
	p.requests.state = s
}

// admit checks a request when it comes, and says which rule it breaks. The lock
// of requests is held.
func (r *row) admit(m imsg.Message) string {
	file := m.HasFile() || m.FileErr() != nil
	switch {
	case r.Once && r.used:
		return "for the second time"
	case r.File == FileForbidden && file:
		return "with a file"
	case r.File == FileRequired && !file:
		return "without a file"
	}
	r.used = true
	return ""
}
