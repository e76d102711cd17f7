package capture

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"example.org/imsg"
)

// What stands in front of each message in a pcapng file. Numbers are big-endian,
// as in the tags of LINKTYPE_WIRESHARK_UPPER_PDU. imsg.lua reads it, too.
//
//	tag 12, length 4, "imsg"   the dissector's name
//	tag 0, length 0            the end of the tags
//	pseudo header, version 1:
//	 0  u8   version
//	 1  u8   direction
//	 2  u8   dialect
//	 3  u8   flags
//	 4  u32  bytes of the pseudo header, fields included
//	 8  u32  channel
//	12  u32  bytes of the message, header included
//	16  i64  nanoseconds that it waited; negative: not known
//	24  i32  pid, descriptor of the sender, then of the receiver
//	40  fields: u8 kind, u8 0, u16 length, value
//
// Then the message as it was on the wire, as far as it was captured.
const (
	pseudoVersion = 1
	pseudoFixed   = 40

	flagMarked  = 1 << 0
	flagBig     = 1 << 1 // the message's header is big-endian
	flagNoTime  = 1 << 2
	flagNoName  = 1 << 3 // the interface's name is not the channel's
	flagForeign = 1 << 4 // the byte order was given, even if it is this machine's

	fieldFromExe = 1
	fieldToExe   = 2
	fieldNote    = 3
	fieldFile    = 4 // i32 from, i32 to, u8 lost, then kind, path, flags: u16 length, bytes
)

var upperTags = []byte{0, 12, 0, 4, 'i', 'm', 's', 'g', 0, 0, 0, 0}

var errPseudo = errors.New("the header in front of a message is not whole")

// appendPseudo appends the tags and the pseudo header for r.
func appendPseudo(b []byte, r *Record) []byte {
	be := binary.BigEndian
	b = append(b, upperTags...)
	beg := len(b)
	var flags byte
	for _, f := range []struct {
		is   bool
		flag byte
	}{{r.Marked, flagMarked}, {isBig(r.Order), flagBig}, {r.Time.IsZero(), flagNoTime}, {r.Name == "", flagNoName}, {r.Order != nil, flagForeign}} {
		if f.is {
			flags |= f.flag
		}
	}
	b = append(b, pseudoVersion, byte(r.Dir), byte(r.Dialect), flags, 0, 0, 0, 0)
	b = be.AppendUint32(b, uint32(r.Channel))
	b = be.AppendUint32(b, uint32(r.Len))
	b = be.AppendUint64(b, uint64(r.Wait))
	for _, e := range []Endpoint{r.From, r.To} {
		b = be.AppendUint32(b, uint32(e.PID))
		b = be.AppendUint32(b, uint32(e.FD))
	}
	b = appendField(b, fieldFromExe, r.From.Exe)
	b = appendField(b, fieldToExe, r.To.Exe)
	b = appendField(b, fieldNote, r.Note)
	for i := range r.Files {
		b = appendFile(b, &r.Files[i])
	}
	be.PutUint32(b[beg+4:], uint32(len(b)-beg))
	return b
}

// short returns as much of s as 16 bits of length can have, less more bytes.
func short(s string, more int) string { return s[:min(len(s), math.MaxUint16-more)] }

