package capture

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"maps"
	"path"
	"slices"
	"time"

	"example.org/imsg"
)

// A Side is one end of a channel, as a process that holds it knows it.
type Side struct {
	Endpoint        // a process that uses it
	Inode    uint64 // number of the socket, or 0: then PID and FD stand for it
	Peer     uint64 // number of the other end's socket, or 0
	Name     string // path that the socket is bound to, if it is: that of an accepted one
	PeerName string // path that the other end's is bound to, for one whose other end may not be seen
	Begun    bool   // the stream may have begun before the capture: what comes first may be no header
}

// An Assembler makes messages of what system calls moved: bytes and files of
// either end of any number of channels go in, each message comes out once, with
// the time that it waited in the socket if both its ends were seen. A channel
// that does not carry imsg is left out.
//
// Messages come out in the order in which they were sent. One whose other end
// has not been seen is held, and what was sent after it too, but only as long as
// Hold and the memory for it allow.
//
// An Assembler must not be used by several goroutines at a time.
type Assembler struct {
	Hold     time.Duration // by the calls' times; 0 means one second
	HoldBoth time.Duration // the same where calls of both ends were seen; 0 means Hold
	Max      int           // longest message, header included; 0 means DefaultMax
	Problem  func(string)  // told what could not be followed; may be nil

	out     func(*Record) error
	ends    map[endKey]*end
	queue   []*pending // in the order in which they were seen first
	held    int        // bytes of the payloads in queue
	now     time.Time  // of the last call
	calls   uint64
	numbers int    // of channels that were given one
	others  int    // of those that are closed, without a message
	rec     Record // scratch
}

const (
	maxHeld      = 64 << 20 // bytes of payloads
	maxQueue     = 1 << 16  // messages
	maxRemember  = 64       // messages of a direction that are out, while its other end may still show them
	maxCallsHeld = 1 << 14  // for captures without times
	maxEnds      = 1 << 14  // those that were idle for longest are forgotten
)

// NewAssembler returns an Assembler that gives the messages to out, which must
// keep nothing of them. An error of out is returned by the call that caused it.
func NewAssembler(out func(*Record) error) *Assembler {
	return &Assembler{out: out, ends: map[endKey]*end{}}
}

// An endKey names an end: its inode or, without one, the descriptor.
type endKey struct {
	inode   uint64
	pid, fd int
}

// An end is one end of a channel.
type end struct {
	Side
	key  endKey
	peer *end   // nil: never seen
	to   dir    // what was sent to this end
	num  int    // of the channel; 0 as long as nothing came out
	used bool   // by a process that was seen
	last uint64 // number of the call that used it

	counted bool // among others
}

// A dir is one direction of a channel.
type dir struct {
	from, to   track      // as the sender's calls show it, and the receiver's
	sender     *end       // nil as long as it was never seen
	pending    []*pending // that one end only has shown
	rcvd       int        // how many of them the receiver has
	alone      bool       // one end only is seen: nothing needs to be held
	unreported bool
}

// A pending message has been seen at one end at least.
type pending struct {
	d            *dir
	to           *end
	sent, rcvd   bool
	skipped      bool // later ones have been received
	out          bool // it was given out
	order        layout
	h            head
	raw          []byte // header and payload, as far as they were captured
	sum          uint64 // of raw
	n            int    // bytes of raw, also when it is given up
	cut          int
	fSent, fRcvd *File
	unclaimed    []File
	at, got      time.Time
	sender, rcvr Endpoint
	seen         uint64 // number of the call that showed it first
	seenAt       time.Time
}

// Sent tells what an end's process has sent. It keeps nothing of c.
func (a *Assembler) Sent(s Side, c Call) error {
	a.tick(c.Time)
	e := a.end(s)
	d := &a.other(e).to
	d.sender = e
	return a.feed(d, &d.from, e, &s, &c, true)
}

// Received tells what an end's process has received. It keeps nothing of c.
func (a *Assembler) Received(s Side, c Call) error {
	a.tick(c.Time)
	e := a.end(s)
	return a.feed(&e.to, &e.to.to, e, &s, &c, false)
}

