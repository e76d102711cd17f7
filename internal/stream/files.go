package stream

import "runtime"

// How descriptors find their messages; doc/wire.md has the rules.

// A heldFile is a descriptor that no message has claimed, or the gap that a
// lost one leaves (fd -1), and the stream range of the bytes it arrived with.
// A read that had no room for more tells only where that range begins: what
// the next one brings may have been sent together with the descriptor.
type heldFile struct {
	fd       int
	beg, end uint64
}

const openEnd = 1<<64 - 1

// heldFiles are the descriptors that a Framer owns. If the Framer is collected
// they are closed: somebody has dropped a channel that he should have closed.
type heldFiles struct{ *waitingFiles }

type waitingFiles struct {
	files     []heldFile // that no header has claimed, oldest first
	fd        int        // of the message that has arrived in part; -1: none
	closeFile func(fd int)
}

func newHeldFiles(closeFile func(fd int)) *heldFiles {
	h := &heldFiles{&waitingFiles{fd: -1, closeFile: closeFile}}
	runtime.AddCleanup(h, (*waitingFiles).close, h.waitingFiles)
	return h
}

// take returns the descriptor of the message that is complete now, whose it is
// from here on.
func (w *waitingFiles) take() int {
	fd := w.fd
	w.fd = -1
	return fd
}

// drop closes the n oldest descriptors that no header has claimed.
func (w *waitingFiles) drop(n int) {
	for _, h := range w.files[:n] {
		if h.fd >= 0 {
			w.closeFile(h.fd)
		}
	}
	w.files = w.files[:copy(w.files, w.files[n:])]
}

// close closes every descriptor that is not on a complete message.
func (w *waitingFiles) close() {
	w.drop(len(w.files))
	if fd := w.take(); fd >= 0 {
		w.closeFile(fd)
	}
}

// arrived notes the descriptor that came with the next n bytes.
func (f *Framer) arrived(n, fd int, lost, full bool) {
	if fd < 0 && !lost && f.Held() == 0 {
		return
	}
	if f.held == nil {
		f.held = newHeldFiles(f.closeFile())
	}
	beg := f.off
	if c := f.cur; c != nil {
		beg += uint64(c.w - c.r)
	}
	end := beg + uint64(n)
	if full {
		end = openEnd
	}
	if last := f.Held() - 1; last >= 0 && f.held.files[last].end == openEnd {
		h := &f.held.files[last]
		switch {
		case lost: // its own message may begin here: keep them apart
			h.end = beg
		case fd >= 0: // a receive ends with the bytes of one file
			h.end = beg + uint64(n)
		default:
			h.end = end
		}
	}
	if fd >= 0 || lost {
		f.held.files = append(f.held.files, heldFile{fd, beg, end})
	}
}

// Held returns how many descriptors, gaps that lost ones leave included, wait
// for a header to claim them.
func (f *Framer) Held() int {
	if f.held == nil {
		return 0
	}
	return len(f.held.files)
}

// claim gives the marked message that begins at stream offset off its file: the
// oldest descriptor that can be its own.
func (f *Framer) claim(off uint64) fileState {
	f.expire(off)
	if f.Held() == 0 {
		return lostFile
	}
	w := f.held.waitingFiles
	h := w.files[0]
	if f.HoldFiles == 0 && h.beg > off {
		return lostFile
	}
	w.files = w.files[:copy(w.files, w.files[1:])]
	if h.fd < 0 {
		return lostFile
	}
	w.fd = h.fd
	return hasFile
}

// expire closes the descriptors that no header from stream offset off on can
// claim: every header that began in the bytes they arrived with is parsed.
func (f *Framer) expire(off uint64) {
	if f.HoldFiles > 0 {
		return
	}
	n := 0
	for n < f.Held() && f.held.files[n].end <= off {
		n++
	}
	if n > 0 {
		f.held.drop(n)
	}
}

// dropAll closes every descriptor that is not on a complete message.
func (f *Framer) dropAll() {
	if f.held != nil {
		f.held.close()
	}
	if f.file == hasFile {
		f.file = noFile
	}
}

// closeFile returns what closes a descriptor that nobody claims.
func (f *Framer) closeFile() func(fd int) {
	if f.CloseFile != nil {
		return f.CloseFile
	}
	return closeFile
}
