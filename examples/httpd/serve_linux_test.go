package main

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.org/imsg/internal/testutil"
)

const secret = "what nobody may read"

// documents fills the root, and puts a secret beside it.
func documents(t *testing.T, p *program) {
	t.Helper()
	for name, data := range map[string]string{
		"index.html":      "<p>home</p>",
		"text.txt":        "0123456789",
		"unknown":         "%PDF-1.7",
		"a b/ü.txt":       "odd",
		"dir/index.html":  "<p>dir</p>",
		"empty/sub/x.txt": "x",
		"unreadable.txt":  secret,
		".hidden":         secret,
		"dir/.git/config": secret,
		"../secret":       secret,
	} {
		p.write(t, name, []byte(data))
	}
	for name, target := range map[string]string{
		"inside":    "text.txt",
		"out":       "../secret",
		"dir/out":   "../../secret",
		"absolute":  filepath.Join(filepath.Dir(p.root), "secret"),
		"outdir":    "..",
		"loop":      "loop",
		"dangling":  "nothing",
		"procroot":  "/proc/self/root",
		"dir/aside": "../text.txt",
	} {
		testutil.Must(t, os.Symlink(target, filepath.Join(p.root, name)))
	}
	testutil.Must(t, syscall.Mkfifo(filepath.Join(p.root, "pipe"), 0o644))
	testutil.Must(t, os.Chmod(filepath.Join(p.root, "unreadable.txt"), 0))
}

var requests = []struct {
	request, header string // "GET /", "Range: bytes=0-1"
	status          int
	want            string // the body if the status is 200 or 206
	match           string // in the header of the answer
}{
	{"GET /", "", 200, "<p>home</p>", "Content-Type: text/html; charset=utf-8"},
	{"GET /index.html", "", 200, "<p>home</p>", "X-Content-Type-Options: nosniff"},
	{"GET /text.txt", "", 200, "0123456789", `Content-Type: text/plain; charset=utf-8`},
	{"GET /text.txt?query=../secret", "", 200, "0123456789", `Date: .* GMT`},
	{"GET /unknown", "", 200, "%PDF-1.7", `Content-Type: application/pdf`},
	{"GET /a%20b/%c3%bc.txt", "", 200, "odd", ""},
	{"GET http://elsewhere/text.txt", "", 200, "0123456789", ""},
	{"HEAD /text.txt", "", 200, "", "Content-Length: 10"},
	{"GET /text.txt", "Range: bytes=2-4", 206, "234", `Content-Range: bytes 2-4/10`},
	{"GET /text.txt", "Range: bytes=-3", 206, "789", ""},
	{"GET /text.txt", "Range: bytes=10-", 416, "", ""},
	{"GET /text.txt", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT", 304, "", ""},
	{"GET /text.txt", "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT", 200, "0123456789", "Last-Modified: .* GMT"},
	{"GET /inside", "", 200, "0123456789", ""},
	{"GET /dir/aside", "", 200, "0123456789", ""},

	{"GET /dir/", "", 200, "<p>dir</p>", ""},
	{"GET /dir", "", 301, "", "Location: /dir/"},
	{"GET /a%20b?q=1", "", 301, "", `Location: /a%20b/\?q=1`},
	{"GET /empty/", "", 404, "", ""},
	{"GET /empty/sub/", "", 404, "", ""},
	{"GET /missing", "", 404, "", ""},
	{"GET /text.txt/", "", 404, "", ""},
	{"GET /text.txt/x", "", 404, "", ""},
	{"GET /dangling", "", 404, "", ""},
	{"GET /nul%00.txt", "", 404, "", ""},
	{"GET /" + strings.Repeat("x", 300), "", 404, "", ""},

	{"GET /unreadable.txt", "", 403, "", ""},
	{"GET /.hidden", "", 403, "", ""},
	{"GET /.missing", "", 403, "", ""},
	{"GET /dir/.git/config", "", 403, "", ""},
	{"GET /pipe", "", 403, "", ""},
	{"GET /loop", "", 403, "", ""},
	{"GET /out", "", 403, "", ""},
	{"GET /dir/out", "", 403, "", ""},
	{"GET /absolute", "", 403, "", ""},
	{"GET /outdir/secret", "", 403, "", ""},
	{"GET /procroot/etc/passwd", "", 403, "", ""},
	{"GET /../secret", "", 403, "", ""},
	{"GET /dir/../../secret", "", 403, "", ""},
	{"GET /..%2fsecret", "", 403, "", ""},
	{"GET /%2e%2e/secret", "", 403, "", ""},
	{"GET /dir/%2e%2e/%2e%2e/secret", "", 403, "", ""},
	{"GET /%2e%2e%5csecret", "", 403, "", ""},
	{"GET //etc/passwd", "", 403, "", ""},
	{"GET /dir//index.html", "", 403, "", ""},
	{"GET http://elsewhere/../secret", "", 403, "", ""},

	{"POST /text.txt", "", 405, "", "Allow: GET, HEAD"},
	{"DELETE /text.txt", "", 405, "", ""},
	{"OPTIONS *", "", 200, "", ""}, // by net/http itself
	{"CONNECT etc:1", "", 405, "", ""},
	{"GET etc/passwd", "", 400, "", ""},
	{"GET /%zz", "", 400, "", ""},
}

func TestRequests(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid)
		documents(t, p)
		for _, r := range requests {
			check(t, p, r.request, r.header, r.status, r.want, r.match)
		}
	})
}

