package privsep

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
)

// fingerprint tells builds of the program apart: what it was built from, and
// the file that runs, which cannot be changed as long as it does, so that
// there is no need to read it. A new build has another inode.
func fingerprint() (string, error) {
	info, err := os.Stat(self)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if b, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(h, b)
	}
	fmt.Fprintln(h, protocol, runtime.Version(), runtime.GOOS, runtime.GOARCH, info.Size())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		fmt.Fprintln(h, st.Dev, st.Ino)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
