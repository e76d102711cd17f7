package imsg_test

import (
	"testing"

	"example.org/imsg/internal/testutil"

	"example.org/imsg"
	"example.org/imsg/imsgtest"
)

// TestUnclaimedAfterFullReads sends files that no message claims: the first
// two with so much that reads fill their memory one after the other. None may
// stay open once the messages that it came with are there.
func TestUnclaimedAfterFullReads(t *testing.T) {
	testutil.BothSides(t, imsg.Config{AllowFDPass: true}, func(t *testing.T, peer *imsgtest.Socket, s *testutil.Side) {
		var probes []*testutil.Probe
		for _, count := range []int{3, 40, 1, 1, 1} {
			p := testutil.NewProbe(t)
			var data []byte
			for range count {
				data = append(data, testutil.Frame(imsg.Current, 1, 2000, false)...)
			}
			peer.Write(data, p.Fd())
			p.W.Close()
			probes = append(probes, p)
		}
		for range 3 + 40 + 3 {
			testutil.MustNext(t, s, 1, 2000).Close()
		}
		for i, p := range probes {
			if !p.Closed() {
				t.Errorf("file %d of %d, which no message claims, is open", i+1, len(probes))
			}
		}
	})
}
