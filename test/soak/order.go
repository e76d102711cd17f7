package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"example.org/imsg"
)

// An ending is how a channel ends.
type ending int32

const (
	killed       ending = iota // the worker is, by SIGKILL
	orderly                    // both have sent all and say so
	parentCloses               // in the middle
	workerCloses               // in the middle
)

func (f ending) String() string {
	return [...]string{"killed", "orderly", "parent closes", "worker closes"}[f]
}

// The two sides of a channel.
const (
	parentSide = 0
	workerSide = 1
)

// An order is everything about one channel that was drawn from the seed. It is
// in shared memory, without pointers: that is how the worker gets it.
type order struct {
	seed      uint64
	channel   uint32 // counts from 1; a worker that is started again is a new one
	ending    ending
	closer    int32 // the side that closes an orderly channel
	buf       bool  // the worker uses a Buf and poll
	files     bool  // file passing
	small     bool  // small socket buffers
	tight     bool  // low limits of the queue
	dialect   [2]imsg.Dialect
	max       int32         // payload bytes
	lanes     int32         // senders on each side
	life      time.Duration // from start to end
	stallFrom int32         // the worker does not read for a while after so many messages
	stall     time.Duration
	busyPoll  time.Duration
}

// dialects are the pairs that understand each other: parent, worker.
var dialects = [...][2]imsg.Dialect{
	{imsg.Current, imsg.Current},
	{imsg.Legacy, imsg.Legacy},
	{imsg.Auto, imsg.Current},
	{imsg.Current, imsg.Auto},
	{imsg.Auto, imsg.Auto},
	{imsg.Auto, imsg.Legacy}, // not on a big-endian machine, where Auto must not speak first
	{imsg.Legacy, imsg.Auto},
}

// draw makes the order of one channel. The first slot's is always stalled.
func draw(seed uint64, channel uint32, slot int, longest time.Duration) order {
	rnd := rand.New(rand.NewPCG(seed, uint64(channel)))
	n := len(dialects)
	if bigEndian {
		n -= 2
	}
	o := order{
		seed: seed, channel: channel,
		ending:  [...]ending{killed, killed, killed, orderly, orderly, orderly, parentCloses, workerCloses}[rnd.IntN(8)],
		closer:  int32(rnd.IntN(2)),
		buf:     rnd.IntN(3) == 0,
		files:   rnd.IntN(10) > 0,
		small:   rnd.IntN(3) == 0,
		tight:   rnd.IntN(4) == 0,
		dialect: dialects[rnd.IntN(n)],
		lanes:   int32(1 + rnd.IntN(3)),
	}
	u := rnd.Float64()
	o.life = time.Duration(u * u * float64(longest)) // many are short
	o.max = [...]int32{imsg.DefaultMaxSize - imsg.HeaderSize, 1000, 65519, 65519}[rnd.IntN(4)]
	if o.dialect == dialects[0] && rnd.IntN(2) == 0 {
		o.max = 150_000
	}
	if rnd.IntN(8) == 0 {
		o.busyPoll = time.Duration(rnd.IntN(50)) * time.Microsecond
	}
	if slot == 0 || rnd.IntN(16) == 0 {
		o.stallFrom = int32(1 + rnd.IntN(200))
		o.stall = time.Duration(rnd.Int64N(int64(longest)/2) + 1)
	}
	return o
}

func (o *order) config(side int) *imsg.Config {
	c := &imsg.Config{Dialect: o.dialect[side], AllowFDPass: o.files, BusyPoll: o.busyPoll}
	if o.tight {
		c.MaxQueueBytes, c.MaxQueueMessages, c.MaxQueueFiles = 30_000, 20, 3
	}
	return c
}

// mayFile reports whether a side that speaks now may send a file: a legacy
// peer overlooks the file of an Auto side that does not know it yet.
func (o *order) mayFile(side int, now imsg.Dialect) bool {
	return o.files && (now != imsg.Auto || o.dialect[1-side] != imsg.Legacy)
}

func (o *order) String() string {
	worker := "conn"
	if o.buf {
		worker = "buf"
	}
	return fmt.Sprintf("seed %d, channel %d (%v/%v, %s, %v after %v, max %d, files %v, small %v, tight %v)", o.seed, o.channel,
		o.dialect[parentSide], o.dialect[workerSide], worker, o.ending, o.life, o.max, o.files, o.small, o.tight)
}
