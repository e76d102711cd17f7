package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Clients that never finish their request take all connections, and lose them
// when the time is over: then the next one is served.
func TestSlowClients(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid, "-conns", "4", "-timeout", "300ms")
		p.write(t, "x.txt", []byte("served"))
		var slow []net.Conn
		begin := time.Now()
		for _, request := range []string{
			"", "G", "GET /x.txt HTTP/1.1\r\nHost: localhost\r\nX: ",
			"GET /x.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12",
			"GET /x.txt HTTP/1.1\r\nHost: localhost\r\n\r\n", // and nothing more
			"\r\n\r\n",
		} {
			c := p.dial(t)
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, c)
		}
		if _, body := p.get(t, "/x.txt"); body != "served" {
			t.Errorf("got %q", body)
		}
		if d := time.Since(begin); d < 300*time.Millisecond {
			t.Errorf("served after %v, when there was no connection left", d)
		}
		for i, c := range slow {
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("client %d still has its connection", i)
			}
		}
	})
}

func TestHugeHeaders(t *testing.T) {
	p := start(t, os.Getuid())
	p.write(t, "x.txt", []byte("served"))
	for _, request := range []string{
		"GET /x.txt HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20),
		"GET /x.txt HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 1<<17),
		"GET /" + strings.Repeat("x", 1<<20),
	} {
		c := p.dial(t)
		go io.WriteString(c, request) // nobody reads all of it
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("%.40q: the server still listens", request)
		case err == nil && res.StatusCode != http.StatusRequestHeaderFieldsTooLarge:
			t.Errorf("%.40q: status %d", request, res.StatusCode)
		}
	}
	if _, body := p.get(t, "/x.txt"); body != "served" {
		t.Errorf("got %q", body)
	}
}

// A name as long as a header may be still fits a message to the files.
func TestLongestName(t *testing.T) {
	p := start(t, os.Getuid())
	if res, _ := p.get(t, "/"+strings.Repeat("x/", 3<<10)); res.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", res.StatusCode)
	}
}

// Many clients at once get what they ask for, of files large enough to be sent
// in pieces and more of them than the pool has room for. No descriptor is left.
func TestManyClients(t *testing.T) {
	eachUser(t, func(t *testing.T, uid int) {
		p := start(t, uid)
		const clients, files = 48, 2 * poolSize
		content := func(i int) string { return strings.Repeat(fmt.Sprintf("%04d", i), 1+i*97%30000) }
		for i := range files {
			p.write(t, fmt.Sprintf("%d.txt", i), []byte(content(i)))
		}
		before := p.descriptors(t)
		var running sync.WaitGroup
		for c := range clients {
			running.Go(func() {
				for i := range 24 {
					n := (c*31 + i) % files
					res, err := p.client.Get(fmt.Sprintf("http://%s/%d.txt", p.addr, n))
					if err != nil {
						t.Error(err)
						return
					}
					body, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil || res.StatusCode != 200 || string(body) != content(n) {
						t.Errorf("%d.txt: status %d, %d bytes, want %d, %v", n, res.StatusCode, len(body), len(content(n)), err)
						return
					}
				}
			})
		}
		running.Wait()
		for begin := time.Now(); ; { // the pool keeps some for a moment
			after := p.descriptors(t)
			if after == before {
				break
			}
			if time.Since(begin) > patience {
				t.Fatalf("server and files have %d descriptors, before %d", after, before)
			}
		}
	})
}
