//go:build imsgfault && linux

package fault_test

import (
	"os"

	"example.org/imsg/internal/testutil"
)

// A pipeFile follows one file through the library.
type pipeFile struct {
	*testutil.File
	files testutil.Files
	w     *os.File // kept, so that no finalizer closes what was forgotten
}

func newPipeFile(w *world) *pipeFile {
	p := new(pipeFile)
	f, fd, err := p.files.Create()
	if err != nil {
		w.fatalf("%v", err)
	}
	p.File, p.w = f, os.NewFile(uintptr(fd), "pipe")
	return p
}

// closeOurs closes the copy that is the test's, which must be open.
func (p *pipeFile) closeOurs(w *world) {
	if err := p.w.Close(); err != nil {
		w.fatalf("a file that was ours is not open any more: %v", err)
	}
}

// end fails the run unless every copy is closed.
func (p *pipeFile) end(w *world) {
	if p.Open() {
		w.fatalf("a copy of a file is left open")
	}
	p.files.Close()
}

// isIt fails the run unless fd is a copy, and nothing is closed that should not be.
func (p *pipeFile) isIt(w *world, fd int) {
	if f, err := p.files.Find(fd); f == nil {
		w.fatalf("another message's file: %v", err)
	}
	if !p.Open() {
		w.fatalf("the pipe says that nobody has the file that we have")
	}
}

// giveUp leaves nothing behind.
func (p *pipeFile) giveUp() {
	p.w.Close()
	p.files.Close()
}
