package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
	"example.org/imsg/internal/capture"
)

func TestMain(m *testing.M) {
	if os.Getenv("IMSG_STRACE_CHILD") != "" {
		if err := talk(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	imsgtest.Main(m)
}

// strace reads a text, and returns the lines of its records.
func strace(text string) (got, warnings []string, err error) {
	rs, err := read(capture.NewStraceReader(strings.NewReader(text), capture.Options{Warn: func(s string) { warnings = append(warnings, s) }}))
	for _, r := range rs {
		got = append(got, line(r))
	}
	return got, warnings, err
}

// TestStraceFiles reads what strace 6.1 printed of "imsgctl demo", in several
// ways, and compares with FILE.want.
func TestStraceFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/strace/*.txt")
	if len(files) < 4 {
		t.Fatalf("files %q", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, warnings, err := strace(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		out := strings.Join(append(got, warnings...), "\n") + "\n"
		want, err := os.ReadFile(strings.TrimSuffix(file, "txt") + "want")
		if os.Getenv("IMSG_UPDATE") != "" {
			err = os.WriteFile(strings.TrimSuffix(file, "txt")+"want", []byte(out), 0o666)
			want = []byte(out)
		}
		if err != nil || out != string(want) {
			t.Errorf("%s: %v\ngot\n%s\nwant\n%s", file, err, out, want)
		}
	}
}

func TestStraceLines(t *testing.T) {
	const hdr = `\1\0\0\0\23\0\0\0\7\0\0\0\222\20\0\0`
	const two = `\2\0\0\0\20\0\0\0\7\0\0\0\222\20\0\0`
	one := `1 0>0 type 1 len 19 "one"`
	tests := []struct {
		name, text string
		want       []string
	}{
		{"bare", `sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="` + hdr + `one", iov_len=19}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 19`, []string{one}},
		{"sent in part", `sendmsg(3, {msg_iov=[{iov_base="` + hdr + `", iov_len=16}, {iov_base="one", iov_len=3}], msg_iovlen=2}, 0) = 17` + "\n" +
			`write(3, "ne", 2) = 2`, []string{one}},
		{"an abbreviated iovec", `sendmsg(3, {msg_iov=[{iov_base="` + hdr + `", iov_len=16}, ...], msg_iovlen=2}, 0) = 19`,
			[]string{`1 0>0 type 1 len 19 "" (3 bytes of the payload cut by strace -s)`}},
		{"an address", `sendmsg(3, {msg_iov=[{iov_base="` + hdr + `", iov_len=16}, {iov_base=0x7ffe12345678, iov_len=3}], msg_iovlen=2}, 0) = 19`,
			[]string{`1 0>0 type 1 len 19 "" (3 bytes of the payload cut by strace -s)`}},
		{"a name in the way", `sendto(3, "` + hdr + `one", 19, 0, {sa_family=AF_UNIX, sun_path="/x\"<->"}, 10) = 19`, []string{one}},
		{"an annotation with everything", `12 sendto(3<UNIX-STREAM:[5->6,"/x\">]<y"]>, "` + hdr + `one", 19, MSG_NOSIGNAL, NULL, 0) = 19`, []string{`1 12>0 type 1 len 19 "one" in`}},
		{"a file is no socket", `write(3, "` + hdr + `one", 19) = 19` + "\n" + `sendmsg(4, {msg_iov=[{iov_base="` + two + `", iov_len=16}]}, 0) = 16`, []string{`1 0>0 type 2 len 16 ""`}},
		{"a file is none by its name", `write(3</tmp/x>, "` + hdr + `one", 19) = 19` + "\n" + `sendmsg(4, {msg_iov=[{iov_base="` + two + `", iov_len=16}]}, 0) = 16`, []string{`1 0>0 type 2 len 16 ""`}},
		{"sendmmsg in part", `sendmmsg(3, [{msg_hdr={msg_iov=[{iov_base="` + hdr + `one", iov_len=19}], msg_iovlen=1}, msg_len=19}, {msg_hdr={msg_iov=[{iov_base="` + two + `", iov_len=16}], msg_iovlen=1}}], 2, 0) = 1`, []string{one}},
		{"sendmmsg", `sendmmsg(3, [{msg_hdr={msg_iov=[{iov_base="` + hdr + `one", iov_len=19}], msg_iovlen=1}, msg_len=19}, {msg_hdr={msg_iov=[{iov_base="` + two + `", iov_len=16}], msg_iovlen=1}, msg_len=16}], 2, 0) = 2`,
			[]string{one, `1 0>0 type 2 len 16 ""`}},
		{"readv", `recvmsg(3, {}, 0) = -1 EAGAIN (Resource temporarily unavailable)` + "\n" + `readv(3<socket:[7]>, [{iov_base="` + hdr + `", iov_len=16}, {iov_base="one", iov_len=100}], 2) = 19`, []string{one + " in"}},
		{"two ends", `1700000000.000100 sendto(3<UNIX:[5->6]>, "` + hdr + `one", 19, 0, NULL, 0) = 19` + "\n" + `1700000000.000300 recvfrom(4<UNIX:[6->5]>, "` + hdr + `one", 100, 0, NULL, NULL) = 19 <0.000100>`,
			[]string{one + " waited 300µs"}},
		{"a program", `7 execve("/usr/sbin/bgpd", ["bgpd"], 0x7ff /* 9 vars */) = 0` + "\n" + `7 sendto(3, "` + hdr + `one", 19, 0, NULL, 0) = 19`, []string{`1 7>0 type 1 len 19 "one"`}},
		{"a descriptor used again", `sendto(3, "` + hdr + `one", 19, 0, NULL, 0) = 19` + "\nclose(3) = 0\n" + `sendto(3, "` + two + `", 16, 0, NULL, 0) = 16`, []string{one, `2 0>0 type 2 len 16 ""`}},
		{"unfinished", "[pid 1] recvfrom(3,  <unfinished ...>\n" + `[pid 2] sendto(3, "` + hdr + `one", 19, 0, NULL, 0) = 19` + "\n" + `[pid 1] <... recvfrom resumed>"` + two + `", 100, 0, NULL, NULL) = 16`,
			[]string{`1 2>0 type 1 len 19 "one"`, `2 0>1 type 2 len 16 "" in`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, warnings, err := strace(tt.text); !slices.Equal(got, tt.want) || err != nil {
				t.Errorf("%v, %q, got\n%s\nwant\n%s", err, warnings, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
	if _, _, err := strace("just a text\nof two lines\n"); err == nil || !strings.Contains(err.Error(), "line 3: expected calls") {
		t.Errorf("no strace: %v", err)
	}
	if _, warnings, _ := strace(`recvmsg(3, {msg_iov=[{iov_base="` + hdr + `one` + `"..., iov_len=65535}]}, 0) = 100`); len(warnings) != 1 || !strings.Contains(warnings[0], "81 bytes are left out") {
		t.Errorf("headers cut: %q", warnings)
	}
}

// talk is the program that TestStrace traces: both ends of a channel.
func talk() error {
	a, b, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	if err := errors.Join(a.Send(ctx, imsg.Header{Type: 1, ID: 7}, nil, []byte("one \x00\xff\"\\\n1")), a.Send(ctx, imsg.Header{Type: 2, ID: 0}, f, []byte("file")), a.Send(ctx, imsg.Header{Type: 3, ID: 0}, nil, nil)); err != nil {
		return err
	}
	for range 3 {
		m, err := b.Receive(ctx)
		if err != nil {
			return err
		}
		m.Close()
	}
	return errors.Join(b.Send(ctx, imsg.Header{Type: 4, ID: 0}, nil, bytes.Repeat([]byte("x"), 10000)), a.Close(), b.Close())
}

// TestStrace traces a program, in the ways that people do.
func TestStrace(t *testing.T) {
	prog, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace: apt-get install strace")
	}
	for _, args := range []string{"-f -ttt -yy -xx -s 70000", "-f -yy -s 70000", "-f -tt -T -yy -x -s 70000", "-f -y -s 70000 -e trace=!futex"} {
		out := filepath.Join(t.TempDir(), "out")
		cmd := exec.Command(prog, append(strings.Fields(args), "-o", out, os.Args[0])...)
		cmd.Env = append(os.Environ(), "IMSG_STRACE_CHILD=1")
		if msg, err := cmd.CombinedOutput(); err != nil {
			if bytes.Contains(msg, []byte("not permitted")) {
				t.Skipf("cannot trace here: %s", msg)
			}
			t.Fatalf("strace %s: %v\n%s", args, err, msg)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, warnings, err := strace(string(text))
		both := strings.Contains(args, "-yy")
		want := []string{`type 1 len 26 "one \x00\xff\"\\\n1"`, `type 2 len 20 "file"`, `type 3 len 16 ""`, `type 4 len 10016`}
		if n := len(want); err != nil || len(warnings) > 0 || both && len(got) != n || !both && len(got) != 2*n-1 {
			t.Errorf("strace %s: %v, %q\n%s", args, err, warnings, strings.Join(got, "\n"))
			continue
		}
		for i, w := range want {
			if s := strings.Join(got, "\n"); !strings.Contains(s, w) {
				t.Errorf("strace %s: no message %d %s\n%s", args, i, w, s)
			}
		}
		if both && (!strings.Contains(got[1], "/dev/null") || strings.Contains(got[1], "lost")) {
			t.Errorf("strace %s: the file: %s", args, got[1])
		}
		if strings.Contains(args, "-ttt") && strings.Count(strings.Join(got, "\n"), "waited") != len(want)-1 {
			t.Errorf("strace %s: times\n%s", args, strings.Join(got, "\n"))
		}
	}
}

func FuzzStrace(f *testing.F) {
	files, _ := filepath.Glob("testdata/strace/*.txt")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		f.Add(text[:min(len(text), 4000)])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r := capture.NewStraceReader(bytes.NewReader(p), capture.Options{Warn: func(string) {}})
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	})
}

// BenchmarkDecodeStrace reads what strace -xx -yy printed of both ends of a
// channel.
func BenchmarkDecodeStrace(b *testing.B) {
	for _, n := range []int{64, 1024, 16384} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			msg := message(imsg.Current, 5, strings.Repeat("x", n-imsg.HeaderSize), false)
			hex := ""
			for _, c := range msg {
				hex += fmt.Sprintf(`\x%02x`, c)
			}
			var text bytes.Buffer
			for i := 0; text.Len() < 8<<20; i++ {
				fmt.Fprintf(&text, `27238 %d.177660 sendmsg(3<UNIX-STREAM:[37744549->37744548]>, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="%s", iov_len=%d}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, MSG_DONTWAIT|MSG_NOSIGNAL) = %d`+"\n", 1700000000+i, hex, n, n)
				fmt.Fprintf(&text, `27226 %d.178008 recvmsg(7<UNIX-STREAM:[37744548->37744549]>, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="%s", iov_len=65536}], msg_iovlen=1, msg_controllen=0, msg_flags=MSG_CMSG_CLOEXEC}, MSG_DONTWAIT|MSG_CMSG_CLOEXEC) = %d`+"\n", 1700000000+i, hex, n)
			}
			b.SetBytes(int64(text.Len()))
			for b.Loop() {
				r := capture.NewStraceReader(bytes.NewReader(text.Bytes()), capture.Options{})
				for {
					if _, err := r.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