// Closed tells that nobody has the end any more, or, if its inode is not known,
// that the process has closed the descriptor, whose number may be used again.
func (a *Assembler) Closed(s Side) error {
	k := s.key()
	e := a.ends[k]
	if e == nil {
		return nil
	}
	for _, p := range e.to.pending {
		p.skipped = true // nobody will receive it
	}
	a.report(&e.to, e)
	if e.other() {
		a.others++
		e.peer.counted = true
	}
	if o := e.peer; o != nil {
		a.report(&o.to, o)
		if k.inode == 0 {
			delete(a.ends, o.key)
		}
	}
	delete(a.ends, k)
	return a.flush(false)
}

// Tick tells the time although nothing was sent: messages that were held for
// long enough come out.
func (a *Assembler) Tick(now time.Time) error {
	a.tick(now)
	return a.flush(false)
}

// Close gives out what is left. Nothing may follow.
func (a *Assembler) Close() error {
	for _, e := range a.ends {
		a.report(&e.to, e)
	}
	return a.flush(true)
}

// Others returns how many channels there were over which no message went, but
// something else.
func (a *Assembler) Others() int {
	n := a.others
	seen := map[*end]bool{}
	for _, e := range a.ends {
		if !seen[e] && e.other() {
			n++
			seen[e.peer] = true
		}
	}
	return n
}

// other reports whether a channel was used, and not for messages.
func (e *end) other() bool {
	if e.num != 0 || e.counted {
		return false
	}
	return e.peer != nil && (e.peer.to.from.seen || e.peer.to.to.seen) || e.to.from.seen || e.to.to.seen
}

func (a *Assembler) tick(now time.Time) {
	a.calls++
	if now.After(a.now) {
		a.now = now
	}
}

func (s *Side) key() endKey {
	if s.Inode != 0 {
		return endKey{inode: s.Inode}
	}
	return endKey{pid: s.PID, fd: s.FD}
}

// end returns the end that s is, with what s adds to it.
func (a *Assembler) end(s Side) *end {
	k := s.key()
	e := a.ends[k]
	if e == nil {
		e = a.newEnd(k)
	}
	e.last = a.calls
	if e.Name == "" {
		e.Name = s.Name
	}
	if !e.used || e.Exe == "" {
		e.Endpoint = s.Endpoint
	}
	e.used = true
	if s.Inode != 0 && s.Peer != 0 && e.Peer == 0 {
		e.Inode, e.Peer = s.Inode, s.Peer
		o := a.ends[endKey{inode: s.Peer}]
		if o == nil {
			o = e.peer // which has no inode so far, or nil
			if o == nil {
				o = a.newEnd(endKey{})
			}
			delete(a.ends, o.key)
			o.key = endKey{inode: s.Peer}
			a.ends[o.key] = o
			o.Inode, o.Peer = s.Peer, s.Inode
		}
		if o.peer == nil || o.peer == e || o.Peer == s.Inode {
			e.peer, o.peer = o, e
			e.num = cmp.Or(e.num, o.num)
			o.num = e.num
		}
	}
	if s.PeerName != "" {
		a.other(e).Name = s.PeerName
	}
	return e
}

func (a *Assembler) newEnd(k endKey) *end {
	if len(a.ends) >= maxEnds {
		a.forget()
	}
	e := &end{key: k, last: a.calls}
	m := a.Max
	if m == 0 {
		m = DefaultMax
	}
	e.to.from.max, e.to.to.max = m, m
	e.to.from.twin, e.to.to.twin = &e.to.to, &e.to.from
	a.ends[k] = e
	return e
}

// forget drops half of the ends: those that were idle for longest. What they
// hold comes out by itself.
func (a *Assembler) forget() {
	all := slices.SortedFunc(maps.Values(a.ends), func(e, f *end) int { return cmp.Compare(e.last, f.last) })
	for _, e := range all[:len(all)/2] {
		delete(a.ends, e.key)
	}
}

// other returns the other end of e, of which nothing need be known.
func (a *Assembler) other(e *end) *end {
	if e.peer == nil {
		k := endKey{inode: e.Inode, pid: -1 - e.PID, fd: e.FD} // none that a Side has
		e.peer = a.newEnd(k)
		e.peer.peer = e
	}
	return e.peer
}

