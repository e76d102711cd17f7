package sandbox_test

import (
	"fmt"
	"log"
	"os"

	"example.org/imsg/privsep/sandbox"
)

// A program opens what it needs and gives up the rest. Here it must not be able
// to start unless the system restricts it with everything it has.
func ExampleEnter() {
	input, err := os.Open("/var/log/messages")
	if err != nil {
		log.Fatal(err)
	}
	status, err := sandbox.Enter(sandbox.Policy{
		Promises: "stdio rpath",
		Paths:    []sandbox.Path{{Name: "/usr/share/zoneinfo", Perm: "r"}},
		Limits:   sandbox.Limits{FileSize: new(uint64(0))},
		Require:  sandbox.Native(),
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(status)
	parse(input) // whatever this file makes it do, it stays in here
}

func parse(*os.File) {}

// Mistakes are found on every system, also where the word means nothing.
func ExamplePolicy_Check() {
	fmt.Println(sandbox.Policy{Promises: "stdio inet recv_fd"}.Check())
	fmt.Println(sandbox.Policy{
		Promises: "stdio rpath",
		Paths:    []sandbox.Path{{Name: "/etc/ssl", Perm: "r"}, {Name: "/var/db", Perm: "rwd"}},
	}.Check())
	// Output:
	// sandbox: promise 3: unknown word "recv_fd"
	// sandbox: path 2: /var/db: permission 3 of "rwd" is none of r w x c
}
