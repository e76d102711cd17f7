package ibuf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"example.org/imsg/internal/check"
)

// goldenOps is how many calls of testdata/ibuf-ops.jsonl are compared: all
// 4674 but those that follow an EOVERFLOW in their script.
const goldenOps = 4213

type goldenOp struct {
	Op    string
	OK    bool
	Errno *string
	Value *string
	Size  *int
	Left  int
	Data  string
}

var goldenErrno = map[string]syscall.Errno{
	"ERANGE":    syscall.ERANGE,
	"EBADMSG":   syscall.EBADMSG,
	"EOVERFLOW": syscall.EOVERFLOW,
	"EINVAL":    syscall.EINVAL,
}

// TestGoldenOps replays scripts of calls that were recorded from the C library
// and compares what it answered. Two differences are deliberate: after an
// EOVERFLOW our buffer is unchanged, so the rest of that script is left out,
// and where C failed without an errno we may succeed.
func TestGoldenOps(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the scripts were recorded on a little-endian machine; TestHostOrder is for both")
	}
	f, err := os.Open("../testdata/ibuf-ops.jsonl")
	check.Must(t, err)
	defer f.Close()
	cases, ops := 0, 0
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var c struct {
			Case string
			Ops  []goldenOp
		}
		check.Must(t, json.Unmarshal(sc.Bytes(), &c))
		cases++
		ops += goldenCase(t, c.Case, c.Ops)
	}
	check.Must(t, sc.Err())
	if cases != 400 || ops != goldenOps {
		t.Errorf("compared %d scripts and %d calls, want 400 and %d", cases, ops, goldenOps)
	}
}

// goldenCase runs one script and returns how many calls it compared.
func goldenCase(t *testing.T, name string, ops []goldenOp) int {
	t.Helper()
	var b *Buffer
	for i, op := range ops {
		value, err := goldenRun(t, &b, strings.Split(op.Op, " "))
		where := fmt.Sprintf("%s call %d, %s", name, i, op.Op)
		switch {
		case !op.OK && *op.Errno == "": // C has set none: only what the buffer holds is compared
		case !op.OK:
			want, known := goldenErrno[*op.Errno]
			if !known || !errors.Is(err, want) {
				t.Errorf("%s: error %v, want %s", where, err, *op.Errno)
			}
			for s, e := range goldenErrno {
				if s != *op.Errno && errors.Is(err, e) {
					t.Errorf("%s: error %v is %s too", where, err, s)
				}
			}
		case err != nil:
			t.Errorf("%s: error %v, want none", where, err)
		}
		if op.Value != nil && value != *op.Value {
			t.Errorf("%s: value %s, want %s", where, value, *op.Value)
		}
		if !op.OK && *op.Errno == "EOVERFLOW" {
			return i + 1
		}
		if op.Size != nil {
			data := hex.EncodeToString(b.Bytes())
			if b.Len() != *op.Size || b.Available() != op.Left || data != op.Data {
				t.Errorf("%s: size %d left %d data %s,\nwant size %d left %d data %s",
					where, b.Len(), b.Available(), data, *op.Size, op.Left, op.Data)
			}
		}
		if t.Failed() {
			t.FailNow() // the rest of the script would only repeat it
		}
	}
	return len(ops)
}

// goldenRun makes one call and returns what it answered as the file spells it.
func goldenRun(t *testing.T, b **Buffer, f []string) (string, error) {
	t.Helper()
	num := func(i int) uint64 {
		v, err := strconv.ParseUint(f[i], 10, 64)
		check.Must(t, err)
		return v
	}
	size := func(i int) int { return int(num(i)) } // SIZE_MAX becomes -1
	raw := func(i int) []byte {
		p, err := hex.DecodeString(f[i])
		check.Must(t, err)
		return p
	}
	switch f[0] {
	case "open":
		*b = New(size(1))
		return "", nil
	case "dynamic":
		var err error
		*b, err = NewDynamic(size(1), size(2))
		return "", err
	case "set_maxsize":
		return "", (*b).SetMaxSize(size(1))
	case "truncate":
		return "", (*b).Truncate(size(1))
	case "rewind":
		(*b).Rewind()
		return "", nil
	case "skip":
		return "", (*b).Skip(size(1))
	case "reserve":
		p, err := (*b).Reserve(size(1))
		if !bytes.Equal(p, make([]byte, len(p))) {
			t.Errorf("reserve: % x is not zero", p)
		}
		for i := range p {
			p[i] = 0xee
		}
		return "", err
	case "seek":
		p, err := (*b).Slice(size(1), size(2))
		return hex.EncodeToString(p), err
	case "add":
		return "", (*b).Add(raw(1))
	case "add_zero":
		return "", (*b).AddZero(size(1))
	case "add_strbuf":
		return "", (*b).AddCString(f[1], size(2))
	case "set":
		return "", (*b).Set(size(1), raw(2))
	case "get":
		p := make([]byte, size(1))
		err := (*b).Get(p)
		return hex.EncodeToString(p), err
	case "get_ibuf":
		v, err := (*b).GetView(size(1))
		return hex.EncodeToString(v.Bytes()), err
	case "get_string":
		s, err := (*b).GetString(size(1))
		return hex.EncodeToString([]byte(s)), err
	case "get_strbuf":
		s, err := (*b).GetCString(size(1))
		return hex.EncodeToString([]byte(s)), err
	}
	verb, width, _ := strings.Cut(f[0], "_")
	switch n, ok := intMethods[width]; {
	case ok && verb == "get":
		v, err := n.get(&(*b).reader)
		return strconv.FormatUint(v, 10), err
	case ok && verb == "add":
		return "", n.add(*b, num(1))
	case ok && verb == "set":
		return "", n.set(*b, size(1), num(2))
	}
	t.Fatalf("unknown call %q", f)
	return "", nil
}
