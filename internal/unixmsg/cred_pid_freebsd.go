package unixmsg

// peerPID does not know. FreeBSD 13 has the process id at the end of the
// credentials, where x/sys/unix does not show it.
func peerPID(fd int) (int, error) { return 0, nil }
