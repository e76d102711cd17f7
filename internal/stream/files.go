package stream

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

// arrived notes the descriptor that came with the next n bytes.
func (f *Framer) arrived(n, fd int, lost, full bool) {
	if fd < 0 && !lost && len(f.files) == 0 {
		return
	}
	beg := f.off
	if c := f.cur; c != nil {
		beg += uint64(c.w - c.r)
	}
	end := beg + uint64(n)
	if full {
		end = openEnd
	}
	if last := len(f.files) - 1; last >= 0 && f.files[last].end == openEnd {
		switch {
		case lost: // its own message may begin here: keep them apart
			f.files[last].end = beg
		case fd >= 0: // a receive ends with the bytes of one file
			f.files[last].end = beg + uint64(n)
		default:
			f.files[last].end = end
		}
	}
	if fd >= 0 || lost {
		f.files = append(f.files, heldFile{fd, beg, end})
	}
}

// Held returns how many descriptors, gaps that lost ones leave included, wait
// for a header to claim them.
func (f *Framer) Held() int { return len(f.files) }

// claim returns the file of the marked message that begins at stream offset
// off: the oldest descriptor that can be its own.
func (f *Framer) claim(off uint64) (fileState, int) {
	f.expire(off)
	if len(f.files) > 0 {
		if h := f.files[0]; f.HoldFiles > 0 || h.beg <= off {
			f.files = f.files[:copy(f.files, f.files[1:])]
			if h.fd >= 0 {
				return hasFile, h.fd
			}
		}
	}
	return lostFile, -1
}

// expire closes the descriptors that no header from stream offset off on can
// claim: every header that began in the bytes they arrived with is parsed.
func (f *Framer) expire(off uint64) {
	if f.HoldFiles > 0 {
		return
	}
	n := 0
	for n < len(f.files) && f.files[n].end <= off {
		n++
	}
	f.dropFiles(n)
}

// dropFiles closes the n oldest unclaimed descriptors.
func (f *Framer) dropFiles(n int) {
	for _, h := range f.files[:n] {
		f.closeFile(h.fd)
	}
	f.files = f.files[:copy(f.files, f.files[n:])]
}

// dropAll closes every descriptor that is not on a complete message.
func (f *Framer) dropAll() {
	f.dropFiles(len(f.files))
	if f.need > 0 && f.file == hasFile {
		f.closeFile(f.fd)
		f.file = noFile
	}
}

func (f *Framer) closeFile(fd int) {
	switch {
	case fd < 0:
	case f.CloseFile != nil:
		f.CloseFile(fd)
	default:
		closeFile(fd)
	}
}
