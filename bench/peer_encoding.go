package main

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"io"
	"net"
)

// A record is a message for encoding/gob and encoding/json.
type record struct {
	Type, ID uint32
	Payload  []byte
}

type encoder interface{ Encode(any) error }
type decoder interface{ Decode(any) error }

// An encoding is a stream of records in both directions.
type encoding struct {
	encoder
	decoder
	w *bufio.Writer
}

func newEncoding(enc func(io.Writer) encoder, dec func(io.Reader) decoder) (*encoding, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(c, batch)
	return &encoding{enc(w), dec(bufio.NewReaderSize(net.Conn(c), batch)), w}, nil
}

func newGob() (*encoding, error) {
	return newEncoding(
		func(w io.Writer) encoder { return gob.NewEncoder(w) },
		func(r io.Reader) decoder { return gob.NewDecoder(r) })
}

// newJSON has one record a line.
func newJSON() (*encoding, error) {
	return newEncoding(
		func(w io.Writer) encoder { return json.NewEncoder(w) },
		func(r io.Reader) decoder { return json.NewDecoder(r) })
}

func gobStream(size int) (step, error)  { return encodedStream(newGob, size) }
func gobPing(size int) (step, error)    { return encodedPing(newGob, size) }
func gobServe(int) error                { return encodedServe(newGob) }
func jsonStream(size int) (step, error) { return encodedStream(newJSON, size) }
func jsonPing(size int) (step, error)   { return encodedPing(newJSON, size) }
func jsonServe(int) error               { return encodedServe(newJSON) }

// send writes a record and all before it.
func (e *encoding) send(r *record) error {
	if err := e.Encode(r); err != nil {
		return err
	}
	return e.w.Flush()
}

// receive reads a record into r, whose memory it uses again.
func (e *encoding) receive(r *record) error {
	*r = record{Payload: r.Payload[:0]} // gob leaves zeros out
	return e.Decode(r)
}

// encodedStream writes a batch at a time: when the buffer is full.
func encodedStream(open func() (*encoding, error), size int) (step, error) {
	e, err := open()
	if err != nil {
		return nil, err
	}
	data, ack := &record{Type: typeData, Payload: make([]byte, size)}, new(record)
	return func(n int) error {
		for range n {
			if err := e.Encode(data); err != nil {
				return err
			}
		}
		if err := e.send(&record{Type: typeSync}); err != nil {
			return err
		}
		if err := e.receive(ack); err != nil {
			return err
		}
		return counted(ack.ID, n)
	}, nil
}

func encodedPing(open func() (*encoding, error), size int) (step, error) {
	e, err := open()
	if err != nil {
		return nil, err
	}
	ping, pong := &record{Type: typePing, Payload: make([]byte, size)}, new(record)
	return func(n int) error {
		for range n {
			if err := e.send(ping); err != nil {
				return err
			}
			if err := e.receive(pong); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// encodedServe counts data, answers pings with themselves and syncs with the
// count.
func encodedServe(open func() (*encoding, error)) error {
	e, err := open()
	if err != nil {
		return err
	}
	for count, r := uint32(0), new(record); ; {
		if err := e.receive(r); err != nil {
			return ended(err)
		}
		switch r.Type {
		case typeData:
			count++
			continue
		case typeSync:
			r.ID, count = count, 0
		}
		if err := e.send(r); err != nil {
			return err
		}
	}
}
