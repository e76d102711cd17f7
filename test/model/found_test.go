//go:build linux

package model_test

import (
	"testing"

	"example.org/imsg/internal/testutil"
)

// TestModelFound runs the programs, as short as they were made, with which the
// model has found mistakes.
func TestModelFound(t *testing.T) {
	files := setup{fdpass: true}
	conn := setup{kind: connEnd, fdpass: true}
	raw := setup{kind: rawEnd}
	for _, tt := range []struct {
		name string
		p    program
	}{
		{"a reset before the messages that came before it", program{[2]setup{conn, conn}, []op{
			{code: opCompose},
			{code: opWrite},
			{code: opCompose, end: 1, b: 1},
			{code: opSend, end: 1, b: 1},
			{code: opCloseEnd, end: 1},
		}}},
		{"two files that no message claims, with full reads", program{[2]setup{files, raw}, []op{
			{code: opRawFrame, end: 1, a: underMax, b: 3},
			{code: opRawFrame, end: 1, b: 3},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			if failed := tt.p.run(&figures{}); failed != nil {
				t.Errorf("operation %d: %s\n%v", failed.at, failed.why, &tt.p)
			}
		})
	}
}
