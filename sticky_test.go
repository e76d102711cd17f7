package imsg_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
)

// TestBufErrorsStick breaks the sending direction and then asks everything
// that would send: the same error each time, and nothing is taken.
func TestBufErrorsStick(t *testing.T) {
	testutil.NoLeak(t)
	a, peer := imsgtest.Sockets(t)
	peer.Close()
	b := imsg.NewBuf(a.FD, &imsg.Config{AllowFDPass: true})
	other, peer2 := imsgtest.Sockets(t)
	h := imsg.Header{Type: 1}
	feed := imsg.NewBuf(other.FD, nil)
	if err := errors.Join(feed.Compose(h, nil, []byte("x")), feed.Flush()); err != nil {
		t.Fatal(err)
	}
	in := imsg.NewBuf(peer2.FD, nil)
	if err := in.ReadSocket(); err != nil {
		t.Fatal(err)
	}
	m, _ := in.Get()
	defer m.Close()
	built, err := b.Create(h, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer built.Discard()
	f := testutil.DevNull(t)
	defer f.Close()
	if err := b.Compose(h, nil); err != nil {
		t.Fatal(err)
	}
	want := b.WriteSocket()
	if !errors.Is(want, syscall.EPIPE) {
		t.Fatalf("%v, want EPIPE", want)
	}
	buf := ibuf.New(1)
	defer buf.Close()
	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"Compose", func() error { return b.Compose(h, f) }},
		{"ComposeBuffer", func() error { return b.ComposeBuffer(h, buf) }},
		{"Forward", func() error { return b.Forward(m) }},
		{"Commit", built.Commit},
		{"WriteSocket", b.WriteSocket},
		{"Flush", b.Flush},
	} {
		if err := tt.do(); err != want {
			t.Errorf("%s: %v, want %v", tt.name, err, want)
		}
	}
	if b.QueueLen() != 0 {
		t.Errorf("%d messages in a broken queue", b.QueueLen())
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("the file that was not taken: %v", err)
	}
	if _, err := b.PeerCred(); err != nil { // a socket without a peer still knows who it was
		t.Errorf("PeerCred: %v", err)
	}
}

// TestClosedFiles gives files that are closed to everything that takes one.
func TestClosedFiles(t *testing.T) {
	testutil.NoLeak(t)
	f := testutil.DevNull(t)
	f.Close()
	if _, err := imsg.FileConn(f, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("FileConn: %v", err)
	}
	if _, err := imsg.NewConn(1<<20, nil); !errors.Is(err, syscall.EBADF) {
		t.Errorf("NewConn: %v", err)
	}
	a, _ := imsgtest.Pair(t, &imsg.Config{AllowFDPass: true})
	if err := a.Send(context.Background(), imsg.Header{}, f); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Send: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush: %v", err)
	}
	a.Close()
	if _, err := a.File(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("File: %v", err)
	}
}

// TestNoDescriptorLeft makes channels when no descriptor is free.
func TestNoDescriptorLeft(t *testing.T) {
	if !testutil.InChild(t, nil) {
		return
	}
	testutil.SetMaxFiles(t)
	c, _ := imsgtest.Pair(t, nil)
	f := testutil.DevNull(t)
	defer f.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free := testutil.FillTable(t)
	defer free()
	for _, tt := range []struct {
		name string
		do   func() error
	}{
		{"Pair", func() error { _, _, err := imsg.Pair(nil); return err }},
		{"FileConn", func() error { _, err := imsg.FileConn(f, nil); return err }},
		{"File", func() error { _, err := c.File(); return err }},
		{"NewListener", func() error { _, err := imsg.NewListener(l, nil); return err }},
		{"Dial", func() error { _, err := imsg.Dial(context.Background(), "/nowhere", nil); return err }},
		{"Listen", func() error { _, err := imsg.Listen("/nowhere", nil); return err }},
	} {
		if err := tt.do(); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
