// Package ntpd asks OpenNTPD over its control socket what ntpctl shows: whether
// the clock is synced, and what is known about peers and sensors.
//
//	c, err := ntpd.Dial(ctx, ntpd.DefaultSocket(), nil)
//	...
//	s, err := c.Status(ctx)
//	...
//	fmt.Println(s.Synced, s.Stratum, s.ClockOffset)
//
// It knows these versions, by the size of their status:
//
//	version          status, LP64   dialect
//	6.2p3 (2018)     56 bytes       legacy
//	6.8p1 (2020)     48 bytes       legacy
//	7.9p1 (2026)     48 bytes       current
//
// The two dialects are the same here on a little-endian machine, and on another
// one Dial finds out. On 32-bit machines a time_t has 64 bits in these layouts,
// as on OpenBSD; a daemon with shorter ones is a *control.SizeError. On i386 the
// sizes are the same, and the layout is taken for the later one.
//
// Errors are *control.Errors. A daemon that does not answer is waited for as
// long as the context lets.
package ntpd
