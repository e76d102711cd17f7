package main

import (
	"fmt"
	"runtime"
	"slices"

	"example.org/imsg"
)

// A benchCase is one job that several peers do.
type benchCase struct {
	name  string
	what  string // a heading
	size  int    // bytes of payload
	op    string // what is counted: "message"
	unit  string // of the figures: "ns" of time, or what else the peers count
	fixed int    // operations, done once; 0: as many as fit a slice, in rounds
	base  string // the peer that the table compares with
	peers []peer

	oneCore bool // both processes share one
	load    int  // processes beside them that do nothing but compute
}

const (
	idleConns  = 10000
	burstConns = 16
	allocCount = 100000 // messages
)

// batchOf is how many messages of size bytes of payload are in n bytes.
func batchOf(size, n int) int { return max(1, n/(size+imsg.HeaderSize)) }

// startCase does nothing: it shows what it costs to have two processes.
func startCase() benchCase {
	nothing := func(int) (step, error) { return func(int) error { return nil }, nil }
	return benchCase{name: "start", peers: []peer{{name: "nothing", drive: nothing, serve: rawSink}}}
}

// allCases is the table of everything that can be measured.
func allCases() []benchCase {
	all := []benchCase{
		stream(0),
		stream(64,
			peer{name: "net/rpc", drive: rpcStream, serve: rpcServe},
			peer{name: "grpc", drive: grpcStream, serve: grpcServe},
			peer{name: "ttrpc", drive: ttrpcStream, serve: ttrpcServe},
			peer{name: "godbus", drive: dbusStream, serve: dbusServe},
			peer{name: "gob", drive: gobStream, serve: gobServe},
			peer{name: "json", drive: jsonStream, serve: jsonServe},
		),
		stream(1024),
		stream(16368,
			peer{name: "raw-chunks", drive: rawChunks, serve: rawChunksSink},
			peer{name: "raw-send", drive: rawSend, serve: rawSink},
			peer{name: "conn-send", drive: connSend, serve: connSink},
		),
		{
			name: "send-64", what: "one way, 64 bytes, one message a write", size: 64,
			op: "message", unit: "ns", base: "raw",
			peers: []peer{
				{name: "raw", drive: rawSend, serve: rawSink},
				{name: "raw-sendmsg", drive: rawSendmsg, serve: rawSink},
				{name: "buf", drive: bufSend, serve: bufSink},
				{name: "conn", drive: connSend, serve: connSink},
				{name: "c", c: "send"},
			},
		},
		pingpong(
			peer{name: "net/rpc", drive: rpcPing, serve: rpcServe},
			peer{name: "grpc", drive: grpcPing, serve: grpcServe},
			peer{name: "ttrpc", drive: ttrpcPing, serve: ttrpcServe},
			peer{name: "godbus", drive: dbusPing, serve: dbusServe},
			peer{name: "gob", drive: gobPing, serve: gobServe},
			peer{name: "json", drive: jsonPing, serve: jsonServe},
		),
		{
			name: "file", what: "a descriptor passed, taken and closed",
			op: "file", unit: "ns", base: "raw",
			peers: append([]peer{
				{name: "raw", drive: rawFile, serve: rawFileSink},
				{name: "buf", drive: bufFile, serve: bufFileSink},
				{name: "conn", drive: connFile, serve: connFileSink},
				{name: "conn-queue", drive: connQueueFile, serve: connFileSink},
				{name: "c", c: "file"},
			}, mmsgPeers()...),
		},
		{
			name: "senders", what: "one message a Send, 64 bytes, goroutines on one Conn", size: 64,
			op: "message", unit: "ns", base: "conn-1",
			peers: []peer{
				{name: "conn-1", drive: connSenders(1), serve: connSink},
				{name: "conn-8", drive: connSenders(8), serve: connSink},
				{name: "conn-100", drive: limitedSenders(100), serve: connSink},
				{name: "conn-4000", drive: limitedSenders(4000), serve: connSink, least: 50 * 4000}, // or waking them for the round is what counts
			},
		},
		{
			name: "receivers", what: "there and back, 64 bytes, k goroutines in Receive on one Conn", size: 64,
			op: "round trip", unit: "ns", base: "k=1",
			peers: []peer{receivers(1), receivers(1000)},
		},
		{
			name: "channels", what: "k Conns in turn, 16 messages of 64 bytes each time", size: 64,
			op: "message", unit: "ns", base: "k=1",
			peers: channelPeers(1, 10, 100, 1000),
		},
		{
			name: "decode", what: "cut into messages, 64 bytes, no socket", size: 64,
			op: "message", unit: "ns", base: "memcpy",
			peers: []peer{
				{name: "memcpy", drive: memcpyDecode},
				{name: "framer", drive: framerDecode},
				{name: "framer-batch", drive: framerBatchDecode},
			},
		},
		{
			name: "idle", what: "heap of a Conn that was used and is idle",
			op: "Conn", unit: "B", fixed: min(idleConns, (fileLimit()-spareFiles)/2),
			peers: []peer{{name: "conn", count: connIdle}},
		},
		{
			name: "burst", what: "the same after a message of 64 MiB each way",
			op: "Conn", unit: "B", fixed: burstConns,
			peers: []peer{{name: "conn", count: connBurst}},
		},
		{
			name: "allocs", what: "allocations, sent and received in one process, 64 bytes",
			op: "message", unit: "allocs", fixed: allocCount,
			peers: []peer{
				{name: "conn", count: connAllocs},
				{name: "buf", count: bufAllocs},
				{name: "framer", count: framerAllocs},
			},
		},
		beside(stream(64)),
		beside(pingpong()),
	}
	return append(all, slices.Concat(onOneCore(stream(64)), onOneCore(pingpong()))...)
}

