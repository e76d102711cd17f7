package ibuf

import "encoding/binary"

// Every number has the type of its width. C takes all of them as 64 bits and
// refuses at run time what does not fit, because its compiler would cut it
// silently; Go's does not convert without being told. A negative int32 such as
// a pid fits as uint32(v), where C's promotion to 64 bits makes it too large.

// AddByte appends v as one byte. The error is ErrTooLarge if it does not fit.
// It corresponds to ibuf_add_n8.
func (b *Buffer) AddByte(v byte) error { return b.addInt(uint64(v), 8, net) }

// AddNet16 appends v as 16 bits in network order (big-endian). The error is
// ErrTooLarge if it does not fit.
// It corresponds to ibuf_add_n16.
func (b *Buffer) AddNet16(v uint16) error { return b.addInt(uint64(v), 16, net) }

// AddNet32 appends v as 32 bits in network order (big-endian). The error is
// ErrTooLarge if it does not fit.
// It corresponds to ibuf_add_n32.
func (b *Buffer) AddNet32(v uint32) error { return b.addInt(uint64(v), 32, net) }

// AddNet64 appends v as 64 bits in network order (big-endian). The error is
// ErrTooLarge if it does not fit.
// It corresponds to ibuf_add_n64.
func (b *Buffer) AddNet64(v uint64) error { return b.addInt(v, 64, net) }

// AddHost16 appends v as 16 bits in host order. The error is ErrTooLarge if it
// does not fit.
// It corresponds to ibuf_add_h16.
func (b *Buffer) AddHost16(v uint16) error { return b.addInt(uint64(v), 16, host) }

// AddHost32 appends v as 32 bits in host order. The error is ErrTooLarge if it
// does not fit.
// It corresponds to ibuf_add_h32.
func (b *Buffer) AddHost32(v uint32) error { return b.addInt(uint64(v), 32, host) }

// AddHost64 appends v as 64 bits in host order. The error is ErrTooLarge if it
// does not fit.
// It corresponds to ibuf_add_h64.
func (b *Buffer) AddHost64(v uint64) error { return b.addInt(v, 64, host) }

// SetByte overwrites the byte at pos, like Set. The error is ErrTooLarge if
// pos is not within the unread bytes.
// It corresponds to ibuf_set_n8.
func (b *Buffer) SetByte(pos int, v byte) error { return b.setInt(pos, uint64(v), 8, net) }

// SetNet16 overwrites 16 bits at pos in network order (big-endian), like Set.
// The error is ErrTooLarge if they are not all within the unread bytes.
// It corresponds to ibuf_set_n16.
func (b *Buffer) SetNet16(pos int, v uint16) error { return b.setInt(pos, uint64(v), 16, net) }

// SetNet32 overwrites 32 bits at pos in network order (big-endian), like Set.
// The error is ErrTooLarge if they are not all within the unread bytes.
// It corresponds to ibuf_set_n32.
func (b *Buffer) SetNet32(pos int, v uint32) error { return b.setInt(pos, uint64(v), 32, net) }

// SetNet64 overwrites 64 bits at pos in network order (big-endian), like Set.
// The error is ErrTooLarge if they are not all within the unread bytes.
// It corresponds to ibuf_set_n64.
func (b *Buffer) SetNet64(pos int, v uint64) error { return b.setInt(pos, v, 64, net) }

// SetHost16 overwrites 16 bits at pos in host order, like Set. The error is
// ErrTooLarge if they are not all within the unread bytes.
// It corresponds to ibuf_set_h16.
func (b *Buffer) SetHost16(pos int, v uint16) error { return b.setInt(pos, uint64(v), 16, host) }

// SetHost32 overwrites 32 bits at pos in host order, like Set. The error is
// ErrTooLarge if they are not all within the unread bytes.
// It corresponds to ibuf_set_h32.
func (b *Buffer) SetHost32(pos int, v uint32) error { return b.setInt(pos, uint64(v), 32, host) }

// SetHost64 overwrites 64 bits at pos in host order, like Set. The error is
// ErrTooLarge if they are not all within the unread bytes.
// It corresponds to ibuf_set_h64.
func (b *Buffer) SetHost64(pos int, v uint64) error { return b.setInt(pos, v, 64, host) }

// An order is how an integer's bytes follow each other.
type order bool

const (
	net  order = true  // big-endian
	host order = false // this machine's
)

// put writes the low bits of v, a multiple of 8, and returns them.
func (o order) put(p *[8]byte, v uint64, bits int) []byte {
	switch {
	case o == net:
		binary.BigEndian.PutUint64(p[:], v<<(64-bits))
	case bits == 16:
		binary.NativeEndian.PutUint16(p[:], uint16(v))
	case bits == 32:
		binary.NativeEndian.PutUint32(p[:], uint32(v))
	default:
		binary.NativeEndian.PutUint64(p[:], v)
	}
	return p[:bits/8]
}

func (b *Buffer) addInt(v uint64, bits int, o order) error {
	var p [8]byte
	return b.Add(o.put(&p, v, bits))
}

func (b *Buffer) setInt(pos int, v uint64, bits int, o order) error {
	var p [8]byte
	return b.Set(pos, o.put(&p, v, bits))
}
