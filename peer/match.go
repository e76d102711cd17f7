package peer

import (
	"fmt"
	"slices"

	"example.org/imsg"
)

// A found is what match knows of a message.
type found struct {
	call *call // that it answers; nil: none
	typ  uint32
	last bool                    // it ends the answer
	ask  func(imsg.Message) bool // if it does not: whether it does
	late bool                    // it may answer a call that is not remembered
}

// match finds the call that a message answers.
func (t *calls) match(h imsg.Header) (f found) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byID[h.ID]
	if t.cfg.Match == ByID {
		f.late = c == nil && h.ID != 0 && t.dropped && int32(t.newest-h.ID) >= 0
	} else if len(t.order) > 0 {
		c = t.order[0]
	}
	switch {
	case c == nil:
	case t.cfg.isError(h.Type) || slices.Contains(c.ends, h.Type):
		f.call, f.last = c, true
	case slices.Contains(c.items, h.Type):
		f.call, f.typ, f.ask = c, c.typ, c.last
	}
	return f
}

// isLast tells whether m ends the answer. It is called without a lock, as it may
// be the program's function that knows.
func (f *found) isLast(m imsg.Message) (last bool, err error) {
	if f.last || f.ask == nil {
		return f.last, nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(f.typ, v)
		}
	}()
	return f.ask(m), nil
}

// unmatched says what is wrong with a message that no call waits for and no
// rule allows.
func (t *calls) unmatched(h imsg.Header) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.all {
		switch {
		case !c.sent:
		case slices.Contains(c.ends, h.Type) || slices.Contains(c.items, h.Type):
			return &RuleError{h.Type, fmt.Sprintf("not in the table of requests, and an answer to type %d only with id %d: it came with id %d", c.typ, c.id, h.ID), "answer"}
		case t.cfg.Match != ByID || c.id == h.ID:
			return &RuleError{h.Type, fmt.Sprintf("not in the table of requests, and no answer to type %d", c.typ), "message"}
		}
	}
	return &RuleError{Type: h.Type, Reason: "not in the table"}
}
