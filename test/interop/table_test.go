package interop

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.org/imsg"
	"example.org/imsg/internal/testutil"
)

// Messages of the lookup tables of opensmtpd before 7.6, in the legacy dialect.
// A table answers each request with tableResult.
const (
	tableResult = 0
	tableOpen   = 2
	tableClose  = 3
	tableUpdate = 4
	tableCheck  = 5
	tableLookup = 6
	tableFetch  = 7

	serviceCredentials = 4
	serviceUserInfo    = 0x10
)

// startTable starts table-passwd, the other side of a channel in descriptor 0.
func startTable(t *testing.T) *child {
	t.Helper()
	argv := unpacked(t, "IMSG_TABLE_PASSWD", "usr/libexec/opensmtpd/table-passwd")
	users := filepath.Join(t.TempDir(), "users")
	testutil.Must(t, os.WriteFile(users, []byte("alice:secret:1001:1002:Alice:/home/alice:/bin/sh\n"), 0o600))
	return start(t, 0, append(argv, users)...)
}

// tableOpenData is the payload of tableOpen: a version, and a name in a field
// of LINE_MAX bytes.
func tableOpenData() []byte {
	return encode(uint32(2), "users", make([]byte, 2048-len("users")-1))
}

func TestTablePasswd(t *testing.T) {
	c := startTable(t)
	conn := c.conn(imsg.Legacy)
	send(t, c.ctx, conn, imsg.Header{Type: tableOpen}, tableOpenData())
	if p := expect(t, c.ctx, conn, tableResult); len(p) != 0 {
		t.Errorf("open: answer of %d bytes: % x", len(p), p)
	}
	for _, tt := range []struct {
		name string
		typ  uint32
		data []byte
		want []byte
	}{
		{"credentials", tableLookup, encode(int32(serviceCredentials), uint64(0), "alice"), encode(int32(1), "alice:secret")},
		{"user", tableLookup, encode(int32(serviceUserInfo), uint64(0), "alice"), encode(int32(1), "1001:1002:/home/alice")},
		{"nobody", tableLookup, encode(int32(serviceUserInfo), uint64(0), "mallory"), encode(int32(0))},
		{"long key", tableLookup, encode(int32(serviceUserInfo), uint64(0), strings.Repeat("x", imsg.DefaultMaxSize-imsg.HeaderSize-13)), encode(int32(0))},
		{"check", tableCheck, encode(int32(serviceUserInfo), uint64(0), "alice"), encode(int32(-1))},
		{"update", tableUpdate, nil, encode(int32(1))},
	} {
		send(t, c.ctx, conn, imsg.Header{Type: tt.typ}, tt.data)
		if p := expect(t, c.ctx, conn, tableResult); !bytes.Equal(p, tt.want) {
			t.Errorf("%s: answer % x, want % x", tt.name, p, tt.want)
		}
	}

	// Requests that wait in the socket together are answered one by one.
	const pipelined = 100
	lookup := encode(int32(serviceUserInfo), uint64(0), "alice")
	for range pipelined {
		testutil.Must(t, conn.Compose(imsg.Header{Type: tableLookup}, nil, lookup))
	}
	testutil.Must(t, conn.Flush(c.ctx))
	for range pipelined {
		expect(t, c.ctx, conn, tableResult)
	}
	send(t, c.ctx, conn, imsg.Header{Type: tableClose})
	expectEnd(t, c.ctx, conn)
	c.exit(0)
}

// A table has no use for files: one that comes is ignored, as is a mark
// without a file.
func TestTableFiles(t *testing.T) {
	c := startTable(t)
	open := tableOpenData()
	hdr := make([]byte, imsg.HeaderSize)
	imsg.Legacy.Encode(hdr, binary.NativeEndian, imsg.Header{Type: tableOpen}, len(hdr)+len(open), true)
	c.socket.Write(append(hdr, open...))
	conn := c.conn(imsg.Legacy)
	expect(t, c.ctx, conn, tableResult)

	f, err := os.Open(os.DevNull)
	testutil.Must(t, err)
	defer f.Close()
	lookup := encode(int32(serviceUserInfo), uint64(0), "alice")
	testutil.Must(t, conn.Send(c.ctx, imsg.Header{Type: tableLookup}, f, lookup))
	if p := expect(t, c.ctx, conn, tableResult); number(t, p, 0) != 1 {
		t.Errorf("answer to a lookup with a file: % x", p)
	}
	send(t, c.ctx, conn, imsg.Header{Type: tableClose})
	expectEnd(t, c.ctx, conn)
	c.exit(0)
}

// The limits of a header are the same on both sides, and an error of the
// program comes as an end of the channel.
func TestTableErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		typ    uint32
		n      int // length in the header
		exit   int
		stderr string
	}{
		{"header too short", tableUpdate, imsg.HeaderSize - 1, 0, "out of range"},
		{"message too long", tableUpdate, imsg.DefaultMaxSize + 1, 0, "out of range"},
		{"unknown type", 99, imsg.HeaderSize, 1, "99"},
		{"open without payload", tableOpen, imsg.HeaderSize, 1, "bad msg len"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startTable(t)
			hdr := make([]byte, imsg.HeaderSize)
			imsg.Legacy.Encode(hdr, binary.NativeEndian, imsg.Header{Type: tt.typ}, tt.n, false)
			c.socket.Write(hdr)
			expectEnd(t, c.ctx, c.conn(imsg.Legacy))
			c.exit(tt.exit)
			if !strings.Contains(c.stderr.String(), tt.stderr) {
				t.Errorf("stderr %q, want %q in it", c.stderr.String(), tt.stderr)
			}
		})
	}
}
