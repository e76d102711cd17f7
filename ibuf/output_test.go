package ibuf

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"weak"
)

// A queued message as the test remembers it.
type queuedMsg struct {
	p    []byte
	end  uint64
	file *os.File
}

// FuzzOutput queues, writes in part, and removes messages as the script says,
// and compares with a plain list of messages.
func FuzzOutput(f *testing.F) {
	f.Add([]byte{0, 10, 1, 20, 4, 25, 0, 5, 5, 0, 4, 255})
	f.Add([]byte{0, 200, 0, 200, 0, 200, 4, 10, 5, 1, 4, 200, 5, 0, 4, 255})
	f.Add([]byte{3, 0, 1, 0, 4, 0, 2, 9, 5, 0, 0, 3, 4, 255})
	f.Add(bytes.Repeat([]byte{0, 255, 1, 255, 2, 255}, 40))
	f.Add(append(bytes.Repeat([]byte{0, 255}, 100), bytes.Repeat([]byte{5, 3, 4, 9, 0, 1}, 30)...))
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 400)]
		var o Output
		var msgs []queuedMsg
		part := 0 // bytes of msgs[0] that were written
		var got, want []byte
		var all []*os.File
		fill := byte(0)
		for len(script) >= 2 {
			op, arg := script[0]%6, int(script[1])
			script = script[2:]
			size, body := 3+arg*arg/8, []byte(nil) // up to 8 KiB
			var file *os.File
			if (op == 1 || op == 2 && arg%2 == 1) && len(all) < 20 {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				w.Close()
				file = r
				all = append(all, r)
			}
			fill++
			switch op {
			case 0, 1: // a message in the chunk
				p := o.Append(size, file, true)
				for i := range p {
					p[i] = fill
				}
				body = bytes.Clone(p)
			case 2: // a message with its payload in a Buffer
				b := New(arg)
				b.Add(bytes.Repeat([]byte{fill + 1}, arg))
				if file != nil {
					b.SetFile(file)
				}
				p := o.AppendBuffer(3, b)
				copy(p, []byte{fill, fill, fill})
				body = append([]byte{fill, fill, fill}, b.Bytes()...)
			case 3: // a whole Buffer
				b := New(arg)
				b.Add(bytes.Repeat([]byte{fill}, arg))
				body = bytes.Clone(b.Bytes())
				o.Push(b)
			case 4: // write a part of what may be written
				bufs, wfile := o.Gather(1 + arg%5)
				var next []byte
				for _, p := range bufs {
					next = append(next, p...)
				}
				if len(next) > 0 && part == 0 && msgs[0].file != wfile && len(msgs[0].p) > 0 {
					t.Fatal("the write carries another file than its first message")
				}
				n := min(len(next), arg*arg/4)
				got = append(got, next[:n]...)
				o.Wrote(n)
				for len(msgs) > 0 && part+n >= len(msgs[0].p) && (n > 0 || len(msgs[0].p) == part) {
					n -= len(msgs[0].p) - part
					want = append(want, msgs[0].p[part:]...)
					msgs, part = msgs[1:], 0
				}
				if n > 0 {
					want = append(want, msgs[0].p[part:part+n]...)
					part += n
				}
				continue
			case 5: // take a message out again
				if len(msgs) == 0 {
					continue
				}
				i := arg % len(msgs)
				m := msgs[i]
				ok := o.Remove(m.end, len(m.p))
				if ok != (len(m.p) > 0 && (i > 0 || part == 0)) {
					t.Fatalf("remove message %d of %d bytes, %d written: %v", i, len(m.p), part, ok)
				}
				if ok {
					msgs = append(msgs[:i:i], msgs[i+1:]...)
				}
				continue
			}
			msgs = append(msgs, queuedMsg{body, o.End(), file})
		}
		size := -part
		for _, m := range msgs {
			size += len(m.p)
		}
		if !bytes.Equal(got, want) || o.Size() != size {
			t.Fatalf("wrote %d bytes, want %d; %d left, want %d", len(got), len(want), o.Size(), size)
		}
		// An empty message may be counted until the next write.
		if n := o.Len(); n < nonEmpty(msgs) || n > len(msgs)+emptyBefore(msgs) {
			t.Fatalf("%d messages left, want %d", n, len(msgs))
		}
		o.Clear()
		if o.Len() != 0 || o.Size() != 0 || o.Files() != 0 {
			t.Fatalf("after Clear: %d messages, %d bytes, %d files", o.Len(), o.Size(), o.Files())
		}
		for i, f := range all {
			if err := f.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("file %d was not closed", i)
			}
		}
	})
}

