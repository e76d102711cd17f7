package tmux

import "bytes"

// A pending is a command that waits for its reply.
type pending struct {
	result    Result
	left      int // bytes that it may still print
	truncated bool
	abandoned bool
	reply     []byte // of the block that is being read
	over      chan struct{}
}

// begin, text, end and event are what a controlReader calls.
func (k *Control) begin(g guard) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.receiver(g.flags); p != nil {
		p.reply = nil
	}
}

// receiver is who gets a reply with these flags; nil for one to a command that
// a hook or another client ran.
func (k *Control) receiver(flags uint64) *pending {
	switch {
	case k.attached != nil:
		return &k.greeting
	case flags&1 != 0 && len(k.pending) > 0:
		return k.pending[0]
	}
	return nil
}

func (k *Control) text(line []byte, g guard, inReply bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !inReply {
		g.flags = 1 // the output of a command that has gone on after its %end
	}
	p := k.receiver(g.flags)
	if p == nil {
		if !inReply {
			k.events.push(Unknown{bytes.Clone(line)}, len(line))
		}
		return
	}
	if p.left -= len(line) + 1; p.left < 0 || p.abandoned {
		p.truncated = true
		if string(line) != k.token {
			return
		}
	}
	if inReply {
		p.reply = append(append(p.reply, line...), '\n')
	} else {
		p.result.Stdout = append(append(p.result.Stdout, line...), '\n')
	}
}

func (k *Control) end(g guard, failed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.receiver(g.flags)
	if p == nil {
		return
	}
	r := &p.result
	reply := p.reply
	p.reply = nil
	switch {
	case p == &k.greeting:
		if failed {
			r.Status, r.Stderr = 1, reply
		}
		close(k.attached)
		k.attached = nil
	case !failed && string(reply) == k.token+"\n":
		if r.Status == NotRun { // it printed nothing, not even guards
			r.Status = 0
		}
		close(p.over)
		k.pending = k.pending[1:]
	case p.abandoned:
	case failed:
		r.Status = 1
		r.Stderr = append(r.Stderr, reply...)
	default:
		r.Status = max(r.Status, 0)
		r.Stdout = append(r.Stdout, reply...)
	}
}

func (k *Control) event(e Event, size int) { k.events.push(e, size) }
