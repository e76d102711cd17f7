package sandbox

import "golang.org/x/sys/unix"

// The numbers below are the same on amd64 and arm64, so the rules for both can
// be made and tested on either.

// commands returns a rule for each value that the second argument of call may have.
func commands(call string, values ...uint32) []rule {
	var rules []rule
	for _, v := range values {
		rules = append(rules, rule{call, []test{arg(1, all32, v)}})
	}
	return rules
}

// memoryRules keep pages from being executable. A program that is executed
// inherits the filter, and its loader has to map code.
func memoryRules(w words) []rule {
	mask := uint32(unix.PROT_EXEC)
	if w.any("prot_exec exec") {
		mask = 0
	}
	return []rule{
		{"mmap", []test{arg(2, mask, 0)}},
		{"mprotect", []test{arg(2, mask, 0)}},
	}
}

// execRules keep a program that may execute others from executing what it has
// written itself: Landlock's paths do not bind files that are in no directory.
func execRules(w words) []rule {
	if !w["exec"] {
		return []rule{{"memfd_create", nil}}
	}
	return []rule{
		{"memfd_create", []test{arg(1, unix.MFD_NOEXEC_SEAL, unix.MFD_NOEXEC_SEAL)}},
		{"execveat", []test{arg(4, unix.AT_EMPTY_PATH, 0)}},
	}
}

// sendRules: a datagram socket can send to any name, which a filter cannot see, so
// a pair is of another kind; and TCP's fast open connects behind Landlock's back.
func sendRules(w words) []rule {
	pair := []rule{
		{"socketpair", []test{arg(0, all32, unix.AF_UNIX), arg(1, kind, unix.SOCK_STREAM)}},
		{"socketpair", []test{arg(0, all32, unix.AF_UNIX), arg(1, kind, unix.SOCK_SEQPACKET)}},
	}
	if w["unix"] {
		pair = []rule{{"socketpair", []test{arg(0, all32, unix.AF_UNIX)}}}
	}
	mask := uint32(unix.MSG_FASTOPEN)
	if w["inet"] {
		mask = 0
	}
	rules := append(pair,
		// What imsg asks about a descriptor that it makes a channel of.
		rule{"getsockopt", []test{arg(1, all32, unix.SOL_SOCKET), arg(2, all32, unix.SO_TYPE)}},
		rule{"getsockopt", []test{arg(1, all32, unix.SOL_SOCKET), arg(2, all32, unix.SO_DOMAIN)}},
		rule{"sendmsg", []test{arg(2, mask, 0)}},
		rule{"sendmmsg", []test{arg(3, mask, 0)}})
	if w.any("inet unix dns route wroute") {
		return append(rules, rule{"sendto", []test{arg(3, mask, 0)}})
	}
	return append(rules, rule{"sendto", null(4)})
}

const kind = 0xf // of a socket's type; the rest is flags

// fcntlRules leave out what sends signals to others or takes leases.
func fcntlRules(w words) []rule {
	rules := commands("fcntl", unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL,
		unix.F_GETOWN, unix.F_SETPIPE_SZ, unix.F_GETPIPE_SZ, unix.F_ADD_SEALS, unix.F_GET_SEALS)
	if w["flock"] {
		rules = append(rules, commands("fcntl", unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW,
			unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)...)
	}
	if w["proc"] {
		rules = append(rules, commands("fcntl", unix.F_SETOWN)...)
	}
	return rules
}

// ioctlRules have single commands.
func ioctlRules(w words) []rule {
	const fionread, fionbio, fionclex, fioclex = 0x541b, 0x5421, 0x5450, 0x5451
	rules := commands("ioctl", fionread, fionbio, fionclex, fioclex, unix.TCGETS)
	if w["tty"] { // never TIOCSTI, which types for the user
		rules = append(rules, commands("ioctl", unix.TCSETS, unix.TCSETSW, unix.TCSETSF, unix.TIOCGWINSZ, unix.TIOCSWINSZ,
			unix.TIOCGPGRP, unix.TIOCSPGRP, unix.TIOCGSID, unix.TCSBRK, unix.TCXONC, unix.TCFLSH, unix.TIOCOUTQ)...)
	}
	return rules
}

// openRules compare the access mode and the creating flags of an open.
func openRules(w words) []rule {
	const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY
	read := w.any("rpath tmppath dns getpw ps vminfo")
	write := w.any("wpath tmppath")
	create := w.any("cpath tmppath")
	var modes []uint32
	if read {
		modes = append(modes, unix.O_RDONLY)
	}
	if write {
		modes = append(modes, unix.O_WRONLY)
	}
	if read && write {
		modes = append(modes, unix.O_RDWR)
	}
	mask := uint32(unix.O_ACCMODE)
	if !write {
		mask |= unix.O_TRUNC
	}
	if !create {
		mask |= unix.O_CREAT | tmpfile
	}
	var rules []rule
	for _, mode := range modes {
		rules = append(rules,
			rule{"open", []test{arg(1, mask, mode)}},
			rule{"openat", []test{arg(2, mask, mode)}})
	}
	if write && create {
		rules = append(rules, rule{"creat", nil})
	}
	return rules
}

