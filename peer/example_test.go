package peer_test

import (
	"context"
	"fmt"
	"io"
	"os"

	"example.org/imsg"
	"example.org/imsg/peer"
)

// The types of the messages that the examples' two ends have agreed upon.
const (
	msgOpen  uint32 = iota + 1 // a name: may I have this file?
	msgFile                    // here it is
	msgNames                   // which are there?
	msgName                    // one of them, more follow
	msgEnd                     // no more
	msgError                   // what failed
)

// The worker may open nothing. It asks the opener, which opens what its policy
// allows.
func Example() {
	a, b, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	opener := peer.New(a, &peer.Config{ErrorType: msgError})
	opener.Handle(peer.Rule{Type: msgOpen, Handle: func(_ context.Context, r *peer.Incoming) error {
		name := string(r.Bytes())
		if name != os.DevNull {
			return fmt.Errorf("%q is not for you", name)
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return r.Reply(msgFile, f)
	}})
	served := make(chan error)
	go func() { served <- opener.Serve(context.Background()) }()

	worker := peer.New(b, &peer.Config{ErrorType: msgError})
	for _, name := range []string{os.DevNull, "/etc/shadow"} {
		m, err := worker.Call(context.Background(), peer.Request{Type: msgOpen, Data: []byte(name), Ends: []uint32{msgFile}})
		if err != nil {
			fmt.Println(err)
			continue
		}
		f := m.TakeFile()
		m.Close()
		data, err := io.ReadAll(f)
		f.Close()
		fmt.Printf("%d bytes, %v\n", len(data), err)
	}
	worker.Close()
	fmt.Println("opener:", <-served)
	// Output:
	// 0 bytes, <nil>
	// peer: call type 1 failed at the other end: "/etc/shadow" is not for you
	// opener: <nil>
}

// An answer of many messages is a loop.
func ExamplePeer_Stream() {
	a, b, err := imsg.Pair(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	server, client := peer.New(a, nil), peer.New(b, nil)
	server.Handle(peer.Rule{Type: msgNames, Handle: func(_ context.Context, r *peer.Incoming) error {
		for _, name := range []string{"alice", "bob"} {
			if err := r.Reply(msgName, nil, []byte(name)); err != nil {
				return err
			}
		}
		return r.Reply(msgEnd, nil)
	}})
	served := make(chan error)
	go func() { served <- server.Serve(context.Background()) }()

	names := peer.Request{Type: msgNames, Items: []uint32{msgName}, Ends: []uint32{msgEnd}}
	for m, err := range client.Stream(context.Background(), names) {
		if err != nil {
			fmt.Println(err)
			break
		}
		if m.Type() == msgName {
			fmt.Printf("%s\n", m.Bytes())
		}
		m.Close()
	}
	client.Close()
	fmt.Println(<-served)
	// Output:
	// alice
	// bob
	// <nil>
}

// With a codec, requests and answers are values.
func ExampleHandlerOf() {
	type user struct{ Name string }
	type entry struct {
		ID    int
		Shell string
	}
	a, b, err := imsg.Pair(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	server, client := peer.New(a, nil), peer.New(b, nil)
	const msgUser, msgEntry = 10, 11
	server.Handle(peer.Rule{Type: msgUser, Handle: peer.HandlerOf(peer.JSON{}, msgEntry,
		func(_ context.Context, u user) (entry, error) {
			return entry{ID: 1000 + len(u.Name), Shell: "/bin/ksh"}, nil
		})})
	served := make(chan error)
	go func() { served <- server.Serve(context.Background()) }()

	e, err := peer.CallTyped[user, entry](context.Background(), client, peer.JSON{}, msgUser, msgEntry, user{"alice"})
	fmt.Println(e.ID, e.Shell, err)
	client.Close()
	<-served
	// Output: 1005 /bin/ksh <nil>
}
