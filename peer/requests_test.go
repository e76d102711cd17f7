package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// TestReply looks at answers on the wire: they carry the request's id and pid.
func TestReply(t *testing.T) {
	p, c := end(t, nil)
	var late *peer.Incoming
	p.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		late = r
		if r.Peer() != p {
			t.Error("another peer")
		}
		r.Reply(item, nil, []byte("one"), []byte(" two"))
		return r.Reply(answer, nil)
	}})
	served := serve(t, p)
	send(t, c, imsg.Header{Type: ask, ID: 7, PID: 42}, nil, "")
	for _, want := range []struct {
		h    imsg.Header
		text string
	}{{imsg.Header{Type: item, ID: 7, PID: 42}, "one two"}, {imsg.Header{Type: answer, ID: 7, PID: 42}, ""}} {
		if m := receive(t, c); m.Header() != want.h || string(m.Bytes()) != want.text {
			t.Errorf("%+v %q, want %+v", m.Header(), m.Bytes(), want)
		}
	}
	testutil.Check(t, late.Reply(note, nil))
	if m := receive(t, c); m.Type() != note || m.ID() != 7 {
		t.Errorf("%+v", m.Header())
	}
	p.Close()
	check(t, "Serve", served(), net.ErrClosed)
	check(t, "Reply", late.Reply(note, nil), net.ErrClosed)
}

var errTest = errors.New("it did not\nwork")

// TestHandlerErrors lets handlers fail, with an error type of the program's, the
// usual one, and none.
func TestHandlerErrors(t *testing.T) {
	broken := fmt.Errorf("bad number: %w", peer.ErrViolation)
	for _, tt := range []struct {
		cfg   peer.Config
		err   error
		call  string // in the caller's error
		serve error
	}{
		{peer.Config{NoErrorType: true}, errTest, "unexpected EOF", errTest},
		{peer.Config{NoErrorType: true}, broken, "unexpected EOF", peer.ErrViolation},
		{peer.Config{}, errTest, "failed at the other end: it did not?work", nil},
		{peer.Config{}, broken, "unexpected EOF", peer.ErrViolation},
		{peer.Config{ErrorType: failed}, errTest, "failed at the other end: it did not?work", nil},
		{peer.Config{ErrorType: failed}, errors.New(strings.Repeat("x", 5000)), strings.Repeat("x", 1024), nil},
		{peer.Config{ErrorType: failed}, broken, "unexpected EOF", peer.ErrViolation},
	} {
		p, q := both(t, &tt.cfg)
		q.Handle(peer.Rule{Type: ask, Handle: func(context.Context, *peer.Incoming) error { return tt.err }})
		served := serve(t, q)
		_, err := call(shortCtx(t), p, "")
		if err == nil || !strings.Contains(err.Error(), tt.call) {
			t.Errorf("%+v, %.30v: %v", tt.cfg, tt.err, err)
		}
		p.Close()
		check(t, "Serve", served(), tt.serve)
	}
}

// TestErrorTexts sends errors whose text the channel has no room for, or cannot
// be sent at all.
func TestErrorTexts(t *testing.T) {
	for _, room := range []int{0, 5} {
		p, q := both(t, &peer.Config{ErrorType: failed})
		q.Conn().SetMaxSize(room)
		q.Handle(peer.Rule{Type: ask, Handle: func(context.Context, *peer.Incoming) error { return errTest }})
		serve(t, q)
		_, err := call(shortCtx(t), p, "")
		var remote *peer.RemoteError
		if !errors.As(err, &remote) || remote.Text != "" {
			t.Error(err)
		}
	}
}

// TestFailedSend drops what a handler says about a message that expects no
// answer.
func TestFailedSend(t *testing.T) {
	p, q := both(t, &peer.Config{ErrorType: failed})
	q.Handle(peer.Rule{Type: note, Handle: func(context.Context, *peer.Incoming) error { return errTest }},
		peer.Rule{Type: ask, Handle: echo})
	serve(t, q)
	testutil.Check(t, p.Send(shortCtx(t), note, nil))
	wantAnswer(t, p, "next", "next")
}

