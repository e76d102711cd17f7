package imsg_test

import (
	"testing"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestUnclaimedAfterFullReads sends files that no message claims: the first
// two with so much that reads fill their memory one after the other. None may
// stay open once the messages that it came with are there.
func TestUnclaimedAfterFullReads(t *testing.T) {
	bothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *side) {
		var probes []*probe
		for _, count := range []int{3, 40, 1, 1, 1} {
			p := newProbe(t)
			var data []byte
			for range count {
				data = append(data, frame(imsg.Current, 1, 2000, false)...)
			}
			peer.Write(data, p.fd())
			p.w.Close()
			probes = append(probes, p)
		}
		for range 3 + 40 + 3 {
			mustNext(t, s, 1, 2000).Close()
		}
		for i, p := range probes {
			if !p.closed() {
				t.Errorf("file %d of %d, which no message claims, is open", i+1, len(probes))
			}
		}
	})
}
