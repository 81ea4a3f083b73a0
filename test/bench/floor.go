package main

import (
	"context"
	"net"
	"runtime/debug"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that encoding.GetCodecV2 gives
	"google.golang.org/grpc/mem"
)

// floor answers OK and does nothing else: the least that a grpc-go server with the
// generated code can cost.
type floor struct {
	authv3.UnimplementedAuthorizationServer
}

var ok = &authv3.CheckResponse{Status: &status.Status{}}

func (floor) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return ok, nil
}

// listen listens on host:port, or on a Unix socket.
func listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return net.Listen("unix", path)
	}
	return net.Listen("tcp", address)
}

// serveFloor serves until it is killed.
func serveFloor(address string) error {
	l, err := listen(address)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, floor{})
	return s.Serve(l)
}

// A message is what the bare server is sent and sends: bytes that nobody looks at.
type message []byte

// bareCodec copies what comes, as gatehouse does, and answers OK with as many bytes as
// gatehouse's answers have.
type bareCodec struct{ encoding.CodecV2 }

func (c bareCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	*m = data.Materialize()
	return nil
}

var bareAnswer = append([]byte{0x0a, 0x00, 0x22, 0xac, 0x02}, make([]byte, 300)...)

func (c bareCodec) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*message); !ok {
		return c.CodecV2.Marshal(v)
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(len(bareAnswer))
	copy(*buffer, bareAnswer)
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}

// serveBare serves until it is killed: grpc-go with gatehouse's settings and neither
// decoding nor deciding. What gatehouse costs beyond it is gatehouse's own.
func serveBare(address string) error {
	l, err := listen(address)
	if err != nil {
		return err
	}
	debug.SetGCPercent(400)
	s := grpc.NewServer(grpc.ForceServerCodecV2(bareCodec{encoding.GetCodecV2("proto")}), grpc.NumStreamWorkers(16))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			m := new(message)
			return m, decode(m)
		}}},
	}, nil)
	return s.Serve(l)
}
