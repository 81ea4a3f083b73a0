package e2e

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestGRPCDownstream: a client that speaks gRPC gets a gRPC status, and one short line.
func TestGRPCDownstream(t *testing.T) {
	s := start(t)
	for _, front := range fronts {
		conn := harness.Dial(t, s.envoy.Address(t, front))
		for _, test := range []struct {
			name     string
			method   string
			metadata []string
			want     codes.Code
		}{
			{"allowed", "/orders.Orders/Get", []string{"authorization", "Bearer $alice"}, codes.OK},
			{"allowed, with a forged identity", "/orders.Orders/Get", []string{"authorization", "Bearer $alice", "x-user", "mallory"}, codes.OK},
			{"no credential", "/orders.Orders/Get", nil, codes.Unauthenticated},
			{"a bad token", "/orders.Orders/Get", []string{"authorization", "Bearer $expired"}, codes.Unauthenticated},
			{"no role", "/orders.Orders/Get", []string{"authorization", "Bearer $nobody"}, codes.PermissionDenied},
			{"another service", "/billing.Bills/Get", []string{"authorization", "Bearer $alice"}, codes.PermissionDenied},
		} {
			ctx := t.Context()
			for i := 0; i < len(test.metadata); i += 2 {
				ctx = metadata.AppendToOutgoingContext(ctx, test.metadata[i], s.expand(test.metadata[i+1]))
			}
			served := s.upstream.Served()
			var answer structpb.Struct
			err := conn.Invoke(ctx, test.method, &structpb.Struct{}, &answer)
			if got := status.Code(err); got != test.want {
				t.Errorf("%s: %s: %v, want %v (%v)", front, test.name, got, test.want, err)
				continue
			}
			if test.want != codes.OK {
				if message := status.Convert(err).Message(); message == "" || strings.ContainsAny(message, "{\n") {
					t.Errorf("%s: %s: the message is %q, want one line of text", front, test.name, message)
				}
				if s.upstream.Served() != served {
					t.Errorf("%s: %s: refused, and the upstream received it", front, test.name)
				}
				continue
			}
			seen := answer.Fields["metadata"].GetStructValue().Fields
			if got := seen["x-user"].GetStringValue(); got != "alice@acme.example" {
				t.Errorf("%s: %s: the upstream saw x-user %q", front, test.name, got)
			}
			if seen["authorization"] != nil {
				t.Errorf("%s: %s: the token reached the upstream", front, test.name)
			}
		}
	}
}

// TestWebSocket: the handshake is a request like any other.
func TestWebSocket(t *testing.T) {
	s := start(t)
	for _, front := range fronts {
		address := s.envoy.Address(t, front)
		config, err := websocket.NewConfig("ws://"+address+"/me/socket", "http://"+address)
		if err != nil {
			t.Fatal(err)
		}
		if ws, err := websocket.DialConfig(config); err == nil {
			ws.Close()
			t.Errorf("%s: a handshake without a credential succeeds", front)
		}
		config.Header.Set("Authorization", s.expand("Bearer $alice"))
		ws, err := websocket.DialConfig(config)
		if err != nil {
			t.Fatalf("%s: handshake: %v", front, err)
		}
		var got string
		if err := websocket.Message.Send(ws, "hello"); err != nil {
			t.Error(err)
		}
		if err := websocket.Message.Receive(ws, &got); err != nil || got != "hello" {
			t.Errorf("%s: Receive = %q, %v; want hello", front, got, err)
		}
		ws.Close()
	}
}

// TestTCP: a check without an HTTP part is refused, since nothing in the file allows it.
func TestTCP(t *testing.T) {
	s := start(t)
	conn, err := net.Dial("tcp", s.envoy.Address(t, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(settle)); err != nil {
		t.Fatal(err)
	}
	served := s.upstream.Served()
	_, _ = conn.Write([]byte("GET /assets/logo HTTP/1.1\r\nHost: example.com\r\n\r\n")) // Envoy may have hung up already
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("the connection was answered")
	}
	if s.upstream.Served() != served {
		t.Error("the upstream received it")
	}
}

// TestAskedDirectly does what grpcurl does: reflection, health, and a check by hand.
func TestAskedDirectly(t *testing.T) {
	s := start(t)
	conn := harness.Dial(t, s.gatehouse.GRPC)
	ctx, cancel := context.WithTimeout(t.Context(), settle)
	defer cancel()

	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	listed, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var services []string
	for _, service := range listed.GetListServicesResponse().GetService() {
		services = append(services, service.Name)
	}
	for _, want := range []string{"envoy.service.auth.v3.Authorization", "grpc.health.v1.Health"} {
		if !slices.Contains(services, want) {
			t.Errorf("reflection lists %v, not %s", services, want)
		}
	}

	health := grpc_health_v1.NewHealthClient(conn)
	for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
		answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q = %v, %v; want SERVING", service, answer, err)
		}
	}

	client := authv3.NewAuthorizationClient(conn)
	for name, request := range map[string]*authv3.CheckRequest{
		"an empty check":                     {},
		"a check without an HTTP part":       {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
		"an HTTP part without anything":      {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{}}}},
		"a CONNECT, which has an empty path": {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "CONNECT", Host: "example.com"}}}},
	} {
		answer, err := client.Check(ctx, request)
		if err != nil {
			t.Errorf("%s: a gRPC error, which fail-open Envoys let pass: %v", name, err)
			continue
		}
		if code := answer.GetStatus().GetCode(); code == int32(codes.OK) || answer.GetDeniedResponse() == nil {
			t.Errorf("%s: answered %v, want a denial", name, answer)
		}
	}
}

// TestSemantics10NoGRPCErrors sends bytes that are no CheckRequest: an error would let the
// request pass where failure_mode_allow is true.
func TestSemantics10NoGRPCErrors(t *testing.T) {
	s := start(t)
	conn := harness.Dial(t, s.gatehouse.GRPC)
	for name, message := range map[string]string{
		"no protobuf":       "\xff\xff\xff\xff",
		"a length beyond":   "\x0a\x7f\x01",
		"a wrong wire type": "\x08\x01",
		"invalid UTF-8":     "\x0a\x06\x22\x04\x12\x02\x0a\x00\xc3",
		"nothing":           "",
	} {
		var answer authv3.CheckResponse
		err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte(message), &answer, grpc.ForceCodecV2(bytesCodec{encoding.GetCodecV2("proto")}))
		if err != nil {
			t.Errorf("%s: %v, want a denial", name, err)
			continue
		}
		if answer.GetStatus().GetCode() == int32(codes.OK) || answer.GetDeniedResponse() == nil {
			t.Errorf("%s: answered %v, want a denial", name, &answer)
		}
	}
}

// bytesCodec sends a []byte as it is.
type bytesCodec struct{ encoding.CodecV2 }

func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}
