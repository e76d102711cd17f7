package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// plain is a codec for messages that are bytes, *[]byte, so that no time goes
// into protobuf.
type plain struct{}

func (plain) Name() string { return "plain" }

func (plain) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

// Unmarshal uses the memory that v has.
func (plain) Unmarshal(data mem.BufferSlice, v any) error {
	p, n := v.(*[]byte), data.Len()
	if cap(*p) < n {
		*p = make([]byte, n)
	}
	*p = (*p)[:n]
	data.CopyTo(*p)
	return nil
}

const (
	grpcEcho  = "/bench.Bench/Echo"
	grpcCount = "/bench.Bench/Count"
)

// grpcService is the service without generated code.
var grpcService = grpc.ServiceDesc{
	ServiceName: "bench.Bench",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			p := new([]byte)
			return p, decode(p)
		},
	}},
	Streams: []grpc.StreamDesc{{StreamName: "Count", ClientStreams: true, Handler: grpcCounts}},
}

// grpcCounts counts the messages of one stream.
func grpcCounts(_ any, s grpc.ServerStream) error {
	p := new([]byte)
	for count := uint32(0); ; count++ {
		err := s.RecvMsg(p)
		if errors.Is(err, io.EOF) {
			*p = binary.NativeEndian.AppendUint32(nil, count)
			return s.SendMsg(p)
		}
		if err != nil {
			return err
		}
	}
}

func grpcServe(int) error {
	l, err := newListener()
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(plain{}), grpc.ReadBufferSize(batch), grpc.WriteBufferSize(batch))
	s.RegisterService(&grpcService, nil)
	s.Serve(l) // until the channel's end
	return nil
}

func grpcDial() (*grpc.ClientConn, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///channel",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return c, nil }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(batch), grpc.WithWriteBufferSize(batch),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plain{})))
}

// grpcStream is a call with a stream of requests for each turn.
func grpcStream(size int) (step, error) {
	c, err := grpcDial()
	if err != nil {
		return nil, err
	}
	payload := make([]byte, size)
	return func(n int) error {
		s, err := c.NewStream(background, &grpcService.Streams[0], grpcCount)
		if err != nil {
			return err
		}
		for range n {
			if err := s.SendMsg(&payload); err != nil {
				return err
			}
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		var reply []byte
		if err := s.RecvMsg(&reply); err != nil {
			return err
		}
		return counted(binary.NativeEndian.Uint32(reply), n)
	}, nil
}

func grpcPing(size int) (step, error) {
	c, err := grpcDial()
	if err != nil {
		return nil, err
	}
	payload, reply := make([]byte, size), []byte(nil)
	return func(n int) error {
		for range n {
			if err := c.Invoke(background, grpcEcho, &payload, &reply); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
