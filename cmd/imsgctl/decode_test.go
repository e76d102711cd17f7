package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"example.org/imsg"
)

// BenchmarkDecode shows messages as text and as JSON.
func BenchmarkDecode(b *testing.B) {
	for _, flag := range []string{"", "--json"} {
		for _, n := range []int{16, 80} {
			b.Run(fmt.Sprintf("%d%s", n, flag), func(b *testing.B) {
				p := make([]byte, n)
				imsg.Current.Encode(p, binary.NativeEndian, imsg.Header{Type: 5, ID: 7, PID: 4242}, n, false)
				const messages = 100000
				in := bytes.Repeat(p, messages)
				args := []string{"decode", "--format", "raw", "--profile", "none"}
				if flag != "" {
					args = append(args, flag)
				}
				for b.Loop() {
					a := newApp()
					a.stdin, a.stdout, a.stderr = bytes.NewReader(in), io.Discard, io.Discard
					if a.run(args) != 0 {
						b.Fatal("decode fails")
					}
				}
				b.ReportMetric(float64(messages*b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
