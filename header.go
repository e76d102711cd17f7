package imsg

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

const (
	// HeaderSize is the size of a message's header in bytes. It corresponds
	// to IMSG_HEADER_SIZE.
	HeaderSize = 16

	// DefaultMaxSize is the default maximum size of a message in bytes, header
	// included. It corresponds to MAX_IMSGSIZE.
	DefaultMaxSize = 16384
)

// A Header is what travels in front of a payload, apart from its length.
type Header struct {
	Type uint32
	ID   uint32 // "peerid" in C: free for the program's use
	PID  int32  // 0 in a message to be sent means this process's own
}

// A Dialect is one of the two layouts that a header's length has had. Both
// store it in host byte order in bytes 4 to 7.
type Dialect uint8

const (
	// Current is what OpenBSD 7.7 (April 2025) and later speak: a 32-bit
	// length whose highest bit says that a file is attached.
	Current Dialect = iota

	// Legacy is what OpenBSD 4.6 to 7.6 spoke: a 16-bit length, then 16 bits
	// of flags whose lowest bit says that a file is attached.
	Legacy

	// Auto listens and speaks what the peer speaks. On a little-endian machine
	// only a message with a file, or one that is too long for Legacy, tells the
	// two apart; until the peer sends one, or SetDialect says what it speaks,
	// Auto sends Current, or nothing that is a guess (Config.RequireDialect).
	// doc/wire.md says what cannot be told apart.
	Auto
)

// String returns the dialect's name in lower case.
func (d Dialect) String() string {
	switch d {
	case Current:
		return "current"
	case Legacy:
		return "legacy"
	case Auto:
		return "auto"
	}
	return fmt.Sprintf("dialect %d", uint8(d))
}

const (
	// Bytes of a header where its parts are.
	typeAt, lengthAt, idAt, pidAt = 0, 4, 8, 12

	currentMark = 1 << 31   // in the 32-bit length
	legacyMark  = 1         // in the 16-bit flags
	legacyLimit = 1<<16 - 1 // longest length of 16 bits
	maxLimit    = 1<<31 - 1 // longest length of 31 bits
)

// putHeader writes a header in host byte order.
func putHeader(to []byte, h Header, word uint32) {
	p := (*[HeaderSize]byte)(to)
	ne := binary.NativeEndian
	ne.PutUint32(p[typeAt:], h.Type)
	ne.PutUint32(p[lengthAt:], word)
	ne.PutUint32(p[idAt:], h.ID)
	ne.PutUint32(p[pidAt:], uint32(h.PID))
}

// putLength writes bytes 4 to 7.
func putLength(to []byte, word uint32) { binary.NativeEndian.PutUint32(to[lengthAt:], word) }

// lengthWord is what bytes 4 to 7 are as one number, for a message of n bytes,
// header included.
func (d Dialect) lengthWord(n int, file bool) uint32 {
	if d == Legacy {
		return legacyLengthWord(n, file)
	}
	if file {
		return uint32(n) | currentMark
	}
	return uint32(n)
}

// plainAlike says whether a length without a file is the same word in both
// dialects, which is so on little-endian machines.
var plainAlike = legacyLengthWord(1, false) == 1

// maxSize is the longest message of a dialect, header included.
func (d Dialect) maxSize() int64 {
	if d == Legacy {
		return legacyLimit
	}
	return maxLimit
}

func legacyLengthWord(n int, file bool) uint32 {
	var p [4]byte
	binary.NativeEndian.PutUint16(p[0:], uint16(n))
	if file {
		binary.NativeEndian.PutUint16(p[2:], legacyMark)
	}
	return binary.NativeEndian.Uint32(p[:])
}

// parseLength reads the length of the whole message and the mark for a file.
func (d Dialect) parseLength(p []byte) (n int, file bool) {
	if d == Legacy {
		return int(binary.NativeEndian.Uint16(p[4:])), d.flags(p)&legacyMark != 0
	}
	v := binary.NativeEndian.Uint32(p[4:])
	return int(v &^ currentMark), v&currentMark != 0
}

// flags reads the 16 bits that only the legacy dialect has.
func (Dialect) flags(p []byte) uint16 { return binary.NativeEndian.Uint16(p[6:]) }

// parseHeader reads what both dialects store alike.
func parseHeader(p []byte) Header {
	_ = p[:HeaderSize]
	ne := binary.NativeEndian
	return Header{Type: ne.Uint32(p[typeAt:]), ID: ne.Uint32(p[idAt:]), PID: int32(ne.Uint32(p[pidAt:]))}
}

// detectDialect tells what one header of an undecided Auto channel says: Auto
// if it means the same in both dialects. held says whether a file waits for a
// message. Up to legacyLimit no header is valid in both dialects with different
// meanings. Above it, one can be: on a little-endian machine a Legacy message
// of n bytes with a file is a Current one of 65536+n bytes without. Then the
// reading that fits the files is right, since a file is sent with the first
// byte of its message at the latest. On big-endian machines files say nothing:
// there a Current message of n*65536+1 bytes with a file is a Legacy one of
// 32768+n bytes with a file, and from 1 MiB on, one of n*65536 bytes without is
// a Legacy one of n bytes. The shorter reading, Legacy, is taken.
func detectDialect(hdr []byte, limit int, held bool) (d Dialect, n int, file bool) {
	n, file = Current.parseLength(hdr)
	ln, lfile := Legacy.parseLength(hdr)
	current := n >= HeaderSize && n <= limit
	legacy := ln >= HeaderSize && ln <= limit && Legacy.flags(hdr) <= legacyMark
	switch {
	case current && legacy && n == ln && file == lfile:
		return Auto, n, file
	case current && (!legacy || file != lfile && file == held):
		return Current, n, file
	case legacy:
		return Legacy, ln, lfile
	}
	return Auto, n, file
}

// undecidedRead is the longest read while detectDialect looks at files: shorter
// than any message that is valid in both dialects, so that the file of a later
// message cannot have arrived with this one's header.
const undecidedRead = 1 << 16

// Encode writes the header of a message of n bytes, header included, to
// p[:HeaderSize] in the byte order given; Auto writes Current. A channel does
// this by itself: Encode is for tools and tests.
func (d Dialect) Encode(p []byte, order binary.ByteOrder, h Header, n int, file bool) {
	putHeader(p, h, d.lengthWord(n, file))
	if foreign(order) {
		d.swap(p)
	}
}

// Decode is the reverse of Encode. It checks nothing: n can be anything.
func (d Dialect) Decode(p []byte, order binary.ByteOrder) (h Header, n int, file bool) {
	var q [HeaderSize]byte
	copy(q[:], p[:HeaderSize])
	if foreign(order) {
		d.swap(q[:])
	}
	n, file = d.parseLength(q[:])
	return parseHeader(q[:]), n, file
}

func foreign(order binary.ByteOrder) bool {
	return order.Uint16([]byte{0, 1}) != binary.NativeEndian.Uint16([]byte{0, 1})
}

// swap turns the byte order of a header's fields around.
func (d Dialect) swap(p []byte) {
	ne := binary.NativeEndian
	for _, i := range [...]int{0, 4, 8, 12} {
		v := bits.ReverseBytes32(ne.Uint32(p[i:]))
		if i == 4 && d == Legacy {
			v = bits.RotateLeft32(v, 16)
		}
		ne.PutUint32(p[i:], v)
	}
}
