package tmux

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestTypeName(t *testing.T) {
	for typ, want := range map[uint32]string{12: "VERSION", 111: "IDENTIFY_LONGFLAGS", 200: "COMMAND", 210: "SHUTDOWN", 308: "WRITE_DONE", 1: ""} {
		if got := TypeName(typ); got != want {
			t.Errorf("TypeName(%d) = %q, want %q", typ, got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		typ    uint32
		p      []byte
		number [3]int32
		data   string
	}{
		{msgExit, nil, [3]int32{}, ""},
		{msgExit, encode(int32(7)), [3]int32{7}, ""},
		{msgExit, encode(int32(7), "why"), [3]int32{7}, "why"},
		{msgReadOpen, encode(int32(3), int32(-1), "/file"), [3]int32{3, -1}, "/file"},
		{msgWriteOpen, encode(int32(1), int32(1), int32(0)), [3]int32{1, 1}, ""},
		{msgWriteOpen, encode(int32(4), int32(1), int32(2), "-"), [3]int32{4, 1, 2}, "-"},
		{msgWrite, encode(int32(4), []byte("a\x00b")), [3]int32{4}, "a\x00b"},
		{msgDetach, []byte("session\x00"), [3]int32{}, "session"},
	} {
		m, known, err := decode(tt.typ, tt.p)
		if !known || err != nil || m.number != tt.number || string(m.data) != tt.data {
			t.Errorf("%s % x: %v %q, %v, %v", TypeName(tt.typ), tt.p, m.number, m.data, known, err)
		}
	}
	for _, tt := range []struct {
		typ uint32
		p   []byte
	}{
		{msgVersion, []byte{1}},
		{msgExit, []byte{1, 2, 3}},
		{msgExit, append(encode(int32(1)), "no NUL"...)},
		{msgExited, []byte{0}},
		{msgDetach, []byte("no NUL")},
		{msgFlags, encode(int32(1))},
		{msgReadOpen, encode(int32(1), int32(1))},
		{msgWriteOpen, encode(int32(1), int32(1))},
		{msgWrite, nil},
		{msgWriteClose, encode(int32(1), int32(1))},
		{msgReadCancel, nil},
	} {
		_, known, err := decode(tt.typ, tt.p)
		var bad *PayloadError
		if !known || !errors.As(err, &bad) || bad.Size != len(tt.p) || !strings.Contains(err.Error(), TypeName(tt.typ)) {
			t.Errorf("%s % x: %v, %v", TypeName(tt.typ), tt.p, known, err)
		}
	}
	if _, known, err := decode(msgIdentifyDone, nil); known || err != nil {
		t.Errorf("a message that only clients send: %v, %v", known, err)
	}
}

// Decoding never fails otherwise than with an error, and what it returns is a
// part of the payload.
func FuzzDecode(f *testing.F) {
	f.Add(uint32(msgExit), encode(int32(1), "server exited"))
	f.Add(uint32(msgWriteOpen), encode(int32(4), int32(-1), int32(577), "/tmp/file"))
	f.Add(uint32(msgReadOpen), encode(int32(3), int32(0), "-"))
	f.Add(uint32(msgWrite), encode(int32(1), []byte("output")))
	f.Add(uint32(msgDetach), []byte("session\x00"))
	f.Add(uint32(msgFlags), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, typ uint32, p []byte) {
		m, known, err := decode(typ, p)
		if err != nil && (!known || m.data != nil || err.Error() == "") {
			t.Errorf("%+v, %v, %v", m, known, err)
		}
		if !bytes.Contains(p, m.data) {
			t.Errorf("% x is no part of % x", m.data, p)
		}
	})
}
