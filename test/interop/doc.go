// Package interop holds tests against real programs that speak imsg: tmux, the
// helpers of got, a lookup table of opensmtpd, OpenNTPD and OpenBGPD. The README
// says how to get them. A test whose program is missing is skipped; with CI=true it fails.
package interop
