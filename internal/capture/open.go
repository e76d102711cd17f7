package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Formats are the names of those that Open knows.
func Formats() []string { return []string{"pcapng", "strace", "hex", "raw"} }

// Open returns a Reader of r, and the name of its format. With "auto" the first
// bytes tell; of a raw stream and of hex that is one direction of a channel. An
// input that holds nothing is an empty raw stream.
func Open(r io.Reader, format string, o Options) (Reader, string, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if format == "auto" {
		if _, err := b.Peek(1); err != nil && err != io.EOF {
			return nil, "", err
		}
		p, _ := b.Peek(min(b.Buffered(), 4<<10)) // what has come: a pipe can be slow
		if len(p) < 4 {
			p, _ = b.Peek(4)
		}
		var err error
		if format, err = detect(p); err != nil {
			return nil, "", err
		}
	}
	switch format {
	case "pcapng":
		return NewPcapngReader(b), format, nil
	case "strace":
		return NewStraceReader(b, o), format, nil
	case "hex":
		return NewRawReader(NewHexReader(b), o), format, nil
	case "raw":
		return NewRawReader(b, o), format, nil
	}
	return nil, "", fmt.Errorf("format %q: one of auto, %s", format, strings.Join(Formats(), ", "))
}

// detect tells the format of what begins with p.
func detect(p []byte) (string, error) {
	for magic, what := range map[string]string{
		"\xd4\xc3\xb2\xa1": "an old pcap file: editcap -F pcapng makes a new one",
		"\xa1\xb2\xc3\xd4": "an old pcap file: editcap -F pcapng makes a new one",
		"\x1f\x8b":         "a compressed file: gunzip it first",
		"\x28\xb5\x2f\xfd": "a compressed file: unzstd it first",
		"\xfd7zX":          "a compressed file: unxz it first",
	} {
		if strings.HasPrefix(string(p), magic) {
			return "", errors.New(what)
		}
	}
	switch {
	case bytes.HasPrefix(p, []byte("\n\r\r\n")):
		return "pcapng", nil
	case slices.ContainsFunc(p, func(c byte) bool { return c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != 27 || c == 127 }), len(p) == 0:
		return "raw", nil
	}
	// A text: its first lines are hex, or they are not.
	if i := bytes.LastIndexByte(p, '\n'); i >= 0 {
		p = p[:i]
	} else {
		p = p[:len(p)&^1]
	}
	if n, err := io.Copy(io.Discard, NewHexReader(bytes.NewReader(p))); err == nil && n > 0 {
		return "hex", nil
	}
	return "strace", nil
}
