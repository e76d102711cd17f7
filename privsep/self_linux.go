package privsep

import "os"

// self is the file that this process runs, even if another one has its name now.
const self = "/proc/self/exe"

// setTitle names the process for ps(1) and the like, which would say "exe".
func setTitle(name string) {
	_ = os.WriteFile("/proc/self/comm", []byte(name[:min(len(name), 15)]), 0)
}
