//go:build linux

package model_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"example.org/imsg/internal/testutil"
)

// step does one operation, if it can be done now, and compares afterwards.
func (w *world) step(o op) {
	e := w.ends[o.end]
	if !o.fits(e.kind) || !w.do(e, o) {
		return
	}
	w.n.steps++
	w.check()
}

// do does one operation and reports whether it could be done.
func (w *world) do(e *endpoint, o op) bool {
	switch o.code {
	case opCompose:
		w.compose(e, o)
	case opBurst:
		for i := range o.a {
			w.compose(e, op{a: o.b, b: min(o.c, max(0, 20-i))}) // 20 files at most
			if e.buf != nil && i%3 == 0 {
				w.composeBuffer(e, op{a: i % 50})
			}
			if e.tx.size > 1<<20 {
				break
			}
		}
	case opComposeBuffer:
		w.composeBuffer(e, o)
	case opSend:
		w.send(e, o)
	case opForward:
		return w.forward(e, o)
	case opCreate:
		w.create(e, o)
	case opAdd, opBuilderMax, opBuilderFile, opCommit, opDiscard:
		return w.build(e, o)
	case opWrite:
		return w.write(e)
	case opFlush:
		return w.flush(e, o.a)
	case opRead:
		return w.read(e)
	case opGet:
		w.get(e, o.a)
	case opAll:
		w.all(e, o.a)
	case opGetBytes, opGetExact, opGetCString, opGetView, opTakeFile, opTakeFD, opClose, opPush:
		return w.use(e, o)
	case opStale:
		if len(e.stale) == 0 {
			return false
		}
		w.useClosed(e, e.stale[o.a%len(e.stale)])
	case opPop:
		w.pop(e)
	case opPushShort:
		w.pushShort(e)
	case opQueueClear:
		w.clearQueue(e)
	case opClear:
		w.clear(e)
	case opSetMax:
		e.setMax(o.a)
		if o.b == 1 && e.peer.ch != nil {
			e.peer.setMax(o.a)
		}
	case opAllow:
		e.buf.AllowFDPass()
		e.fdpass, e.rx.Files = true, true
	case opDeadline:
		w.deadline(e, o.a, o.b)
	case opCloseEnd, opKill:
		if e.dead || o.code == opKill && e.buf == nil {
			return false
		}
		w.die(e, o.code == opKill)
	case opHangup:
		if e.dead || e.hung {
			return false
		}
		w.hangup(e)
	case opRawFrame:
		return w.frame(e, o.a, o.b, o.c)
	case opRawWrite:
		return w.rawWrite(e, o.a)
	case opRawRead:
		return w.rawRead(e, o.a)
	case opGC:
		runtime.GC()
	}
	return true
}

// build is an operation on a Builder.
func (w *world) build(e *endpoint, o op) bool {
	if len(e.builders) == 0 {
		return false
	}
	i := o.a % len(e.builders)
	b := e.builders[i]
	switch o.code {
	case opAdd:
		w.add(b, e.size(o.b), o.c)
	case opBuilderMax:
		b.setMax(e.size(o.b))
	case opBuilderFile:
		w.setFile(b, o.b)
	case opCommit:
		w.commit(e, i)
	case opDiscard:
		w.discard(e, i)
	}
	return true
}

// use is an operation on a received message.
func (w *world) use(e *endpoint, o op) bool {
	if len(e.msgs) == 0 {
		return false
	}
	i := o.a % len(e.msgs)
	switch o.code {
	case opTakeFile, opTakeFD:
		w.takeFile(e.msgs[i], o.code == opTakeFD)
	case opClose:
		w.closeMessage(e, i)
	case opPush:
		w.push(e, i)
	default:
		w.readMessage(e.msgs[i], o)
	}
	return true
}

// A failedAt is where and why a program failed.
type failedAt struct {
	at  int // index of the operation; the number of them for what follows
	why string
}

// run runs a program. Only a disagreement, a panic included, is an error.
func (p *program) run(total *figures) (failed *failedAt) {
	before := openTable()
	at := 0
	hung := time.AfterFunc(testutil.Bound, func() {
		fmt.Fprintf(os.Stderr, "operation %d of this program does not return:\n%v", at, p)
		debug.SetTraceback("all")
		panic("imsg.model: hang")
	})
	defer hung.Stop()
	var w *world
	defer func() {
		if r := recover(); r != nil {
			why := fmt.Sprintf("panic: %v\n%s", r, debug.Stack())
			if f, ok := r.(failure); ok {
				why = string(f)
			}
			failed = &failedAt{at, why}
		}
		if failed != nil && w != nil {
			w.abandon()
		}
	}()
	w = newModelWorld(p)
	for _, o := range p.ops {
		w.step(o)
		at++
	}
	w.drain()
	w.close()
	profiled := flag.Lookup("test.cpuprofile").Value.String() != "" // the profiler reads files
	for fd, open := range openTable() {
		if open != before[fd] && (open || !profiled) {
			fail("descriptor %d: open before %v, after %v", fd, before[fd], open)
		}
	}
	total.add(w.n)
	return nil
}

func (n *figures) add(m figures) {
	n.programs++
	n.steps += m.steps
	n.messages += m.messages
	n.sent += m.sent
	n.bytes += m.bytes
	n.created += m.created
	n.delivered += m.delivered
	n.returned += m.returned
	n.discarded += m.discarded
}
