//go:build unix && !aix

package unixmsg_test

import (
	"testing"

	"example.org/imsg/imsgtest"
)

func TestMain(m *testing.M) { imsgtest.Main(m) }