// TestLastRequests handles what had come before the end, with a context that
// has ended.
func TestLastRequests(t *testing.T) {
	for _, workers := range []int{1, 4} {
		p, c := end(t, &peer.Config{Workers: workers})
		var handled atomic.Int32
		begin := make(chan struct{})
		p.Handle(peer.Rule{Type: note, Handle: func(ctx context.Context, r *peer.Incoming) error {
			<-ctx.Done()
			<-begin
			handled.Add(1)
			if r.Len() == 0 {
				return ctx.Err() // no failure
			}
			return nil
		}})
		for i := range 20 {
			send(t, c, imsg.Header{Type: note}, nil, strings.Repeat("x", i))
		}
		c.Close()
		served := serve(t, p)
		until(t, "reading all", func() bool { return p.Conn().Stats().Received.Messages == 20 })
		close(begin)
		if err := served(); err != nil || handled.Load() != 20 {
			t.Errorf("%d workers: %d handled, %v", workers, handled.Load(), err)
		}
	}
}

// TestHalfClosed answers an end that has closed its sending side only.
func TestHalfClosed(t *testing.T) {
	p, c := end(t, nil)
	p.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
		<-ctx.Done()
		_, err := call(context.Background(), p, "")
		check(t, "Call", err, io.ErrUnexpectedEOF)
		return echo(ctx, r)
	}})
	send(t, c, imsg.Header{Type: ask, ID: 1}, nil, "last")
	testutil.Must(t, c.CloseWrite())
	served := serve(t, p)
	testutil.Equal(t, "the answer", string(receive(t, c).Bytes()), "last")
	check(t, "Serve", served(), nil)
}

// TestGoneUnderNestedCall closes a channel while a handler waits for it: that
// is no failure of the handler.
func TestGoneUnderNestedCall(t *testing.T) {
	p, c := end(t, nil)
	p.Handle(peer.Rule{Type: nest, Handle: func(_ context.Context, r *peer.Incoming) error {
		_, err := call(context.Background(), p, "")
		return err
	}})
	served := serve(t, p)
	send(t, c, imsg.Header{Type: nest}, nil, "")
	receive(t, c)
	c.Close()
	check(t, "Serve", served(), nil)
}

// TestGoneBeforeAnswer closes a channel before its request is answered: that
// is an end like any other.
func TestGoneBeforeAnswer(t *testing.T) {
	for _, errorType := range []uint32{0, failed} {
		p, c := end(t, &peer.Config{ErrorType: errorType})
		p.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
			<-ctx.Done()
			return echo(ctx, r)
		}})
		send(t, c, imsg.Header{Type: ask}, nil, "")
		c.Close()
		check(t, "Serve", p.Serve(shortCtx(t)), nil)
	}
}

// TestCloseInHandler closes the peer from within handlers while requests wait.
func TestCloseInHandler(t *testing.T) {
	for _, errorType := range []uint32{0, failed} {
		p, c := end(t, &peer.Config{ErrorType: errorType})
		returned := false
		p.Handle(peer.Rule{Type: ask, File: peer.FileOptional, Handle: func(ctx context.Context, r *peer.Incoming) error {
			until(t, "receiving all", func() bool { return p.Conn().Stats().Received.Messages == 3 })
			p.Close()
			<-ctx.Done()
			select {
			case <-p.Done():
				t.Error("done with a handler that has not returned")
			default:
			}
			returned = true
			return errTest
		}})
		w, r := pipe(t)
		for range 3 {
			send(t, c, imsg.Header{Type: ask}, w, "")
		}
		w.Close()
		check(t, "Serve", p.Serve(shortCtx(t)), net.ErrClosed)
		if !returned {
			t.Error("Serve did not wait for the handler")
		}
		allClosed(t, r)
	}
}

