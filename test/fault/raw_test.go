//go:build imsgfault && linux

package fault_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
	"golang.org/x/sys/unix"
)

// rawCases are conversations with a peer that writes as others do: files
// ahead of their messages, and several in one control message. Only the calls
// of the receiver can fail.
func rawCases(*testing.T) (cases []testCase) {
	for _, bt := range testutil.Batchings {
		for _, d := range []imsg.Dialect{bt.Dialect, imsg.Auto} {
			for _, who := range []string{"conn", "buf"} {
				for _, extra := range []int{0, 1, 2} {
					name := fmt.Sprintf("%s/%v/%s/%d too many", bt.Name, d, who, extra)
					cases = append(cases, testCase{name, func(w *world) tally { return rawParty(w, bt, d, who, extra) }})
				}
			}
		}
	}
	return cases
}

func rawParty(w *world, bt testutil.Batching, d imsg.Dialect, who string, extra int) tally {
	r := newConversation(w, "raw", who, nil, &imsg.Config{Dialect: d, AllowFDPass: true})
	raw := r.a.party.(*rawPeer)
	raw.r, raw.Batching, raw.extra = r, bt, extra
	r.send(r.a, 100, true)
	r.receive(r.b, 1)
	for i, n := range []int{0, 1, 100, 0, 20, 1, 5000, 3} {
		r.queue(r.a, n, i%3 != 0)
	}
	r.flush(r.a)
	r.receive(r.b, 8)
	return r.finish()
}

// A rawPeer writes with bare system calls, of which none fails.
type rawPeer struct {
	r  *conversation
	fd int
	testutil.Batching
	extra int // more descriptors in each control message

	pieces []testutil.Piece
	cur    testutil.Piece
	n      uint64
}

func newRawPeer(w *world, fd int, cfg *imsg.Config) party {
	return &rawPeer{fd: fd, cur: testutil.Piece{Fd: -1}}
}

// queue puts the message where the batching wants it.
func (p *rawPeer) queue(h imsg.Header, f *os.File, payload []byte) error {
	if f != nil {
		if !p.Last || p.cur.Fd >= 0 {
			p.cut()
		}
		p.cur.Fd = int(f.Fd())
	}
	var hdr [imsg.HeaderSize]byte
	p.Dialect.Encode(hdr[:], binary.NativeEndian, h, len(hdr)+len(payload), f != nil)
	p.cur.P = append(append(p.cur.P, hdr[:]...), payload...)
	p.n++
	if f != nil && p.Last {
		p.cut()
	}
	return nil
}

func (p *rawPeer) build(h imsg.Header, f *os.File, payload []byte) error {
	return p.queue(h, f, payload)
}

func (p *rawPeer) cut() {
	if len(p.cur.P) > 0 {
		p.pieces = append(p.pieces, p.cur)
	}
	p.cur = testutil.Piece{Fd: -1}
}

func (p *rawPeer) send(h imsg.Header, f *os.File, payload []byte) (owned bool, err error) {
	p.queue(h, f, payload)
	return true, p.flush()
}

func (p *rawPeer) flush() error {
	p.cut()
	w := p.r.w
	for _, c := range p.pieces {
		var rights []byte
		if c.Fd >= 0 {
			fds := []int{c.Fd}
			for range p.extra {
				more := newPipeFile(w)
				p.r.pipes = append(p.r.pipes, more)
				p.r.count.in++
				fds = append(fds, int(more.w.Fd()))
			}
			rights = unix.UnixRights(fds...)
		}
		n, err := unix.SendmsgN(p.fd, c.P, rights, nil, unix.MSG_NOSIGNAL)
		if n != len(c.P) || err != nil {
			w.fatalf("raw peer: %d of %d bytes, %v", n, len(c.P), err)
		}
		w.end(p.fd).sent += n
	}
	p.pieces = nil
	for _, f := range p.r.pipes {
		f.w.Close() // the ones before too, which does nothing
	}
	return nil
}

func (p *rawPeer) next() (imsg.Message, error) {
	return imsg.Message{}, errors.New("the raw peer does not read")
}

func (p *rawPeer) stats() imsg.Stats {
	return imsg.Stats{Sent: imsg.Counters{Messages: p.n, Bytes: uint64(p.r.w.end(p.fd).sent)}}
}

func (p *rawPeer) cred() (imsg.Cred, error) { return imsg.Cred{PID: os.Getpid()}, nil }
func (p *rawPeer) close() error             { return unix.Close(p.fd) }
