// Command soak keeps many processes busy with channels to one parent, in every
// way that the library offers, and accounts for every message and descriptor
// end to end:
//
//	go run ./test/soak -minutes 0.5 [-seed N] [-workers N]
//
// Workers are killed at random moments and started again; other channels are
// closed in the middle, or in order. It prints a line of figures every few
// seconds, and ends at the first discrepancy with status 1. An interrupt ends
// it early, and in order: status 130.
//
//	main.go              flags, signals
//	parent.go            starts workers, and lets each channel end in its way
//	worker.go workbuf.go what a worker does, with a Conn or a Buf
//	link.go load.go      one side of a channel with a Conn, and what it sends
//	outbox.go inbox.go   account for what a side sends and receives
//	account.go pipe.go   what messages and descriptors say about themselves
//	order.go shared.go   what was drawn for a channel, and memory that outlives a killed worker
//	figures.go           compares both sides at the end
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(workerEnv) != "" {
		work()
		return
	}
	minutes := flag.Float64("minutes", 1, "how `long` to run")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what the load is drawn from")
	workers := flag.Int("workers", 12, "processes at a time")
	flag.Parse()
	if flag.NArg() > 0 || *minutes <= 0 || *workers <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	over, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("soak: seed %d, %d workers, %v minutes\n", *seed, *workers, *minutes)
	s, err := run(over, options{*seed, *workers, time.Duration(*minutes * float64(time.Minute))}, func(line string) { fmt.Println(line) })
	fmt.Println(s.line())
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	case over.Err() != nil:
		fmt.Println("soak: interrupted")
		os.Exit(130)
	}
	fmt.Println("soak: everything is accounted for; open descriptors and goroutines as before")
}
