package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// handler answers requests for files. It is the same split and unsplit.
type handler struct {
	files *pool
	log   *os.File
}

const (
	answerTime = 10 * time.Second // for a file to be sent, and
	answerRate = 16 << 10         // for as many bytes of it one second more
)

func (h *handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &response{ResponseWriter: rw}
	h.serve(w, r)
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(cmp.Or(h.log, os.Stderr), "%s - - [%s] %q %d %d\n", host, time.Now().Format("02/Jan/2006:15:04:05 -0700"),
		r.Method+" "+r.RequestURI+" "+r.Proto, cmp.Or(w.status, http.StatusOK), w.written) // quoted: a client cannot write lines
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" || strings.HasSuffix(name, "/") {
		name += "index.html"
	}
	f, err := h.files.get(r.Context(), name)
	switch {
	case err == nil:
		defer h.files.put(f)
		send(w, r, f)
	case errors.Is(err, errDirectory):
		to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.String(), http.StatusMovedPermanently)
	case errors.Is(err, fs.ErrPermission):
		refuse(w, http.StatusForbidden)
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound)
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable)
	}
}

func refuse(w http.ResponseWriter, status int) { http.Error(w, http.StatusText(status), status) }

// send sends a file, or the part of it that is asked for, or nothing if the
// client has it.
func send(w http.ResponseWriter, r *http.Request, f pooled) {
	info, err := f.Stat()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable)
		return
	}
	limit := answerTime + time.Duration(info.Size()/answerRate)*time.Second
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, f.name, info.ModTime(), f.File)
}

// response counts for the log.
type response struct {
	http.ResponseWriter
	status  int
	written int64
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// ReadFrom leaves the copying to the kernel, as net/http does.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, src)
	w.written += n
	return n, err
}
