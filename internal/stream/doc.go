// Package stream is the engine of a channel: a [Framer] cuts a stream of bytes,
// and the descriptors that travel with it, into messages, each of which is a
// [Frame]; a [Writer] queues messages and tells what the next write should
// carry. Both are pure: they make no system call but close(2), and know no
// header. Packages ibuf and imsg bring that and the sockets.
package stream
