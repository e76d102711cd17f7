package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/testutil"
	"example.org/imsg/peer"
)

// TestMatch calls servers that answer in the three ways, many at a time, with
// messages before the last. The foreign pid is OpenBGPD 7.7's.
func TestMatch(t *testing.T) {
	const calls = 20
	for _, tt := range []struct {
		name   string
		cfg    peer.Config
		answer func(imsg.Header) imsg.Header
	}{
		{"id", peer.Config{ID: 8}, func(h imsg.Header) imsg.Header { return imsg.Header{ID: h.ID, PID: 1} }},
		{"pid", peer.Config{Match: peer.ByPID, ID: 8}, func(h imsg.Header) imsg.Header { return imsg.Header{PID: h.PID} }},
		{"pid of choice", peer.Config{Match: peer.ByPID, PID: 77}, func(h imsg.Header) imsg.Header { return imsg.Header{PID: 77} }},
		{"foreign pid", peer.Config{Match: peer.ByPID}, func(h imsg.Header) imsg.Header { return imsg.Header{PID: h.PID + 1} }},
		{"order", peer.Config{Match: peer.InOrder, ID: 8}, func(imsg.Header) imsg.Header { return imsg.Header{PID: 1} }},
		{"order, one at a time", peer.Config{Match: peer.InOrder, MaxCalls: 1}, func(h imsg.Header) imsg.Header { return imsg.Header{PID: h.PID + 1} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := end(t, &tt.cfg)
			go func() {
				for m, err := range c.All(t.Context()) {
					if err != nil {
						return
					}
					h := tt.answer(m.Header())
					c.Send(t.Context(), imsg.Header{Type: item, ID: h.ID, PID: m.PID()}, nil)
					h.Type = answer
					c.Send(t.Context(), h, nil, m.Bytes())
					m.Close()
				}
			}()
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() { wantAnswer(t, p, fmt.Sprint(i), fmt.Sprint(i)) })
			}
			wg.Wait()
		})
	}
}

// TestRequestHeader looks at what a request is on the wire.
func TestRequestHeader(t *testing.T) {
	pid := int32(os.Getpid())
	for _, tt := range []struct {
		cfg  peer.Config
		want []imsg.Header
	}{
		{peer.Config{ID: 8}, []imsg.Header{{Type: ask, ID: 1, PID: pid}, {Type: ask, ID: 2, PID: pid}, {Type: note, PID: pid}}},
		{peer.Config{PID: 9}, []imsg.Header{{Type: ask, ID: 1, PID: 9}, {Type: ask, ID: 2, PID: 9}, {Type: note, PID: 9}}},
		{peer.Config{Match: peer.ByPID, ID: 8}, []imsg.Header{{Type: ask, ID: 8, PID: pid}, {Type: ask, ID: 8, PID: pid}, {Type: note, ID: 8, PID: pid}}},
		{peer.Config{Match: peer.InOrder}, []imsg.Header{{Type: ask, PID: pid}, {Type: ask, PID: pid}, {Type: note, PID: pid}}},
	} {
		p, c := end(t, &tt.cfg)
		for i, want := range tt.want {
			var wg sync.WaitGroup
			if want.Type == ask {
				wg.Go(func() { call(shortCtx(t), p, "") })
			} else if err := p.Send(shortCtx(t), note, nil); err != nil {
				t.Fatal(err)
			}
			h := receive(t, c).Header()
			testutil.Equal(t, fmt.Sprintf("%+v: message %d", tt.cfg, i), h, want)
			if want.Type == ask {
				send(t, c, imsg.Header{Type: answer, ID: h.ID, PID: h.PID}, nil, "")
			}
			wg.Wait()
		}
	}
}