// TestProxy passes a request on to an end that breaks the rules: that is not
// the fault of the one that asked.
func TestProxy(t *testing.T) {
	p, q := both(t, &peer.Config{ErrorType: failed})
	bad, c := end(t, nil)
	q.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
		text, err := call(ctx, bad, string(r.Bytes()))
		if err != nil {
			return err
		}
		return r.Reply(answer, nil, []byte(text))
	}})
	served := serve(t, q)
	answering(t, c, func(m imsg.Message) { c.Send(t.Context(), imsg.Header{Type: note, ID: m.ID()}, nil) })
	_, err := call(shortCtx(t), p, "")
	wantRemote(t, "Call", err, "not in the table")
	check(t, "Err", bad.Err(), peer.ErrViolation)
	p.Close()
	check(t, "Serve", served(), nil)
}

// TestWorkers counts the handlers that run at once, and looks at their order.
func TestWorkers(t *testing.T) {
	const requests = 40
	for _, workers := range []int{1, 3} {
		p, c := end(t, &peer.Config{Workers: workers})
		var mu sync.Mutex
		var order []uint32
		running, most := 0, 0
		gate := make(chan struct{})
		p.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
			mu.Lock()
			order = append(order, r.ID())
			running++
			most = max(most, running)
			if running == workers && len(order) <= workers {
				close(gate)
			}
			mu.Unlock()
			<-gate
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}})
		for i := range requests {
			send(t, c, imsg.Header{Type: ask, ID: uint32(i)}, nil, "")
		}
		c.Close()
		check(t, "Serve", p.Serve(shortCtx(t)), nil)
		if most != workers || len(order) != requests {
			t.Errorf("%d workers: %d at once, %d handled", workers, most, len(order))
		}
		for i, id := range order {
			if workers == 1 && id != uint32(i) {
				t.Fatalf("request %d handled as number %d", id, i)
			}
		}
	}
}

// TestNoAnswer lets handlers return without an answer, and say that it comes
// later.
func TestNoAnswer(t *testing.T) {
	p, q := both(t, nil)
	later := make(chan *peer.Incoming, 1)
	finish := make(chan func(error), 1)
	q.Handle(
		peer.Rule{Type: note, Handle: func(context.Context, *peer.Incoming) error { return nil }},
		peer.Rule{Type: ask, Handle: echo},
		peer.Rule{Type: nest, Handle: func(_ context.Context, r *peer.Incoming) error {
			finish <- r.ReplyLater()
			later <- r
			return nil
		}})
	serve(t, q)
	testutil.Check(t, p.Send(shortCtx(t), note, nil))
	request := func(typ uint32) error {
		m, err := p.Call(shortCtx(t), peer.Request{Type: typ, Items: []uint32{item}, Ends: []uint32{answer}})
		m.Close()
		return err
	}
	wantRemote(t, "nil", request(note), "without an answer")
	for _, tt := range []struct {
		name string
		err  error
		send []uint32
		want string
	}{
		{"later", nil, []uint32{item, answer}, ""},
		{"later, without an answer", nil, nil, "without an answer"},
		{"later, with an error", errTest, []uint32{item}, "it did not?work"},
	} {
		go func() {
			in, finish := <-later, <-finish
			for _, typ := range tt.send {
				in.Reply(typ, nil)
			}
			finish(tt.err)
			finish(errTest)
			if tt.want != "" && in.Reply(answer, nil) == nil {
				t.Errorf("%s: a reply behind the error", tt.name)
			}
		}()
		if err := request(nest); tt.want != "" {
			wantRemote(t, tt.name, err, tt.want)
		} else {
			check(t, tt.name, err, nil)
		}
	}
	check(t, "a call behind", request(ask), nil)
	until(t, "finishing", func() bool { return len(q.Pending().Requests) == 0 })
}

// TestReplyToNote: a message that expects no answer cannot get one, which would
// be the end of its sender.
func TestReplyToNote(t *testing.T) {
	reports := make(chan error, 1)
	a, b := imsgtest.Pair(t, nil)
	p := closed(t, peer.New(a, &peer.Config{Report: func(err error) { reports <- err }}))
	q := closed(t, peer.New(b, nil))
	q.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
		if err := r.Reply(answer, nil); (err == nil) != r.WantsAnswer() {
			t.Errorf("Reply: %v", err)
		} else if err != nil {
			return err
		}
		return nil
	}})
	serve(t, q)
	testutil.Check(t, p.Send(shortCtx(t), ask, nil))
	wantAnswer(t, p, "", "")
	wantRemote(t, "reported", <-reports, "expects no answer")
}