// feed gives what a call moved to its track, and matches the messages with what
// the other end shows.
func (a *Assembler) feed(d *dir, t *track, at *end, s *Side, c *Call, sent bool) error {
	to := at
	if sent {
		to = at.peer
	}
	t.begun = s.Begun
	err := t.add(c, func(p *piece) { a.match(d, to, s.Endpoint, p, sent) })
	if err != nil {
		a.problem(d, to, err)
	}
	return a.flush(false)
}

var seed = maphash.MakeSeed()

// match finds the message that the other end showed, or notes a new one.
func (a *Assembler) match(d *dir, to *end, who Endpoint, p *piece, sent bool) {
	sum := maphash.Bytes(seed, p.raw)
	m := d.find(p, sum, sent)
	if m == nil {
		m = &pending{d: d, to: to, order: p.layout, h: p.head, sum: sum, n: len(p.raw), cut: p.cut, seen: a.calls, seenAt: a.now}
		m.raw = append(make([]byte, 0, len(p.raw)), p.raw...)
		d.pending = append(d.pending, m)
		if !sent {
			d.rcvd++
		}
		a.queue = append(a.queue, m)
		a.held += m.n
	}
	if p.cut < m.cut && !m.out { // this end shows more
		a.held += len(p.raw) - m.n
		m.raw, m.cut, m.n, m.sum = append(m.raw[:0], p.raw...), p.cut, len(p.raw), sum
	}
	if m.h.dialect == Either {
		m.h.dialect = p.dialect
	}
	var f *File
	if p.hasFile {
		f = &p.file
	}
	if len(p.unclaimed) > 0 && m.unclaimed == nil {
		m.unclaimed = p.unclaimed
	}
	if sent {
		m.sent, m.fSent, m.at, m.sender = true, f, p.first, who
	} else {
		m.rcvd, m.fRcvd, m.got, m.rcvr = true, f, p.last, who
	}
	i := slices.Index(d.pending, m)
	if !sent {
		for _, q := range d.pending[:i] {
			q.skipped = q.sent // a stream has an order: it went to somebody else
		}
	}
	if m.sent && m.rcvd {
		if sent {
			d.rcvd--
		}
		d.pending = slices.Delete(d.pending, i, i+1)
		d.alone = false
	}
	for len(d.pending) > maxRemember && d.pending[0].out {
		d.drop()
	}
}

// drop forgets the oldest message.
func (d *dir) drop() {
	if !d.pending[0].sent {
		d.rcvd--
	}
	d.pending = slices.Delete(d.pending, 0, 1)
}

// find returns the first message that the other end only has shown.
func (d *dir) find(p *piece, sum uint64, sent bool) *pending {
	if sent && d.rcvd == 0 || !sent && d.rcvd == len(d.pending) {
		return nil
	}
	for _, m := range d.pending {
		if sent && m.sent || !sent && m.rcvd || m.h.n != p.n || m.h.Header != p.Header || m.h.marked != p.marked {
			continue
		}
		if m.cut == 0 && p.cut == 0 {
			if m.sum == sum {
				return m
			}
			continue
		}
		if k := min(len(m.raw), len(p.raw)); m.out || bytes.Equal(m.raw[:k], p.raw[:k]) {
			return m
		}
	}
	return nil
}

// flush gives out what need not be held any longer.
func (a *Assembler) flush(all bool) error {
	hold := cmp.Or(a.Hold, time.Second)
	both := cmp.Or(a.HoldBoth, hold)
	i := 0
	var err error
	for ; i < len(a.queue) && err == nil; i++ {
		m := a.queue[i]
		wait := hold
		if m.d.from.seen && m.d.to.seen {
			wait = both
		}
		late := a.now.Sub(m.seenAt) > wait || a.calls-m.seen > maxCallsHeld
		full := a.held > maxHeld || len(a.queue)-i > maxQueue
		if done := m.sent && m.rcvd || m.skipped || m.d.alone || m.d.from.dead || m.d.to.dead; !done && !late && !full && !all {
			break
		} else if !done && !all {
			// Nobody was seen at one of the ends: nobody is waited for.
			m.d.alone = !m.d.from.seen || !m.d.to.seen
		}
		err = a.give(m, all)
	}
	n := copy(a.queue, a.queue[i:])
	clear(a.queue[n:])
	a.queue = a.queue[:n]
	return err
}

