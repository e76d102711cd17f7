package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"time"
)

// Numbers of the pcapng format.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockEnhanced  = 6
	byteOrderMagic = 0x1a2b3c4d

	linkUpper = 252 // LINKTYPE_WIRESHARK_UPPER_PDU

	optEnd     = 0
	optComment = 1
	optIfName  = 2
	optFlags   = 2 // of a packet
	optTsresol = 9
	optUserApp = 4 // of a section
)

// A PcapngWriter writes records to a pcapng file, which Wireshark shows with the
// dissector of [Lua]. A channel is an interface whose name is the channel's.
type PcapngWriter struct {
	w      io.Writer
	buf    []byte
	ifaces map[channelKey]uint32
	begun  bool
	err    error

	ends     [2]Endpoint // of the last record
	endsText string
}

type channelKey struct {
	channel int
	name    string
}

// NewPcapngWriter returns a Writer to w. Each record is written by one call, or
// two for the first of a channel, so that what is in a file is readable at any
// time, whatever ends the recording. After an error of w it repeats that error:
// what was written before is good. Wrap w where speed matters more.
func NewPcapngWriter(w io.Writer) *PcapngWriter {
	return &PcapngWriter{w: w, ifaces: map[channelKey]uint32{}}
}

// Write writes r.
func (w *PcapngWriter) Write(r *Record) error {
	if err := w.begin(); err != nil {
		return err
	}
	if len(r.Payload) > MaxPayload {
		return fmt.Errorf("payload of %d bytes, the most is %d", len(r.Payload), MaxPayload)
	}
	id, err := w.iface(r)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	b := w.block(blockEnhanced)
	b = le.AppendUint32(b, id)
	var ts uint64
	if !r.Time.IsZero() {
		ts = uint64(r.Time.UnixNano())
	}
	b = le.AppendUint32(b, uint32(ts>>32))
	b = le.AppendUint32(b, uint32(ts))
	b = le.AppendUint64(b, 0) // lengths
	b = appendMessage(appendPseudo(b, r), r)
	n := uint32(len(b) - 28)
	le.PutUint32(b[20:], n)
	le.PutUint32(b[24:], n+uint32(r.Cut()))
	b = pad(b)
	b = appendOption(b, optComment, w.comment(r))
	if r.Dir != DirUnknown {
		b = le.AppendUint16(b, optFlags)
		b = le.AppendUint16(b, 4)
		b = le.AppendUint32(b, 3-uint32(r.Dir)) // 1 is inbound, 2 outbound
	}
	return w.write(append(b, optEnd, 0, 0, 0))
}

// comment is what Wireshark shows of a packet beside its bytes.
func (w *PcapngWriter) comment(r *Record) string {
	// Formatting costs more than everything else, and most records are between
	// the ends of the one before.
	if ends := [2]Endpoint{r.From, r.To}; w.endsText == "" || ends != w.ends {
		w.ends, w.endsText = ends, fmt.Sprintf("%s -> %s", r.From, r.To)
	}
	c := w.endsText
	if r.Note != "" {
		c += ": " + r.Note
	}
	return short(strings.ToValidUTF8(c, "\uFFFD"), 0)
}

// Close writes what an empty file needs. It does not close the io.Writer.
func (w *PcapngWriter) Close() error { return w.begin() }

func (w *PcapngWriter) begin() error {
	if w.begun || w.err != nil {
		return w.err
	}
	w.begun = true
	le := binary.LittleEndian
	b := w.block(blockSection)
	b = le.AppendUint32(b, byteOrderMagic)
	b = le.AppendUint32(b, 1) // version 1.0
	b = le.AppendUint64(b, 1<<64-1)
	b = appendOption(b, optUserApp, "imsgctl")
	return w.write(append(b, optEnd, 0, 0, 0))
}

