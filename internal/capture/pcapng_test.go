package capture_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/pcapgo"
)

// foreign is the byte order that this machine does not have.
var foreign = func() binary.ByteOrder {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}()

// records have every field, and every kind of value in it.
func records() []*capture.Record {
	return []*capture.Record{
		{
			Time: time.Unix(1700000000, 123456789), Wait: 12345, Channel: 3, Name: "/var/run/bgpd.sock", Dir: capture.DirOut,
			From: capture.Endpoint{PID: 12, Exe: "/usr/sbin/bgpctl", FD: 3}, To: capture.Endpoint{PID: 13, Exe: "/usr/sbin/bgpd", FD: 14},
			Header: imsg.Header{Type: 258, ID: 0xfffffffe, PID: -1}, Dialect: capture.Current, Len: 22, Payload: []byte("secret"), Marked: true,
			Files: []capture.File{
				{From: 4, To: 9, Kind: "file", Path: "/etc/passwd", Flags: "rdwr|append"},
				{From: -1, To: -1, Lost: true},
			},
			Note: "a note",
		},
		{Wait: -1, Header: imsg.Header{Type: 1}, Len: 16, Payload: []byte{}},
		{Wait: 0, Channel: 4, Dir: capture.DirIn, Header: imsg.Header{Type: 2, PID: 99}, Dialect: capture.Legacy, Order: foreign, Len: 100, Payload: []byte("cut"), Marked: true},
		{Wait: -1, Channel: 4, Header: imsg.Header{Type: 3}, Dialect: capture.Current, Order: foreign, Len: 17, Payload: []byte("\xff"), Name: "a name with \xff bytes"},
	}
}

func write(t testing.TB, rs []*capture.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := capture.NewPcapngWriter(&b)
	for _, r := range rs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read returns copies of all records, and the error that is not io.EOF.
func read(r capture.Reader) (rs []*capture.Record, err error) {
	for {
		x, err := r.Next()
		if err == io.EOF {
			return rs, nil
		} else if err != nil {
			return rs, err
		}
		y := *x
		y.Payload = bytes.Clone(x.Payload)
		y.Files = append([]capture.File(nil), x.Files...)
		rs = append(rs, &y)
	}
}

func same(t *testing.T, got, want []*capture.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := *got[i], *want[i]
		if !g.Time.Equal(w.Time) || g.Time.IsZero() != w.Time.IsZero() {
			t.Errorf("record %d: time %v, want %v", i, g.Time, w.Time)
		}
		g.Time, w.Time = time.Time{}, time.Time{}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("record %d:\n%+v\nwant\n%+v", i, g, w)
		}
	}
}

func TestPcapng(t *testing.T) {
	want := records()
	got, err := read(capture.NewPcapngReader(bytes.NewReader(write(t, want))))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	if got, err := read(capture.NewPcapngReader(bytes.NewReader(write(t, nil)))); err != nil || len(got) != 0 {
		t.Errorf("empty: %d records, %v", len(got), err)
	}
}

// TestPcapngEveryField fails if a field of Record is never set in records.
func TestPcapngEveryField(t *testing.T) {
	set := map[string]bool{}
	var walk func(v reflect.Value, name string)
	walk = func(v reflect.Value, name string) {
		switch {
		case v.Type() == reflect.TypeFor[time.Time]():
			set[name] = set[name] || !v.IsZero()
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), name+"."+v.Type().Field(i).Name)
			}
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			for i := range v.Len() {
				walk(v.Index(i), name)
			}
		default:
			set[name] = set[name] || !v.IsZero()
		}
	}
	for _, r := range records() {
		walk(reflect.ValueOf(*r), "Record")
	}
	for name, ok := range set {
		if !ok {
			t.Errorf("%s is never set", name)
		}
	}
}

// TestPcapngCut cuts a file everywhere: whole records are read, and the error
// says where the next would have begun.
func TestPcapngCut(t *testing.T) {
	want := records()
	file := write(t, want)
	for n := range file {
		got, err := read(capture.NewPcapngReader(bytes.NewReader(file[:n])))
		same(t, got, want[:len(got)])
		var ie *capture.InputError
		switch {
		case err == nil: // between two blocks
		case !errors.As(err, &ie) || !errors.Is(err, io.ErrUnexpectedEOF) || ie.Offset > int64(n):
			t.Fatalf("cut at %d: %v", n, err)
		}
		if whole, _ := read(capture.NewPcapngReader(bytes.NewReader(file[:n+1]))); len(whole) < len(got) {
			t.Fatalf("cut at %d: %d records, one byte more: %d", n, len(got), len(whole))
		}
	}
}

