package capture_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
)

func TestOpen(t *testing.T) {
	raw := message(imsg.Current, 1, "one", false)
	text, err := os.ReadFile("testdata/strace/yy-xx.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, in, format string
		n                int
	}{
		{"pcapng", string(write(t, records())), "pcapng", 4},
		{"strace", string(text), "strace", 9},
		{"hex", hex.EncodeToString(raw), "hex", 1},
		{"hex lines", hex.EncodeToString(raw[:8]) + "\n" + hex.EncodeToString(raw[8:]) + "\n", "hex", 1},
		{"raw", string(raw), "raw", 1},
		{"nothing", "", "raw", 0},
	} {
		for _, format := range []string{"auto", tt.format} {
			r, got, err := capture.Open(strings.NewReader(tt.in), format, capture.Options{})
			if err != nil || got != tt.format {
				t.Errorf("%s as %s: %s, %v", tt.name, format, got, err)
				continue
			}
			if rs, err := read(r); err != nil || len(rs) != tt.n {
				t.Errorf("%s as %s: %d records, %v", tt.name, format, len(rs), err)
			}
		}
	}
	for in, want := range map[string]string{"\x1f\x8b\x08": "gunzip", "\xd4\xc3\xb2\xa1\x02": "old pcap"} {
		if _, _, err := capture.Open(strings.NewReader(in), "auto", capture.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, _, err := capture.Open(strings.NewReader(""), "xml", capture.Options{}); err == nil {
		t.Error("format xml: no error")
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("0000: 0201"))
	f.Add([]byte("sendmsg(3, {"))
	f.Add([]byte("\n\r\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if r, _, err := capture.Open(bytes.NewReader(p), "auto", capture.Options{}); err == nil {
			read(r)
		}
	})
}
