//go:build !linux

package main

// mmsgPeers is empty: the measurement with sendmmsg(2) is written for Linux.
func mmsgPeers() []peer { return nil }