func appendField(b []byte, kind byte, s string) []byte {
	if s == "" {
		return b
	}
	s = short(s, 0)
	b = append(b, kind, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendFile(b []byte, f *File) []byte {
	be := binary.BigEndian
	b = append(b, fieldFile, 0, 0, 0)
	beg := len(b)
	b = be.AppendUint32(b, uint32(f.From))
	b = be.AppendUint32(b, uint32(f.To))
	lost := byte(0)
	if f.Lost {
		lost = 1
	}
	b = append(b, lost)
	for _, s := range []string{f.Kind, f.Flags, f.Path} {
		s = short(s, len(b)-beg+4)
		b = be.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	be.PutUint16(b[beg-2:], uint16(len(b)-beg))
	return b
}

// appendMessage appends the message as it was on the wire.
func appendMessage(b []byte, r *Record) []byte {
	order := r.Order
	if order == nil {
		order = binary.NativeEndian
	}
	var h [imsg.HeaderSize]byte
	r.Dialect.imsgDialect().Encode(h[:], order, r.Header, r.Len, r.Marked)
	return append(append(b, h[:]...), r.Payload...)
}

// parsePacket fills r with what a packet's data has. r's strings are new, its
// payload is in p. ours is false for packets of other protocols.
func parsePacket(r *Record, p []byte, flags *byte) (ours bool, err error) {
	be := binary.BigEndian
	for {
		if len(p) < 4 {
			return false, nil
		}
		tag, n := be.Uint16(p), int(be.Uint16(p[2:]))
		if len(p) < 4+n {
			return false, nil
		}
		if tag == 12 && string(p[4:4+n]) == "imsg" {
			ours = true
		}
		p = p[4+n:]
		if tag == 0 {
			break
		}
	}
	if !ours {
		return false, nil
	}
	if len(p) < pseudoFixed {
		return true, errPseudo
	}
	n := int64(be.Uint32(p[4:]))
	switch {
	case p[0] != pseudoVersion:
		return true, errors.New("the header in front of a message has a version that is not known: a newer imsgctl wrote it")
	case n < pseudoFixed || n > int64(len(p)-imsg.HeaderSize):
		return true, errPseudo
	}
	head, msg := p[:n], p[n:]
	*flags = head[3]
	r.Dir, r.Dialect = min(Dir(head[1]), DirIn), min(Dialect(head[2]), Legacy)
	r.Marked = head[3]&flagMarked != 0
	r.Channel, r.Len = int(be.Uint32(head[8:])), int(be.Uint32(head[12:]))
	r.Wait = time.Duration(be.Uint64(head[16:]))
	r.From = Endpoint{PID: int(int32(be.Uint32(head[24:]))), FD: int(int32(be.Uint32(head[28:])))}
	r.To = Endpoint{PID: int(int32(be.Uint32(head[32:]))), FD: int(int32(be.Uint32(head[36:])))}
	l := layout{head[3]&flagBig != 0, r.Dialect}
	r.Order = l.order()
	if r.Order == nil && head[3]&flagForeign != 0 {
		r.Order = byteOrder(l.big)
	}
	h, _ := l.parse(msg, DefaultMax, true)
	r.Header, r.Payload = h.Header, msg[imsg.HeaderSize:]
	if r.Len < len(msg) || len(r.Payload) > MaxPayload {
		return true, errors.New("the header in front of a message has a wrong length")
	}
	return true, parseFields(r, head[pseudoFixed:])
}

// byteOrder returns the order that has a name.
func byteOrder(big bool) binary.ByteOrder {
	if big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func parseFields(r *Record, p []byte) error {
	be := binary.BigEndian
	for len(p) > 0 {
		if len(p) < 4 || len(p) < 4+int(be.Uint16(p[2:])) {
			return errPseudo
		}
		v := p[4 : 4+int(be.Uint16(p[2:]))]
		switch p[0] {
		case fieldFromExe:
			r.From.Exe = string(v)
		case fieldToExe:
			r.To.Exe = string(v)
		case fieldNote:
			r.Note = string(v)
		case fieldFile:
			f, err := parseFile(v)
			if err != nil {
				return err
			}
			r.Files = append(r.Files, f)
		}
		p = p[4+len(v):]
	}
	return nil
}

func parseFile(p []byte) (f File, err error) {
	be := binary.BigEndian
	if len(p) < 9 {
		return f, errPseudo
	}
	f.From, f.To, f.Lost = int(int32(be.Uint32(p))), int(int32(be.Uint32(p[4:]))), p[8] != 0
	p = p[9:]
	for _, s := range []*string{&f.Kind, &f.Flags, &f.Path} {
		if len(p) < 2 || len(p) < 2+int(be.Uint16(p)) {
			return f, errPseudo
		}
		*s = string(p[2 : 2+int(be.Uint16(p))])
		p = p[2+len(*s):]
	}
	return f, nil
}
