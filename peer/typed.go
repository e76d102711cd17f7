package peer

import (
	"context"
	"encoding/json"
)

// A Codec turns values into payloads and back. Unmarshal gets what the other
// end wrote: it must bound by itself what that costs, and must not keep data.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// JSON is the Codec of package encoding/json.
type JSON struct{}

// Marshal is json.Marshal.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal is json.Unmarshal.
func (JSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// HandlerOf returns a Handler that decodes the payload, calls f and answers with
// what it returns, in a message of the type reply, unless none is expected. A
// payload that cannot be decoded is a violation: it ends the peer.
func HandlerOf[Req, Rep any](codec Codec, reply uint32, f func(context.Context, Req) (Rep, error)) Handler {
	return func(ctx context.Context, r *Incoming) error {
		var req Req
		if err := codec.Unmarshal(r.Bytes(), &req); err != nil {
			return &RuleError{Type: r.Type(), Reason: cut("payload: " + err.Error())}
		}
		rep, err := f(ctx, req)
		if err != nil || !r.WantsAnswer() {
			return err
		}
		data, err := codec.Marshal(rep)
		if err != nil {
			return err
		}
		return r.Reply(reply, nil, data)
	}
}

// CallTyped is a Call with an encoded request of the type typ and an encoded
// answer of the type reply, as HandlerOf gives it. A file that comes with it is
// closed. The errors are Call's and the codec's.
func CallTyped[Req, Rep any](ctx context.Context, p *Peer, codec Codec, typ, reply uint32, req Req) (Rep, error) {
	var rep Rep
	data, err := codec.Marshal(req)
	if err != nil {
		return rep, opError("call", typ, err)
	}
	m, err := p.Call(ctx, Request{Type: typ, Data: data, Ends: []uint32{reply}})
	if err != nil {
		return rep, err
	}
	defer m.Close()
	if err := codec.Unmarshal(m.Bytes(), &rep); err != nil {
		return rep, opError("answer to", typ, err)
	}
	return rep, nil
}
