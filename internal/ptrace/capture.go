package ptrace

import "example.org/imsg/internal/capture"

// Side returns the end that the call was made at, as a capture.Assembler wants
// it.
func (c *Call) Side() capture.Side {
	s := capture.Side{
		Endpoint: capture.Endpoint{PID: c.Process.PID, Exe: c.Process.Exe, FD: c.FD},
		Inode:    c.Socket.Inode, Peer: c.Socket.Peer, Begun: c.Socket.Begun,
	}
	if c.Socket.Accepted {
		s.Name = c.Socket.Path
	} else {
		s.PeerName = c.Socket.Path
	}
	return s
}

// Moved returns what the call moved, as a capture.Assembler wants it. Its Bytes
// are valid as long as Data. A message was sent when its first byte can have
// been, and received when the program has it.
func (c *Call) Moved() capture.Call {
	m := capture.Call{Time: c.End, Bytes: c.Data, Lost: c.Lost, Full: c.Full}
	if c.Write {
		m.Time = c.Start
	}
	if n := len(c.Data); n < c.N {
		m.Bytes = append(c.Data[:n:n], make([]byte, c.N-n)...)
		m.Hidden = []capture.Range{{Beg: n, End: c.N}}
	}
	for _, f := range c.Files {
		from, to := -1, f.FD
		if c.Write {
			from, to = f.FD, -1
		}
		m.Files = append(m.Files, capture.File{From: from, To: to, Kind: f.Kind, Path: f.Path, Flags: f.Flags})
	}
	return m
}
