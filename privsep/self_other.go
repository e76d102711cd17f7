//go:build !linux

package privsep

import "os"

// self is the program's file, found when it was started.
var self, _ = os.Executable()

func setTitle(string) {}
