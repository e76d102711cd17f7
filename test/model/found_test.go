//go:build linux

package model_test

import (
	"testing"

	"example.org/imsg/internal/testutil"
)

// TestModelFound runs the programs, as short as they were made, with which the
// model has found mistakes.
func TestModelFound(t *testing.T) {
	files := modelSetup{fdpass: true}
	conn := modelSetup{kind: modelConn, fdpass: true}
	raw := modelSetup{kind: modelRaw}
	for _, tt := range []struct {
		name string
		p    modelProgram
	}{
		{"a reset before the messages that came before it", modelProgram{[2]modelSetup{conn, conn}, []modelOp{
			{code: opCompose},
			{code: opWrite},
			{code: opCompose, end: 1, b: 1},
			{code: opSend, end: 1, b: 1},
			{code: opCloseEnd, end: 1},
		}}},
		{"two files that no message claims, with full reads", modelProgram{[2]modelSetup{files, raw}, []modelOp{
			{code: opRawFrame, end: 1, a: modelUnder, b: 3},
			{code: opRawFrame, end: 1, b: 3},
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testutil.NoLeak(t)
			if failed := tt.p.run(&modelFigures{}); failed != nil {
				t.Errorf("operation %d: %s\n%v", failed.at, failed.why, &tt.p)
			}
		})
	}
}
