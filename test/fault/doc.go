// Package fault holds tests in which system calls fail, or come up short:
//
//	go test -tags imsgfault ./test/fault
//
// They are for Linux.
package fault
