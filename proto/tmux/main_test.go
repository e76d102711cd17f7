package tmux

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }

// bounded returns a context for one test, which takes a small part of it unless
// it fails.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A fakeServer is one connection of a client to a server that a test plays.
type fakeServer struct {
	t    testing.TB
	ctx  context.Context
	conn *imsg.Conn
}

// serveFake starts a server that calls serve for each connection, numbered from
// 0, and returns its socket.
func serveFake(t testing.TB, serve func(n int, s *fakeServer)) string {
	t.Helper()
	path := t.TempDir() + "/s"
	l, err := imsg.Listen(path, &imsg.Config{AllowFDPass: true})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	ctx, cancel := context.WithCancel(bounded(t))
	go func() {
		defer close(over)
		for n := 0; ; n++ {
			conn, err := l.Accept(ctx)
			if err != nil {
				return
			}
			serve(n, &fakeServer{t, ctx, conn})
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		cancel()
		l.Close()
		<-over
	})
	return path
}

// expect receives up to a message of the type and returns its payload; false
// if the client has gone.
func (s *fakeServer) expect(typ uint32) ([]byte, bool) {
	for {
		m, err := s.conn.Receive(s.ctx)
		if err != nil {
			return nil, false
		}
		got, p := m.Type(), bytes.Clone(m.Bytes())
		m.Close()
		if got == typ {
			return p, true
		}
	}
}

// send sends a message; the client may have gone.
func (s *fakeServer) send(typ uint32, fields ...any) bool {
	return s.conn.Send(s.ctx, header(typ), nil, encode(fields...)) == nil
}

// print plays a command that prints.
func (s *fakeServer) print(text string) {
	s.send(msgWriteOpen, int32(1), int32(1), int32(0))
	s.expect(msgWriteReady)
	s.send(msgWrite, int32(1), []byte(text))
	s.exit(0)
}

// exit plays the end of a command.
func (s *fakeServer) exit(status int32) {
	s.send(msgExit, status)
	s.expect(msgExiting)
	s.send(msgExited)
	s.expect(0) // until it hangs up
}

// answer plays the answer to the probe.
func (s *fakeServer) answer(version string) {
	if _, ok := s.expect(msgCommand); ok {
		s.print(version + "\n")
	}
}

// command returns the arguments in the payload of a command.
func command(p []byte) (args []string) {
	if len(p) < 5 {
		return nil
	}
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(p[4:], []byte{0}), []byte{0}) {
		args = append(args, string(arg))
	}
	return args
}

func number(p []byte, i int) int32 { return int32(binary.NativeEndian.Uint32(p[4*i:])) }
