package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"example.org/imsg"
	"example.org/imsg/internal/unixmsg"
)

// A benchCase moves messages in batches, which fit a socket, through one side of
// a channel; the other side is bare bytes.
type benchCase struct {
	name  string
	what  string
	batch int // messages
	size  int // bytes of payload
	start func(s *side) func() error
}

const small = 100 // messages of 64 bytes a batch

var cases = []benchCase{
	{"encode-0", "Buf.Compose of nothing, WriteSocket for 100", small, 0, sending(compose)},
	{"encode-64", "Buf.Compose, WriteSocket for 100", small, 64, sending(compose)},
	{"encode-64-builder", "Buf.Create, Add, Commit", small, 64, sending(build)},
	{"encode-64-conn", "Conn.Compose, Flush for 100", small, 64, connSending(connCompose)},
	{"encode-64-batch", "Conn.ComposeBatch of 50", small, 64, connSending(connComposeBatch)},
	{"send-64", "Conn.Send", small, 64, connSending(connSend)},
	{"send-16368", "Conn.Send", 4, 16368, connSending(connSend)},
	{"send-file", "Conn.Send of a file", 10, 64, connSending(connSendFile)},
	{"decode-0", "Buf.Get and Close, ReadSocket for 100", small, 0, receiving(get)},
	{"decode-64", "Buf.Get and Close, ReadSocket for 100", small, 64, receiving(get)},
	{"decode-64-each", "Buf.Each", small, 64, receiving(each)},
	{"decode-64-batch", "Buf.GetBatch and CloseAll of 50", small, 64, receiving(getBatch)},
	{"decode-64-conn", "Conn.Receive and Close", small, 64, connReceiving(connReceive)},
	{"decode-64-conn-each", "Conn.Each", small, 64, connReceiving(connEach)},
	{"decode-64-conn-batch", "Conn.ReceiveBatch and CloseAll of 50", small, 64, connReceiving(connReceiveBatch)},
	{"decode-16368", "Buf.Get and Close", 4, 16368, receiving(get)},
}

