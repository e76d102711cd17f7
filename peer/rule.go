package peer

import (
	"context"
	"fmt"
	"slices"

	"example.org/imsg"
)

// A FileRule says whether a request may carry a file.
type FileRule uint8

const (
	FileForbidden FileRule = iota // a request with a file is a violation
	FileOptional
	FileRequired // a request without a file is a violation
)

// A Handler handles one request. ctx ends when the other end is gone or the
// peer is closed. An error is answered with a message of Config.ErrorType and
// the error's text; without ErrorType, and if the error wraps ErrViolation, it
// ends the peer.
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
// Stream or Serve. A type that is in the table already or is Config.ErrorType,
// and a rule without a handler, are programming errors: it panics.
func (p *Peer) Handle(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rules {
		if p.rules[r.Type] != nil || r.Type == p.cfg.ErrorType && r.Type != 0 || r.Handle == nil {
			panic(fmt.Sprintf("peer: Handle: type %d is in use or has no handler", r.Type))
		}
		r.States = slices.Clone(r.States)
		p.rules[r.Type] = &row{Rule: r}
	}
}

// admit checks a request when it comes, and says which rule it breaks. p.mu is
// held.
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

// allowed checks a request when its handler would begin: earlier requests may
// have changed the state.
func (p *Peer) allowed(r *row) error {
	if r.States == nil {
		return nil
	}
	if s := p.State(); !slices.Contains(r.States, s) {
		return &RuleError{r.Type, fmt.Sprintf("in state %q, allowed in %q", s, r.States)}
	}
	return nil
}