// TestWrongAnswers answers a call in ways that break the rules. An answer that
// is not recognised is not called a request.
func TestWrongAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		match   peer.Match
		answers func(imsg.Header) []imsg.Header
		call    error // nil: the first answer is good
		want    string
	}{
		{"wrong id", peer.ByID, func(h imsg.Header) []imsg.Header { return []imsg.Header{{Type: answer, ID: h.ID + 1}} },
			net.ErrClosed, "answer type 2: not in the table of requests, and an answer to type 1 only with id 1: it came with id 2"},
		{"id 0", peer.ByID, func(h imsg.Header) []imsg.Header { return []imsg.Header{{Type: answer}} },
			net.ErrClosed, "answer type 2: not in the table of requests, and an answer to type 1 only with id 1: it came with id 0"},
		{"wrong type", peer.ByID, func(h imsg.Header) []imsg.Header { return []imsg.Header{{Type: note, ID: h.ID}} },
			net.ErrClosed, "message type 4: not in the table of requests, and no answer to type 1"},
		{"wrong type in order", peer.InOrder, func(h imsg.Header) []imsg.Header { return []imsg.Header{{Type: note}} },
			net.ErrClosed, "message type 4: not in the table of requests, and no answer to type 1"},
		{"twice", peer.ByID, func(h imsg.Header) []imsg.Header {
			return []imsg.Header{{Type: answer, ID: h.ID}, {Type: answer, ID: h.ID}}
		}, nil, "not in the table"},
		{"twice by pid", peer.ByPID, func(h imsg.Header) []imsg.Header {
			return []imsg.Header{{Type: answer, PID: h.PID}, {Type: answer, PID: h.PID}}
		}, nil, "not in the table"},
		{"twice in order", peer.InOrder, func(h imsg.Header) []imsg.Header { return []imsg.Header{{Type: answer}, {Type: answer}} },
			nil, "not in the table"},
		{"failed twice", peer.ByID, func(h imsg.Header) []imsg.Header {
			return []imsg.Header{{Type: answer, ID: h.ID}, {Type: failed, ID: h.ID}}
		}, nil, "unasked answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c := end(t, &peer.Config{Match: tt.match, ErrorType: failed})
			w, r := pipe(t)
			done := calling(shortCtx(t), p, "")
			for i, h := range tt.answers(receive(t, c).Header()) {
				if i > 0 || tt.call != nil {
					send(t, c, h, w, "")
				} else {
					send(t, c, h, nil, "")
					check(t, "Call", <-done, nil)
				}
			}
			w.Close()
			<-p.Done()
			wantViolation(t, "Err", p.Err(), tt.want)
			if tt.call != nil {
				err := <-done
				check(t, "Call", err, tt.call)
				if err.Error() != "peer: call type 1: the peer was closed because of peer: "+tt.want {
					t.Error(err)
				}
			}
			allClosed(t, r)
		})
	}
}

// TestRemoteError reads what an ErrorType message says, whatever it says.
func TestRemoteError(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"no such user":            "no such user",
		"a\x1b[31m\n\x00b\xff":    "a?[31m??b?",
		strings.Repeat("x", 5000): strings.Repeat("x", 1024),
		strings.Repeat("x", 1023) + "\u00e9 tail": strings.Repeat("x", 1023),
		strings.Repeat("\xff", 2000):              strings.Repeat("?", 1024),
	} {
		p, c := end(t, &peer.Config{ErrorType: failed})
		answering(t, c, func(m imsg.Message) {
			c.Send(t.Context(), imsg.Header{Type: failed, ID: m.ID()}, nil, []byte(text))
		})
		_, err := call(shortCtx(t), p, "")
		var remote *peer.RemoteError
		if !errors.As(err, &remote) || remote.Type != ask || len(remote.Text) > 1024 || remote.Text != want {
			t.Errorf("%q: %v", text, err)
		} else if err.Error() != "peer: call type 1 failed at the other end: "+want {
			t.Error(err)
		}
	}
}

// TestCallItems makes a call whose answer is longer than one message: the last
// is returned, and the files of the others are closed.
func TestCallItems(t *testing.T) {
	p, c := end(t, nil)
	w, r := pipe(t)
	answering(t, c, func(m imsg.Message) {
		for range 100 {
			c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, w)
		}
		w.Close()
		c.Send(t.Context(), imsg.Header{Type: answer, ID: m.ID()}, nil, []byte("last"))
	})
	wantAnswer(t, p, "", "last")
	allClosed(t, r)
}

