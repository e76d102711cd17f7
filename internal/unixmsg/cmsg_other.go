//go:build darwin || dragonfly || freebsd || illumos || netbsd || openbsd || solaris

package unixmsg

// scmPidFD is no control message: only Linux sends descriptors of processes.
const scmPidFD = -1
