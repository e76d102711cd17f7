// Hello passes a message and a file through a channel. It is the program of
// the README.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"example.org/imsg"
)

func main() {
	ctx := context.Background()
	parent, worker, err := imsg.Pair(&imsg.Config{AllowFDPass: true})
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.Open("go.mod") // the parent may open files
	if err != nil {
		log.Fatal(err)
	}
	if err := parent.Send(ctx, imsg.Header{Type: 1}, f, []byte("a file for you")); err != nil {
		log.Fatal(err)
	}
	m, err := worker.Receive(ctx) // usually another process: see Conn.File
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	text, err := io.ReadAll(m.TakeFile())
	fmt.Printf("%s: %d bytes, %v\n", m.Bytes(), len(text), err)
}
