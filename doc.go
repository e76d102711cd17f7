// Package imsg passes whole messages, and files with them, between processes
// of one machine over a Unix domain stream socket. It is OpenBSD's imsg(3) in
// Go and speaks to its C programs byte for byte, in both layouts that their
// header has had.
//
//	 process with rights                        process without
//	+--------------------+                    +--------------------+
//	| Send(header, file, |   one connected    | Receive() Message  |
//	|      payload)      |===================>|   Type ID PID      |
//	|                    |    unix socket     |   payload          |
//	| Receive()          |<===================|   TakeFile()       |
//	+--------------------+                    +--------------------+
//
// A message is a 16-byte header (type, length, id, pid), a payload of up to
// 16368 bytes unless both sides raise that, and at most one file. Programs that
// split themselves into processes with different rights use it to ask each
// other for things: the one that may open a file opens it and passes the
// descriptor to the one that may not.
//
// There are two ways to use it. A [Conn] is for goroutines:
//
//	c, err := imsg.Dial(ctx, "/run/exampled.sock", &imsg.Config{AllowFDPass: true})
//	...
//	err = c.Send(ctx, imsg.Header{Type: msgOpen, ID: 7}, nil, []byte(path))
//	...
//	m, err := c.Receive(ctx)
//	...
//	defer m.Close()
//	f := m.TakeFile()
//
// A [Buf] is for programs with an event loop of their own, as in C:
//
//	b := imsg.NewBuf(fd, nil)
//	for wait(fd, b.QueueLen() > 0) { // poll(2), POLLOUT only while something is queued
//		if err := b.ReadSocket(); err != nil { // io.EOF: closed between messages
//			return err
//		}
//		for m := range b.All() {
//			dispatch(m)
//			m.Close()
//		}
//		if err := b.WriteSocket(); err != nil {
//			return err
//		}
//	}
//
// # Ownership
//
// Payload slices given to Send, Queue and Compose are copied. A received
// message owns its payload and its file until Close; then its memory is
// cleared and used again. Copy what should be kept, and take a file that should
// be kept. A file given to Conn.Send is borrowed. A file given to Conn.Compose
// or Buf.Compose belongs to the queue if the error is nil. A Conn owns its
// socket, a Buf borrows its descriptor.
//
// # Limits
//
// File passing is off until Config asks for it; files that come unasked are
// closed. Messages are limited in size ([Conn.SetMaxSize]), and what waits to
// be sent in bytes, messages and files ([Config]). Nothing that a peer writes
// makes a channel allocate more than a few times what the peer has sent.
//
// # Errors
//
// io.EOF, bare, is the end of a channel between messages. Everything else is an
// [*OpError], which unwraps to what errors.Is and errors.As look for:
// io.ErrUnexpectedEOF, [*HeaderError], net.ErrClosed, os.ErrDeadlineExceeded,
// context errors, *os.SyscallError. Errors of the stream are final for their
// direction. A file that was lost on the way is not an error of the stream:
// the message says it ([Message.FileErr]).
//
// # Concurrency
//
// A Conn and a Listener may be used by many goroutines at a time; a Buf, a
// Builder and each Message by one at a time.
package imsg