func nonEmpty(msgs []queuedMsg) (n int) {
	for _, m := range msgs {
		if len(m.p) > 0 {
			n++
		}
	}
	return n
}

func emptyBefore(msgs []queuedMsg) int { return len(msgs) - nonEmpty(msgs) }

func TestOutputClearsWhatIsWritten(t *testing.T) {
	var o Output
	p := o.Append(8, nil, false)
	copy(p, "password")
	o.Wrote(3)
	if string(p) != "\x00\x00\x00sword" {
		t.Errorf("%q after a write of 3 bytes", p)
	}
	o.Clear()
	if string(p) != "\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("%q after Clear", p)
	}
}

func TestOutputMemoryIsUsedAgain(t *testing.T) {
	var o Output
	lagging := func() { // the queue is never empty
		for range 1000 {
			o.Append(500, nil, false)
			o.Gather(64)
			if o.Size() > 300<<10 {
				o.Wrote(200 << 10)
			}
		}
	}
	draining := func() {
		for range 1000 {
			o.Append(100, nil, false)
		}
		o.Gather(64)
		o.Wrote(o.Size())
	}
	for name, round := range map[string]func(){"lagging": lagging, "draining": draining} {
		for range 10 {
			round()
		}
		if n := testing.AllocsPerRun(50, round); n > 2 { // the collector may take what is kept weakly
			t.Errorf("%s: %v allocations for 1000 messages", name, n)
		}
	}
}

func TestOutputIdleKeepsNoBigBuffer(t *testing.T) {
	var o Output
	for range 1000 {
		o.Append(1000, nil, false)
	}
	for o.Len() > 0 {
		bufs, _ := o.Gather(64)
		n := 0
		for _, p := range bufs {
			n += len(p)
		}
		o.Wrote(n)
	}
	if o.cur != nil || o.spare != nil || !collected(func() weak.Pointer[outChunk] { return o.idle }) {
		t.Error("an empty queue holds a big buffer")
	}
}

// limited is a socket that takes n bytes and then would block.
type limited struct {
	got []byte
	n   int
}

func (w *limited) Write(p []byte) (int, error) {
	if w.n == 0 {
		return 0, syscall.EAGAIN
	}
	k := min(w.n, len(p))
	w.got = append(w.got, p[:k]...)
	w.n -= k
	if k < len(p) {
		return k, io.ErrShortWrite
	}
	return k, nil
}

func TestMsgBufWriteStream(t *testing.T) {
	m := NewMsgBuf()
	for i := range 5 {
		b := New(10)
		b.Add(bytes.Repeat([]byte{byte('a' + i)}, 10*min(i, 1)))
		m.Push(b)
	}
	w := &limited{n: 20}
	if err := m.WriteStream(w); err != nil {
		t.Fatal(err)
	}
	if m.QueueLen() != 2 || string(w.got) != "bbbbbbbbbbcccccccccc" {
		t.Errorf("%d left after %q", m.QueueLen(), w.got)
	}
	w.n = 100
	if err := m.WriteStream(w); err != nil || m.QueueLen() != 0 || len(w.got) != 40 {
		t.Errorf("%v, %d left, %d bytes", err, m.QueueLen(), len(w.got))
	}
}
