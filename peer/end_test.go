package peer_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/peer"
)

// TestEnds lets the channel end under a call, in different ways, and then
// makes another.
func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*peer.Peer, *imsg.Conn, context.CancelFunc)
		want error
		err  error // of Serve
	}{
		{"other end closes", func(_ *peer.Peer, c *imsg.Conn, _ context.CancelFunc) { c.Close() }, io.ErrUnexpectedEOF, nil},
		{"Close", func(p *peer.Peer, _ *imsg.Conn, _ context.CancelFunc) { p.Close() }, net.ErrClosed, net.ErrClosed},
		{"Close twice", func(p *peer.Peer, _ *imsg.Conn, _ context.CancelFunc) { p.Close(); p.Close() }, net.ErrClosed, net.ErrClosed},
		{"Serve's context", func(_ *peer.Peer, _ *imsg.Conn, cancel context.CancelFunc) { cancel() }, context.Canceled, context.Canceled},
		{"inside a message", func(_ *peer.Peer, c *imsg.Conn, _ context.CancelFunc) {
			f, err := c.File()
			if err != nil {
				t.Fatal(err)
			}
			f.Write(make([]byte, 7))
			f.Close()
			c.Close()
		}, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := end(t, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			served, called := make(chan error, 1), make(chan error, 1)
			go func() { served <- p.Serve(ctx) }()
			go func() {
				_, err := call(soon(t), p, "")
				called <- err
			}()
			receive(t, c)
			tt.end(p, c, cancel)
			err := <-called
			check(t, "Call", err, tt.want)
			if !strings.HasPrefix(err.Error(), "peer: call type 1: ") {
				t.Error(err)
			}
			check(t, "Serve", <-served, tt.err)
			<-p.Done()
			check(t, "Err", p.Err(), tt.err)
			_, err = call(soon(t), p, "")
			check(t, "Call afterwards", err, tt.want)
			check(t, "Send afterwards", p.Send(soon(t), note, nil), tt.want)
			check(t, "Serve again", p.Serve(soon(t)), tt.err)
		})
	}
}

// TestCloseUnused closes a peer that nobody has used.
func TestCloseUnused(t *testing.T) {
	p, c := end(t, nil)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if _, err := c.Receive(soon(t)); err != io.EOF {
		t.Error(err)
	}
}
