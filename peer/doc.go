// Package peer makes requests and answers them on an imsg.Conn: calls that many
// goroutines make at a time, answers of one or many messages, and a table of
// what the other end may ask for, beyond which it is cut off.
//
//	        our end                                the other end
//	+---------------------+                   +---------------------+
//	| Call, Stream        |--- request id 7 ->| table of rules      |
//	|   each waits for    |<-- item id 7 -----|   Handler           |
//	|   its own answer    |<-- end id 7 ------|     Reply, Reply    |
//	|                     |                   |                     |
//	| table of rules      |<-- request id 1 --| Call                |
//	|   Handler, Reply    |--- end id 1 ----->|                     |
//	+---------------------+                   +---------------------+
//
// The end that has rights to give lists what it can be asked for:
//
//	p := peer.New(conn, nil)
//	p.Handle(peer.Rule{Type: msgOpen, Handle: func(ctx context.Context, r *peer.Incoming) error {
//		f, err := policy.Open(string(r.Bytes()))
//		if err != nil {
//			return err // the other end gets the text
//		}
//		defer f.Close()
//		return r.Reply(msgFile, f)
//	}})
//	err := p.Serve(ctx)
//
// and the end without them asks:
//
//	m, err := p.Call(ctx, peer.Request{Type: msgOpen, Data: []byte(name), Ends: []uint32{msgFile}})
//	...
//	defer m.Close()
//	f := m.TakeFile()
//
// The other end need not use this package. Answers are recognised by the
// request's id, or where a server writes none by their order ([Match]), and by
// their type: that of a request should not be the type of an answer too where
// both ends ask. What ends an answer is a type ([Request].Ends) or what a
// function says ([Request].Last).
//
// # What is refused
//
// A request of a type that is not in the table, with a file where none may be,
// without one that must be, for the second time where once is allowed, or in
// the wrong state ([Rule]), an answer that nobody has asked for, and more
// requests than can be held end the peer with [ErrViolation]: its channel is
// closed, and so are the files of what had come.
//
// # Answers
//
// Every request is answered: by what its handler replies, or with an error if
// the handler returns one, panics, or returns nil without a reply and without
// saying that the answer comes later ([Incoming.ReplyLater]). A message that was
// sent with Send has the id 0, expects no answer and cannot be given one. Where
// answers are recognised by their order, the two look alike: there a handler
// that returns nil without a reply answers nothing.
//
// # Ownership
//
// A Peer owns its Conn. Payloads and files given to Call, Stream, Send and
// Reply are copied and borrowed, as by Conn.Send. Messages that Call and Stream
// return are the caller's to close. The message of a request is closed when its
// handler returns; a file that should live longer is taken before, as is a copy
// of its payload. Everything else that comes is closed by the peer.
//
// # Cancellation
//
// When the context of a call ends, so does the call, also if an answer is there
// by then. If nothing of its request was sent, nothing will be. If some of it
// was, the rest follows, and its answer is closed when it comes. With ByID, the
// place of the call among [Config].MaxCalls is free at once; the peer remembers
// four times as many calls that were given up, and of older ones only that it
// has made them. With the other kinds of Match the place is free when the answer
// has ended: what comes next is known only from that. With [Config].CancelType
// the other end hears of it.
//
// # Limits
//
// At most MaxCalls calls are under way, others wait. Nothing is read while
// MaxRequests requests wait for handlers or a [Peer.Stream] holds back 64
// messages, so that the other end has to wait. But as long as somebody here
// waits for the other end, which may be waiting for us, reading goes on up to
// four times as much: no number of calls in both directions, also by handlers,
// stops both ends, however small the socket's buffers are. Beyond that, what
// must not wait any longer fails: the stream that nobody takes for a second, and
// an other end that has more than 4 x MaxRequests + Workers requests which are
// not finished, if all handlers wait for it; with no more it is never ended. The
// table of cases is in internal/flow, and every interleaving of two ends that
// follow it is explored in test/flow.
//
// Requests of up to 4 KiB that wait are copied. A larger one, and a message that
// a stream holds back, keep up to 256 KiB of memory from being used again.
//
// With one worker, handlers at both ends must not wait for each other: there is
// nobody left to answer. With more, a handler that waits for an answer of the
// same peer makes room for another, if it calls with the context that it was
// given. Handlers and the bodies of loops over a stream should not wait in
// other ways for what only the same peer can bring. A reply waits for an end
// that does not read for [Config].WriteTimeout at most.
//
// # Errors
//
// A call fails with a [*RemoteError] if the other end says that the request
// failed, with io.ErrUnexpectedEOF if it is gone, with net.ErrClosed if the
// peer was closed, and with what Conn.Send says about a message that cannot be
// sent. Only what Serve and Err return tells of violations. An other end that
// is gone without having read everything can be ECONNRESET instead of an end.
// The text of a handler's error goes to the other end: it should not say more
// than that end may know. [Peer.Pending] tells what has no answer yet.
//
// # Concurrency
//
// A Peer may be used by many goroutines at a time, a message by one. One
// goroutine reads, handlers have their own, and messages are written by who
// sends them, one at a time. Serve, or Close and Done, wait for all of them.
package peer
