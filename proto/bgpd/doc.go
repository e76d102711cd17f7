// Package bgpd asks OpenBGPD over its control socket what bgpctl shows:
// neighbors, the routes of its RIB, memory, sets and tables.
//
//	c, err := bgpd.Dial(ctx, bgpd.DefaultSocket, nil)
//	...
//	for r, err := range c.RIB(ctx, bgpd.Filter{Best: true}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(r.Prefix, r.ExitNexthop, r.ASPath)
//	}
//
// The payloads are structs of the daemon, which differ between its versions.
// Dial finds out which one it is:
//
//	version    struct peer   memory   dialect   tested with
//	7.7        1744 bytes    200      legacy    7.7
//	8.8        2144          288      current   8.8
//	8.9, 9.0   2160          288, 400 current   headers only
//	9.1        2184          528      current   headers only
//	9.2        1624          528      current   9.3
//
// (On LP64.) Another version is an error that names its sizes and the known ones.
// Without a neighbor 8.8 and 8.9 cannot be told apart: then it is taken for 8.8,
// and times of routes and sets of 8.9 are wrong. On 32-bit machines a time_t has
// 64 bits in these layouts, as on OpenBSD.
//
// A restricted socket answers everything but Tables. Errors are *control.Errors,
// and unwrap to a *ResultError if the daemon refuses a request. A daemon that
// does not answer is waited for as long as the context lets.
package bgpd