// iface returns the number of the interface that r's channel is.
func (w *PcapngWriter) iface(r *Record) (uint32, error) {
	k := channelKey{r.Channel, r.Name}
	if id, ok := w.ifaces[k]; ok {
		return id, nil
	}
	name := r.Name
	if name == "" {
		name = fmt.Sprintf("channel %d", r.Channel)
	}
	le := binary.LittleEndian
	b := w.block(blockInterface)
	b = le.AppendUint32(b, linkUpper)
	b = le.AppendUint32(b, 0) // no limit
	b = appendOption(b, optIfName, short(name, 0))
	b = append(b, optTsresol, 0, 1, 0, 9, 0, 0, 0) // nanoseconds
	id := uint32(len(w.ifaces))
	if err := w.write(append(b, optEnd, 0, 0, 0)); err != nil {
		return 0, err
	}
	w.ifaces[k] = id
	return id, nil
}

// block begins a block.
func (w *PcapngWriter) block(kind uint32) []byte {
	return append(binary.LittleEndian.AppendUint32(w.buf[:0], kind), 0, 0, 0, 0)
}

// write ends a block and writes it.
func (w *PcapngWriter) write(b []byte) error {
	le := binary.LittleEndian
	n := uint32(len(b) + 4)
	le.PutUint32(b[4:], n)
	b = le.AppendUint32(b, n)
	if cap(b) <= 1<<20 { // what a large message needed is not kept
		w.buf = b
	}
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
	return w.err
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendOption(b []byte, code uint16, s string) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return pad(append(b, s...))
}

// A PcapngReader reads the records of a pcapng file: what PcapngWriter wrote.
// Packets of other protocols and blocks of other kinds are passed over.
type PcapngReader struct {
	r      *bufio.Reader
	off    int64
	order  binary.ByteOrder
	ifaces []iface
	buf    []byte
	rec    Record
	found  bool
	others int
	err    error
}

type iface struct {
	name string
	ours bool
	unit uint64 // ticks a second
}

// maxBlock is the largest block of use: a message with as many files as a
// message can carry. Larger ones are passed over.
const maxBlock = MaxPayload + 4<<20

// maxIfaces bounds what a hostile file can make us keep.
const maxIfaces = 1 << 16