// socketRules open sockets of the promised families, and none that is raw.
func socketRules(w words) []rule {
	var rules []rule
	add := func(family, typ uint32, protocols ...uint32) {
		for _, p := range protocols {
			rules = append(rules, rule{"socket", []test{
				arg(0, all32, family), arg(1, kind, typ), arg(2, all32, p)}})
		}
	}
	if w.any("inet dns") {
		for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
			add(family, unix.SOCK_STREAM, 0, unix.IPPROTO_TCP)
			add(family, unix.SOCK_DGRAM, 0, unix.IPPROTO_UDP)
		}
	}
	if w.any(tcpBind + " " + tcpConnect) {
		add(unix.AF_INET, unix.SOCK_STREAM, 0, unix.IPPROTO_TCP)
		add(unix.AF_INET6, unix.SOCK_STREAM, 0, unix.IPPROTO_TCP)
	}
	if w["inet"] { // MPTCP, too, connects behind Landlock's back
		add(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		add(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		add(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
		add(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6)
	}
	if w["unix"] {
		for _, typ := range []uint32{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
			add(unix.AF_UNIX, typ, 0)
		}
	}
	if w.any("route wroute") {
		add(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
		add(unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_ROUTE)
	}
	return append(rules, optionRules(w)...)
}

// optionRules list the socket options that programs use; filters, packet
// rewriting and kernel protocols above TCP are not among them.
func optionRules(w words) []rule {
	var rules []rule
	add := func(level uint32, options ...uint32) {
		for _, o := range options {
			rules = append(rules, rule{"setsockopt", []test{arg(1, all32, level), arg(2, all32, o)}})
		}
	}
	if w.any("inet unix dns route wroute " + tcpAccept) {
		add(unix.SOL_SOCKET, unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_BROADCAST, unix.SO_KEEPALIVE, unix.SO_LINGER,
			unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_RCVLOWAT, unix.SO_OOBINLINE, unix.SO_DONTROUTE, unix.SO_PRIORITY,
			unix.SO_RCVTIMEO, unix.SO_SNDTIMEO, unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPING,
			unix.SO_PASSCRED, unix.SO_RXQ_OVFL, unix.SO_ZEROCOPY)
	}
	if w.any("inet dns " + tcpAccept) {
		add(unix.IPPROTO_TCP, unix.TCP_NODELAY, unix.TCP_MAXSEG, unix.TCP_CORK, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL,
			unix.TCP_KEEPCNT, unix.TCP_SYNCNT, unix.TCP_LINGER2, unix.TCP_DEFER_ACCEPT, unix.TCP_WINDOW_CLAMP,
			unix.TCP_QUICKACK, unix.TCP_CONGESTION, unix.TCP_USER_TIMEOUT, unix.TCP_FASTOPEN,
			unix.TCP_FASTOPEN_CONNECT, unix.TCP_NOTSENT_LOWAT, unix.TCP_MD5SIG, unix.TCP_MD5SIG_EXT) // the last two are BGP's
		add(unix.IPPROTO_UDP, unix.UDP_SEGMENT, unix.UDP_GRO)
		add(unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL, unix.IP_PKTINFO, unix.IP_MTU_DISCOVER, unix.IP_RECVERR,
			unix.IP_RECVTTL, unix.IP_RECVTOS, unix.IP_MINTTL, unix.IP_FREEBIND, unix.IP_BIND_ADDRESS_NO_PORT)
		add(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_V6ONLY, unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT,
			unix.IPV6_TCLASS, unix.IPV6_RECVTCLASS, unix.IPV6_MTU_DISCOVER, unix.IPV6_RECVERR, unix.IPV6_DONTFRAG, unix.IPV6_MINHOPCOUNT)
	}
	if w["mcast"] {
		add(unix.IPPROTO_IP, unix.IP_MULTICAST_IF, unix.IP_MULTICAST_TTL, unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_ALL,
			unix.IP_ADD_MEMBERSHIP, unix.IP_DROP_MEMBERSHIP, unix.IP_ADD_SOURCE_MEMBERSHIP, unix.IP_DROP_SOURCE_MEMBERSHIP,
			unix.MCAST_JOIN_GROUP, unix.MCAST_LEAVE_GROUP, unix.MCAST_JOIN_SOURCE_GROUP, unix.MCAST_LEAVE_SOURCE_GROUP)
		add(unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, unix.IPV6_MULTICAST_HOPS, unix.IPV6_MULTICAST_LOOP,
			unix.IPV6_ADD_MEMBERSHIP, unix.IPV6_DROP_MEMBERSHIP,
			unix.MCAST_JOIN_GROUP, unix.MCAST_LEAVE_GROUP, unix.MCAST_JOIN_SOURCE_GROUP, unix.MCAST_LEAVE_SOURCE_GROUP)
	}
	return rules
}
