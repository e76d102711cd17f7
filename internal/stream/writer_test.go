package stream

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"weak"

	"example.org/imsg/internal/check"
)

// A queued message as the test remembers it.
type queuedMsg struct {
	p    []byte
	end  uint64
	file *os.File
}

// FuzzWriter queues, writes in part, and removes messages as the script says,
// and compares with a plain list of messages.
func FuzzWriter(f *testing.F) {
	f.Add([]byte{0, 10, 1, 20, 4, 25, 0, 5, 5, 0, 4, 255})
	f.Add([]byte{0, 200, 0, 200, 0, 200, 4, 10, 5, 1, 4, 200, 5, 0, 4, 255})
	f.Add([]byte{3, 0, 1, 0, 4, 0, 2, 9, 5, 0, 0, 3, 4, 255})
	f.Add(bytes.Repeat([]byte{0, 255, 1, 255, 2, 255}, 40))
	f.Add(append(bytes.Repeat([]byte{0, 255}, 100), bytes.Repeat([]byte{5, 3, 4, 9, 0, 1}, 30)...))
	f.Add([]byte{9, 2}) // shorter than a header
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 400)]
		var w Writer
		var msgs []queuedMsg
		part := 0 // bytes of msgs[0] that were written
		var got, want []byte
		var all []*os.File
		fill := byte(0)
		given := 0 // Buffers that were not given back
		for len(script) >= 2 {
			op, arg := script[0]%6, int(script[1])
			script = script[2:]
			size, body := 3+arg*arg/8, []byte(nil) // up to 8 KiB
			var file *os.File
			if (op == 1 || op == 2 && arg%2 == 1) && len(all) < 20 {
				r, wr, err := os.Pipe()
				check.Must(t, err)
				wr.Close()
				file = r
				all = append(all, r)
			}
			fill++
			switch op {
			case 0, 1: // a message in the chunk
				p := w.Append(size, file, true)
				for i := range p {
					p[i] = fill
				}
				body = bytes.Clone(p)
			case 2: // a message with its payload in a Buffer
				b := bytes.Repeat([]byte{fill + 1}, arg)
				given++
				p := w.AppendOwned(3, b, file, func() { given-- })
				copy(p, []byte{fill, fill, fill})
				body = append([]byte{fill, fill, fill}, b...)
			case 3: // a whole Buffer
				b := bytes.Repeat([]byte{fill}, arg)
				body = bytes.Clone(b)
				given++
				w.AppendOwned(0, b, nil, func() { given-- })
			case 4: // write a part of what may be written
				bufs, wfile := w.Pending(1 + arg%5)
				var next []byte
				for _, p := range bufs {
					next = append(next, p...)
				}
				if len(next) > 0 && part == 0 && msgs[0].file != wfile && len(msgs[0].p) > 0 {
					t.Fatal("the write carries another file than its first message")
				}
				n := min(len(next), arg*arg/4)
				got = append(got, next[:n]...)
				w.Consume(n)
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
				ok := w.Remove(m.end, len(m.p))
				if ok != (len(m.p) > 0 && (i > 0 || part == 0)) {
					t.Fatalf("remove message %d of %d bytes, %d written: %v", i, len(m.p), part, ok)
				}
				if ok {
					msgs = append(msgs[:i:i], msgs[i+1:]...)
				}
				continue
			}
			msgs = append(msgs, queuedMsg{body, w.End(), file})
		}
		whole := msgs
		if part > 0 {
			whole = msgs[1:]
		}
		w.Each(func(p []byte, end uint64, n int, file bool) {
			for len(whole) > 0 && len(whole[0].p) == 0 {
				whole = whole[1:]
			}
			if n == 0 {
				return
			}
			if m := whole[0]; len(p) < min(3, len(m.p)) || !bytes.HasPrefix(m.p, p) || end != m.end || n != len(m.p) || file != (m.file != nil) {
				t.Fatalf("%d of %d bytes, up to %d, file %v; want %d, %d, %v", len(p), n, end, file, len(m.p), m.end, m.file)
			}
			whole = whole[1:]
		})
		if nonEmpty(whole) > 0 {
			t.Fatalf("Each left out %d messages", len(whole))
		}
		size := -part
		for _, m := range msgs {
			size += len(m.p)
		}
		if !bytes.Equal(got, want) || w.Size() != size {
			t.Fatalf("wrote %d bytes, want %d; %d left, want %d", len(got), len(want), w.Size(), size)
		}
		// An empty message may be counted until the next write.
		if n := w.Len(); n < nonEmpty(msgs) || n > len(msgs)+emptyBefore(msgs) {
			t.Fatalf("%d messages left, want %d", n, len(msgs))
		}
		w.Clear()
		if w.Len() != 0 || w.Size() != 0 || w.Files() != 0 {
			t.Fatalf("after Clear: %d messages, %d bytes, %d files", w.Len(), w.Size(), w.Files())
		}
		check.Equal(t, "Buffers that were not given back", given, 0)
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

func TestWriterClearsWhatIsWritten(t *testing.T) {
	var w Writer
	p := w.Append(8, nil, false)
	copy(p, "password")
	w.Consume(3)
	check.Equal(t, "after a write of 3 bytes", string(p), "\x00\x00\x00sword")
	w.Clear()
	check.Equal(t, "after Clear", string(p), "\x00\x00\x00\x00\x00\x00\x00\x00")
}

