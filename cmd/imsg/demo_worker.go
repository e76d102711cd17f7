package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"example.org/imsg"
)

const (
	// roleVar makes "imsg demo" the worker. Its value is the directory that
	// is to be the worker's root.
	roleVar = "IMSG_DEMO_WORKER"

	workerFD = 3     // the worker's side of the channel: the first of exec.Cmd.ExtraFiles
	nobody   = 65534 // user and group that own nothing
)

// A worker works for the parent and has, where that is possible, no access to
// anything but its side of the channel and the descriptors it is passed.
type worker struct {
	c   *imsg.Conn
	ctx context.Context
}

// runWorker is the whole life of the second process. It ends when the parent
// closes the channel, or ends itself.
func runWorker(root string) error {
	if _, err := syscall.GetsockoptInt(workerFD, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil {
		return fmt.Errorf("worker: descriptor %d must be the channel's socket: %w", workerFD, err)
	}
	c, err := imsg.NewConn(workerFD, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	defer c.Close()
	w := &worker{c, context.Background()}
	if err := w.loop(root); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

func (w *worker) loop(root string) error {
	typ, text := confine(root)
	if err := w.send(typ, 0, text); err != nil {
		return err
	}
	for m, err := range w.c.All(w.ctx) {
		if err != nil {
			return err
		}
		h, payload := m.Header(), string(m.Bytes())
		m.Close()
		if err := w.handle(h, payload); err != nil {
			return err
		}
	}
	return nil
}

// handle does what one message asks for.
func (w *worker) handle(h imsg.Header, payload string) error {
	switch h.Type {
	case msgRead:
		return w.read(h.ID, payload)
	case msgBlock:
		return w.send(msgResult, h.ID, describe(len(payload), sha256.Sum256([]byte(payload))))
	case msgJob:
		n, err := strconv.Atoi(payload)
		if err != nil {
			return err
		}
		if err := w.c.Queue(imsg.Header{Type: msgDone, ID: h.ID}, nil, strconv.AppendInt(nil, int64(n*n), 10)); err != nil {
			return err
		}
		if h.ID == burst { // the last one: all answers leave together
			return w.c.Flush(w.ctx)
		}
		return nil
	}
	return fmt.Errorf("message of type %d was not expected", h.Type)
}

// read first tries to open the file by its name, to show that it cannot, and
// then asks the parent for it.
func (w *worker) read(id uint32, path string) error {
	typ, text := uint32(msgCan), "opened it by name, too: the same rights"
	if f, err := os.Open(path); err == nil {
		f.Close()
	} else {
		typ, text = msgCannot, "open by name: "+reason(err)
	}
	if err := w.send(typ, id, text); err != nil {
		return err
	}
	if err := w.send(msgOpen, id, path); err != nil {
		return err
	}
	m, err := w.c.Receive(w.ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	switch m.Type() {
	case msgDenied:
		return w.send(msgResult, id, resultDenied)
	case msgFile:
		if err := m.FileErr(); err != nil {
			return err
		}
		f := m.TakeFile()
		if f == nil {
			return errors.New("FILE came without a descriptor")
		}
		defer f.Close()
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		if err != nil {
			return err
		}
		return w.send(msgResult, id, describe(int(n), [sha256.Size]byte(sum.Sum(nil))))
	}
	return fmt.Errorf("message of type %d instead of a file", m.Type())
}

func (w *worker) send(typ, id uint32, text string) error {
	return w.c.Send(w.ctx, imsg.Header{Type: typ, ID: id}, nil, []byte(text))
}

// confine gives up all rights if there are any to give up, and returns the
// message that says so: the type and the text.
func confine(root string) (typ uint32, text string) {
	if uid := os.Geteuid(); uid != 0 {
		return msgKept, fmt.Sprintf("uid %d, the same rights: run as root to see it drop them", uid)
	}
	if err := drop(root); err != nil {
		return msgKept, fmt.Sprintf("uid %d, could not drop its rights: %v", os.Geteuid(), err)
	}
	return msgDropped, fmt.Sprintf("uid %d, gid %d, in an empty root directory", os.Geteuid(), os.Getegid())
}

// drop needs root's rights. The order matters: each step takes away what the
// ones before it need.
func drop(root string) error {
	steps := []struct {
		name string
		do   func() error
	}{
		{"chroot", func() error { return syscall.Chroot(root) }},
		{"chdir", func() error { return syscall.Chdir("/") }},
		{"setgroups", func() error { return syscall.Setgroups([]int{nobody}) }},
		{"setgid", func() error { return syscall.Setgid(nobody) }},
		{"setuid", func() error { return syscall.Setuid(nobody) }},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return os.NewSyscallError(s.name, err)
		}
	}
	if syscall.Setuid(0) == nil {
		return errors.New("setuid 0 still works")
	}
	return nil
}

// describe is the text of a RESULT: what the worker has read.
func describe(n int, sum [sha256.Size]byte) string {
	return fmt.Sprintf("%d bytes, sha256 %x", n, sum)
}

// reason is err without the path, which would be said twice.
func reason(err error) string {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}
