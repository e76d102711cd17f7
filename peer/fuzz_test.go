package peer_test

import (
	"context"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
	"golang.org/x/sys/unix"
)

// FuzzDispatch sends what the input says to a peer that has a table and calls
// under way. Whatever it is, the peer ends when the channel does, and no copy
// of a file stays open. The input is a list of groups of four bytes: type, id
// and length of a message and what is special about it.
func FuzzDispatch(f *testing.F) {
	for _, seed := range [][]byte{
		{},
		{1, 7, 3, 0, 4, 0, 0, 1, 2, 1, 5, 0}, // a request, a note with a file, an answer
		{3, 1, 1, 1, 3, 1, 1, 1, 2, 1, 0, 1}, // a stream of files
		{2, 2, 0, 0, 2, 2, 0, 0},             // an answer twice
		{99, 1, 200, 0, 99, 0, 1, 0, 99, 9, 1, 0}, // failures: asked, of a note, unasked
		{5, 1, 1, 1, 5, 1, 1, 0},                  // a second time
		{6, 1, 1, 1, 6, 1, 1, 0},                  // a file that must be
		{8, 3, 3, 0, 8, 4, 3, 0, 2, 3, 0, 0},      // handlers that call
		{7, 1, 1, 0},                              // not in the table
		{8, 7, 3, 0, 98, 7, 0, 0, 98, 0, 0, 1},    // given up
		{1, 1, 1, 2},                              // shorter than it says
		{1, 1, 1, 4},                              // an impossible length
		{1, 1, 1, 8, 3, 1, 1, 16},                 // a mark without a file, a file without a mark
	} {
		for mode := range byte(6) {
			f.Add(mode, seed)
		}
	}
	f.Fuzz(func(t *testing.T, mode byte, data []byte) {
		raw, s := imsgtest.Sockets(t)
		a, err := imsg.NewConn(s.Take(), &imsg.Config{AllowFDPass: true, Dialect: imsg.Dialect(mode / 3 % 2)})
		testutil.Must(t, err)
		p := peer.New(a, &peer.Config{Match: peer.Match(mode % 3), ErrorType: failed, CancelType: 98, MaxRequests: 2, Workers: 2})
		p.Handle(
			peer.Rule{Type: ask, Handle: echo},
			peer.Rule{Type: note, File: peer.FileOptional, Handle: func(context.Context, *peer.Incoming) error { return errTest }},
			peer.Rule{Type: nest, File: peer.FileOptional, Once: true, Handle: echo},
			peer.Rule{Type: nest + 1, File: peer.FileRequired, Handle: func(_ context.Context, r *peer.Incoming) error {
				f := r.TakeFile()
				defer f.Close()
				return r.Reply(answer, f)
			}},
			peer.Rule{Type: nest + 3, States: []string{""}, Handle: func(ctx context.Context, r *peer.Incoming) error {
				_, err := call(ctx, p, "")
				return err
			}})
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		served, called := make(chan error, 1), make(chan bool, 2)
		go func() { served <- p.Serve(ctx) }()
		go func() {
			call(ctx, p, "")
			called <- true
		}()
		go func() {
			last := func(m imsg.Message) bool { return m.Len() == 7 }
			for m := range p.Stream(ctx, peer.Request{Type: ask, Items: []uint32{item}, Ends: []uint32{answer}, Last: last}) {
				m.Close()
			}
			called <- true
		}()
		w, r := pipe(t)
		for len(data) >= 4 && write(t, raw, imsg.Dialect(mode/3%2), data, w) {
			data = data[4:]
		}
		w.Close()
		raw.Close()
		<-called
		<-called
		<-served
		<-p.Done()
		if ctx.Err() != nil {
			t.Error("the peer did not end with the channel")
		}
		r.SetReadDeadline(time.Now().Add(limit))
		allClosed(t, r)
	})
}

// write sends one message as data says, and reports false if the peer has
// closed the channel.
func write(t *testing.T, raw *imsgtest.Socket, d imsg.Dialect, data []byte, f *os.File) bool {
	special := data[3]
	msg := make([]byte, imsg.HeaderSize+int(data[2]))
	d.Encode(msg, binary.NativeEndian, imsg.Header{Type: uint32(data[0]), ID: uint32(data[1]), PID: int32(data[1])}, len(msg), special&(1|8) != 0)
	if special&2 != 0 {
		msg = msg[:len(msg)-int(data[2]+1)/2]
	}
	if special&4 != 0 {
		clear(msg[4:8])
	}
	var oob []byte
	if special&(1|16) != 0 {
		c, err := f.SyscallConn()
		testutil.Must(t, err)
		c.Control(func(fd uintptr) { oob = unix.UnixRights(int(fd)) })
	}
	_, err := unix.SendmsgN(raw.FD, msg, oob, nil, unix.MSG_NOSIGNAL)
	return err == nil
}
