package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	"example.org/imsg/internal/check"
	"example.org/imsg/internal/stream/streamtest"
)

// newTestFramer returns a Framer whose descriptors are only numbers, and the
// number of times each was closed.
func newTestFramer(hold int) (*Framer, map[int]int) {
	closed := make(map[int]int)
	return &Framer{
		HeaderSize: streamtest.HeaderSize, Header: streamtest.Parse, HoldFiles: hold,
		CloseFile: func(fd int) { closed[fd]++ },
	}, closed
}

// feed copies p into the framer, in as many pieces as it makes room for.
func feed(f *Framer, p []byte, fd int) error {
	for {
		space := f.Buffer()
		n := copy(space, p)
		if err := f.Advance(n, fd, false, n == len(space)); err != nil {
			return err
		}
		if p, fd = p[n:], -1; len(p) == 0 {
			return nil
		}
	}
}

// frames takes all that is there.
func frames(f *Framer) (all []Frame) {
	for m, ok := f.Next(); ok; m, ok = f.Next() {
		all = append(all, m)
	}
	return all
}

func closeAll(f *Framer) {
	for m, ok := f.Next(); ok; m, ok = f.Next() {
		m.Close()
	}
}

// skipRace skips a test that counts allocations: a sync.Pool forgets some of
// what it has when the race detector is built in.
func skipRace(t *testing.T) {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			t.Skip("the race detector allocates")
		}
	}
}