// TestReplyFailed lets replies fail for their message only: they are no answer,
// and what follows them is one.
func TestReplyFailed(t *testing.T) {
	shut, err := os.Open(os.DevNull)
	testutil.Must(t, err)
	shut.Close()
	open, _ := pipe(t)
	for _, tt := range []struct {
		name string
		pass bool
		fail func(*peer.Incoming) error
		want error
	}{
		{"too large", true, func(r *peer.Incoming) error { return r.Reply(answer, nil, make([]byte, 1<<20)) }, imsg.ErrTooLarge},
		{"closed file", true, func(r *peer.Incoming) error { return r.Reply(answer, shut) }, os.ErrClosed},
		{"no passing", false, func(r *peer.Incoming) error { return r.Reply(answer, open) }, imsg.ErrNoFDPass},
	} {
		for _, dirs := range []bool{false, true} { // with them the channel looks at the file first
			a, b, err := imsg.Pair(&imsg.Config{AllowFDPass: tt.pass})
			testutil.Must(t, err)
			cfg := &peer.Config{Directories: dirs}
			p, q := closed(t, peer.New(a, cfg)), closed(t, peer.New(b, cfg))
			q.Handle(peer.Rule{Type: ask, Handle: func(ctx context.Context, r *peer.Incoming) error {
				check(t, tt.name, tt.fail(r), tt.want)
				if r.Len() > 0 {
					return echo(ctx, r)
				}
				return nil
			}})
			serve(t, q)
			_, err = call(shortCtx(t), p, "")
			wantRemote(t, tt.name, err, "without an answer")
			wantAnswer(t, p, "again", "again")
		}
	}
}

// TestReplyUnfinished: a reply that is under way when the handler returns is an
// answer, and none is one if it fails.
func TestReplyUnfinished(t *testing.T) {
	p, q := both(t, nil)
	q.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		large := r.Len() > 0
		begun := make(chan bool)
		go func() {
			close(begun)
			if large {
				r.Reply(answer, nil, make([]byte, 1<<20))
			} else {
				r.Reply(answer, nil)
			}
		}()
		<-begun
		return nil
	}})
	serve(t, q)
	for i := range 2000 {
		_, err := call(shortCtx(t), p, strings.Repeat("x", i%2))
		var remote *peer.RemoteError
		if refused := errors.As(err, &remote); err != nil && !refused || i%2 == 1 && !refused {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

// TestReplyLaterRace ends an answer that was left for later while its handler
// returns: each request is forgotten once, behind its answer.
func TestReplyLaterRace(t *testing.T) {
	p, q := both(t, &peer.Config{Workers: 4})
	q.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		finish, begun := r.ReplyLater(), make(chan bool)
		go func() {
			close(begun)
			finish(errTest)
		}()
		<-begun
		for range r.Len() {
			runtime.Gosched()
		}
		return nil
	}})
	serve(t, q)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for i := range 3000 {
				_, err := call(shortCtx(t), p, strings.Repeat("x", i%8))
				if _, ok := errors.AsType[*peer.RemoteError](err); !ok {
					t.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	until(t, "forgetting all", func() bool { return len(q.Pending().Requests) == 0 })
}

// TestReplyTimeout: an end that reads nothing does not hold a handler for good.
func TestReplyTimeout(t *testing.T) {
	for _, d := range []time.Duration{10 * time.Millisecond, -1} {
		a, c := smallBuffers(t, nil)
		p := closed(t, peer.New(a, &peer.Config{WriteTimeout: d}))
		returned := make(chan error, 1)
		p.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
			for {
				if err := r.Reply(answer, nil, make([]byte, 16000)); err != nil {
					returned <- err
					return err
				}
			}
		}})
		served := serve(t, p)
		send(t, c, imsg.Header{Type: ask, ID: 1}, nil, "")
		if d < 0 {
			until(t, "writing a part", func() bool { return a.Stats().Sent.Bytes > 0 })
			p.Close()
			check(t, "Reply", <-returned, net.ErrClosed)
			check(t, "Serve", served(), net.ErrClosed)
			continue
		}
		check(t, "Reply", <-returned, context.DeadlineExceeded)
		check(t, "Serve", served(), context.DeadlineExceeded)
	}
}

