package unixmsg

import "golang.org/x/sys/unix"

// scmPidFD is the control message of SO_PASSPIDFD: a descriptor of the sending
// process, which comes with every receive, whether the peer passes files or not.
const scmPidFD = unix.SCM_PIDFD
