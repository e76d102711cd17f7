package imsg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestPeerNeverReads gives up in every way there is; nothing of the message
// stays, and the channel still works when the peer reads at last.
func TestPeerNeverReads(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for _, file := range []bool{false, true} {
		for _, tt := range []struct {
			name    string
			want    error
			timeout bool
			send    func(c *imsg.Conn, send func(context.Context) error) error
		}{
			{"context deadline", context.DeadlineExceeded, true, func(c *imsg.Conn, send func(context.Context) error) error {
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				return send(ctx)
			}},
			{"context cancel", context.Canceled, false, func(c *imsg.Conn, send func(context.Context) error) error {
				ctx, cancel := context.WithCancel(context.Background())
				go func() { testutil.WaitBlocked(t, 1, "(*Conn).Send"); cancel() }()
				return send(ctx)
			}},
			{"cancelled before", context.Canceled, false, func(c *imsg.Conn, send func(context.Context) error) error {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				return send(ctx)
			}},
			{"write deadline", os.ErrDeadlineExceeded, true, func(c *imsg.Conn, send func(context.Context) error) error {
				c.SetWriteDeadline(time.Now().Add(time.Millisecond))
				return send(context.Background())
			}},
			{"write deadline in the past", os.ErrDeadlineExceeded, true, func(c *imsg.Conn, send func(context.Context) error) error {
				c.SetWriteDeadline(past)
				return send(context.Background())
			}},
			{"write deadline while it waits", os.ErrDeadlineExceeded, true, func(c *imsg.Conn, send func(context.Context) error) error {
				go func() { testutil.WaitBlocked(t, 1, "(*Conn).Send"); c.SetDeadline(past) }()
				return send(context.Background())
			}},
			{"write deadline and a context", os.ErrDeadlineExceeded, true, func(c *imsg.Conn, send func(context.Context) error) error {
				go func() { testutil.WaitBlocked(t, 1, "(*Conn).Send"); c.SetDeadline(past) }()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				return send(ctx)
			}},
		} {
			t.Run(fmt.Sprintf("%s, file %v", tt.name, file), func(t *testing.T) {
				testutil.NoLeak(t)
				a, b := imsgtest.Pair(t, nil)
				n := testutil.FillConn(t, a)
				var f *os.File
				if file {
					p := testutil.NewProbe(t)
					f = p.W
				}
				err := tt.send(a, func(ctx context.Context) error {
					return a.Send(ctx, imsg.Header{Type: 7}, f, testutil.Pattern(7, 100))
				})
				var oe *imsg.OpError
				if !errors.Is(err, tt.want) || !errors.As(err, &oe) || oe.Op != "send" || oe.Type != 7 || oe.Timeout() != tt.timeout {
					t.Errorf("error %#v", err)
				}
				if s := a.Stats().Sent; a.QueueLen() != 0 || s.Messages != 0 || s.Bytes != 0 || s.Files != 0 {
					t.Errorf("%d queued, counters %+v", a.QueueLen(), s)
				}
				if f != nil {
					if _, err := f.Stat(); err != nil {
						t.Errorf("the file is not ours any more: %v", err)
					}
				}
				a.SetDeadline(time.Time{})
				testutil.DrainConn(t, b, n)
				if err := a.Send(testutil.DeadlineCtx(t), imsg.Header{Type: 8}, f, testutil.Pattern(8, 5)); err != nil {
					t.Fatal(err)
				}
				testutil.ReceiveAll(t, b, 8)
			})
		}
	}
}

// TestPeerDies closes the peer's socket under a channel.
func TestPeerDies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  bool
		unread bool // the peer has not read what we sent
	}{
		{"plain", false, false},
		{"files", true, false},
		{"unread", false, true},
		{"files, unread", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.BothSides(t, imsg.Config{AllowFDPass: tt.files}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
				peer.Write(slices.Concat(testutil.Frame(imsg.Current, 1, 3, false), testutil.Frame(imsg.Current, 2, 4, false)))
				if tt.unread {
					if err := s.Send(imsg.Header{Type: 5}, nil, []byte("x")); err != nil {
						t.Fatal(err)
					}
				}
				peer.Close()
				testutil.MustNext(t, s, 1, 3).Close()
				testutil.MustNext(t, s, 2, 4).Close()
				var f *os.File
				var p *testutil.Probe
				if tt.files {
					p = testutil.NewProbe(t)
					f = p.W
				}
				err := s.Send(imsg.Header{Type: 6}, f, []byte("y"))
				var oe *imsg.OpError
				if !errors.Is(err, syscall.EPIPE) || !errors.As(err, &oe) || oe.Op != "send" {
					t.Errorf("send to nobody: %v, want EPIPE", err)
				}
				var sys *os.SyscallError
				if !errors.As(err, &sys) {
					t.Errorf("send to nobody: %#v, want a SyscallError in it", err)
				}
				testutil.SameError(t, err, 3, func() error { return s.Send(imsg.Header{Type: 6}, nil, []byte("y")) })
				err = testutil.ReceiveError(t, s)
				if err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("receive from nobody: %v", err)
				}
				if !tt.unread && err != io.EOF {
					t.Errorf("receive after an orderly end: %v, want io.EOF", err)
				}
			})
		})
	}
}

// TestPeerDiesWithFilesQueued lets the queue's files go with the channel.
func TestPeerDiesWithFilesQueued(t *testing.T) {
	testutil.NoLeak(t)
	a, b := imsgtest.Pair(t, nil)
	testutil.FillConn(t, a)
	var probes []*testutil.Probe
	for i := range 5 {
		p := testutil.NewProbe(t)
		probes = append(probes, p)
		if err := a.Compose(imsg.Header{Type: uint32(i + 1)}, p.W, []byte("with a file")); err != nil {
			t.Fatal(err)
		}
	}
	borrowed := testutil.NewProbe(t)
	done := make(chan error, 1)
	go func() { done <- a.Send(context.Background(), imsg.Header{Type: 6}, borrowed.W, []byte("too")) }()
	testutil.WaitBlocked(t, 1, "(*Conn).Send")
	b.Close()
	err := <-done
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("send: %v", err)
	}
	for i, p := range probes {
		if !p.Closed() {
			t.Errorf("queued file %d is open", i+1)
		}
	}
	if _, err := borrowed.W.Stat(); err != nil {
		t.Errorf("the file of Send is not ours any more: %v", err)
	}
	testutil.SameError(t, err, 1, func() error { return a.Send(context.Background(), imsg.Header{Type: 1}, nil) })
	testutil.SameError(t, err, 1, func() error { return a.Compose(imsg.Header{Type: 1}, nil) })
	testutil.SameError(t, err, 1, func() error { return a.Flush(context.Background()) })
	if n := a.QueueLen(); n != 0 {
		t.Errorf("%d messages queued", n)
	}
}