// A fullDisk takes so many bytes.
type fullDisk struct {
	bytes.Buffer
	room int
}

func (f *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), f.room-f.Len())
	f.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func TestPcapngFullDisk(t *testing.T) {
	want := records()
	size := len(write(t, want))
	for room := range size {
		f := &fullDisk{room: room}
		w := capture.NewPcapngWriter(f)
		n := 0
		var err error
		for _, r := range want {
			if err = w.Write(r); err != nil {
				break
			}
			n++
		}
		if err == nil || w.Write(want[0]) == nil || w.Close() == nil {
			t.Fatalf("room for %d: no error", room)
		}
		got, _ := read(capture.NewPcapngReader(&f.Buffer))
		same(t, got, want[:n])
	}
}

// TestPcapngOther reads a file that another library wrote of ours, and ours
// with that library.
func TestPcapngOther(t *testing.T) {
	file := write(t, records())
	ng, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range records() {
		data, ci, opts, err := ng.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		f, err := ng.Interface(ci.InterfaceIndex)
		if err != nil || want.Name != "" && f.Name != want.Name || f.LinkType != 252 {
			t.Errorf("packet %d: interface %+v, %v", i, f, err)
		}
		if ci.Length-ci.CaptureLength != want.Cut() || !want.Time.IsZero() && !ci.Timestamp.Equal(want.Time) || !bytes.HasSuffix(data, want.Payload) {
			t.Errorf("packet %d: %+v", i, ci)
		}
		if !strings.Contains(strings.Join(opts.Comments, ""), want.Note) {
			t.Errorf("packet %d: comments %q", i, opts.Comments)
		}
	}
	if _, _, err := ng.ReadPacketData(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}

	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.WritePacket(gopacket.CaptureInfo{CaptureLength: 5, Length: 5}, []byte("other")), w.Flush()); err != nil {
		t.Fatal(err)
	}
	if _, err := read(capture.NewPcapngReader(&b)); err == nil || !strings.Contains(err.Error(), "no imsg in 1 packets") {
		t.Errorf("a file of others: %v", err)
	}
}

// TestTshark opens a capture with the program, which CI installs.
func TestTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("no tshark: apt-get install tshark")
	}
	dir := t.TempDir()
	file, lua := filepath.Join(dir, "t.pcapng"), filepath.Join(dir, "imsg.lua")
	if err := errors.Join(os.WriteFile(file, write(t, records()), 0o600), os.WriteFile(lua, []byte(capture.Lua), 0o600)); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		cmd := exec.Command(tshark, append([]string{"-r", file, "-X", "lua_script:" + lua}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
		}
		return string(out)
	}
	got := run("-T", "fields", "-E", "separator=|", "-e", "imsg.type", "-e", "imsg.len", "-e", "imsg.id", "-e", "imsg.pid", "-e", "imsg.dialect", "-e", "imsg.payload",
		"-e", "imsg.from.exe", "-e", "imsg.to.pid", "-e", "imsg.file", "-e", "imsg.lost", "-e", "imsg.wait", "-e", "imsg.cut", "-e", "frame.interface_name")
	want := []string{
		"258|22|4294967294|-1|1|736563726574|/usr/sbin/bgpctl|13|/etc/passwd,|0,1|12345||/var/run/bgpd.sock",
		"1|16|0|0|0|||0|||||channel 0",
		"2|100|0|99|2|637574||0|||0|81|channel 4",
		"3|17|0|0|1|ff||0||||",
	}
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		line = strings.ReplaceAll(strings.ReplaceAll(line, "True", "1"), "False", "0")
		if i >= len(want) || !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if got := run("-Y", "imsg.lost", "-V"); strings.Count(got, "imsg(3) message") != 1 || !strings.Contains(got, "a note") {
		t.Errorf("tshark -Y imsg.lost -V:\n%s", got)
	}
	if got := run(); !strings.Contains(got, "bgpctl[12]") || !strings.Contains(got, "bgpd[13]") || !strings.Contains(got, "type 258 len 22 +/etc/passwd +file") {
		t.Errorf("tshark:\n%s", got)
	}
	if got := run("-Y", "_ws.malformed || _ws.lua.error || imsg.short"); got != "" {
		t.Errorf("tshark finds faults:\n%s", got)
	}
}

func FuzzPcapng(f *testing.F) {
	f.Add(write(f, records()))
	f.Fuzz(func(t *testing.T, p []byte) {
		rs, err := read(capture.NewPcapngReader(bytes.NewReader(p)))
		if err != nil {
			return
		}
		got, err := read(capture.NewPcapngReader(bytes.NewReader(write(t, rs))))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(rs) {
			t.Fatalf("%d records, %d when written again", len(rs), len(got))
		}
	})
}