// give gives a message out.
func (a *Assembler) give(m *pending, last bool) error {
	a.held -= m.n
	m.out = true
	e, first := m.to, m.to.first()
	if e.num == 0 {
		a.numbers++
		e.num = a.numbers
		if e.peer != nil {
			e.peer.num = e.num
		}
	}
	r := &a.rec
	*r = Record{
		Time: m.at, Wait: -1, Channel: e.num, Name: e.Name, Dir: DirOut, From: m.sender, To: m.rcvr,
		Header: m.h.Header, Dialect: m.h.dialect, Order: m.order.order(), Len: m.h.n, Payload: m.raw[imsg.HeaderSize:],
		Files: r.Files[:0], Marked: m.h.marked,
	}
	if e.peer != nil && e.peer.Name != "" {
		r.Name = e.peer.Name
	}
	if e == first {
		r.Dir = DirIn
	}
	if !m.sent {
		r.Time = m.got
		if m.d.sender != nil {
			r.From = m.d.sender.Endpoint
		} else if e.peer != nil {
			r.From = e.peer.Endpoint
		}
	}
	if !m.rcvd && e.used {
		r.To = e.Endpoint
	}
	if m.sent && m.rcvd && !m.at.IsZero() && !m.got.IsZero() {
		r.Wait = max(m.got.Sub(m.at), 0)
	}
	m.files(r)
	switch {
	case m.cut > 0:
		r.Note = fmt.Sprintf("%d bytes of the payload were not captured", m.cut)
	case !m.sent || m.rcvd || m.skipped || !m.d.to.follows():
	case last:
		r.Note = "not received when the capture ended"
	default:
		r.Note = "not received for long"
	}
	m.raw = nil
	return a.out(r)
}

// files joins what both ends show of a message's file.
func (m *pending) files(r *Record) {
	switch {
	case m.fSent != nil || m.fRcvd != nil:
		f := File{From: -1, To: -1}
		if m.fRcvd != nil {
			f = *m.fRcvd
			f.From = -1
		}
		if s := m.fSent; s != nil {
			f.From = s.From
			f.Kind, f.Path, f.Flags = cmp.Or(s.Kind, f.Kind), cmp.Or(s.Path, f.Path), cmp.Or(s.Flags, f.Flags)
		}
		f.Lost = m.rcvd && m.fRcvd == nil
		r.Files = append(r.Files, f)
	case m.h.marked:
		r.Files = append(r.Files, File{From: -1, To: -1, Lost: true})
	}
	if m.unclaimed != nil {
		r.Files = append(r.Files, m.unclaimed...)
		r.Note = "a file came along that no header announces"
	}
}

// first returns the end that connected, or the first one of a pair: the bound
// end was accepted.
func (e *end) first() *end {
	o := e.peer
	switch {
	case o == nil || o.Name != "" && e.Name == "":
		return e
	case e.Name != "" && o.Name == "":
		return o
	case e.Inode != 0 && e.Inode < o.Inode || o.key.pid < 0:
		return e
	}
	return o
}

// report tells about the bytes that are left of a direction.
func (a *Assembler) report(d *dir, to *end) {
	for _, t := range []*track{&d.from, &d.to} {
		if s := t.rest(); s != "" && t.known && t.off > 0 && !d.unreported {
			a.problem(d, to, fmt.Errorf("%s", s))
			return
		}
		if n := len(t.files); n > 0 && t.known && t.off > 0 && !d.unreported {
			a.problem(d, to, fmt.Errorf("%d files that no message claims", n))
		}
	}
}

func (a *Assembler) problem(d *dir, to *end, err error) {
	if a.Problem == nil || d.unreported {
		return
	}
	d.unreported = true
	var from Endpoint
	if d.sender != nil {
		from = d.sender.Endpoint
	} else if to.peer != nil {
		from = to.peer.Endpoint
	}
	a.Problem(fmt.Sprintf("%s -> %s: %v", from, to.Endpoint, err))
}

// String returns the process and the descriptor, as "bgpd[12] fd 3".
func (e Endpoint) String() string {
	if e == (Endpoint{}) {
		return "?"
	}
	name := ""
	if e.Exe != "" {
		name = path.Base(e.Exe)
	}
	return fmt.Sprintf("%s[%d] fd %d", name, e.PID, e.FD)
}
