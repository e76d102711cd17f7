//go:build !race && unix && !aix

package unixmsg

const raceEnabled = false

func raceSending()               {}
func raceSent(_ [][]byte, _ int) {}
func raceReceived(_ []byte)      {}