func TestFramerMemoryIsUsedAgain(t *testing.T) {
	skipRace(t)
	f, _ := newTestFramer(0)
	msg := streamtest.Msg(1000, false, 'x')
	round := func() {
		for range 200 { // more than any chunk holds
			check.Must(t, feed(f, msg, -1))
		}
		for m, ok := f.Next(); ok; m, ok = f.Next() {
			if !bytes.Equal(m.Bytes(), msg) {
				t.Fatal("message differs")
			}
			m.Close()
		}
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(50, round); n > 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}

func TestFramerHeldMessagesKeepTheirBytes(t *testing.T) {
	f, _ := newTestFramer(0)
	var held []Frame
	for i := range 3000 {
		check.Must(t, feed(f, streamtest.Msg(100+i%900, false, byte(i)), -1))
		m, ok := f.Next()
		if !ok {
			t.Fatal("no message")
		}
		if i%7 == 0 {
			held = append(held, m)
		} else {
			m.Close()
		}
	}
	for k, m := range held {
		i := k * 7
		if !bytes.Equal(m.Bytes(), streamtest.Msg(100+i%900, false, byte(i))) {
			t.Fatalf("message %d differs", i)
		}
		m.Close()
	}
}

// A handle that was closed must not reach the message that has its memory now.
func TestFrameClosedTwice(t *testing.T) {
	for range 100 { // under the race detector a pool loses some of its memory
		if closedTwice(t) {
			return
		}
	}
	t.Fatal("memory is not used again: the test proves nothing")
}

// closedTwice reports whether memory was used again.
func closedTwice(t *testing.T) bool {
	f, closed := newTestFramer(0)
	feed(f, streamtest.Msg(10, true, 'a'), 5)
	old, _ := f.Next()
	alias := old.Bytes()
	old.Close()
	check.Equal(t, "times the file was closed", closed[5], 1)
	if !bytes.Equal(alias, make([]byte, 10)) {
		t.Errorf("not cleared: %q", alias)
	}
	feed(f, streamtest.Msg(10, true, 'b'), 6)
	m, _ := f.Next()
	if &m.Bytes()[0] != &alias[0] {
		return false
	}
	old.Close()
	if old.Bytes() != nil || old.HasFile() || old.TakeFD() != -1 || old.TakeFile() != nil || old.Pos() != 0 {
		t.Error("the closed handle still has something")
	}
	used := -1
	if !m.Descriptor(func(fd int) { used = fd }) || used != 6 {
		t.Errorf("the message has descriptor %d, want 6", used)
	}
	if !bytes.Equal(m.Bytes(), streamtest.Msg(10, true, 'b')) || m.TakeFD() != 6 {
		t.Error("the closed handle reached its successor")
	}
	m.Close()
	check.Equal(t, "times a taken file was closed", closed[6], 0)
	return true
}

// TestFrameOwnFile uses and takes the file of a message that was not received.
func TestFrameOwnFile(t *testing.T) {
	for _, take := range []func(Frame) *os.File{
		Frame.TakeFile,
		func(m Frame) *os.File { return os.NewFile(uintptr(m.TakeFD()), "") },
	} {
		r, w := streamtest.Pipe(t)
		m := NewFrame(streamtest.Msg(10, true, 'a'), streamtest.HeaderSize, w, false)
		wrote := 0
		if !m.Descriptor(func(fd int) { wrote, _ = syscall.Write(fd, []byte("x")) }) || wrote != 1 || !m.HasFile() {
			t.Errorf("the descriptor cannot be used: wrote %d, file %v", wrote, m.HasFile())
		}
		file := take(m)
		if m.HasFile() || m.Descriptor(func(int) { t.Error("called") }) || m.TakeFile() != nil || m.TakeFD() != -1 {
			t.Error("the file is still there")
		}
		m.Close()
		if _, err := file.Write([]byte("y")); err != nil {
			t.Error(err)
		}
		check.Must(t, file.Close())
		if p, err := io.ReadAll(r); string(p) != "xy" || err != nil {
			t.Errorf("%q, %v", p, err)
		}
	}
	_, w := streamtest.Pipe(t)
	m := NewFrame(streamtest.Msg(10, true, 'a'), streamtest.HeaderSize, w, false)
	w.Close()
	if m.Descriptor(func(int) { t.Error("called") }) || m.TakeFD() != -1 {
		t.Error("a closed file has a descriptor")
	}
	m.Close()
}

// What a header announces costs nothing before it arrives.
func TestFramerGrowsWithWhatArrived(t *testing.T) {
	const size = 1 << 30
	f := &Framer{HeaderSize: 1, Header: func([]byte) (int, bool, error) { return size, false, nil }}
	feed(f, make([]byte, 100), -1)
	if n := len(f.Buffer()); n > smallChunk {
		t.Errorf("%d bytes for a message of which 100 have arrived", n)
	}
	const arrived = 3 << 20
	for range arrived / 1024 {
		feed(f, make([]byte, 1024), -1)
	}
	if n := len(f.cur.buf); n > 3*arrived {
		t.Errorf("%d bytes of memory for %d", n, arrived)
	}
}

// Bursts that have made the memory grow are read at once from then on, and
// small messages make it small again.
func TestFramerSizes(t *testing.T) {
	f, _ := newTestFramer(0)
	for i, tt := range []struct{ messages, reads, size int }{
		{1, 1, smallChunk},
		{800, 3, bigChunk}, // of which the last is for less than smallChunk*growFactor
		{800, 1, bigChunk},
		{800, 1, bigChunk},
		{1, 1, bigChunk},
		{1, 1, bigChunk / growFactor},
		{1, 1, smallChunk},
	} {
		reads := 0
		for p := bytes.Repeat(streamtest.Msg(80, false, 'x'), tt.messages); len(p) > 0; reads++ {
			n := copy(f.Buffer(), p)
			check.Must(t, f.Advance(n, -1, false, false))
			p = p[n:]
			closeAll(f)
		}
		if reads != tt.reads || f.want != tt.size {
			t.Errorf("%d, %d messages: %d reads, then %d bytes; want %d, %d", i, tt.messages, reads, f.want, tt.reads, tt.size)
		}
	}
}

// collected reports whether two garbage collections take what p points to.
func collected[T any](p weak.Pointer[T]) bool {
	runtime.GC()
	runtime.GC()
	return p.Value() == nil
}

func TestFramerIdleKeepsNoBigBuffer(t *testing.T) {
	for _, tail := range []int{0, 1, 1000} { // bytes of a message that is not complete
		f, _ := newTestFramer(0)
		last := streamtest.Msg(2000, false, 'y')
		for range 3 {
			var big weak.Pointer[chunk]
			for range 300 {
				feed(f, streamtest.Msg(2000, false, 'x'), -1)
				big = weak.Make(f.cur)
			}
			feed(f, last[:tail], -1)
			if f.want <= smallChunk || f.cur == nil || len(f.cur.buf) <= smallChunk {
				t.Fatal("the buffer is small: the test proves nothing")
			}
			closeAll(f)
			f.Release()
			if tail == 0 && f.cur != nil || f.cur != nil && len(f.cur.buf) > smallChunk {
				t.Errorf("tail %d: an idle framer holds a buffer", tail)
			}
			if !collected(big) {
				t.Errorf("tail %d: something holds an idle framer's buffer", tail)
			}
			if n := len(f.Buffer()); n > smallChunk {
				t.Errorf("tail %d: %d bytes after it was idle", tail, n)
			}
			if tail > 0 {
				feed(f, last[tail:], -1)
				if m, ok := f.Next(); !ok || !bytes.Equal(m.Bytes(), last) {
					t.Errorf("tail %d: the message is not what was sent", tail)
				}
			}
		}
	}
}

// Messages that were handed out are all that holds the memory, even before
// anything says that the stream is idle.
func TestFramerHoldsNothingBetweenMessages(t *testing.T) {
	f, _ := newTestFramer(0)
	feed(f, streamtest.Msg(2000, false, 'x'), -1)
	m, _ := f.Next()
	c := weak.Make(m.b.c)
	if f.cur != nil || collected(c) {
		t.Error("the memory is not the message's alone")
	}
	m.Close()
	m = Frame{}
	if !collected(c) {
		t.Error("something holds the memory")
	}
}

// What a large message or a burst needed goes although the channel stays busy.
func TestFramerBusyKeepsNoBigBuffer(t *testing.T) {
	const size = 64 << 20
	f := &Framer{HeaderSize: 8, Header: func(h []byte) (int, bool, error) {
		return int(binary.NativeEndian.Uint32(h)), false, nil
	}}
	big := make([]byte, size)
	binary.NativeEndian.PutUint32(big, size)
	small := streamtest.Msg(1000, false, 's')
	check.Must(t, feed(f, append(big, small[:500]...), -1))
	m, _ := f.Next()
	c := weak.Make(m.b.c)
	m.Close()
	m = Frame{}
	busy := func() {
		for range 100 {
			feed(f, small[500:], -1)
			feed(f, small[:500], -1) // never idle
			closeAll(f)
		}
	}
	busy()
	if !collected(c) {
		t.Error("the large message's memory is still there")
	}
	if n := len(f.cur.buf); n > bigChunk {
		t.Errorf("%d bytes for small messages", n)
	}
}

// No byte is lost, and none changes, when messages are closed on other
// goroutines while the framer looks for memory and the collector runs.
func TestFramerClosedElsewhere(t *testing.T) {
	f, _ := newTestFramer(0)
	work := make(chan Frame, 500)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var held []Frame
			for m := range work {
				p := m.Bytes()
				if !bytes.Equal(p, streamtest.Msg(len(p), false, p[streamtest.HeaderSize])) {
					t.Error("a message is not what was sent")
				}
				if held = append(held, m); len(held) > 50 {
					for _, m := range held {
						m.Close()
					}
					held = held[:0]
				}
			}
			for _, m := range held {
				m.Close()
			}
		})
	}
	sent, got := 0, 0
	var stream []byte
	for i := range 60 {
		if i%10 == 9 {
			runtime.GC()
		}
		for k := range 150 {
			stream = append(stream, streamtest.Msg(streamtest.HeaderSize+1+(i*k)%3000, false, byte(k))...)
			sent++
		}
		for len(stream) > 0 {
			n := min(len(stream), 1+(i*7919)%40000)
			check.Must(t, feed(f, stream[:n], -1))
			stream = stream[n:]
			for m, ok := f.Next(); ok; m, ok = f.Next() {
				got++
				work <- m
			}
		}
		if i%3 == 2 {
			f.Release()
		}
	}
	close(work)
	wg.Wait()
	check.Equal(t, "messages", got, sent)
}

