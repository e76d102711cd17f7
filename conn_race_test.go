//go:build race

package imsg_test

const raceOn = true
