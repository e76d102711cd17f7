package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/testutil"
)

// show runs records through an output with flags that set fills.
func show(t *testing.T, set func(*outputFlags), records ...*capture.Record) string {
	t.Helper()
	var out, errs bytes.Buffer
	flags := outputFlags{profile: "auto", color: "never"}
	if set != nil {
		set(&flags)
	}
	o, err := flags.open(t.Context(), &app{stdout: &out, stderr: &errs})
	testutil.Must(t, err)
	for _, r := range records {
		testutil.Must(t, o.Write(r))
	}
	testutil.Must(t, o.Close())
	if errs.Len() > 0 {
		t.Errorf("stderr: %s", &errs)
	}
	return out.String()
}

var exit = capture.Record{
	Time: time.Unix(1700000000, 123456789), Wait: 12 * time.Microsecond, Channel: 2, Name: "/tmp/tmux-0/default", Dir: capture.DirIn,
	From: capture.Endpoint{PID: 12, Exe: "/usr/bin/tmux", FD: 6}, To: capture.Endpoint{PID: 13, Exe: "/usr/bin/tmux", FD: 5},
	Header: imsg.Header{Type: 203, ID: 8, PID: -1}, Dialect: capture.Legacy, Len: 22, Payload: []byte("hi\x1b[2J"),
	Marked: true, Files: []capture.File{{From: 7, To: -1, Kind: "pipe", Path: "pipe:[99]", Flags: "wronly"}}, Note: "a\nnote",
}