// Nor when nobody reads during several collections while a message is open,
// which is closed then, and bulk data follows without a pause. (The first
// version used a chunk as its own successor here, once in 50 to 900 tries.)
func TestFramerBusyAfterQuiet(t *testing.T) {
	msg := streamtest.Msg(1000, false, 'x')
	for range 20 {
		f, _ := newTestFramer(0)
		var held []Frame
		for range 900 { // more than the largest chunk holds
			check.Must(t, feed(f, msg, -1))
			m, _ := f.Next()
			held = append(held, m)
		}
		for _, m := range held[1:] {
			m.Close()
		}
		for range 3 {
			runtime.GC()
		}
		var wg sync.WaitGroup
		wg.Go(func() { held[0].Close() })
		wg.Wait()
		work, got := make(chan Frame, 1000), 0
		wg.Go(func() {
			for m := range work {
				if bytes.Equal(m.Bytes(), msg) {
					got++
				}
				m.Close()
			}
		})
		const sent = 600
		for p := bytes.Repeat(msg, sent); len(p) > 0; {
			n := min(len(p), 60001)
			check.Must(t, feed(f, p[:n], -1))
			p = p[n:]
			for m, ok := f.Next(); ok; m, ok = f.Next() {
				work <- m
			}
		}
		close(work)
		if wg.Wait(); got != sent {
			t.Fatalf("%d messages of %d", got, sent)
		}
	}
}

