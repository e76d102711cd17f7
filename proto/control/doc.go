// Package control asks daemons things over their control sockets, as ntpctl and
// bgpctl do: one request, and answers up to one that is the last. It is what
// clients such as packages ntpd and bgpd have in common; a client for another
// daemon needs little more than its types and structs (doc/client.md).
//
// Each request has a connection of its own. So nothing of a request that was
// given up can be taken for an answer to the next one, and requests of several
// goroutines do not get in each other's way.
package control
