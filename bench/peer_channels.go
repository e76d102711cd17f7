package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"example.org/imsg"
)

const (
	turn          = 16 // messages that a channel gets before it is the next one's turn
	channelRounds = 20 // turns of each channel in a round at least
)

// channelPeers returns a peer for each number of channels for which there are
// enough descriptors.
func channelPeers(numbers ...int) (peers []peer) {
	for _, of := range []func(k int) peer{channels, netChannels} {
		for _, k := range numbers {
			if k+spareFiles <= fileLimit() {
				peers = append(peers, of(k))
			}
		}
	}
	return peers
}

// channels is k Conns between the two processes, all of them busy. Their
// sockets go over descriptor 3, which afterwards only serves to wait for the
// server.
func channels(k int) peer {
	return peer{
		name: fmt.Sprint("k=", k),
		drive: func(size int) (step, error) {
			return channelsDrive(k, func(fd int) (step, error) { return connTurn(fd, size) })
		},
		serve: func(int) error { return channelsSink(receiveAll) },
		least: channelRounds * turn * k,
	}
}

// netChannels is the same with net.UnixConns, whose messages nobody looks at:
// what it costs to have a goroutine for each channel.
func netChannels(k int) peer {
	return peer{
		name: fmt.Sprint("net-", k),
		drive: func(size int) (step, error) {
			return channelsDrive(k, func(fd int) (step, error) { return netTurn(fd, size) })
		},
		serve: func(size int) error {
			return channelsSink(func(f *os.File, t *tally) error { return netReceiveAll(f, t, imsg.HeaderSize+size) })
		},
		least: channelRounds * turn * k,
	}
}

// channelsDrive opens k channels with open, which returns what sends up to turn
// messages on one.
func channelsDrive(k int, open func(fd int) (step, error)) (step, error) {
	control, err := imsg.NewConn(channel, &imsg.Config{AllowFDPass: true})
	if err != nil {
		return nil, err
	}
	sends := make([]step, k)
	for i := range sends {
		if sends[i], err = openChannel(control, open); err != nil {
			return nil, err
		}
	}
	next, total := 0, uint64(0)
	return func(n int) error {
		for left := n; left > 0; {
			k := min(left, turn)
			if err := sends[next](k); err != nil {
				return err
			}
			next = (next + 1) % len(sends)
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

// openChannel passes one side of a new socket pair and opens the other.
func openChannel(control *imsg.Conn, open func(fd int) (step, error)) (step, error) {
	fds, err := socketpair()
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	send, err := open(fds[0])
	if err == nil {
		err = control.Send(background, imsg.Header{Type: typeData}, theirs)
	}
	return send, err
}

// connTurn sends messages, the last of which says how many they are.
func connTurn(fd, size int) (step, error) {
	c, err := imsg.NewConn(fd, nil)
	payload := make([]byte, size)
	return func(n int) error {
		for i := range n {
			h := imsg.Header{Type: typeData}
			if i == n-1 {
				h.ID = uint32(n)
			}
			if err := c.Compose(h, nil, payload); err != nil {
				return err
			}
		}
		return c.Flush(background)
	}, err
}

func netTurn(fd, size int) (step, error) {
	f := os.NewFile(uintptr(fd), "ours")
	defer f.Close()
	c, err := net.FileConn(f)
	p := make([]byte, turn*(imsg.HeaderSize+size))
	return func(n int) error {
		_, err := c.Write(p[:n*(imsg.HeaderSize+size)])
		return err
	}, err
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

// channelsSink has a goroutine in receive for every channel.
func channelsSink(receive func(*os.File, *tally) error) error {
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
				if err := receive(f, t); err != nil {
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

func netReceiveAll(f *os.File, t *tally, size int) error {
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return err
	}
	defer c.Close()
	rest, p := 0, make([]byte, 4<<10)
	for {
		n, err := c.Read(p)
		if err != nil {
			return ended(err)
		}
		rest += n
		if err := t.add(uint64(rest / size)); err != nil {
			return err
		}
		rest %= size
	}
}