// A header may be longer than the first chunk.
func TestFramerLongHeader(t *testing.T) {
	const hdr, size = 30000, 30100
	f := &Framer{HeaderSize: hdr, Header: func([]byte) (int, bool, error) { return size, false, nil }}
	msg := bytes.Repeat([]byte("abc"), size)[:size]
	for range 3 {
		for p := msg; len(p) > 0; {
			space := f.Buffer()
			if len(space) == 0 {
				t.Fatal("no room for the rest of a header")
			}
			n := copy(space, p)
			check.Must(t, f.Advance(n, -1, false, n == len(space)))
			p = p[n:]
		}
		m, ok := f.Next()
		if !ok || !bytes.Equal(m.Bytes(), msg) {
			t.Fatal("the message is not what was sent")
		}
		m.Close()
	}
}

// closings returns a CloseFile for any goroutine, and what tells how often each
// file was closed.
func closings() (closeFile func(int), closed func() map[int]int) {
	var mu sync.Mutex
	times := make(map[int]int)
	return func(fd int) { mu.Lock(); defer mu.Unlock(); times[fd]++ },
		func() map[int]int { mu.Lock(); defer mu.Unlock(); return maps.Clone(times) }
}

// collectUntil lets the collector run until done, or for too long.
func collectUntil(done func() bool) {
	for end := time.Now().Add(10 * time.Second); !done() && time.Now().Before(end); {
		runtime.GC()
		runtime.Gosched()
	}
}

// The descriptors of messages that are dropped are closed by the runtime, but
// for those of a chunk that is in use.
func TestFramerDroppedFiles(t *testing.T) {
	const files = 500
	closeFile, closed := closings()
	f, _ := newTestFramer(0)
	f.CloseFile = closeFile
	taken := 0
	for fd := range files {
		feed(f, streamtest.Msg(10, true, 'x'), fd)
		m, _ := f.Next()
		switch fd % 10 {
		case 3:
			m.Close()
		case 7:
			m.TakeFD()
			taken++
		}
		f.Release()
	}
	collectUntil(func() bool { return len(closed()) >= files-taken-maxFiles })
	if n := len(closed()); n < files-taken-maxFiles || n > files-taken {
		t.Errorf("%d files closed, want %d, or %d less", n, files-taken, maxFiles)
	}
	for fd, n := range closed() {
		if n > 1 || fd%10 == 7 {
			t.Errorf("file %d closed %d times", fd, n)
		}
	}
	runtime.KeepAlive(f)
}

// The descriptors that wait in a Framer are closed by the runtime when it is
// dropped, once each, whatever they wait for, and not before.
func TestFramerDroppedWithFiles(t *testing.T) {
	const framers = 20
	closeFile, closed := closings()
	var held []*Framer
	var open []Frame
	for i := range framers {
		f, _ := newTestFramer(4 * (i % 2))
		f.CloseFile = closeFile
		feed(f, streamtest.Msg(10, true, 'a'), 10*i)       // the user's
		feed(f, streamtest.Msg(10, true, 'b'), 10*i+1)     // complete
		feed(f, streamtest.Msg(10, true, 'c')[:5], 10*i+2) // of a message that is not
		m, _ := f.Next()
		open = append(open, m)
		if i%2 == 1 {
			f.Buffer()
			f.Advance(0, 10*i+3, false, false) // that nobody claims
		}
		held = append(held, f)
	}
	want := 2*framers + framers/2
	if runtime.GC(); !collected(weak.Make(new([64]byte))) || len(closed()) > 0 {
		t.Errorf("%d files of framers in use closed", len(closed()))
	}
	runtime.KeepAlive(held)
	clear(held)
	collectUntil(func() bool { return len(closed()) >= want-framers }) // a message that is open keeps its neighbours' files
	for i, m := range open {
		if m.TakeFD() != 10*i {
			t.Errorf("message %d has not its file", i)
		}
	}
	clear(open)
	collectUntil(func() bool { return len(closed()) >= want })
	for i := range framers {
		for k, n := range []int{0, 1, 1, i % 2} {
			check.Equal(t, fmt.Sprintf("framer %d: times file %d was closed", i, k), closed()[10*i+k], n)
		}
	}
}

