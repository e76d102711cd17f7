package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/godbus/dbus/v5"
)

const (
	dbusPath  = dbus.ObjectPath("/bench")
	dbusIface = "bench.Bench"
)

// A dbusChannel is the channel for godbus, which always takes the other side
// for a bus that it has to log in to. Without a bus each side gets the answers
// it expects from here. It also adds the buffers that godbus does without.
type dbusChannel struct {
	io.Reader
	io.Closer
	c        net.Conn
	w        *bufio.Writer // nil: every message is written at once
	loggedIn bool
}

// Write drops what godbus writes before its first message.
func (d *dbusChannel) Write(p []byte) (int, error) {
	switch {
	case !d.loggedIn:
		d.loggedIn = bytes.HasPrefix(p, []byte("BEGIN"))
		return len(p), nil
	case d.w != nil:
		return d.w.Write(p)
	default:
		return d.c.Write(p)
	}
}

// dbusSignals handles signals in the order in which they come, with no
// goroutine in between.
type dbusSignals func(*dbus.Signal)

func (f dbusSignals) DeliverSignal(_, _ string, s *dbus.Signal) { f(s) }

// openDBus returns a connection without a bus. handle may be nil.
func openDBus(handle dbusSignals, buffered bool) (*dbus.Conn, *dbusChannel, error) {
	c, err := netConn()
	if err != nil {
		return nil, nil, err
	}
	answers := strings.NewReader("REJECTED EXTERNAL\r\nOK 0\r\n")
	d := &dbusChannel{Reader: io.MultiReader(answers, bufio.NewReaderSize(c, batch)), Closer: c, c: c}
	if buffered {
		d.w = bufio.NewWriterSize(c, batch)
	}
	var opts []dbus.ConnOption
	if handle != nil {
		opts = append(opts, dbus.WithSignalHandler(handle))
	}
	conn, err := dbus.NewConn(d, opts...)
	if err != nil {
		return nil, nil, err
	}
	return conn, d, conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
}

// dbusObject is what the server exports.
type dbusObject struct{}

// Echo answers with its argument.
func (dbusObject) Echo(p []byte) ([]byte, *dbus.Error) { return p, nil }

// dbusServe counts the signals named Data, answers the one named Sync with the
// count, and calls.
func dbusServe(int) error {
	var conn *dbus.Conn
	count, failed := uint32(0), make(chan error, 1)
	opened := make(chan struct{})
	conn, _, err := openDBus(func(s *dbus.Signal) {
		if s.Name == dbusIface+".Data" {
			count++
			return
		}
		<-opened
		if err := conn.Emit(dbusPath, dbusIface+".Sync", count); err != nil {
			failed <- err
		}
		count = 0
	}, false)
	if err != nil {
		return err
	}
	close(opened)
	if err := conn.Export(dbusObject{}, dbusPath, dbusIface); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-conn.Context().Done(): // the channel's end
		return nil
	}
}

// dbusStream sends signals, a batch a write.
func dbusStream(size int) (step, error) {
	acks := make(chan uint32, 1)
	conn, d, err := openDBus(func(s *dbus.Signal) { acks <- s.Body[0].(uint32) }, true)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	return func(n int) error {
		for range n {
			if err := conn.Emit(dbusPath, dbusIface+".Data", payload); err != nil {
				return err
			}
		}
		if err := conn.Emit(dbusPath, dbusIface+".Sync"); err != nil {
			return err
		}
		if err := d.w.Flush(); err != nil {
			return err
		}
		select {
		case got := <-acks:
			return counted(got, n)
		case <-conn.Context().Done():
			return io.ErrUnexpectedEOF
		}
	}, nil
}

// dbusPing calls a method.
func dbusPing(size int) (step, error) {
	conn, _, err := openDBus(nil, false)
	if err != nil {
		return nil, err
	}
	object, payload := conn.Object(dbusIface, dbusPath), make([]byte, size)
	return func(n int) error {
		var reply []byte
		for range n {
			if err := object.Call(dbusIface+".Echo", 0, payload).Store(&reply); err != nil {
				return err
			}
		}
		if n > 0 && len(reply) != size {
			return fmt.Errorf("an answer of %d bytes", len(reply))
		}
		return nil
	}, nil
}
