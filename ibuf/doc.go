// Package ibuf has the buffers that imsg messages are made of, queues of them,
// and the framing of a byte stream into messages. It is OpenBSD's ibuf_add(3)
// in Go. It never hears of an imsg header: whoever uses it brings a header
// function, so it serves other protocols with a length in their header too.
//
//	   Buffer   written at its end, read from its start, may carry a file
//	   View     the reading half, on anybody's bytes
//	   Queue    Buffers in a row
//
//	Buffer --Push--> MsgBuf --WriteStream, Drain--> socket
//	Buffer <--Get--- MsgBuf <--ReadStream, Fill------- socket
//
// # Ownership
//
// Input slices are copied. Bytes, Slice, View and Reserve alias the buffer's
// memory and are valid until it is closed or appended to. A Buffer owns its
// file; a queue owns the Buffers in it. Closing clears memory, as secrets may
// travel here.
//
// # Limits
//
// A Buffer never grows beyond the maximum that it was made with, which is at
// most 2147483647 bytes. A MsgBuf has none for what waits in it: the
// [HeaderFunc] bounds each message, and the caller how many are read before
// some are taken, or queued before some are written. Memory grows with the
// bytes that arrive, not with the size that a header announces.
//
// # Errors
//
// [ErrTooLarge], [ErrShort], [ErrNoNUL] and [ErrInvalid]; each also matches,
// with errors.Is, the errno that C reports. A method that fails has changed
// nothing.
//
// # Concurrency
//
// Nothing here may be used by several goroutines at a time, except that the
// Buffers a MsgBuf has returned are independent of it and of each other.
package ibuf