// Neighbours are closed together, once each, whatever else is among them.
func TestRun(t *testing.T) {
	f, closed := newTestFramer(0)
	for round := range 5 {
		var all []Frame
		for i := range 100 {
			fd := -1
			if i%20 == 13 {
				fd = 1000*round + i
			}
			feed(f, streamtest.Msg(20+i, fd >= 0, byte(i)), fd)
		}
		all = frames(f)
		kept := all[50]
		alias := all[3].Bytes()
		kept.Keep()
		all[7].Close()
		all[33].Skip(3)
		var r Run
		for _, i := range []int{3, 3, 2, 3} { // twice, and not in order
			r.Close(all[i])
		}
		for _, m := range all {
			if !m.Kept() {
				r.Close(m)
				r.Close(m)
			}
		}
		r.Flush()
		r.Flush()
		for i, m := range all {
			if open := m.Bytes() != nil; open != (i == 50) {
				t.Fatalf("message %d: open is %v", i, open)
			}
			if i%20 == 13 && closed[1000*round+i] != 1 {
				t.Errorf("file of message %d closed %d times", i, closed[1000*round+i])
			}
		}
		if !bytes.Equal(alias, make([]byte, len(alias))) {
			t.Error("a message was not cleared")
		}
		if !bytes.Equal(kept.Bytes(), streamtest.Msg(70, false, 50)) {
			t.Error("the message that was kept has changed")
		}
		if c := kept.b.c; kept.Close() != nil || c.refs.Load() > 1 || f.cur != nil {
			t.Errorf("%d references to a chunk without open messages", c.refs.Load())
		}
	}
}

// CloseRun closes what is open of neighbours, and nothing else, wherever they
// are in their block.
func TestCloseRun(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		f, closed := newTestFramer(0)
		var all []Frame
		total := 1 + rnd.IntN(70)
		for i := range total {
			fd := -1
			if round%2 == 1 && rnd.IntN(20) == 0 {
				fd = i
			}
			feed(f, streamtest.Msg(20, fd >= 0, byte(i)), fd)
		}
		for first, n := f.NextRun(1 + rnd.IntN(40)); n > 0; first, n = f.NextRun(1 + rnd.IntN(40)) {
			for i := range n {
				all = append(all, first.Plus(i))
			}
		}
		if len(all) != total {
			t.Fatalf("%d messages of %d", len(all), total)
		}
		open := make([]bool, total)
		var r Run
		for i := range all {
			switch rnd.IntN(12) {
			case 0:
				all[i].Close()
			case 1:
				r.Close(all[i])
			default:
				open[i] = true
			}
		}
		for range 1 + rnd.IntN(3) {
			i := rnd.IntN(total)
			n := 1 + rnd.IntN(min(total-i, slotBlock-int(all[i].i)))
			all[i].CloseRun(n)
			clear(open[i : i+n])
		}
		r.Flush()
		for i, m := range all {
			switch p := m.Bytes(); {
			case open[i] && !bytes.Equal(p, streamtest.Msg(20, m.HasFile(), byte(i))):
				t.Fatalf("round %d: message %d, which is open, has changed: %q", round, i, p)
			case !open[i] && p != nil:
				t.Fatalf("round %d: message %d is open", round, i)
			}
			m.Close()
		}
		for fd, n := range closed {
			if n != 1 {
				t.Fatalf("round %d: file %d closed %d times", round, fd, n)
			}
		}
		if c := all[0].b.c; c.refs.Load() > 1 || f.cur != nil {
			t.Fatalf("round %d: %d references to a chunk without open messages", round, c.refs.Load())
		}
	}
}

