// Package payload turns C structs, as the payloads of most imsg messages are,
// into Go values and back, by the layout that a C compiler gives them.
//
// A Go struct stands for the C struct with the same fields in the same order.
// Its tags say what Go's types cannot:
//
//	struct ctl_peer {                    type ctlPeer struct {
//		char            descr[32];           Descr   string `c:"char[32]"`
//		struct in_addr  addr;                Addr    [4]byte
//		in_port_t       port;                Port    uint16 `c:"net"`
//		time_t          up;                  Up      int64
//		size_t          sent;                Sent    uint64 `c:"long"`
//		int             kind;                Kind    int32
//		union {                              Value   struct {
//			uint64_t    number;                  Number uint64  `c:"case=1"`
//			char        text[16];                Text   string  `c:"case=2|3,char[16]"`
//		} value;                             } `c:"union=Kind"`
//	};                                   }
//
// The types are int8 to int64, uint8 to uint64, float32, float64, bool (C's
// _Bool), arrays, structs, and with a tag:
//
//	long      an int64 or uint64 is a C long, size_t or pointer: 4 bytes where those have 4
//	net       an integer, or an array of them, in network byte order
//	char[N]   a string is a char array of N bytes that must hold a NUL; the rest is NULs
//	union=F   a struct is a union; the integer field F, or A.F or F of an embedded A, tells which member it is
//	case=N|M  a member of a union, for these values; one without is for all others
//	tail      the last field, a slice, []byte or string: what follows the struct
//	flex      the last field, a slice: a flexible array member. It may begin in the padding, which without a count is part of
//	          it; with one, the payload may end behind the last element, or have sizeof the struct and the elements
//	count=F   with tail or flex: the field F tells how many elements there are
//	packed    on a field "_ struct{}": the struct or union is packed
//
// A blank field (_ uint32) is skipped, and zero when written. Bit fields are
// refused: their order is the compiler's. So is a Go int, whose size differs
// from C's.
//
// A type is checked once, and then neither reflection nor memory is needed for
// a message, unless it has strings or a slice that must grow. Padding is zero
// in what is written, and ignored in what is read.
//
// # Ownership
//
// What is decoded is a copy: neither a struct nor a layout keeps a payload. A
// slice that a struct has already is filled again if it is long enough.
//
// # Limits
//
// A struct has at most 2147483647 bytes. A slice is made only as long as the
// payload is: what a count says is checked against it first.
//
// # Errors
//
// A payload that cannot be the struct because of its size is a [*SizeError],
// a field that is in the way a [*FieldError]. After an error nothing was
// appended or taken, but a decoded struct may be set in part.
//
// # Concurrency
//
// Everything in this package may be used by many goroutines at a time.
package payload