func TestText(t *testing.T) {
	time.Local = time.UTC
	bare := &capture.Record{Header: imsg.Header{Type: 7}, Len: 24, Payload: []byte("plain\n\x00\x00")}
	lost := &capture.Record{Dir: capture.DirOut, To: capture.Endpoint{PID: 5}, Header: imsg.Header{Type: 8, ID: 1, PID: 4}, Len: 20, Marked: true}
	evil := &capture.Record{Header: imsg.Header{Type: 1}, Len: 20, Payload: []byte("\x9b2J\n"), Channel: 1, Name: "/a\x1b[2J",
		From: capture.Endpoint{Exe: "/\u202eb c", PID: 1}, Files: []capture.File{{From: -1, To: 3, Kind: "k\x07", Path: "\x80", Flags: "f\x1b", Lost: true}}}
	for _, tt := range []struct {
		name string
		set  func(*outputFlags)
		r    *capture.Record
		want string
	}{
		{"all", nil, &exit, "22:13:20.123456 tmux[12] -> tmux[13] EXIT id 8 pid -1 len 22 legacy #2 /tmp/tmux-0/default + pipe pipe:[99] wronly (a\\nnote)\n"},
		{"bare", nil, bare, "- 7 id 0 pid 0 len 24 \"plain\\n\"\n"},
		{"lost", nil, lost, "client -> [5] 8 id 1 pid 4 len 20 + a file that was not seen\n"},
		{"evil", nil, evil, `"\u202eb c"[1] -> ? 1 id 0 pid 0 len 20 #1 "/a\x1b[2J" + k\a "\x80" f\x1b LOST` + "\n"},
		{"verbose", func(o *outputFlags) { o.verbose = true }, &exit, "22:13:20.123456 tmux[12] -> tmux[13] EXIT id 8 pid -1 len 22 legacy #2 /tmp/tmux-0/default" +
			" + pipe pipe:[99] wronly 7->? waited 12µs (a\\nnote)\n    (6 bytes are no exit of 4, exit_message of 4 or more)\n    00000000  68 69 1b 5b 32 4a                                 |hi.[2J|\n"},
		{"color", func(o *outputFlags) { o.color = "always" }, bare, "- \x1b[1;36m7\x1b[0m id 0 pid 0 len 24 \"plain\\n\"\n"},
		{"no profile", func(o *outputFlags) { o.profile = "none" }, bare, "- 7 id 0 pid 0 len 24 \"plain\\n\"\n"},
		{"as send", func(o *outputFlags) { o.asSend = true }, &exit, "imsgctl send --profile tmux --id 8 --pid -1 --dialect legacy /tmp/tmux-0/default EXIT hex:68691b5b324a  # its file has no path: pipe pipe:[99]\n"},
		{"as send, evil", func(o *outputFlags) { o.asSend = true }, evil, `imsgctl send --pid 0 $'/a\x1b[2J' 1 hex:9b324a0a  # its file has no path: k\a \x80` + "\n"},
	} {
		if got := show(t, tt.set, tt.r); got != tt.want {
			t.Errorf("%s:\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}

func TestSendFile(t *testing.T) {
	for flags, want := range map[string]string{"rdonly|cloexec": "--file /a s 0\n", "rdwr": "--file /a --rw s 0\n", "": "--file /a s 0\n"} {
		r := &capture.Record{Len: 16, Name: "s", Files: []capture.File{{Path: "/a", Flags: flags}}}
		if got := show(t, func(o *outputFlags) { o.asSend = true }, r); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", flags, got, want)
		}
	}
}

// TestSendTooLong shows that a command that no shell could start says so.
func TestSendTooLong(t *testing.T) {
	r := &capture.Record{Len: 1<<16 + 16, Name: "s", Payload: make([]byte, 1<<16)}
	got := show(t, func(o *outputFlags) { o.asSend = true }, r)
	if _, note, _ := strings.Cut(got, "  # "); note != "it is long for a command line: put the bytes into a file, and @FILE here\n" {
		t.Errorf("%.40q... %q", got, note)
	}
}

// TestColumns shows that columns are aligned, and grow, and that the socket of
// a channel is told once.
func TestColumns(t *testing.T) {
	a, b := exit, exit
	a.From.PID, b.Header.Type, b.Files, b.Note = 1234, 200, nil, ""
	lines := strings.Split(show(t, nil, &a, &b), "\n")
	if !strings.Contains(lines[0], "tmux[1234] -> tmux[13] EXIT id 8") || !strings.Contains(lines[1], "tmux[12] -> tmux[13]   COMMAND id 8") ||
		strings.Contains(lines[1], "/tmp") {
		t.Errorf("%q", lines)
	}
}

func TestJSON(t *testing.T) {
	asJSON := func(o *outputFlags) { o.json = true }
	evil := exit
	evil.Note, evil.Order = "\u202e\u009b\x7f<&>\U0001f600", binary.BigEndian
	line := show(t, asJSON, &evil)
	for _, b := range []byte(strings.TrimSuffix(line, "\n")) {
		if b < ' ' || b > '~' {
			t.Fatalf("byte %#x in %q", b, line)
		}
	}
	var got struct {
		Time, Wait, Channel int64
		Dir, Name, Note     string
		Payload, Order      string
		From, To            struct{ PID, FD int }
		Files               []struct {
			Kind, Path, Flags string
			From, To          *int
		}
		Type, ID, PID, Len int64
		Dialect, Profile   string
		Marked             bool
	}
	testutil.Must(t, json.Unmarshal([]byte(line), &got))
	if got.Time != 1700000000123456789 || got.Wait != 12000 || got.Dir != "in" || got.Name != "EXIT" || got.Note != evil.Note || got.Payload != "68691b5b324a" ||
		got.Order != "big" || got.From.PID != 12 || got.To.FD != 5 || len(got.Files) != 1 || *got.Files[0].From != 7 || got.Files[0].To != nil ||
		got.Type != 203 || got.ID != 8 || got.PID != -1 || got.Len != 22 || got.Dialect != "legacy" || got.Profile != "tmux" || !got.Marked {
		t.Errorf("%s is %+v", line, got)
	}
	want := `{"type":7,"id":0,"pid":0,"len":16,"dialect":"either","order":"` + orderName(nil) + `","marked":false,"payload":""}` + "\n"
	if got := show(t, asJSON, &capture.Record{Header: imsg.Header{Type: 7}, Len: 16}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestOutputFlags(t *testing.T) {
	for _, set := range []func(*outputFlags){
		func(o *outputFlags) { o.color = "blue" },
		func(o *outputFlags) { o.profile = "frob" },
		func(o *outputFlags) { o.filter = "type" },
		func(o *outputFlags) { o.json, o.asSend = true, true },
	} {
		flags := outputFlags{profile: "auto", color: "never"}
		set(&flags)
		if _, err := flags.open(t.Context(), &app{}); !errors.As(err, new(usageError)) {
			t.Errorf("%+v: %v", flags, err)
		}
	}
}

func TestSummary(t *testing.T) {
	var out, errs bytes.Buffer
	flags := outputFlags{profile: "auto", color: "auto", filter: "type == EXIT"}
	o, err := flags.open(t.Context(), &app{stdout: &out, stderr: &errs, running: "trace"})
	testutil.Must(t, err)
	o.summary = true
	for _, r := range []*capture.Record{&exit, &exit, {Channel: 3}} {
		testutil.Must(t, o.Write(r))
	}
	testutil.Must(t, o.Flush())
	if strings.Count(out.String(), "\n") != 2 {
		t.Errorf("after Flush: %q", out.String())
	}
	testutil.Must(t, o.Close())
	if want := "imsgctl: trace: 2 messages (of 3), 2 files on 1 channel\n"; errs.String() != want {
		t.Errorf("%q, want %q", errs.String(), want)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A FIFO is written to when somebody reads it: who does not want to wait ends it.
func TestRecordToFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	testutil.Must(t, unix.Mkfifo(path, 0o600))
	flags := outputFlags{profile: "auto", color: "auto", write: path}
	open := func(said func()) (*output, error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		return flags.open(ctx, &app{stdout: io.Discard, running: "trace", stderr: writerFunc(func(p []byte) (int, error) {
			if want := "imsgctl: trace: --write " + path + ": waiting for who reads the FIFO\n"; string(p) != want {
				t.Errorf("%q, want %q", p, want)
			}
			if said != nil {
				said()
			} else {
				cancel(io.ErrClosedPipe)
			}
			return len(p), nil
		})})
	}
	if _, err := open(nil); !errors.Is(err, io.ErrClosedPipe) || !strings.Contains(err.Error(), "nobody has read the FIFO") {
		t.Error(err)
	}
	var reader *os.File
	o, err := open(func() {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		testutil.Must(t, err)
		reader = f
	})
	testutil.Must(t, err)
	defer reader.Close()
	testutil.Must(t, o.Write(&exit))
	testutil.Must(t, o.Close())
	if all, err := io.ReadAll(reader); err != nil || len(all) < 100 {
		t.Errorf("read %d bytes, %v", len(all), err)
	}
}

// BenchmarkOutput is one message, as text or JSON, to nowhere.
func BenchmarkOutput(b *testing.B) {
	for name, flags := range map[string]outputFlags{
		"text":   {profile: "auto", color: "never"},
		"color":  {profile: "auto", color: "always"},
		"filter": {profile: "auto", color: "never", filter: "type == EXIT and size > 0x10 or file"},
		"json":   {profile: "auto", color: "never", json: true},
	} {
		b.Run(name, func(b *testing.B) {
			o, err := flags.open(b.Context(), &app{stdout: io.Discard})
			testutil.Must(b, err)
			r := exit
			r.Files, r.Marked, r.Note = nil, false, ""
			for b.Loop() {
				testutil.Must(b, o.Write(&r))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
