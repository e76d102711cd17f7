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
	workerFD = 3     // the worker's side of the channel: the first of exec.Cmd.ExtraFiles
	nobody   = 65534 // a user and a group that own nothing
)

// A worker has, where that is possible, access to nothing but its side of the
// channel and the descriptors that the parent passes.
type worker struct{ c *imsg.Conn }

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
	w := worker{c}
	typ, text := confine(root)
	if err := w.send(typ, 0, text); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	for m, err := range c.All(context.Background()) {
		if err == nil {
			err = w.handle(m)
		}
		m.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return nil // the parent has ended, and said why
		}
		if err != nil {
			return fmt.Errorf("worker: %w", err)
		}
	}
	return nil
}

func (w worker) handle(m imsg.Message) error {
	h := m.Header()
	switch h.Type {
	case msgRead:
		return w.read(h.ID, string(m.Bytes()))
	case msgBlock:
		return w.send(msgResult, h.ID, describe(m.Bytes()))
	case msgJob:
		n, err := strconv.Atoi(string(m.Bytes()))
		if err != nil {
			return err
		}
		err = w.c.Compose(imsg.Header{Type: msgDone, ID: h.ID}, nil, strconv.AppendInt(nil, int64(n)*int64(n), 10))
		if err != nil || h.ID < burst {
			return err
		}
		return w.c.Flush(context.Background()) // all answers leave together
	}
	return fmt.Errorf("message of type %d was not expected", h.Type)
}

// read first tries to open the file by its name, to show that it cannot, and
// then asks the parent for it.
func (w worker) read(id uint32, path string) error {
	var typ uint32 = msgCan
	text := "opened it by name as well"
	if f, err := os.Open(path); err == nil {
		f.Close()
	} else {
		typ, text = msgCannot, "open by name: "+errors.Unwrap(err).Error()
	}
	if err := w.send(typ, id, text); err != nil {
		return err
	}
	if err := w.send(msgOpen, id, path); err != nil {
		return err
	}
	m, err := w.c.Receive(context.Background())
	if err != nil {
		return err
	}
	defer m.Close()
	if m.Type() == msgDenied {
		return w.send(msgResult, id, resultDenied)
	}
	if err := m.FileErr(); err != nil {
		return err
	}
	f := m.TakeFile()
	if f == nil {
		return fmt.Errorf("message of type %d without a descriptor", m.Type())
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	return w.send(msgResult, id, describe(data))
}

func (w worker) send(typ, id uint32, text string) error {
	return w.c.Send(context.Background(), imsg.Header{Type: typ, ID: id}, nil, []byte(text))
}

// confine gives up all rights, if there are any to give up, and returns the
// message that tells.
func confine(root string) (typ uint32, text string) {
	if uid := os.Geteuid(); uid != 0 {
		return msgKept, fmt.Sprintf("runs with the same rights, uid %d: run as root to see it drop them", uid)
	}
	if err := drop(root); err != nil {
		return msgKept, fmt.Sprintf("could not drop its rights: %v", err)
	}
	return msgDropped, fmt.Sprintf("uid %d, gid %d, in an empty root directory", os.Geteuid(), os.Getegid())
}

// drop needs root's rights. Each step takes away what those before it need.
func drop(root string) error {
	if err := syscall.Chroot(root); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	if err := syscall.Chdir("/"); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	if err := syscall.Setgroups([]int{nobody}); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := syscall.Setgid(nobody); err != nil {
		return os.NewSyscallError("setgid", err)
	}
	if err := syscall.Setuid(nobody); err != nil {
		return os.NewSyscallError("setuid", err)
	}
	if syscall.Setuid(0) == nil {
		return errors.New("setuid 0 still works")
	}
	return nil
}

// describe is the text of a RESULT.
func describe(data []byte) string {
	return fmt.Sprintf("%d bytes, sha256 %x", len(data), sha256.Sum256(data))
}
