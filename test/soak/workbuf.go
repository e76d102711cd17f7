package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"example.org/imsg"
	"golang.org/x/sys/unix"
)

// A loop is a worker with a Buf and poll. It has one lane.
type loop struct {
	outbox
	inbox inbox
	buf   *imsg.Buf
	stock *stock
	rnd   *rand.Rand
	mute  bool // it sends nothing any more
	full  bool // until something is written
	n     int32
}

func workBuf(sh *shared, st *stock) error {
	o := &sh.order
	if err := syscall.SetNonblock(channelFD, true); err != nil {
		return err
	}
	w := &loop{buf: imsg.NewBuf(channelFD, o.config(workerSide)), stock: st}
	w.outbox = outbox{order: o, side: workerSide, book: &sh.book}
	w.inbox = inbox{order: o, side: workerSide, book: &sh.book, deliver: st.deliver}
	w.rnd = w.rand(0)
	if err := w.buf.SetMaxSize(int(o.max)); err != nil {
		return err
	}
	err := errors.Join(w.run(), w.inbox.release())
	w.buf.Clear()
	return errors.Join(err, unix.Close(channelFD))
}

// run waits, reads and writes until the channel's end.
func (w *loop) run() error {
	begin := time.Now()
	for w.order.ending != workerCloses || time.Since(begin) < w.order.life {
		if err := w.compose(); err != nil {
			return err
		}
		fds := []unix.PollFd{{Fd: channelFD, Events: unix.POLLIN}}
		wait := -1
		if !w.mute {
			wait = w.rnd.IntN(3)
			if w.buf.QueueLen() > 0 {
				fds[0].Events |= unix.POLLOUT
			}
		}
		if _, err := unix.Poll(fds, wait); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if fds[0].Revents&^unix.POLLOUT != 0 {
			if done, err := w.read(); done || err != nil {
				return err
			}
		}
		if fds[0].Revents&unix.POLLOUT != 0 {
			if err := w.wrote(w.buf.WriteSocket()); err != nil {
				return err
			}
		}
	}
	return nil
}

// compose queues a few messages.
func (w *loop) compose() error {
	for range w.rnd.IntN(10) {
		if w.mute || w.full || w.buf.QueueLen() > 64 {
			return nil
		}
		var f *os.File
		if w.order.mayFile(workerSide, w.buf.Dialect()) && w.rnd.IntN(4) == 0 {
			f = w.stock.take()
		}
		flags := uint32(0)
		if w.rnd.IntN(5) == 0 {
			flags = wantForward
		}
		a, b := w.payload(w.rnd)
		if err := w.post(0, flags, f, w.put, a, b); err != nil {
			return err
		}
	}
	return nil
}

func (w *loop) put(h imsg.Header, f *os.File, parts [][]byte) (outcome, error) {
	var err error
	if w.rnd.IntN(2) == 0 {
		if err = w.buf.Compose(h, f, parts...); err != nil {
			f.Close()
		}
	} else if b, cerr := w.buf.Create(h, 0); cerr != nil {
		f.Close()
		err = cerr
	} else {
		defer b.Discard()
		b.SetFile(f)
		for _, p := range parts {
			err = errors.Join(err, b.Add(p))
		}
		if err == nil {
			err = b.Commit()
		}
	}
	switch {
	case err == nil:
		return accepted, nil
	case errors.Is(err, imsg.ErrQueueFull):
		w.full = true
		return failed, nil
	}
	return failed, err
}

// wrote judges what writing said.
func (w *loop) wrote(err error) error {
	w.full = false
	if err != nil {
		w.mute = true // reading goes on
	} else if w.buf.QueueLen() == 0 {
		w.told(0)
	}
	return w.order.judge(err)
}

// read reads once and reports whether the channel has ended.
func (w *loop) read() (done bool, err error) {
	end := w.buf.ReadSocket()
	for m := range w.buf.All() {
		if w.n++; w.n == w.order.stallFrom {
			time.Sleep(w.order.stall)
		}
		if err := w.inbox.take(m); err != nil {
			return true, err
		}
	}
	if w.inbox.fin && !w.mute {
		w.mute = true
		// An empty queue takes any message.
		if err := errors.Join(w.buf.Flush(), w.post(laneFin, 0, nil, w.put), w.buf.Flush()); err != nil {
			return true, fmt.Errorf("at the last message: %w", err)
		}
		w.told(0)
		w.told(laneFin)
		w.book.seal(w.buf.Stats())
		if w.order.closer == workerSide {
			return true, w.inbox.ended(nil)
		}
	}
	if end != nil {
		return true, w.inbox.ended(end)
	}
	return false, nil
}
