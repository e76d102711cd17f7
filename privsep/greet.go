package privsep

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"example.org/imsg"
)

// greet learns who this process is to be.
func (c *child) greet() error {
	m, err := expect(c.ctx, c.ctl, ctlHello, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := unmarshal(m, &c.hello); err != nil {
		return err
	}
	build, err := fingerprint()
	if err != nil {
		return err
	}
	if c.hello.Protocol != protocol || c.hello.Build != build {
		return fmt.Errorf("%w: %s, protocol %d, and %s, protocol %d", ErrBuild, c.hello.Build, c.hello.Protocol, build, protocol)
	}
	c.role = c.d.role(c.name.Role)
	if c.role == nil || c.hello.Role != c.name.Role || c.hello.Instance != c.name.Instance {
		return fmt.Errorf("%w: started as %s[%d], greeted as %s[%d]", ErrProtocol, c.name.Role, c.name.Instance, c.hello.Role, c.hello.Instance)
	}
	setTitle(c.name.Role)
	c.proc = newProc(c.name, slog.New(newLogHandler(c.ctl, c.hello.Level)), c.hello.Peers)
	c.proc.dirs, c.proc.work = c.hello.Dirs, c.hello.Workers
	c.proc.report = c.report
	c.proc.ending = c.ctx
	c.proc.know(peerRole{Name: Parent, Instances: 1, Passes: passes(c.hello.Sandbox)})
	if !c.hello.Root {
		c.proc.root = c.hello.Chroot
	}
	slog.SetDefault(c.proc.log)
	return nil
}

// receive takes the configuration, the files and the channels. From then on
// the parent may say go or stop at any time.
func (c *child) receive() error {
	for len(c.proc.config) < c.hello.Config {
		m, err := expect(c.ctx, c.ctl, ctlConfig, false)
		if err != nil {
			return err
		}
		c.proc.config = append(c.proc.config, m.Bytes()...)
		m.Close()
	}
	for range c.hello.Files {
		m, err := expect(c.ctx, c.ctl, ctlFile, true)
		if err != nil {
			return err
		}
		c.proc.files[string(m.Bytes())] = m.TakeFile()
		m.Close()
	}
	for range c.hello.channels() {
		m, err := expect(c.ctx, c.ctl, ctlPeer, true)
		if err != nil {
			return err
		}
		err = c.meet(m)
		m.Close()
		if err != nil {
			return err
		}
	}
	go c.listen()
	return nil
}

// report tells the parent who has broken the rules.
func (c *child) report(name peerName, err error) {
	c.send(ctlBroken, broken{name, err.Error()[:min(len(err.Error()), maxText)]})
}

// meet takes the end of a channel.
func (c *child) meet(m imsg.Message) error {
	var name peerName
	if err := unmarshal(m, &name); err != nil {
		return err
	}
	r, ok := c.proc.known[name.Role]
	if !ok || name.Instance < 0 || name.Instance >= r.Instances {
		return fmt.Errorf("%w: a channel to %s[%d]", ErrProtocol, name.Role, name.Instance)
	}
	conn, err := newConn(m.TakeFD(), r.Passes)
	if err != nil {
		return err
	}
	c.proc.put(name, conn)
	return nil
}

// listen waits for what the parent says, until it says stop or is gone. A child
// does not outlive its parent for longer than the grace.
func (c *child) listen() {
	for m, err := range c.ctl.All(context.Background()) {
		if err != nil {
			break
		}
		typ := m.Type()
		switch {
		case typ == ctlGo && !c.mayRun():
			close(c.run)
		case typ == ctlPeer:
			if err = m.FileErr(); err == nil {
				err = c.meet(m)
			}
		case typ == ctlStop:
			c.cancel()
		default:
			err = fmt.Errorf("%w: message type %d", ErrProtocol, typ)
		}
		m.Close()
		if err != nil {
			c.proc.log.Error("control channel", "err", err)
			break
		}
	}
	c.cancel()
	time.AfterFunc(c.hello.Grace, func() { os.Exit(1) })
}
