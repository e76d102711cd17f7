package tmux_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"example.org/imsg/proto/tmux"
)

// List the windows of all sessions, many commands in one message.
func ExampleClient_RunList() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := tmux.Dial(ctx, tmux.DefaultSocket(), nil)
	if err != nil {
		log.Fatal(err) // says how to start a server if there is none
	}
	results, err := c.RunList(ctx, [][]string{
		{"list-sessions", "-F", "#{session_name}"},
		{"list-windows", "-a", "-F", "#{window_id} #{window_name}"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		if err := r.Err(); err != nil {
			log.Fatal(err) // the first error ends the list
		}
		fmt.Printf("%s\n", r.Stdout)
	}
}

// Follow what a pane prints.
func ExampleClient_Control() {
	ctx := context.Background()
	c, err := tmux.Dial(ctx, tmux.DefaultSocket(), nil)
	if err != nil {
		log.Fatal(err)
	}
	k, err := c.Control(ctx, "work")
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	for e := range k.Events() {
		switch e := e.(type) {
		case tmux.ExtendedOutput:
			fmt.Printf("%s: %q\n", e.Pane, e.Data)
		case tmux.Lost: // we were too slow
			screen, err := c.Capture(ctx, "%0")
			fmt.Printf("%s %v\n", screen, err)
		case tmux.Pause: // this process was, for five seconds
			k.Run(ctx, "refresh-client", "-A", e.Pane+":continue")
		case tmux.Exit:
			fmt.Println("the end:", e.Reason)
		}
	}
}