// TestPanic lets handlers panic, and end their goroutines: others go on.
func TestPanic(t *testing.T) {
	for _, workers := range []int{1, 3} {
		reports := make(chan error, 1)
		a, b := imsgtest.Pair(t, nil)
		p := closed(t, peer.New(a, nil))
		q := closed(t, peer.New(b, &peer.Config{Workers: workers, Report: func(err error) { reports <- err }}))
		q.Handle(peer.Rule{Type: ask, Handle: echo}, peer.Rule{Type: nest, Handle: func(_ context.Context, r *peer.Incoming) error {
			if r.Len() == 0 {
				runtime.Goexit()
			}
			panic("secret")
		}})
		serve(t, q)
		for text, want := range map[string]string{"x": "internal error", "": "ended its goroutine"} {
			_, err := p.Call(shortCtx(t), peer.Request{Type: nest, Data: []byte(text), Ends: []uint32{answer}})
			wantRemote(t, text, err, want)
			wantAnswer(t, p, "", "")
		}
		var panicked *peer.PanicError
		if err := <-reports; !errors.As(err, &panicked) || panicked.Type != nest || panicked.Value != "secret" ||
			!strings.Contains(string(panicked.Stack), "TestPanic") {
			t.Errorf("reported: %v", err)
		}
	}
	p, q := both(t, nil)
	q.Handle(peer.Rule{Type: ask, Handle: func(context.Context, *peer.Incoming) error { panic("secret") }})
	served := serve(t, q)
	_, err := call(shortCtx(t), p, "")
	check(t, "Call", err, io.ErrUnexpectedEOF)
	var panicked *peer.PanicError
	if err := served(); !errors.As(err, &panicked) || err.Error() != "peer: request type 1: panic: secret" {
		t.Errorf("Serve: %v", err)
	}
}

// TestWaitingMemory lets small requests wait between much that does not: they
// must not keep its memory.
func TestWaitingMemory(t *testing.T) {
	const requests = 64
	p, c := end(t, &peer.Config{MaxRequests: requests + 2})
	begun, release := make(chan bool), make(chan bool)
	got := 0
	p.Handle(peer.Rule{Type: note, File: peer.FileOptional, Handle: func(_ context.Context, r *peer.Incoming) error {
		if r.Len() == 0 {
			begun <- true
			<-release
		} else if f := r.TakeFile(); string(r.Bytes()) != "sixteen bytes..." || (f == nil) != (got%2 == 0) {
			t.Errorf("%q, %v", r.Bytes(), f)
		} else {
			f.Close()
			got++
		}
		return nil
	}})
	served := serve(t, p)
	send(t, c, imsg.Header{Type: note}, nil, "")
	<-begun
	before := testutil.Heap()
	w, _ := pipe(t)
	for i := range requests {
		send(t, c, imsg.Header{Type: note}, []*os.File{nil, w}[i%2], "sixteen bytes...")
		for range 20 { // of no interest
			send(t, c, imsg.Header{Type: peer.DefaultErrorType}, nil, strings.Repeat("x", 16000))
		}
	}
	until(t, "receiving all", func() bool { return p.Conn().Stats().Received.Messages == 1+21*requests })
	if n := testutil.Heap() - before; n > 4<<20 {
		t.Errorf("%d waiting requests hold %d KiB", requests, n>>10)
	}
	close(release)
	c.Close()
	check(t, "Serve", served(), nil)
	testutil.Equal(t, "handled", got, requests)
}
