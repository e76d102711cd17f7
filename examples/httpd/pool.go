package main

import (
	"context"
	"os"
	"sync"
	"time"
)

const (
	poolTime = time.Second // for so long the server goes on with what it was given
	poolSize = 256
)

// A pool keeps files for a moment after they have been used: to ask another
// process for one costs as much as all the rest of a small answer. What happens
// to a file itself is seen at once, and what happens to its name, as when it is
// replaced or removed, after poolTime. Each is used by one request at a time,
// because it has one position.
type pool struct {
	// open returns a regular file, or one of the errors in answers; any other
	// means that it cannot be told now.
	open func(ctx context.Context, name string) (*os.File, error)

	mu   sync.Mutex
	idle map[string][]pooled
	n    int
}

type pooled struct {
	*os.File
	name  string
	since time.Time
}

func newPool(open func(context.Context, string) (*os.File, error)) *pool {
	return &pool{open: open, idle: make(map[string][]pooled)}
}

// get returns a file, to be given to put.
func (p *pool) get(ctx context.Context, name string) (pooled, error) {
	if f, ok := p.take(name); ok {
		return f, nil
	}
	since := time.Now() // before it is looked up
	f, err := p.open(ctx, name)
	return pooled{f, name, since}, err
}

func (p *pool) take(name string) (pooled, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[name]
	if len(list) == 0 || time.Since(list[len(list)-1].since) > poolTime {
		return pooled{}, false // sweep closes them
	}
	f := list[len(list)-1]
	p.set(name, list[:len(list)-1])
	return f, true
}

func (p *pool) put(f pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= poolSize || time.Since(f.since) > poolTime {
		f.Close()
		return
	}
	p.set(f.name, append(p.idle[f.name], f))
}

// set changes the files of a name. p.mu is held.
func (p *pool) set(name string, list []pooled) {
	p.n += len(list) - len(p.idle[name])
	if len(list) == 0 {
		delete(p.idle, name)
		return
	}
	p.idle[name] = list
}

// sweep closes what is too old, until ctx ends.
func (p *pool) sweep(ctx context.Context) {
	tick := time.NewTicker(poolTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.close(poolTime)
		case <-ctx.Done():
			p.close(0)
			return
		}
	}
}

func (p *pool) close(age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, list := range p.idle {
		var young []pooled
		for _, f := range list {
			if time.Since(f.since) > age {
				f.Close()
			} else {
				young = append(young, f)
			}
		}
		p.set(name, young)
	}
}
