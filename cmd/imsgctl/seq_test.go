package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"example.org/imsg"
	"example.org/imsg/internal/capture"
	"example.org/imsg/internal/testutil"
)

// hostile is what a process can call a file.
const hostile = "/tmp/</script></svg><script>alert(1)</script>\"'&\x1b[2J\x00\xff${1}"

// drawn is a diagram of n messages between two processes, in which each 10th
// has a file.
func drawn(t *testing.T, n int, path string) *diagram {
	t.Helper()
	choose := choiceFlags{profile: "none"}
	ch, err := choose.open()
	testutil.Must(t, err)
	d := &diagram{Title: escape(path), choice: ch, limit: 5000, payload: 16}
	for i := range n {
		testutil.Must(t, d.add(seqRecord(i, path)))
	}
	return d
}

func seqRecord(i int, path string) *capture.Record {
	r := &capture.Record{
		Time: time.Unix(1700000000, int64(i)*1000), Wait: 500, Channel: 1, Name: path, Dir: capture.DirOut,
		From: capture.Endpoint{PID: 12, Exe: path}, To: capture.Endpoint{PID: 13, Exe: "/usr/sbin/bgpd"},
		Header: imsg.Header{Type: uint32(i % 7), ID: uint32(i)}, Len: 16 + len(path), Payload: []byte(path), Note: path,
	}
	if i%2 == 1 {
		r.From, r.To, r.Dir = r.To, r.From, capture.DirIn
	}
	if i%10 == 3 {
		r.Files, r.Marked = []capture.File{{From: 3, To: 4, Kind: "pipe", Path: path, Lost: i%20 == 3}}, true
	}
	return r
}

// xmlTexts parses a picture, and returns its texts and how many of each element
// and class there are.
func xmlTexts(t *testing.T, picture []byte) (texts []string, counts map[string]int) {
	t.Helper()
	counts = map[string]int{}
	dec := xml.NewDecoder(bytes.NewReader(picture))
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return texts, counts
		}
		testutil.Must(t, err)
		switch x := tok.(type) {
		case xml.StartElement:
			counts[x.Name.Local]++
			for _, a := range x.Attr {
				if a.Name.Local == "class" {
					counts["."+a.Value]++
				}
			}
		case xml.CharData:
			texts = append(texts, string(x))
		}
	}
}

func TestSeqSVG(t *testing.T) {
	for _, n := range []int{0, 5, 500} {
		var b bytes.Buffer
		testutil.Must(t, drawn(t, n, "/usr/sbin/bgpctl").svg(&b))
		texts, counts := xmlTexts(t, b.Bytes())
		heads := 2 * ((n + svgPage - 1) / svgPage)
		if counts[".head"] != heads || counts["script"] > 0 {
			t.Errorf("%d messages: %d headings, want %d", n, counts[".head"], heads)
		}
		files, lost := 0, 0
		for i := range n {
			if i%20 == 3 {
				lost++
			} else if i%10 == 3 {
				files++
			}
		}
		if got := counts[".arrow pipe"] - 1; got != files { // and one in the legend
			t.Errorf("%d messages: %d arrows with a pipe, want %d", n, got, files)
		}
		if got := counts[".arrow lost"] - 1; got != lost {
			t.Errorf("%d messages: %d arrows with a lost file, want %d", n, got, lost)
		}
		if all := strings.Join(texts, "\n"); n > 0 && !strings.Contains(all, "bgpctl[12]") {
			t.Errorf("%d messages: no name of a process in\n%s", n, all)
		}
	}
}

// TestSeqLabels draws messages between neighbors, and of one to itself: what they
// are is not cut, and inside the picture.
func TestSeqLabels(t *testing.T) {
	d := drawn(t, 0, "x")
	for i := range 7 {
		r := seqRecord(3, "/run/a/long/path")
		r.From, r.To = capture.Endpoint{PID: 100 + i}, capture.Endpoint{PID: min(101+i, 106)}
		testutil.Must(t, d.add(r))
	}
	width := svgTimes + len(d.Lines)*svgGap + 20
	for i := range d.Rows {
		a := d.svgArrow(&d.Rows[i], 0, width)
		half := int(svgLetter * float64(utf8.RuneCountInString(a.Label)) / 2)
		if !strings.Contains(a.Label, "/run/a/long/path (3 -> 4)") || a.TextX-half < svgTimes || a.TextX+half > width {
			t.Errorf("%q at %d in %d", a.Label, a.TextX, width)
		}
	}
}

// TestSeqCondensed draws what repeats once.
func TestSeqCondensed(t *testing.T) {
	d := drawn(t, 0, "x")
	for i := range 300 {
		r := seqRecord(i%2, "x")
		r.Files, r.Header.ID = nil, uint32(i)
		testutil.Must(t, d.add(r))
	}
	var b bytes.Buffer
	testutil.Must(t, d.svg(&b))
	texts, counts := xmlTexts(t, b.Bytes())
	if counts[".arrow plain"] != 3 || counts[".loop"] != 1 || !strings.Contains(strings.Join(texts, ""), "the 2 messages above 149 times more, 5066 bytes") {
		t.Errorf("%v\n%s", counts, strings.Join(texts, "\n"))
	}
	d.limit = 10
	testutil.Must(t, d.add(seqRecord(1, "x")))
	b.Reset()
	testutil.Must(t, d.svg(&b))
	if texts, _ := xmlTexts(t, b.Bytes()); !strings.Contains(strings.Join(texts, ""), "1 message more") {
		t.Error("what was left out is not told")
	}
}

