// Package capture has the form in which the command imsgctl keeps messages,
// and reads and writes the formats that hold them: raw streams, hexdumps,
// pcapng, and what strace(1) prints.
//
// # Ownership
//
// A Record belongs to whoever reads it, until the next one is read: its
// Payload is used again. Descriptors are numbers here, never open files.
//
// # Limits
//
// Nothing is sized by what a capture claims: a message has at most
// [MaxPayload] bytes of payload, and everything is read in pieces.
package capture

import (
	"encoding/binary"
	"time"

	"example.org/imsg"
)

// MaxPayload is the most that a Record's payload has: more than any program
// that is known sends (OpenBGPD's 128 KiB and 16).
const MaxPayload = 16 << 20

// A Record is one message that went over a channel.
type Record struct {
	Time time.Time     // when it was sent or, where only its receiver was seen, received; zero: not known
	Wait time.Duration // how long it lay in the socket; negative if that is not known

	Channel  int    // number of the channel in this capture, from 1; 0 if there is one only
	Name     string // of the channel: the path of its socket, or ""
	Dir      Dir
	From, To Endpoint

	Header  imsg.Header
	Dialect Dialect
	Order   binary.ByteOrder // of the header; nil: this machine's
	Len     int              // bytes of the message, header included
	Payload []byte           // what was captured: shorter than Len-imsg.HeaderSize if it was cut
	Files   []File           // at most one in a message that imsg(3) wrote
	Marked  bool             // the header announces a file
	Note    string           // what a reader should know, such as "payload cut by strace -s"
}

// Cut returns how many bytes of the payload were not captured.
func (r *Record) Cut() int { return max(r.Len-imsg.HeaderSize-len(r.Payload), 0) }

// A Dir is the direction of a message on its channel.
type Dir uint8

// The directions.
const (
	DirUnknown Dir = iota
	DirOut         // from the end that connected, or the first end of a pair
	DirIn          // to it
)

// A Dialect is what is known of a channel's dialect: without a file, a short
// message looks the same in both on little-endian machines.
type Dialect uint8

// The dialects.
const (
	Either Dialect = iota
	Current
	Legacy
)

// String returns "either", "current" or "legacy".
func (d Dialect) String() string { return [...]string{"either", "current", "legacy"}[d] }

// An Endpoint is a process at one end of a channel; what is not known is zero.
type Endpoint struct {
	PID int
	Exe string // path of its program
	FD  int    // number of its end there; 0 if that is not known, for no channel is 0 in practice
}

// A File is a descriptor that came with a message.
type File struct {
	From, To int    // its number at the sender and the receiver, or -1
	Kind     string // "file", "dir", "pipe", "socket", "char", "block", "anon", or ""
	Path     string // as /proc/PID/fd shows it
	Flags    string // of its open(2), such as "rdwr|append"
	Lost     bool   // announced or sent, but nobody got it
}

// A Writer takes records: a file, a terminal, a diagram.
type Writer interface {
	// Write takes r, and keeps nothing of it.
	Write(r *Record) error
	// Close writes what is left.
	Close() error
}

// A Reader gives records; its errors name the place in the input.
type Reader interface {
	// Next returns the next record, which is valid until the next call, or
	// io.EOF at the end.
	Next() (*Record, error)
}
