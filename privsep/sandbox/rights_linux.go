package sandbox

import (
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Landlock's rights on files, by what allows them.
const (
	readFiles   landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	writeFiles  landlock.AccessFSSet = ll.AccessFSWriteFile | ll.AccessFSTruncate
	createFiles landlock.AccessFSSet = ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSym |
		ll.AccessFSRemoveFile | ll.AccessFSRemoveDir | ll.AccessFSRefer
	createNodes   landlock.AccessFSSet = ll.AccessFSMakeFifo | ll.AccessFSMakeChar | ll.AccessFSMakeBlock
	createSockets landlock.AccessFSSet = ll.AccessFSMakeSock
	connectFiles  landlock.AccessFSSet = ll.AccessFSResolveUnix
	executeFiles  landlock.AccessFSSet = ll.AccessFSExecute
	deviceFiles   landlock.AccessFSSet = ll.AccessFSIoctlDev

	allFiles = readFiles | writeFiles | createFiles | createNodes | createSockets | connectFiles | executeFiles | deviceFiles

	// singleFile are the rights that a file can have, not only a directory.
	singleFile = allFiles &^ (createFiles | createNodes | createSockets | ll.AccessFSReadDir)
)

const (
	deviceWords = "tty"                             // use ioctl
	fileWords   = "tmppath dns getpw ps vminfo tty" // bring paths of their own
)

// permFiles translates unveil's letters. As there, connecting to a socket is writing.
func permFiles(perm string) landlock.AccessFSSet {
	var r landlock.AccessFSSet
	for _, c := range perm {
		switch c {
		case 'r':
			r |= readFiles | deviceFiles
		case 'w':
			r |= writeFiles | deviceFiles | connectFiles
		case 'x':
			r |= executeFiles
		case 'c':
			r |= createFiles | createNodes | createSockets
		}
	}
	return r
}

// promisedFiles is what the promises allow on some path.
func promisedFiles(w words) landlock.AccessFSSet {
	if len(w) == 0 {
		return allFiles
	}
	var r landlock.AccessFSSet
	for word := range w {
		switch word {
		case "rpath":
			r |= readFiles
		case "wpath":
			r |= writeFiles
		case "cpath":
			r |= createFiles
		case "dpath":
			r |= createNodes
		case "unix":
			r |= createSockets | connectFiles
		case "exec":
			r |= executeFiles
		}
	}
	if w.any(deviceWords) {
		r |= deviceFiles
	}
	return r
}

// impliedPaths are the files that belong to a promise, whatever Paths says.
func impliedPaths(word string) []Path {
	var names, perm string
	switch word {
	case "dns":
		names, perm = "/etc/resolv.conf /etc/hosts /etc/nsswitch.conf /etc/services /etc/host.conf /etc/gai.conf", "r"
	case "getpw":
		names, perm = "/etc/passwd /etc/group /etc/nsswitch.conf", "r"
	case "ps":
		names, perm = "/proc", "r"
	case "vminfo":
		names, perm = "/proc/meminfo /proc/vmstat /proc/stat /proc/loadavg /proc/uptime", "r"
	case "tmppath":
		names, perm = "/tmp", "rwc"
	case "tty":
		names, perm = "/dev/tty", "rw"
	}
	var paths []Path
	for name := range strings.FieldsSeq(names) {
		paths = append(paths, Path{name, perm})
	}
	return paths
}
