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
// A [Buf] is for programs with an event loop of their own, as in C. The loop
// must be level-triggered (poll(2), or epoll without EPOLLET): ReadSocket reads
// once, and returns nil both for data and for nothing.
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
// Payload slices given to Send and Compose are copied; the caller may reuse them
// when the call returns. A received message owns its payload and its file until
// Close; then its memory is cleared and used again. Copy what should be kept,
// and take a file that should be kept ([Message.TakeFile]). A file given to
// Conn.Send is borrowed: it stays the caller's to close. A file given to
// Conn.Compose or Buf.Compose belongs to the queue if the error is nil. A Conn
// owns its socket and closes it, a Buf borrows its descriptor. A call that takes
// something takes it if and only if it returns nil.
//
// # Limits
//
// File passing is off until Config asks for it; files that come unasked are
// closed. Messages are limited in size ([Conn.SetMaxSize], which counts without
// the header), and what waits to be sent in bytes, messages and files
// ([Config]). Nothing that a peer writes makes a channel allocate more than a
// few times what the peer has sent.
//
// # Errors
//
// io.EOF, bare, is the end of a channel between messages; a peer that failed, or
// that could not pass its file and gave up, looks the same. Everything else is
// an [*OpError], which is a net.Error and unwraps to what errors.Is and
// errors.As look for: io.ErrUnexpectedEOF, [*HeaderError], net.ErrClosed,
// os.ErrDeadlineExceeded, context errors, [ErrQueueFull], *os.SyscallError.
// Errors of the stream are final for their direction and are returned again. A
// file that was lost on the way is not an error of the stream: the message says
// it ([Message.FileErr]). Neither is one that cannot be sent:
// [ErrFileNotSent] is about its message only.
//
// # Dialects
//
// OpenBSD 7.7 changed the header. [Current] is the new layout and the default,
// [Legacy] the old one, [Auto] speaks what the peer speaks. A peer of the wrong
// dialect works until the first file is passed.
//
// # Concurrency
//
// A Conn and a Listener may be used by many goroutines at a time, and the two
// directions of a Conn never wait for each other; a Buf, a Builder and each
// Message by one at a time.
//
// # Watching
//
// IMSG_TRACE=1 in the environment shows every message of a program
// ([TraceVar]); Config.Trace does it from within.
package imsg
