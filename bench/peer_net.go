package main

import (
	"io"
	"net"
	"os"
	"sync"
)

// netConn returns the channel as package net has it.
func netConn() (*net.UnixConn, error) {
	f := os.NewFile(channel, "channel")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// netPing is the bare round trip of a program with goroutines.
func netPing(size int) (step, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	p := message(typeData, size, 0)
	return func(n int) error {
		for range n {
			if _, err := c.Write(p); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, p); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func netEcho(size int) error {
	c, err := netConn()
	if err != nil {
		return err
	}
	for p := message(typeData, size, 0); ; {
		if _, err := io.ReadFull(c, p); err != nil {
			return ended(err)
		}
		if _, err := c.Write(p); err != nil {
			return err
		}
	}
}

// A listener accepts the channel, and nothing more after it.
type listener struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func newListener() (*listener, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	l := &listener{closed: make(chan struct{})}
	l.Conn = &closing{Conn: c, closed: sync.OnceFunc(func() { close(l.closed) })}
	return l, nil
}

// Accept waits, the second time, until the channel is closed.
func (l *listener) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.Conn })
	if c == nil {
		<-l.closed
		err = net.ErrClosed
	}
	return c, err
}

func (l *listener) Addr() net.Addr { return l.LocalAddr() }

// closing tells when it is closed.
type closing struct {
	net.Conn
	closed func()
}

func (c *closing) Close() error {
	c.closed()
	return c.Conn.Close()
}