// The handler is the same in one process, but for what root could read.
func TestUnsplit(t *testing.T) {
	p := start(t, os.Getuid(), "-unsplit")
	documents(t, p)
	for _, r := range requests {
		if r.request != "GET /unreadable.txt" || os.Getuid() != 0 {
			check(t, p, r.request, r.header, r.status, r.want, r.match)
		}
	}
}

func check(t *testing.T, p *program, request, header string, status int, want, match string) {
	t.Helper()
	c := p.dial(t)
	defer c.Close()
	if header != "" {
		header += "\r\n"
	}
	if _, err := c.Write([]byte(request + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + header + "\r\n")); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Errorf("%s: %v", request, err)
		return
	}
	var raw strings.Builder
	res.Write(&raw)
	head, body, _ := strings.Cut(raw.String(), "\r\n\r\n")
	if res.StatusCode != status {
		t.Errorf("%s: status %d, want %d", request, res.StatusCode, status)
	}
	if (status == 200 || status == 206) && body != want {
		t.Errorf("%s: body %q, want %q", request, body, want)
	}
	if strings.Contains(body, secret) || strings.Contains(body, "root:") {
		t.Errorf("%s: the secret is out", request)
	}
	if !regexp.MustCompile("(?m)^" + match).MatchString(head) {
		t.Errorf("%s: no %s in\n%s", request, match, head)
	}
}

func TestLog(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid)
		p.write(t, "x.txt", []byte("0123456789"))
		p.get(t, "/x.txt")
		p.get(t, "/x.txt", "Range", "bytes=0-3")
		p.get(t, "/%0a127.0.0.1%22forged%22")
		data, err := os.ReadFile(p.log)
		testutil.Must(t, err)
		const prefix = `127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] `
		want := "^" + prefix + `"GET /x\.txt HTTP/1\.1" 200 10` + "\n" +
			prefix + `"GET /x\.txt HTTP/1\.1" 206 4` + "\n" +
			prefix + `"GET /%0a127\.0\.0\.1%22forged%22 HTTP/1\.1" 404 10` + "\n$"
		if !regexp.MustCompile(want).Match(data) {
			t.Errorf("the log is\n%swant\n%s", data, want)
		}
	})
}

// What happens to a file is seen at once, and a new one of its name soon.
func TestChanged(t *testing.T) {
	p := start(t, os.Getuid())
	p.write(t, "x.txt", []byte("one"))
	p.get(t, "/x.txt")
	p.write(t, "x.txt", []byte("other")) // the same file
	if _, body := p.get(t, "/x.txt"); body != "other" {
		t.Errorf("after a change: %q", body)
	}
	p.write(t, "new", []byte("third"))
	testutil.Must(t, os.Rename(filepath.Join(p.root, "new"), filepath.Join(p.root, "x.txt")))
	for begin := time.Now(); ; {
		_, body := p.get(t, "/x.txt")
		if body == "third" {
			break
		}
		if body != "other" || time.Since(begin) > patience {
			t.Fatalf("after it was replaced: %q", body)
		}
	}
}