// TestSeqHostile draws names that want to be something else.
func TestSeqHostile(t *testing.T) {
	d := drawn(t, 20, hostile)
	var svg, page bytes.Buffer
	testutil.Must(t, d.svg(&svg))
	if _, counts := xmlTexts(t, svg.Bytes()); counts["script"] > 0 || counts["svg"] != 1 {
		t.Errorf("svg: %v", counts)
	}
	testutil.Must(t, d.html(&page))
	s := page.String()
	if n := strings.Count(s, "<script"); n != 1 {
		t.Errorf("html: %d scripts", n)
	}
	if n := strings.Count(s, "</script"); n != 1 {
		t.Errorf("html: %d ends of scripts", n)
	}
	if strings.ContainsAny(s, "\x1b\x00") || strings.Contains(s, "http://") && !strings.Contains(s, "http://www.w3.org/2000/svg") {
		t.Error("html: control characters, or addresses")
	}
	// The data are JSON, and whole.
	beg := strings.Index(s, "const data = ") + len("const data = ")
	var data struct {
		Rows []struct{ Note string }
	}
	testutil.Must(t, json.NewDecoder(strings.NewReader(s[beg:])).Decode(&data))
	if len(data.Rows) != 20 || data.Rows[0].Note != escape(hostile) {
		t.Errorf("html: %d rows, %q", len(data.Rows), data.Rows)
	}
}

// TestSeqLive serves a file that grows.
func TestSeqLive(t *testing.T) {
	name := filepath.Join(t.TempDir(), "t.pcapng")
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Bound)
	defer cancel()
	pr, pw := io.Pipe()
	said, stderr := io.Pipe()
	a := newApp()
	a.stdout, a.stderr = pw, stderr
	done := make(chan error, 1)
	go func() {
		d := drawn(t, 0, "")
		done <- d.serve(ctx, a, &inputFlags{format: "auto", dialect: "auto", order: "auto", max: capture.DefaultMax}, name, "127.0.0.1:0")
		pw.Close()
		stderr.Close()
	}()

	line, err := bufio.NewReader(said).ReadString('\n') // who records begins later
	testutil.Must(t, err)
	if want := "t.pcapng: no such file or directory: waiting until it is there\n"; !strings.HasSuffix(line, want) {
		t.Errorf("said %q, want %q", line, want)
	}
	go io.Copy(io.Discard, said)
	f, err := os.Create(name)
	testutil.Must(t, err)
	defer f.Close()
	w := capture.NewPcapngWriter(f)
	testutil.Must(t, w.Write(seqRecord(0, "/x")))

	var url string
	_, err = fmt.Fscan(pr, &url)
	testutil.Must(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(url, host string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		testutil.Must(t, err)
		if host != "" {
			req.Host = host
		}
		res, err := client.Do(req)
		testutil.Must(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		testutil.Must(t, err)
		return res.StatusCode, string(b)
	}
	if code, page := get(url, ""); code != 200 || !strings.Contains(page, "<title>t.pcapng</title>") {
		t.Errorf("page: %d\n%s", code, page)
	}
	rows := func(from, want int) {
		for {
			_, s := get(fmt.Sprintf("%sdata?from=%d", url, from), "")
			var data struct{ Rows []arrow }
			testutil.Must(t, json.Unmarshal([]byte(s), &data))
			if len(data.Rows) >= want {
				return
			}
		}
	}
	rows(0, 1)
	testutil.Must(t, errors.Join(w.Write(seqRecord(1, hostile)), w.Write(seqRecord(2, "/x"))))
	rows(1, 2)
	if code, _ := get(url, "evil.example"); code != http.StatusForbidden {
		t.Errorf("another host: %d", code)
	}
	if code, _ := get(url[:len(url)-6]+"/", ""); code != http.StatusNotFound {
		t.Errorf("another path: %d", code)
	}
	cancel()
	testutil.Must(t, <-done)
}

// TestSeqBrowser opens the page in a browser, if IMSG_CHROMIUM names one: the
// script draws, and hostile names run nothing.
func TestSeqBrowser(t *testing.T) {
	browser := os.Getenv("IMSG_CHROMIUM")
	if browser == "" {
		t.Skip("IMSG_CHROMIUM=chromium opens the page in it")
	}
	var page bytes.Buffer
	testutil.Must(t, drawn(t, 20, hostile).html(&page))
	name := filepath.Join(t.TempDir(), "x.html")
	testutil.Must(t, os.WriteFile(name, page.Bytes(), 0o600))
	out, err := exec.Command(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--virtual-time-budget=2000", "--dump-dom", "file://"+name).Output()
	testutil.Must(t, err)
	dom := string(out)
	if n := strings.Count(dom, `role="button"`); n != 20 || !strings.Contains(dom, "20 of 20 messages") {
		t.Errorf("%d rows", n)
	}
	if n := strings.Count(dom, "<script"); n != 1 {
		t.Errorf("%d scripts", n)
	}
}