func stream(size int, others ...peer) benchCase {
	return benchCase{
		name: fmt.Sprint("stream-", size), what: fmt.Sprintf("one way, %d bytes, in batches", size), size: size,
		op: "message", unit: "ns", base: "raw",
		peers: append([]peer{
			{name: "raw", drive: rawStream, serve: rawSink},
			{name: "raw-64k", drive: rawSmallStream, serve: rawSmallSink},
			{name: "buf", drive: bufStream, serve: bufSink},
			{name: "buf-batch", drive: bufBatchStream, serve: bufBatchSink},
			{name: "conn", drive: connStream, serve: connSink},
			{name: "conn-batch", drive: connBatchStream, serve: connBatchSink},
			{name: "c", c: "stream"},
		}, others...),
	}
}

func pingpong(others ...peer) benchCase {
	return benchCase{
		name: "pingpong-64", what: "there and back, 64 bytes", size: 64,
		op: "round trip", unit: "ns", base: "net.UnixConn",
		peers: append([]peer{
			{name: "net.UnixConn", drive: netPing, serve: netEcho},
			{name: "raw-block", drive: rawPing, serve: rawEcho},
			{name: "raw-spin", drive: rawSpinPing, serve: rawSpinEcho},
			{name: "buf", drive: bufPing, serve: bufEcho},
			{name: "conn", drive: connPing, serve: connEcho},
			{name: "conn-busy", drive: connBusyPing, serve: connBusyEcho},
			{name: "c", c: "pingpong"},
			{name: "c-block", c: "pingpong-block"},
		}, others...),
	}
}

// onOneCore is c with both processes on the same core. There is none where a
// process cannot be told where to run.
func onOneCore(c benchCase) []benchCase {
	c.name, c.what, c.oneCore = c.name+"-1core", c.what+", both processes on one core", true
	if !canPin {
		return nil
	}
	c.peers = slices.DeleteFunc(c.peers, func(p peer) bool { return p.name == "raw-spin" }) // a millisecond each time
	return []benchCase{c}
}

// beside is c with as many busy processes beside it as there are cores.
func beside(c benchCase) benchCase {
	c.name, c.what, c.load = c.name+"-loaded", fmt.Sprintf("%s, beside %d busy loops", c.what, runtime.NumCPU()), runtime.NumCPU()
	return c
}