// TestOwnFaults refuses messages that cannot be sent; the channel stays usable.
func TestOwnFaults(t *testing.T) {
	shut, _ := pipe(t)
	shut.Close()
	matches(t, func(t *testing.T, match peer.Match) {
		p, q := both(t, &peer.Config{Match: match, MaxCalls: 1})
		q.Handle(peer.Rule{Type: ask, Handle: echo})
		q.Conn().SetMaxSize(30000)
		served := serve(t, q)
		for _, tt := range []struct {
			name string
			req  peer.Request
			want error
		}{
			{"no end", peer.Request{Type: ask}, nil},
			{"too large", peer.Request{Type: ask, Data: make([]byte, 20000), Ends: []uint32{answer}}, imsg.ErrTooLarge},
			{"times the file was closed", peer.Request{Type: ask, File: shut, Ends: []uint32{answer}}, os.ErrClosed},
		} {
			_, err := p.Call(shortCtx(t), tt.req)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", tt.name, err)
			}
			wantAnswer(t, p, "next", "next")
		}
		p.Close()
		check(t, "Serve", served(), nil)
	})
}

// TestNoFilePassing sends files where file passing is off, and answers too.
func TestNoFilePassing(t *testing.T) {
	a, b, err := imsg.Pair(nil)
	testutil.Must(t, err)
	p, q := closed(t, peer.New(a, nil)), closed(t, peer.New(b, nil))
	w, _ := pipe(t)
	q.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		check(t, "Reply", r.Reply(answer, w), imsg.ErrNoFDPass)
		return r.Reply(answer, nil)
	}})
	serve(t, q)
	_, err = p.Call(shortCtx(t), peer.Request{Type: ask, File: w, Ends: []uint32{answer}})
	check(t, "Call", err, imsg.ErrNoFDPass)
	wantAnswer(t, p, "", "")
}

// TestClosedFile sends a file that is closed: that fails, and nothing else.
func TestClosedFile(t *testing.T) {
	shut, err := os.Open(os.DevNull)
	testutil.Must(t, err)
	shut.Close()
	for _, dirs := range []bool{false, true} { // with them the channel looks at the file first
		p, q := both(t, &peer.Config{Directories: dirs})
		q.Handle(peer.Rule{Type: ask, Handle: echo})
		serve(t, q)
		for range 3 {
			_, err := p.Call(shortCtx(t), peer.Request{Type: ask, File: shut, Ends: []uint32{answer}})
			check(t, "Call", err, os.ErrClosed)
			check(t, "Send", p.Send(shortCtx(t), note, shut), os.ErrClosed)
			for _, err := range p.Stream(shortCtx(t), peer.Request{Type: ask, File: shut, Ends: []uint32{answer}}) {
				check(t, "Stream", err, os.ErrClosed)
			}
			wantAnswer(t, p, "next", "next")
		}
		if n := len(p.Pending().Calls); n > 0 || p.Err() != nil {
			t.Errorf("%d calls pending, %v", n, p.Err())
		}
	}
}