// work is what a child does.
func work(job string) error {
	var name string
	var batches int
	if _, err := fmt.Sscan(job, &name, &batches); err != nil {
		return err
	}
	for _, c := range cases {
		if c.name != name {
			continue
		}
		fd, other, err := unixmsg.Pair(true)
		if err != nil {
			return err
		}
		s := &side{fd: fd, other: other, c: c, payload: make([]byte, c.size), bytes: make([]byte, c.batch*(c.size+imsg.HeaderSize))}
		step := c.start(s)
		for range batches {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no case %s", name)
}

// A side is one end of a socket pair, and the bare other one.
type side struct {
	fd, other int
	c         benchCase
	payload   []byte
	bytes     []byte // of a batch
	buf       *imsg.Buf
	conn      *imsg.Conn
	null      *os.File
	out       []imsg.Outgoing
	in        []imsg.Message
}

var (
	ctx    = context.Background()
	header = imsg.Header{Type: 1, PID: 1}
	files  = &imsg.Config{AllowFDPass: true}
)

// drain reads a batch at the other end.
func (s *side) drain() error {
	for left := len(s.bytes); left > 0; {
		n, err := syscall.Read(s.other, s.bytes[:left])
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// sending returns a case that sends a batch with send, through a Buf.
func sending(send func(s *side) error) func(s *side) func() error {
	return func(s *side) func() error {
		s.buf = imsg.NewBuf(s.fd, nil)
		return func() error {
			return errors.Join(send(s), s.buf.WriteSocket(), s.drain())
		}
	}
}

func compose(s *side) error {
	for range s.c.batch {
		if err := s.buf.Compose(header, nil, s.payload); err != nil {
			return err
		}
	}
	return nil
}

func build(s *side) error {
	for range s.c.batch {
		b, err := s.buf.Create(header, len(s.payload))
		if err != nil {
			return err
		}
		if err := errors.Join(b.Add(s.payload), b.Commit()); err != nil {
			return err
		}
	}
	return nil
}

// newConn makes the Conn of a case.
func (s *side) newConn() (err error) {
	if s.conn == nil {
		s.conn, err = imsg.NewConn(s.fd, files)
	}
	return err
}

func connSending(send func(s *side) error) func(s *side) func() error {
	return func(s *side) func() error {
		return func() error {
			return errors.Join(s.newConn(), send(s), s.drain())
		}
	}
}

func connCompose(s *side) error {
	for range s.c.batch {
		if err := s.conn.Compose(header, nil, s.payload); err != nil {
			return err
		}
	}
	return s.conn.Flush(ctx)
}

func connComposeBatch(s *side) error {
	if s.out == nil {
		s.out = make([]imsg.Outgoing, s.c.batch/2)
		for i := range s.out {
			s.out[i] = imsg.Outgoing{Header: header, Data: s.payload}
		}
	}
	for range 2 {
		if _, err := s.conn.ComposeBatch(s.out); err != nil {
			return err
		}
	}
	return s.conn.Flush(ctx)
}

func connSend(s *side) error {
	for range s.c.batch {
		if err := s.conn.Send(ctx, header, nil, s.payload); err != nil {
			return err
		}
	}
	return nil
}

func connSendFile(s *side) (err error) {
	if s.null == nil {
		if s.null, err = os.Open(os.DevNull); err != nil {
			return err
		}
	}
	for range s.c.batch {
		if err := s.conn.Send(ctx, header, s.null, s.payload); err != nil {
			return err
		}
	}
	return nil
}

// fill writes a batch at the other end.
func (s *side) fill() error {
	_, err := syscall.Write(s.other, s.bytes)
	return err
}

// encode makes the bytes of a batch.
func (s *side) encode() error {
	out := imsg.NewBuf(s.other, nil)
	for range s.c.batch {
		if err := out.Compose(header, nil, s.payload); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := io.ReadFull(reader(s.fd), s.bytes)
	return err
}

type reader int

func (r reader) Read(p []byte) (int, error) { return syscall.Read(int(r), p) }

// receiving returns a case that receives a batch with receive, through a Buf.
func receiving(receive func(s *side) int) func(s *side) func() error {
	return func(s *side) func() error {
		err := s.encode()
		s.buf = imsg.NewBuf(s.fd, nil)
		return func() error {
			if err == nil {
				err = s.fill()
			}
			for n := 0; n < s.c.batch && err == nil; n += receive(s) {
				err = s.buf.ReadSocket()
			}
			return err
		}
	}
}

func get(s *side) (n int) {
	for m, ok := s.buf.Get(); ok; m, ok = s.buf.Get() {
		m.Close()
		n++
	}
	return n
}

func each(s *side) (n int) {
	for range s.buf.Each() {
		n++
	}
	return n
}

func getBatch(s *side) (n int) {
	if s.in == nil {
		s.in = make([]imsg.Message, 50)
	}
	for {
		k := s.buf.GetBatch(s.in)
		if k == 0 {
			return n
		}
		imsg.CloseAll(s.in[:k])
		n += k
	}
}

func connReceiving(receive func(s *side) error) func(s *side) func() error {
	return func(s *side) func() error {
		err := s.encode()
		return func() error {
			return errors.Join(err, s.newConn(), s.fill(), receive(s))
		}
	}
}

func connReceive(s *side) error {
	for range s.c.batch {
		m, err := s.conn.Receive(ctx)
		if err != nil {
			return err
		}
		m.Close()
	}
	return nil
}

func connEach(s *side) error {
	n := 0
	for _, err := range s.conn.Each(ctx) {
		if err != nil {
			return err
		}
		if n++; n == s.c.batch {
			break
		}
	}
	return nil
}

func connReceiveBatch(s *side) error {
	if s.in == nil {
		s.in = make([]imsg.Message, 50)
	}
	for n := 0; n < s.c.batch; {
		k, err := s.conn.ReceiveBatch(ctx, s.in)
		if err != nil {
			return err
		}
		imsg.CloseAll(s.in[:k])
		n += k
	}
	return nil
}
