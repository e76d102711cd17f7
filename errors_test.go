package imsg_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/ibuf"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
)

// TestErrorNamesOperation fails each operation with a message: the error says
// which one it was, and which type, by name if it has one.
func TestErrorNamesOperation(t *testing.T) {
	testutil.NoLeak(t)
	cfg := &imsg.Config{TypeNames: map[uint32]string{9: "OPEN", 0: "NONE"}}
	_, s := imsgtest.Sockets(t)
	b := imsg.NewBuf(s.FD, cfg)
	c, _ := imsgtest.Pair(t, cfg)
	for _, set := range []func(int) error{b.SetMaxSize, c.SetMaxSize} {
		testutil.Must(t, set(3))
	}
	ctx := testutil.DeadlineCtx(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	text := "payload of 4 bytes, limit 3 (see SetMaxSize, of both ends): too large"
	create := func(create func(imsg.Header, int) (*imsg.Builder, error)) error {
		_, err := create(imsg.Header{Type: 9}, 4)
		return err
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{b.Compose(imsg.Header{Type: 9}, nil, make([]byte, 4)), "imsg: compose OPEN (9): " + text},
		{b.Compose(imsg.Header{Type: 8}, nil, make([]byte, 4)), "imsg: compose type 8: " + text},
		{b.Compose(imsg.Header{}, nil, make([]byte, 4)), "imsg: compose NONE (0): " + text},
		{create(b.Create), "imsg: create OPEN (9): " + text},
		{create(c.Create), "imsg: create OPEN (9): " + text},
		{c.Compose(imsg.Header{Type: 9}, nil, make([]byte, 4)), "imsg: compose OPEN (9): " + text},
		{c.Send(ctx, imsg.Header{Type: 9}, nil, make([]byte, 4)), "imsg: send OPEN (9): " + text},
		{c.Send(ended, imsg.Header{Type: 9}, nil), "imsg: send OPEN (9): context canceled"},
	} {
		testutil.Equal(t, "the text", fmt.Sprint(tt.err), tt.want)
	}
}

// TestErrorSaysOnce does not name an operation that the system's error names.
func TestErrorSaysOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nobody.sock")
	_, err := imsg.Dial(context.Background(), path, nil)
	if err == nil || strings.Count(err.Error(), "dial") != 1 || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	_, err = imsg.Listen(filepath.Join(path, "s"), nil)
	if err == nil || strings.Count(err.Error(), "listen") != 1 {
		t.Errorf("%v", err)
	}
	for _, tt := range []struct {
		op, text, want string
	}{
		{"accept", "accept: too many open files", "imsg: accept: too many open files"},
		{"accept", "accept4: too many open files", "imsg: accept4: too many open files"},
		{"send", "sendmsg: broken pipe", "imsg: send: sendmsg: broken pipe"},
		{"receive", "EOF", "imsg: receive: EOF"},
		{"dial", "dial unix /s: refused", "imsg: dial unix /s: refused"},
	} {
		testutil.Equal(t, "the text", (&imsg.OpError{Op: tt.op, Err: errors.New(tt.text)}).Error(), tt.want)
	}
}

// TestOpErrorIsNetError asks what a caller of a net.Conn would ask.
func TestOpErrorIsNetError(t *testing.T) {
	testutil.NoLeak(t)
	c, _ := imsgtest.Pair(t, &imsg.Config{MaxQueueMessages: 1})
	testutil.Must(t, c.Compose(imsg.Header{}, nil))
	full := c.Compose(imsg.Header{}, nil)
	testutil.Must(t, c.SetReadDeadline(time.Unix(1, 0)))
	_, late := c.Receive(context.Background())
	c.Close()
	_, closed := c.Receive(context.Background())
	for _, tt := range []struct {
		err                error
		timeout, temporary bool
	}{
		{full, false, true},
		{late, true, true},
		{closed, false, false},
		{&imsg.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}, false, true},
		{&imsg.OpError{Op: "receive", Err: context.DeadlineExceeded}, true, true},
		{&imsg.OpError{Op: "send", Err: os.NewSyscallError("sendmsg", syscall.EPIPE)}, false, false},
	} {
		var ne net.Error
		if !errors.As(tt.err, &ne) || ne.Timeout() != tt.timeout || ne.Temporary() != tt.temporary { //nolint:staticcheck // Temporary is part of net.Error
			t.Errorf("%v: want timeout %v, temporary %v", tt.err, tt.timeout, tt.temporary)
		}
	}
}

// TestHeaderErrorCure says what is likely to be wrong with a header.
func TestHeaderErrorCure(t *testing.T) {
	for _, tt := range []struct {
		reads, wire imsg.Dialect
		n           int
		file        bool
		want        string // on a little-endian machine
	}{
		{imsg.Current, imsg.Legacy, 20, true, "header length 65556 above 16384 (as legacy it is a message of 20 bytes: see Config.Dialect)"},
		{imsg.Current, imsg.Current, 96032, false, "header length 96032 above 16384 (see SetMaxSize, of both ends)"},
		{imsg.Legacy, imsg.Legacy, 16385, false, "header length 16385 above 16384 (see SetMaxSize, of both ends)"},
		{imsg.Current, imsg.Current, 7, false, "header length 7 below 16"},
		{imsg.Auto, imsg.Current, 16385, true, "header length 16385 above 16384 (see SetMaxSize, of both ends)"},
	} {
		if !testutil.LittleEndian() && tt.wire == imsg.Legacy {
			continue
		}
		testutil.BothSides(t, imsg.Config{Dialect: tt.reads}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
			p := make([]byte, imsg.HeaderSize)
			tt.wire.Encode(p, binary.NativeEndian, imsg.Header{}, tt.n, tt.file)
			peer.Write(p)
			testutil.Equal(t, "the text", testutil.ReceiveError(t, s).Error(), "imsg: receive: "+tt.want)
		})
	}
}

// TestGetErrors has the numbers in the errors of a message's payload.
func TestGetErrors(t *testing.T) {
	testutil.NoLeak(t)
	_, ms := one(t, testutil.Frame(imsg.Current, 7, 56, false))
	m := ms[0]
	defer m.Close()
	err := m.GetExact(make([]byte, 45))
	testutil.Equal(t, "the text", fmt.Sprint(err), "imsg: get: payload of type 7 has 56 bytes, want exactly 45: wrong length")
	if !errors.Is(err, ibuf.ErrShort) || !errors.Is(err, syscall.EBADMSG) {
		t.Errorf("%v is not ErrShort", err)
	}
	if err := m.Get(make([]byte, 57)); err == nil || !strings.Contains(err.Error(), "57") || !strings.Contains(err.Error(), "56") {
		t.Errorf("%v", err)
	}
	_, err = m.GetView()
	testutil.Check(t, err)
	if _, err := m.GetView(); !errors.Is(err, ibuf.ErrShort) || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