// TestAnswerFile gives the file of an answer to the caller.
func TestAnswerFile(t *testing.T) {
	dialects(t, func(t *testing.T, d imsg.Dialect) {
		a, b := imsgtest.Pair(t, &imsg.Config{Dialect: d})
		p, q := closed(t, peer.New(a, nil)), closed(t, peer.New(b, nil))
		q.Handle(peer.Rule{Type: ask, File: peer.FileRequired, Handle: func(_ context.Context, r *peer.Incoming) error {
			f := r.TakeFile()
			defer f.Close()
			return r.Reply(answer, f)
		}})
		serve(t, q)
		w, r := pipe(t)
		m, err := p.Call(shortCtx(t), peer.Request{Type: ask, File: w, Ends: []uint32{answer}})
		testutil.Must(t, err)
		w.Close()
		f := m.TakeFile()
		m.Close()
		if _, err := f.WriteString("x"); err != nil {
			t.Error(err)
		}
		f.Close()
		if text, err := io.ReadAll(r); string(text) != "x" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// TestCallFile: an answer that is a file, or should be.
func TestCallFile(t *testing.T) {
	p, q := both(t, &peer.Config{ErrorType: failed})
	f, err := os.Open(os.DevNull)
	testutil.Must(t, err)
	defer f.Close()
	q.Handle(peer.Rule{Type: ask, Handle: func(_ context.Context, r *peer.Incoming) error {
		if string(r.Bytes()) == "refuse" {
			return errors.New("no")
		}
		if string(r.Bytes()) == "none" {
			return r.Reply(answer, nil)
		}
		return r.Reply(answer, f)
	}})
	serve(t, q)
	for text, want := range map[string]string{"": "", "none": "type 2, has no file", "refuse": "no"} {
		got, err := p.CallFile(shortCtx(t), peer.Request{Type: ask, Data: []byte(text), Ends: []uint32{answer}})
		if want == "" {
			testutil.Must(t, err)
			if name, err := got.Stat(); err != nil || name.Mode()&os.ModeCharDevice == 0 {
				t.Errorf("got %v, %v", name, err)
			}
			got.Close()
		} else if got != nil || err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, error %v", text, got, err)
		}
	}
}

// TestLast lets answers end with a message of the type of the others: an empty
// one, or one that was promised.
func TestLast(t *testing.T) {
	matches(t, func(t *testing.T, match peer.Match) {
		p, c := end(t, &peer.Config{Match: match})
		go func() {
			for m, err := range c.All(t.Context()) {
				if err != nil {
					return
				}
				for _, text := range []string{"a", "b", "c", ""} {
					c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, nil, []byte(text))
				}
				m.Close()
			}
		}()
		count := 0
		for _, tt := range []struct {
			last func(imsg.Message) bool
			want string
		}{
			{func(m imsg.Message) bool { return m.Len() == 0 }, "a b c  "},
			{func(imsg.Message) bool { count++; return count == 4 }, "a b c  "},
		} {
			got := ""
			for m, err := range p.Stream(shortCtx(t), peer.Request{Type: ask, Items: []uint32{item}, Last: tt.last}) {
				testutil.Must(t, err)
				got += string(m.Bytes()) + " "
				m.Close()
			}
			testutil.Equal(t, "messages", got, tt.want)
		}
		m, err := p.Call(shortCtx(t), peer.Request{Type: ask, Items: []uint32{item}, Last: func(m imsg.Message) bool { return m.Len() == 0 }})
		if err != nil || m.Len() != 0 {
			t.Errorf("%d bytes, %v", m.Len(), err)
		}
		m.Close()
	})
}

// TestClosedInLast closes the peer while it asks whether a message ends the
// answer: nobody takes the message any more, and its file is closed.
func TestClosedInLast(t *testing.T) {
	p, c := end(t, nil)
	called := make(chan error, 1)
	ended := make(chan bool)
	last := func(imsg.Message) bool {
		go p.Close()
		<-ended
		return false
	}
	go func() {
		m, err := p.Call(shortCtx(t), peer.Request{Type: ask, Items: []uint32{item}, Last: last})
		m.Close()
		close(ended)
		called <- err
	}()
	w, r := pipe(t)
	send(t, c, imsg.Header{Type: item, ID: receive(t, c).ID()}, w, "")
	w.Close()
	check(t, "Call", <-called, net.ErrClosed)
	<-p.Done()
	allClosed(t, r)
}

// TestLastPanics: what the other end sends must not end the program.
func TestLastPanics(t *testing.T) {
	p, c := end(t, nil)
	answering(t, c, func(m imsg.Message) { c.Send(t.Context(), imsg.Header{Type: item, ID: m.ID()}, nil) })
	_, err := p.Call(shortCtx(t), peer.Request{Type: ask, Items: []uint32{item}, Last: func(m imsg.Message) bool { return m.Bytes()[3] == 0 }})
	check(t, "Call", err, net.ErrClosed)
	<-p.Done()
	var panicked *peer.PanicError
	if !errors.As(p.Err(), &panicked) || panicked.Type != ask || !strings.Contains(string(panicked.Stack), "TestLastPanics") {
		t.Errorf("%v", p.Err())
	}
}
