package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"example.org/imsg"
)

// A link is one side of a channel with a Conn: some lanes that send and one
// goroutine that receives. The parent has one for each worker.
type link struct {
	outbox
	inbox inbox
	conn  *imsg.Conn
	file  func() *os.File // one to send with a message, or nil
	fail  func(error)

	quit     chan struct{} // closed: the lanes shall end
	stopOnce sync.Once
	senders  sync.WaitGroup
	finned   chan struct{} // closed when the peer's last message is there
	received chan struct{} // closed when nothing more can be received
}

func newLink(o *order, side int, conn *imsg.Conn, book *ledger) *link {
	l := &link{conn: conn, quit: make(chan struct{}), finned: make(chan struct{}), received: make(chan struct{})}
	l.outbox = outbox{order: o, side: side, book: book}
	l.inbox = inbox{order: o, side: side, book: book}
	return l
}

// start begins to send and to receive.
func (l *link) start() {
	for no := range uint32(l.order.lanes) {
		l.senders.Go(func() { l.load(no) })
	}
	go func() {
		defer close(l.received)
		if err := errors.Join(l.inbox.ended(l.receive()), l.inbox.release()); err != nil {
			l.fail(err)
		}
	}()
}

// receive takes everything that comes, until the end or, on the side that
// closes an orderly channel, the last message.
func (l *link) receive() error {
	rnd := l.rand(99)
	for n := int32(0); ; n++ {
		if n == l.order.stallFrom && n > 0 && l.side == workerSide {
			time.Sleep(l.order.stall)
		}
		m, err := l.next(rnd)
		if err == nil {
			err = l.inbox.take(m)
		}
		if err != nil {
			return err
		}
		if l.inbox.fin {
			close(l.finned)
			if int(l.order.closer) == l.side {
				return nil
			}
			m, err := l.next(rnd)
			if err == nil {
				err = l.inbox.take(m)
			}
			return err
		}
	}
}

// next waits for a message, in more than one way.
func (l *link) next(rnd *rand.Rand) (imsg.Message, error) {
	for {
		ctx, cancel := context.Background(), func() {}
		switch d := time.Duration(rnd.IntN(2000)) * time.Microsecond; rnd.IntN(20) {
		case 0:
			ctx, cancel = context.WithTimeout(ctx, d)
		case 1:
			l.conn.SetReadDeadline(time.Now().Add(d))
		case 2:
			l.conn.SetReadDeadline(time.Time{})
		}
		m, err := l.conn.Receive(ctx)
		cancel()
		if err == nil || !transient(err) {
			return m, err
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.conn.SetReadDeadline(time.Time{})
		}
	}
}

// forward passes a message on, with its file, which it owns. It reports
// whether it was sent.
func (l *link) forward(m imsg.Message, f *os.File, rnd *rand.Rand) bool {
	if !l.order.mayFile(l.side, l.conn.Dialect()) && f != nil || innerSize+m.Len() > int(l.order.max) {
		f.Close()
		return false
	}
	ctx, done := context.Background(), func() {}
	if rnd.IntN(8) == 0 {
		ctx, done = context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
	}
	defer done()
	inner := putInner(m.Header())
	var out outcome
	send := func(h imsg.Header, f *os.File, parts [][]byte) (_ outcome, err error) {
		out, err = l.send(ctx)(h, f, parts)
		return out, err
	}
	err := l.post(laneForward, wasForwarded, f, send, inner[:], m.Bytes())
	if err == net.ErrClosed { // the lane has ended
		return false
	}
	if err := l.order.judge(err); err != nil {
		l.fail(err)
	}
	return out == told
}

// stop ends the lanes.
func (l *link) stop() {
	l.stopOnce.Do(func() { close(l.quit) })
	l.end(laneForward)
	l.senders.Wait()
}

// finish ends the lanes and sends the last message.
func (l *link) finish() {
	l.stop()
	l.conn.SetWriteDeadline(time.Time{})
	err := l.post(laneFin, 0, nil, l.send(context.Background()))
	if err != nil {
		if err := l.order.judge(err); err != nil {
			l.fail(err)
		}
		return
	}
	for no := range uint32(l.order.lanes) {
		l.told(no)
	}
}
