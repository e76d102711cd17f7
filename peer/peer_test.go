package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
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
			testutil.Must(t, err)
			f.Write(make([]byte, 7))
			f.Close()
			c.Close()
		}, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := end(t, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			served := testutil.Go(func() error { return p.Serve(ctx) })
			called := calling(shortCtx(t), p, "")
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
			_, err = call(shortCtx(t), p, "")
			check(t, "Call afterwards", err, tt.want)
			check(t, "Send afterwards", p.Send(shortCtx(t), note, nil), tt.want)
			check(t, "Serve again", p.Serve(shortCtx(t)), tt.err)
		})
	}
}

// TestCloseUnused closes a peer that nobody has used.
func TestCloseUnused(t *testing.T) {
	p, c := end(t, nil)
	testutil.Check(t, p.Close())
	<-p.Done()
	testutil.WantEOF(t, c)
}

// TestShutdown finishes what has begun, at both ends, refuses what has not, and
// closes the channel.
func TestShutdown(t *testing.T) {
	p, q := both(t, &peer.Config{Workers: 2})
	begun, release := make(chan *peer.Incoming, 2), make(chan bool)
	var later func(error)
	q.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
		if string(r.Bytes()) == "later" {
			later = r.ReplyLater()
			begun <- r
			return nil
		}
		begun <- r
		<-release
		_, err := call(ctx, q, "") // what has begun may need the other end
		if err != nil {
			return err
		}
		return echo(ctx, r)
	}})
	p.Handle(peer.Rule{Type: ask, Handle: echo})
	served := serve(t, q)
	serve(t, p)
	results := make(map[string]<-chan error)
	request := func(text string) {
		results[text] = testutil.Go(func() error {
			got, err := call(shortCtx(t), p, text)
			if err == nil && got != text {
				err = fmt.Errorf("answered with %q", got)
			}
			return err
		})
	}
	request("later")
	in := <-begun
	request("first")
	request("second")
	<-begun
	<-begun
	request("waits")
	until(t, "waiting", func() bool { return len(q.Pending().Requests) == 4 })
	down := testutil.Go(func() error { return q.Shutdown(shortCtx(t)) })
	until(t, "refusing calls", func() bool {
		_, err := call(endingAfter(t, 2), q, "")
		return errors.Is(err, net.ErrClosed)
	})
	request("too late")
	until(t, "waiting", func() bool { return len(q.Pending().Requests) == 5 })
	close(release)
	for _, text := range []string{"first", "second"} {
		check(t, text, <-results[text], nil)
	}
	for _, text := range []string{"waits", "too late"} {
		wantRemote(t, text, <-results[text], "shutting down")
	}
	select {
	case err := <-down:
		t.Errorf("Shutdown does not wait: %v", err)
	default:
	}
	in.Reply(answer, nil, []byte("later"))
	later(nil)
	check(t, "Shutdown", <-down, nil)
	check(t, "later", <-results["later"], nil)
	check(t, "Serve", served(), net.ErrClosed)
	_, err := call(shortCtx(t), p, "")
	check(t, "a call behind", err, io.ErrUnexpectedEOF)
	check(t, "again", q.Shutdown(shortCtx(t)), net.ErrClosed)
}

// TestShutdownEnds shuts down what does not come to its end.
func TestShutdownEnds(t *testing.T) {
	for _, gone := range []bool{false, true} {
		p, c := end(t, nil)
		called := calling(shortCtx(t), p, "")
		receive(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		down := testutil.Go(func() error { return p.Shutdown(ctx) })
		if gone {
			c.Close()
			check(t, "Shutdown", <-down, nil)
			check(t, "Call", <-called, io.ErrUnexpectedEOF)
		} else {
			cancel()
			check(t, "Shutdown", <-down, context.Canceled)
			check(t, "Call", <-called, net.ErrClosed)
		}
		cancel()
		<-p.Done()
	}
}

// TestShutdownLate shuts down when an answer that was left for later never
// comes, and the other end breaks a rule instead.
func TestShutdownLate(t *testing.T) {
	p, c := end(t, nil)
	p.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		r.ReplyLater()
		return nil
	}})
	serve(t, p)
	send(t, c, imsg.Header{Type: ask, ID: 1}, nil, "")
	until(t, "handling", func() bool {
		all := p.Pending().Requests
		return len(all) == 1 && all[0].State == peer.Later
	})
	down := testutil.Go(func() error { return p.Shutdown(shortCtx(t)) })
	send(t, c, imsg.Header{Type: note}, nil, "")
	check(t, "Shutdown", <-down, peer.ErrViolation)
}

// TestShutdownStuck shuts down while the other end does not read what is sent.
func TestShutdownStuck(t *testing.T) {
	a, _ := smallBuffers(t, nil)
	p := closed(t, peer.New(a, nil))
	sent := testutil.Go(func() error { return p.Send(shortCtx(t), note, nil, make([]byte, 16000)) })
	until(t, "writing a part", func() bool { return a.Stats().Sent.Bytes > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	down := testutil.Go(func() error { return p.Shutdown(ctx) })
	until(t, "refusing calls", func() bool {
		_, err := call(endingAfter(t, 2), p, "")
		return errors.Is(err, net.ErrClosed)
	})
	cancel()
	check(t, "Shutdown", <-down, context.Canceled)
	check(t, "Send", <-sent, net.ErrClosed)
}
