package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"example.org/imsg"
)

// turn is how many messages a channel gets before it is the next one's turn.
const turn = 16

// channelPeers returns a peer for each number of channels for which there are
// enough descriptors.
func channelPeers(numbers ...int) (peers []peer) {
	for _, k := range numbers {
		if k+spareFiles <= fileLimit() {
			peers = append(peers, channels(k))
		}
	}
	return peers
}

// channels is k Conns between the two processes, all of them busy. Their
// sockets go over descriptor 3, which afterwards only serves to wait for the
// server.
func channels(k int) peer {
	return peer{
		name:  fmt.Sprint("k=", k),
		drive: func(size int) (step, error) { return channelsDrive(k, size) },
		serve: channelsSink,
	}
}

func channelsDrive(k, size int) (step, error) {
	control, err := imsg.NewConn(channel, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return nil, err
	}
	conns := make([]*imsg.Conn, k)
	for i := range conns {
		if conns[i], err = openChannel(control); err != nil {
			return nil, err
		}
	}
	payload, next, total := make([]byte, size), 0, uint64(0)
	return func(n int) error {
		for left := n; left > 0; {
			c, k := conns[next], min(left, turn)
			next = (next + 1) % len(conns)
			for i := range k {
				h := imsg.Header{Type: typeData}
				if i == k-1 {
					h.ID = uint32(k)
				}
				if err := c.Compose(h, nil, payload); err != nil {
					return err
				}
			}
			if err := c.Flush(background); err != nil {
				return err
			}
			left -= k
		}
		total += uint64(n)
		until := binary.NativeEndian.AppendUint64(nil, total)
		if err := control.Send(background, imsg.Header{Type: typeSync}, nil, until); err != nil {
			return err
		}
		m, err := control.Receive(background)
		if err != nil {
			return err
		}
		return m.Close()
	}, nil
}

// openChannel returns our side of a new Conn and passes the other one.
func openChannel(control *imsg.Conn) (*imsg.Conn, error) {
	ours, theirs, err := imsg.Pair(nil)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	f, err := theirs.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ours, control.Send(background, imsg.Header{Type: typeData}, f)
}

// A tally counts the messages of all channels, and tells when there are as many
// as the driver waits for.
type tally struct {
	total, target atomic.Uint64
	reached       func() error
}

func (t *tally) add(n uint64) error {
	t.total.Add(n)
	return t.check()
}

func (t *tally) await(n uint64) error {
	t.target.Store(n)
	return t.check()
}

// check tells it once, whoever comes last.
func (t *tally) check() error {
	if n := t.target.Load(); n != 0 && t.total.Load() >= n && t.target.CompareAndSwap(n, 0) {
		return t.reached()
	}
	return nil
}

// channelsSink has a goroutine in Receive for every channel.
func channelsSink(int) error {
	ctx, cancel := context.WithCancelCause(background)
	defer cancel(nil)
	control, err := imsg.NewConn(channel, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return err
	}
	t := &tally{reached: func() error { return control.Send(ctx, imsg.Header{Type: typeSync}, nil) }}
	for m, err := range control.All(ctx) {
		if err != nil {
			return context.Cause(ctx)
		}
		if f := m.TakeFile(); f != nil {
			go func() {
				if err := receiveAll(f, t); err != nil {
					cancel(err)
				}
			}()
		} else if err := t.await(binary.NativeEndian.Uint64(m.Bytes())); err != nil {
			return err
		}
		m.Close()
	}
	return nil
}

func receiveAll(f *os.File, t *tally) error {
	c, err := imsg.FileConn(f, nil)
	f.Close()
	if err != nil {
		return err
	}
	defer c.Close()
	for m, err := range c.All(background) {
		if err != nil {
			return err
		}
		if n := m.ID(); n != 0 { // the last of a turn
			if err := t.add(uint64(n)); err != nil {
				return err
			}
		}
		m.Close()
	}
	return nil
}
