package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"example.org/imsg"
)

// An inbox accounts for what one side receives.
type inbox struct {
	order *order
	side  int
	book  *ledger
	fin   bool

	// deliver is told about each message. It owns f; m is closed later.
	deliver func(s stamp, m imsg.Message, f *os.File)

	held [5]imsg.Message // stay open for a while, and must stay what they were
	n    int
}

// take accounts for one message.
func (in *inbox) take(m imsg.Message) error {
	h := m.Header()
	if in.fin {
		m.Close()
		return fmt.Errorf("%v: comes behind the last", readStamp(h))
	}
	s, err := in.book.receive(2*in.order.channel+uint32(1-in.side), h, m.Bytes())
	if err == nil {
		err = m.FileErr()
	}
	if want := s.flags&hasFile != 0; err == nil && want != m.HasFile() {
		err = fmt.Errorf("%v: file %v, want %v", s, m.HasFile(), want)
	}
	if err != nil {
		m.Close()
		return err
	}
	f := m.TakeFile()
	if f != nil {
		if err := say(f, saysGot, in.order.channel, h); err != nil {
			return fmt.Errorf("%v: cannot write to its pipe: %v", s, err)
		}
		in.book.filesGot.Add(1)
	}
	in.fin = s.lane == laneFin
	in.deliver(s, m, f)
	return in.hold(m)
}

// hold closes the message that was held longest for m.
func (in *inbox) hold(m imsg.Message) error {
	old := &in.held[in.n%len(in.held)]
	in.n++
	err := closeHeld(*old)
	*old = m
	return err
}

func (in *inbox) release() error {
	var err error
	for i, m := range in.held {
		err = errors.Join(err, closeHeld(m))
		in.held[i] = imsg.Message{}
	}
	return err
}

func closeHeld(m imsg.Message) error {
	defer m.Close()
	h := m.Header()
	if h != (imsg.Header{}) && checksum(h, m.Bytes()) != h.PID {
		return fmt.Errorf("%v: has changed while it was open", readStamp(h))
	}
	return nil
}

// judge returns an error that must not end a direction of this channel as an
// error of the run.
func (o *order) judge(err error) error {
	if err == nil || o.ending != orderly && broken(err) {
		return nil
	}
	return fmt.Errorf("ends with: %w", err)
}

// broken reports whether err is what the end of one side is to the other.
func broken(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// ended judges how the receiving direction ended.
func (in *inbox) ended(err error) error {
	closes := in.order.closer == int32(in.side)
	switch {
	case in.order.ending != orderly || !in.fin:
		return in.order.judge(err)
	case err == nil && closes, err == io.EOF && !closes:
		return nil
	}
	return fmt.Errorf("ends with %v behind the last message", err)
}
