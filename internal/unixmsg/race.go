//go:build race && unix && !aix

package unixmsg

import (
	"runtime"
	"unsafe"
)

// The race detector does not see what the kernel does. Here it learns which
// memory a call read and wrote, and that what happened before a send happened
// before the receive, as it does for read and write in the standard library.

const raceEnabled = true

// ioSync is only an address, which stands for all sockets.
var ioSync byte

func raceSending() { runtime.RaceReleaseMerge(unsafe.Pointer(&ioSync)) }

func raceSent(bufs [][]byte, n int) {
	for _, b := range bufs {
		b = b[:min(len(b), n)]
		if len(b) > 0 {
			runtime.RaceReadRange(unsafe.Pointer(&b[0]), len(b))
		}
		n -= len(b)
	}
}

func raceReceived(p []byte) {
	if len(p) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(&p[0]), len(p))
	}
	runtime.RaceAcquire(unsafe.Pointer(&ioSync))
}
