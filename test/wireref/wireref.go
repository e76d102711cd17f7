// Package wireref is the tests' reader of imsg streams: doc/wire.md as plain
// queues, one step after the other. It makes no system call and shares no code
// with the library, not even its types, so that every package can be compared
// with it.
package wireref

import "encoding/binary"

// A Dialect says what bytes 4 to 7 of a header mean. The values are imsg's.
type Dialect int

// The dialects.
const (
	Current Dialect = iota
	Legacy
	Auto
)

// HeaderSize is the length of a header.
const HeaderSize = 16

// A Header has the fields of imsg.Header, into which it can be converted.
type Header struct {
	Type, ID uint32
	PID      int32
}

// ParseHeader reads what does not depend on the dialect.
func ParseHeader(p []byte) Header {
	ne := binary.NativeEndian
	return Header{Type: ne.Uint32(p), ID: ne.Uint32(p[8:]), PID: int32(ne.Uint32(p[12:]))}
}

// Encode is a whole message as dialect d writes it.
func Encode(d Dialect, h Header, payload []byte, mark bool) []byte {
	p := make([]byte, HeaderSize, HeaderSize+len(payload))
	ne := binary.NativeEndian
	n, bit := HeaderSize+len(payload), 0
	if mark {
		bit = 1
	}
	ne.PutUint32(p, h.Type)
	if d == Legacy {
		ne.PutUint16(p[4:], uint16(n))
		ne.PutUint16(p[6:], uint16(bit))
	} else {
		ne.PutUint32(p[4:], uint32(n)|uint32(bit)<<31)
	}
	ne.PutUint32(p[8:], h.ID)
	ne.PutUint32(p[12:], uint32(h.PID))
	return append(p, payload...)
}

// length reads length and mark, and decides the dialect of an undecided reader.
func (r *Reader) length(p []byte) (n int, mark bool) {
	ne := binary.NativeEndian
	word, short, flags := ne.Uint32(p[4:]), int(ne.Uint16(p[4:])), ne.Uint16(p[6:])
	long, marked := int(word&^(1<<31)), word>>31 == 1
	valid := func(n int) bool { return n >= HeaderSize && n <= r.Limit }
	switch {
	case r.Dialect == Legacy:
		return short, flags&1 == 1
	case r.Dialect == Current:
	case valid(long) && short == long && !marked: // nothing is learnt
	case valid(long):
		r.Dialect = Current
	case valid(short) && flags <= 1:
		r.Dialect = Legacy
		return short, flags == 1
	}
	return long, marked
}

// A File is what is known about one open file.
type File struct {
	ID   int
	Refs int // descriptors that refer to it, those in flight included
	// Unsure: a peer broke the rules, so that it may be closed already, or be
	// on another message.
	Unsure bool
}

// A Flight is a file on its way.
type Flight struct {
	*File          // nil: it was lost, and the system said so
	At, End uint64 // stream offsets: of the byte that it was sent with, and of the end of that send
	Surplus bool   // not the first of its control message
}

// A Message is one received message.
type Message struct {
	Header  Header
	Payload []byte
	Off     uint64 // of its header in the stream
	Len     int    // with header
	Mark    bool
	File    *File
	Lost    bool // marked, and there is no file
	InOrder bool // files are paired in order, not by range
	// Clean: so far every file has come with the first byte of a marked
	// message, and every marked message with a file. Then it does not matter
	// how the stream was cut into reads.
	Clean  bool
	Unsure bool // nobody can tell which file it has
	Maybe  bool // it may be lost with what ended the stream
	Taken  int  // how much of the payload the owner has read
}

// Drop closes the message's file.
func (m *Message) Drop() {
	if m.File != nil {
		m.File.Refs--
	}
	m.File = nil
}