// NewPcapngReader returns a Reader of r.
func NewPcapngReader(r io.Reader) *PcapngReader {
	return &PcapngReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next returns the next record, or io.EOF at the end. A file that was cut gives
// all whole records, then an *InputError.
func (r *PcapngReader) Next() (*Record, error) {
	for r.err == nil {
		beg := r.off
		ok, err := r.block()
		if err != nil {
			r.err = err
			if err != io.EOF {
				r.err = &InputError{Offset: beg, Err: err}
			} else if !r.found && r.others > 0 {
				r.err = fmt.Errorf("no imsg in %d packets of other protocols", r.others)
			}
			break
		}
		if ok {
			r.found = true
			return &r.rec, nil
		}
	}
	return nil, r.err
}

// block reads a block; ok says that the record is new.
func (r *PcapngReader) block() (ok bool, err error) {
	var b [12]byte
	if err := r.read(b[:8]); err != nil {
		return false, err
	}
	if binary.LittleEndian.Uint32(b[:]) == blockSection {
		if err := r.read(b[8:]); err != nil {
			return false, cutShort(err)
		}
		return false, r.section(b[:])
	}
	if r.order == nil {
		return false, fmt.Errorf("expected a pcapng section header, got %x", b[:8])
	}
	kind, n := r.order.Uint32(b[:]), int64(r.order.Uint32(b[4:]))
	if n < 12 || n%4 != 0 {
		return false, fmt.Errorf("expected the length of a block, got %d", n)
	}
	n -= 8
	if kind != blockInterface && kind != blockEnhanced || n > maxBlock {
		return false, r.skip(n)
	}
	p, err := r.body(int(n))
	if err != nil {
		return false, err
	}
	if end := r.order.Uint32(p[n-4:]); int64(end) != n+8 {
		return false, fmt.Errorf("expected %d at the end of a block, got %d", n+8, end)
	}
	if p = p[:n-4]; kind == blockInterface {
		return false, r.iface(p)
	}
	return r.packet(p)
}

// section begins a section with the first 12 bytes of its header.
func (r *PcapngReader) section(b []byte) error {
	switch uint32(byteOrderMagic) {
	case binary.LittleEndian.Uint32(b[8:]):
		r.order = binary.LittleEndian
	case binary.BigEndian.Uint32(b[8:]):
		r.order = binary.BigEndian
	default:
		return fmt.Errorf("expected a pcapng byte order, got %x", b[8:])
	}
	n := int64(r.order.Uint32(b[4:]))
	if n < 28 || n%4 != 0 {
		return fmt.Errorf("expected the length of a section header, got %d", n)
	}
	r.ifaces = r.ifaces[:0]
	return r.skip(n - 12)
}

func (r *PcapngReader) iface(p []byte) error {
	if len(p) < 8 || len(r.ifaces) == maxIfaces {
		return errors.New("expected an interface of 8 bytes at least, or there are too many")
	}
	f := iface{ours: r.order.Uint16(p) == linkUpper, unit: 1e6}
	r.options(p[8:], func(code uint16, v []byte) {
		switch {
		case code == optIfName:
			f.name = string(v)
		case code == optTsresol && len(v) == 1 && v[0]>>7 == 0 && v[0] < 19:
			f.unit = 1
			for range v[0] {
				f.unit *= 10
			}
		case code == optTsresol && len(v) == 1 && v[0]>>7 == 1 && v[0]&63 == v[0]&127:
			f.unit = 1 << (v[0] & 63)
		}
	})
	r.ifaces = append(r.ifaces, f)
	return nil
}

// packet makes the record of an enhanced packet block.
func (r *PcapngReader) packet(p []byte) (bool, error) {
	if len(p) < 20 {
		return false, fmt.Errorf("expected a packet of 20 bytes at least, got %d", len(p))
	}
	id, n := r.order.Uint32(p), r.order.Uint32(p[12:])
	if int64(id) >= int64(len(r.ifaces)) {
		return false, fmt.Errorf("expected the number of an interface, of %d, got %d", len(r.ifaces), id)
	}
	if int64(n) > int64(len(p)-20) {
		return false, fmt.Errorf("expected the length of a packet, got %d in a block of %d", n, len(p))
	}
	f := &r.ifaces[id]
	r.rec = Record{Files: r.rec.Files[:0]}
	var flags byte
	ours := f.ours
	if ours {
		var err error
		if ours, err = parsePacket(&r.rec, p[20:20+n], &flags); err != nil {
			return false, err
		}
	}
	if !ours {
		r.others++
		return false, nil
	}
	if flags&flagNoTime == 0 {
		r.rec.Time = f.time(uint64(r.order.Uint32(p[4:]))<<32 | uint64(r.order.Uint32(p[8:])))
	}
	if flags&flagNoName == 0 {
		r.rec.Name = f.name
	}
	return true, nil
}

func (f *iface) time(ts uint64) time.Time {
	hi, lo := bits.Mul64(ts%f.unit, 1e9)
	ns, _ := bits.Div64(hi, lo, f.unit)
	return time.Unix(int64(ts/f.unit), int64(ns))
}

// options calls f for each option in p.
func (r *PcapngReader) options(p []byte, f func(code uint16, v []byte)) {
	for len(p) >= 4 {
		code, n := r.order.Uint16(p), int(r.order.Uint16(p[2:]))
		if p = p[4:]; code == optEnd || n > len(p) {
			return
		}
		f(code, p[:n])
		p = p[min((n+3)&^3, len(p)):]
	}
}

// read fills p; io.EOF means that there was nothing.
func (r *PcapngReader) read(p []byte) error {
	n, err := io.ReadFull(r.r, p)
	r.off += int64(n)
	return err
}

// body reads n bytes of a block: memory grows with what comes, not with n.
func (r *PcapngReader) body(n int) ([]byte, error) {
	const step = 1 << 20
	if cap(r.buf) > step && n <= step {
		r.buf = nil
	}
	p := r.buf[:0]
	for len(p) < n {
		m := min(n-len(p), step)
		if cap(p)-len(p) < m {
			p = append(p, make([]byte, m)...)[:len(p)]
		}
		p = p[:len(p)+m]
		if err := r.read(p[len(p)-m:]); err != nil {
			return nil, cutShort(err)
		}
	}
	r.buf = p
	return p, nil
}

func (r *PcapngReader) skip(n int64) error {
	m, err := io.CopyN(io.Discard, r.r, n)
	r.off += m
	return cutShort(err)
}

// cutShort turns the end of the input inside of something into an error.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

var (
	_ Writer = (*PcapngWriter)(nil)
	_ Reader = (*PcapngReader)(nil)
)
