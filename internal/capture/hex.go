package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine is the longest line of a hexdump.
const maxLine = 4 << 20

// A HexReader reads the bytes that a hexdump shows: plain hex, with or without
// spaces, colons, commas, 0x and \x, and what xxd, hexdump -C, od -tx1 (with -Ax
// or -An, too) and Wireshark print. Lines that say that others repeat ("*") are
// followed.
type HexReader struct {
	in     *bufio.Scanner
	line   int
	buf    []byte // decoded, not read
	last   []byte // line, for "*"
	repeat bool
	off    int64 // of what was decoded
	base   int   // of the offsets in front of lines: 0 is not known, 1 means that there are none
	err    error
}

// NewHexReader returns a reader of the bytes that r shows. Its errors are
// *InputErrors with the line.
func NewHexReader(r io.Reader) *HexReader {
	h := &HexReader{in: bufio.NewScanner(r)}
	h.in.Buffer(make([]byte, 64<<10), maxLine)
	return h
}

// Read is that of io.Reader.
func (h *HexReader) Read(p []byte) (int, error) {
	for len(h.buf) == 0 {
		if h.err != nil {
			return 0, h.err
		}
		h.next()
	}
	n := copy(p, h.buf)
	h.buf = h.buf[n:]
	return n, nil
}

// next decodes the next line.
func (h *HexReader) next() {
	if !h.in.Scan() {
		switch err := h.in.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			h.err = &InputError{Line: h.line + 1, Err: fmt.Errorf("expected a hexdump, got a line of more than %d bytes", maxLine)}
		case err != nil:
			h.err = &InputError{Line: h.line + 1, Err: err}
		case h.repeat:
			h.err = &InputError{Line: h.line, Err: errors.New(`expected an offset behind "*", got the end`)}
		default:
			h.err = io.EOF
		}
		return
	}
	h.line++
	if err := h.decode(strings.TrimRight(h.in.Text(), " \t\r")); err != nil {
		h.err = &InputError{Line: h.line, Err: err}
	}
}

func (h *HexReader) decode(line string) error {
	s := strings.TrimLeft(line, " \t")
	switch {
	case s == "" || s[0] == '#':
		return nil
	case s == "*" && len(h.last) > 0:
		h.repeat = true
		return nil
	case s == "*":
		return errors.New(`expected bytes, got "*": no offsets say how many lines were left out (od -v shows all)`)
	}
	off, s, err := h.offset(s)
	if err != nil {
		return err
	}
	h.buf = h.buf[:0]
	if off >= 0 {
		if n := int64(len(h.last)); h.repeat {
			if off < h.off || (off-h.off)%n != 0 || off-h.off > MaxPayload {
				return fmt.Errorf("expected an offset behind repeated lines of %d bytes, got %#x after %#x", n, off, h.off)
			}
			h.buf = bytes.Repeat(h.last, int((off-h.off)/n))
			h.off, h.repeat = off, false
		}
		if off != h.off {
			return fmt.Errorf("expected the offset %#x, got %#x", h.off, off)
		}
		s = withoutText(s)
	}
	b, err := parseHex(s)
	if err != nil {
		return err
	}
	if off >= 0 {
		h.last = b
	}
	h.off += int64(len(b))
	h.buf = append(h.buf, b...)
	return nil
}

// offset splits the number in front of a line off, if it has one: -1 is none.
// The first line decides: there it is 0.
func (h *HexReader) offset(s string) (int64, string, error) {
	word, rest, _ := strings.Cut(s, " ")
	if h.base == 0 {
		h.base = 1
		digits := strings.TrimSuffix(word, ":")
		group, _, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
		if strings.Trim(digits, "0") == "" && len(digits) > 2 && (digits != word || len(group) == 2) {
			h.base = 16
			if len(word) == 7 {
				h.base = 8 // od without -Ax
			}
		}
	}
	if h.base == 1 {
		return -1, s, nil
	}
	word = strings.TrimSuffix(word, ":")
	off := int64(0)
	for i := range len(word) {
		d := digit(word[i])
		if d < 0 || d >= h.base || i > 14 {
			return 0, "", fmt.Errorf("expected an offset in base %d, got %q", h.base, clip(word))
		}
		off = off*int64(h.base) + int64(d)
	}
	return off, rest, nil
}

// parseHex decodes the bytes of a line.
func parseHex(s string) ([]byte, error) {
	b := make([]byte, 0, len(s)/2)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case strings.IndexByte(" \t:,;{}\"", c) >= 0:
			i++
		case (c == '0' || c == '\\') && i+1 < len(s) && (s[i+1] == 'x' || s[i+1] == 'X'):
			i += 2
		case digit(c) < 0 || i+1 == len(s) || digit(s[i+1]) < 0:
			return nil, fmt.Errorf("expected two hex digits, got %q", clip(s[i:]))
		default:
			b = append(b, byte(digit(c)<<4|digit(s[i+1])))
			i += 2
		}
	}
	return b, nil
}

// withoutText cuts the column of text off a line whose offset is cut off.
func withoutText(s string) string {
	s, _, _ = strings.Cut(s, "|") // hexdump -C
	s, _, _ = strings.Cut(s, ">") // od -tx1z
	s = strings.TrimLeft(s, " \t")
	digits := 0
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && digit(s[j]) >= 0 {
			j++
		}
		digits += j - i
		k := j
		for k < len(s) && (s[k] == ' ' || s[k] == '\t') {
			k++
		}
		switch {
		case j == i, k == j && j < len(s): // no group
			return s[:i]
		case k-j > 2, k-j == 2 && digits != 16:
			// Two spaces are in the middle of hexdump -C's lines of 16
			// bytes, and in front of xxd's text.
			return s[:j]
		}
		i = k
	}
	return s
}

// digit returns the value of a hex digit, or -1.
func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// clip shortens what an error shows.
func clip(s string) string {
	if len(s) > 20 {
		return s[:20] + "..."
	}
	return s
}