// A message that a Run has not closed yet counts as closed: a copy of it that is
// closed meanwhile, or given to another Run, is not counted twice.
func TestRunClosedMeanwhile(t *testing.T) {
	for name, again := range map[string]func(m Frame){
		"Close": func(m Frame) { m.Close() },
		"Run":   func(m Frame) { var r Run; r.Close(m); r.Flush() },
	} {
		f, _ := newTestFramer(0)
		var all []Frame
		for i := range 40 {
			feed(f, streamtest.Msg(20, false, byte(i)), -1)
		}
		all = frames(f)
		var r Run
		for i, m := range all {
			switch {
			case i%5 == 4:
				continue // stays open
			case i%5 > 0:
				if again(all[i-1]); all[i-1].Bytes() != nil {
					t.Errorf("%s: message %d is open", name, i-1)
				}
			}
			r.Close(m)
		}
		r.Flush()
		c := all[0].b.c
		for i, m := range all {
			if i%5 != 4 {
				again(m)
				continue
			}
			if !bytes.Equal(m.Bytes(), streamtest.Msg(20, false, byte(i))) {
				t.Errorf("%s: message %d, which nobody has closed, has changed: %q", name, i, m.Bytes())
			}
			if c.refs.Load() < 1 {
				t.Fatalf("%s: %d references to a chunk with open messages", name, c.refs.Load())
			}
			m.Close()
		}
		check.Equal(t, name+": references to a chunk without open messages", c.refs.Load(), 0)
	}
}

func TestFramerEOF(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"a message", streamtest.Msg(10, false, 'x'), io.EOF},
		{"inside a header", streamtest.Msg(10, false, 'x')[:2], io.ErrUnexpectedEOF},
		{"behind a header", streamtest.Msg(10, false, 'x')[:streamtest.HeaderSize], io.ErrUnexpectedEOF},
		{"inside a payload", streamtest.Msg(10, false, 'x')[:9], io.ErrUnexpectedEOF},
		{"after a bad header", make([]byte, streamtest.HeaderSize), boom},
	} {
		f, _ := newTestFramer(0)
		f.Header = func(h []byte) (int, bool, error) {
			n, mark, err := streamtest.Parse(h)
			if err != nil {
				err = boom
			}
			return n, mark, err
		}
		feed(f, tt.in, -1)
		check.Equal(t, tt.name, f.EOF(), tt.want)
	}
}

// A size below the header would make the framer spin.
func TestFramerRefusesAnImpossibleSize(t *testing.T) {
	for _, size := range []int{0, -1, 2} {
		f := &Framer{HeaderSize: 3, Header: func([]byte) (int, bool, error) { return size, false, nil }}
		check.Is(t, fmt.Sprintf("size %d", size), feed(f, make([]byte, 3), -1), ErrInvalid)
	}
}

func TestFramerClear(t *testing.T) {
	f, closed := newTestFramer(4)
	feed(f, streamtest.Msg(10, true, 'a'), 1)     // complete
	feed(f, streamtest.Msg(10, true, 'b')[:5], 2) // in flight
	feed(f, []byte{'b'}, 3)                       // not claimed
	f.Clear()
	f.Clear()
	for fd := 1; fd <= 3; fd++ {
		check.Equal(t, fmt.Sprintf("times file %d was closed", fd), closed[fd], 1)
	}
	if f.Pending() != 0 || f.EOF() != io.EOF {
		t.Errorf("%d bytes pending, %v", f.Pending(), f.EOF())
	}
}

// A file belongs to a header that began in the bytes it arrived with: not to
// one that began before them and promises a file that never came.
func TestFramerFileOfALaterMessage(t *testing.T) {
	f, closed := newTestFramer(0)
	a, b := streamtest.Msg(10, true, 'a'), streamtest.Msg(12, true, 'b')
	feed(f, a[:2], -1)
	feed(f, append(a[2:], b...), 7)
	first, _ := f.Next()
	second, _ := f.Next()
	if first.HasFile() || !first.FileLost() {
		t.Error("the first message has the second one's file")
	}
	if second.FileLost() || second.TakeFD() != 7 || closed[7] != 0 {
		t.Error("the second message has not its file")
	}
}
