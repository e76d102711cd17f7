package tmux

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"example.org/imsg"
)

// again asks for the version once more: with files the dialect must be right,
// and the server may be another one than at the time of Dial.
func (c *Client) again(ctx context.Context) (*Client, imsg.Dialect, error) {
	now := *c
	var err error
	now.version, now.dialect, err = c.probe(ctx)
	if err == nil && now.dialect == imsg.Auto {
		err = errDialect
	}
	return &now, now.dialect, err
}

// beginControl starts a control client, with pipes of its own: the server makes
// its ends non-blocking, and who holds them could stop it.
func (c *Client) beginControl(ctx context.Context, d imsg.Dialect, cmd *Command) (talk *conversation, in, out *os.File, err error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return nil, nil, nil, err
	}
	defer outW.Close()
	if talk, err = c.begin(ctx, d, cmd, inR, outW); err != nil {
		inW.Close()
		outR.Close()
		return nil, nil, nil, err
	}
	return talk, inW, outR, nil
}

// execControl is Exec for a control client.
func (c *Client) execControl(ctx context.Context, cmd *Command) (int, error) {
	now, d, err := c.again(ctx)
	if err != nil {
		return 0, err
	}
	talk, in, out, err := now.beginControl(ctx, d, cmd)
	if err != nil {
		return 0, err
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		defer in.Close()
		if cmd.Stdin != nil {
			io.Copy(struct{ io.Writer }{in}, cmd.Stdin)
		}
	}()
	var work sync.WaitGroup
	var failed error
	work.Go(func() {
		defer out.Close()
		w := cmd.Stdout
		if w == nil {
			w = io.Discard
		}
		if _, failed = io.Copy(w, struct{ io.Reader }{out}); failed != nil && !errors.Is(failed, os.ErrDeadlineExceeded) {
			talk.conn.Close()
			return
		}
		failed = nil
	})
	err = talk.serve(ctx)
	out.SetReadDeadline(time.Now().Add(closeLimit))
	in.Close()
	work.Wait()
	waitShortly(fed)
	if failed != nil {
		return 0, failed
	}
	if err == nil && cmd.Stdout != nil { // the client's part
		_, err = io.WriteString(cmd.Stdout, exitLine(talk.reason))
	}
	return talk.status, err
}

func exitLine(reason string) string {
	return strings.TrimSuffix("%exit "+reason, " ") + "\n"
}
