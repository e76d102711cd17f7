package main

import (
	"net/rpc"
	"sync/atomic"
)

// rpcWindow is how many calls are under way in a stream.
const rpcWindow = 256

// Service is what net/rpc serves.
type Service struct{ count atomic.Uint32 }

// Echo answers with its argument.
func (*Service) Echo(p []byte, reply *[]byte) error {
	*reply = p
	return nil
}

// Take counts one message.
func (s *Service) Take(p []byte, reply *struct{}) error {
	s.count.Add(1)
	return nil
}

// Count returns how many messages were counted, and begins anew.
func (s *Service) Count(_ struct{}, reply *uint32) error {
	*reply = s.count.Swap(0)
	return nil
}

func rpcServe(int) error {
	c, err := netConn()
	if err != nil {
		return err
	}
	s := rpc.NewServer()
	if err := s.Register(new(Service)); err != nil {
		return err
	}
	s.ServeConn(c) // until its end
	return nil
}

// rpcStream has rpcWindow calls under way: net/rpc knows no message without an
// answer.
func rpcStream(size int) (step, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	client, payload, none := rpc.NewClient(c), make([]byte, size), new(struct{})
	calls := make(chan *rpc.Call, rpcWindow)
	return func(n int) error {
		for sent, answered := 0, 0; answered < n; {
			if sent < n && sent-answered < rpcWindow {
				client.Go("Service.Take", payload, none, calls)
				sent++
				continue
			}
			if call := <-calls; call.Error != nil {
				return call.Error
			}
			answered++
		}
		var got uint32
		if err := client.Call("Service.Count", struct{}{}, &got); err != nil {
			return err
		}
		return counted(got, n)
	}, nil
}

func rpcPing(size int) (step, error) {
	c, err := netConn()
	if err != nil {
		return nil, err
	}
	client, payload := rpc.NewClient(c), make([]byte, size)
	return func(n int) error {
		var reply []byte
		for range n {
			if err := client.Call("Service.Echo", payload, &reply); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
