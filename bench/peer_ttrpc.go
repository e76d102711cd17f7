package main

import (
	"context"
	"errors"
	"io"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const ttrpcService = "bench.Bench"

// ttrpcServe needs no generated code: the messages are protobuf's own wrappers.
func ttrpcServe(int) error {
	l, err := newListener()
	if err != nil {
		return err
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	s.RegisterService(ttrpcService, &ttrpc.ServiceDesc{
		Methods: map[string]ttrpc.Method{
			"Echo": func(_ context.Context, decode func(any) error) (any, error) {
				p := new(wrapperspb.BytesValue)
				return p, decode(p)
			},
		},
		Streams: map[string]ttrpc.Stream{"Count": {StreamingClient: true, Handler: ttrpcCounts}},
	})
	s.Serve(background, l) // until the channel's end
	return nil
}

// ttrpcCounts counts the messages of one stream.
func ttrpcCounts(_ context.Context, s ttrpc.StreamServer) (any, error) {
	p := new(wrapperspb.BytesValue)
	for count := uint32(0); ; count++ {
		err := s.RecvMsg(p)
		if errors.Is(err, io.EOF) {
			return wrapperspb.UInt32(count), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// ttrpcStream is a call with a stream of requests for each turn.
func ttrpcStream(size int) (step, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	client, payload := ttrpc.NewClient(c), wrapperspb.Bytes(make([]byte, size))
	return func(n int) error {
		s, err := client.NewStream(background, &ttrpc.StreamDesc{StreamingClient: true}, ttrpcService, "Count", nil)
		if err != nil {
			return err
		}
		for range n {
			if err := s.SendMsg(payload); err != nil {
				return err
			}
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		reply := new(wrapperspb.UInt32Value)
		if err := s.RecvMsg(reply); err != nil {
			return err
		}
		return counted(reply.Value, n)
	}, nil
}

func ttrpcPing(size int) (step, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	client, payload := ttrpc.NewClient(c), wrapperspb.Bytes(make([]byte, size))
	return func(n int) error {
		reply := new(wrapperspb.BytesValue)
		for range n {
			if err := client.Call(background, ttrpcService, "Echo", payload, reply); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
