package imsg

// A crowd is how many more sends may expect that other goroutines send at the
// same time. Such a send gives them a chance to queue their messages first: a
// system call costs more than that, and carries them all. Without company
// nobody waits for any.
type crowd int

// maxCrowd is for how many sends company is expected after it was met.
const maxCrowd = 64

// met tells whether another sender was there.
func (c *crowd) met(company bool) {
	if company {
		*c = maxCrowd
	} else if *c > 0 {
		*c--
	}
}