func TestWriterMemoryIsUsedAgain(t *testing.T) {
	skipRace(t)
	var w Writer
	lagging := func() { // the queue is never empty
		for range 1000 {
			w.Append(500, nil, false)
			w.Pending(64)
			if w.Size() > 300<<10 {
				w.Consume(200 << 10)
			}
		}
	}
	draining := func() {
		for range 1000 {
			w.Append(100, nil, false)
		}
		w.Pending(64)
		w.Consume(w.Size())
	}
	for name, round := range map[string]func(){"lagging": lagging, "draining": draining} {
		for range 10 {
			round()
		}
		if n := testing.AllocsPerRun(50, round); n > 2 { // the collector may take what waits in a pool
			t.Errorf("%s: %v allocations for 1000 messages", name, n)
		}
	}
}

func TestWriterIdleKeepsNoBigBuffer(t *testing.T) {
	var w Writer
	for range 1000 {
		w.Append(1000, nil, false)
	}
	big := weak.Make(w.cur)
	for w.Len() > 0 {
		bufs, _ := w.Pending(64)
		n := 0
		for _, p := range bufs {
			n += len(p)
		}
		w.Consume(n)
	}
	if w.cur != nil || !collected(big) {
		t.Error("an empty queue holds a big buffer")
	}
}

// A message that is removed gives its memory back at once, whatever waits
// before and behind it.
func TestWriterRemoveFrees(t *testing.T) {
	held := func(w *Writer) (n int) {
		seen := map[*outChunk]bool{w.cur: true}
		if w.cur != nil {
			n = cap(w.cur.buf)
		}
		for _, s := range w.segs[w.head:] {
			if !seen[s.c] {
				seen[s.c] = true
				n += cap(s.c.buf)
			}
		}
		return n
	}
	var w Writer
	fill := func(n int, b byte) {
		p := w.Append(n, nil, false)
		for i := range p {
			p[i] = b
		}
	}
	fill(100, 's')
	for range 4000 {
		fill(16<<10, 'x')
		if !w.Remove(w.End(), 16<<10) {
			t.Fatal("not removed")
		}
	}
	if n := held(&w); n > bigChunk {
		t.Errorf("%d KiB for a message of 100 bytes", n>>10)
	}
	w.Clear()

	var want []byte
	for i := range 1000 { // one of 20 stays
		if fill(16<<10, byte(i)); i%20 == 0 {
			want = append(want, bytes.Repeat([]byte{byte(i)}, 16<<10)...)
		} else if i%20 == 19 {
			end := w.End()
			for k := range uint64(19) {
				if !w.Remove(end-k*16<<10, 16<<10) {
					t.Fatal("not removed")
				}
			}
		}
	}
	if n := held(&w); n > w.Size()*3/2+bigChunk || w.Size() != len(want) {
		t.Errorf("%d KiB for %d KiB of messages, want %d", n>>10, w.Size()>>10, len(want)>>10)
	}
	var got []byte
	for w.Len() > 0 {
		bufs, _ := w.Pending(7)
		n := 0
		for _, p := range bufs {
			got = append(got, p...)
			n += len(p)
		}
		w.Consume(n)
	}
	if !bytes.Equal(got, want) {
		t.Error("what was written is not what was left")
	}
}

// TestWriterFirst asks for the message that is to be written next.
func TestWriterFirst(t *testing.T) {
	var w Writer
	if p, _, _, _, ok := w.First(); p != nil || ok {
		t.Errorf("an empty queue begins with %q", p)
	}
	file, err := os.Open(os.DevNull)
	check.Must(t, err)
	defer file.Close()
	copy(w.Append(3, nil, false), "one")
	copy(w.Append(5, file, false), "three")
	for _, want := range []struct {
		text string
		end  uint64
		ok   bool
	}{{"one", 3, false}, {"three", 8, true}} {
		w.Pending(1)
		p, end, n, owned, ok := w.First()
		if !bytes.HasPrefix(p, []byte(want.text)) || end != want.end || n != len(want.text) || owned || ok != want.ok {
			t.Errorf("%q, end %d, %d bytes, owned %v, %v; want %+v", p, end, n, owned, ok, want)
		}
		w.Consume(n)
	}
}

// A queue that fills up again begins with as much memory as it needed the last
// time, and with less if it did not need that.
func TestWriterSizes(t *testing.T) {
	var w Writer
	for i, tt := range []struct{ messages, pieces, size int }{
		{1, 1, smallChunk},
		{800, 3, bigChunk},
		{800, 1, bigChunk},
		{1, 1, bigChunk},
		{1, 1, bigChunk / growFactor},
		{1, 1, smallChunk},
	} {
		for range tt.messages {
			w.Append(80, nil, false)
		}
		bufs, _ := w.Pending(64)
		if pieces, size := len(bufs), cap(w.cur.buf); pieces != tt.pieces || size != tt.size {
			t.Errorf("%d, %d messages: %d pieces, %d bytes; want %d, %d", i, tt.messages, pieces, size, tt.pieces, tt.size)
		}
		w.Consume(w.Size())
	}
}
