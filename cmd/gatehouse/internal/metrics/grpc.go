package metrics

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grpcMetrics are the usual server metrics of gRPC (go-grpc-prometheus), by the names
// and labels that its dashboards ask for.
type grpcMetrics struct {
	started, handled, received, sent *prometheus.CounterVec

	methods atomic.Pointer[map[string]*grpcMethod] // by full method; nil before Serves
}

// grpcMethod are the resolved counters of one method.
type grpcMethod struct {
	labels                      []string // type, service, method
	started, ok, received, sent prometheus.Counter
}

func newGRPCMetrics() grpcMetrics {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(labels[:3:3], more...))
	}
	return grpcMetrics{
		started:  counter("grpc_server_started_total", "RPCs that began."),
		handled:  counter("grpc_server_handled_total", "RPCs that ended, by status code.", "grpc_code"),
		received: counter("grpc_server_msg_received_total", "Messages received."),
		sent:     counter("grpc_server_msg_sent_total", "Messages sent."),
	}
}

func (g *grpcMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{g.started, g.handled, g.received, g.sent}
}

// Serves makes the metrics of all methods of the server known, at zero.
func (m *Metrics) Serves(s interface {
	GetServiceInfo() map[string]grpc.ServiceInfo
}) {
	methods := map[string]*grpcMethod{}
	for service, info := range s.GetServiceInfo() {
		for _, method := range info.Methods {
			labels := []string{grpcType(method), service, method.Name}
			methods["/"+service+"/"+method.Name] = &grpcMethod{
				labels:   labels,
				started:  m.grpc.started.WithLabelValues(labels...),
				ok:       m.grpc.handled.WithLabelValues(append(labels[:3:3], codes.OK.String())...),
				received: m.grpc.received.WithLabelValues(labels...),
				sent:     m.grpc.sent.WithLabelValues(labels...),
			}
		}
	}
	m.grpc.methods.Store(&methods)
}

func grpcType(m grpc.MethodInfo) string {
	switch {
	case m.IsClientStream && m.IsServerStream:
		return "bidi_stream"
	case m.IsClientStream:
		return "client_stream"
	case m.IsServerStream:
		return "server_stream"
	}
	return "unary"
}

// method is nil for a method that no service has: those never reach an interceptor.
func (g *grpcMetrics) method(full string) *grpcMethod {
	if methods := g.methods.Load(); methods != nil {
		return (*methods)[full]
	}
	return nil
}

func (g *grpcMetrics) ended(method *grpcMethod, err error) {
	if err == nil {
		method.ok.Inc()
		return
	}
	g.handled.WithLabelValues(append(method.labels[:3:3], status.Code(err).String())...).Inc()
}

// Unary counts unary calls.
func (m *Metrics) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := m.grpc.method(info.FullMethod)
	if method == nil {
		return handler(ctx, req)
	}
	method.started.Inc()
	method.received.Inc()
	resp, err := handler(ctx, req)
	if err == nil {
		method.sent.Inc()
	}
	m.grpc.ended(method, err)
	return resp, err
}

// Stream counts streaming calls: reflection and health's Watch.
func (m *Metrics) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	method := m.grpc.method(info.FullMethod)
	if method == nil {
		return handler(srv, stream)
	}
	method.started.Inc()
	err := handler(srv, countedStream{stream, method})
	m.grpc.ended(method, err)
	return err
}

type countedStream struct {
	grpc.ServerStream
	method *grpcMethod
}

func (s countedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.method.sent.Inc()
	}
	return err
}

func (s countedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.method.received.Inc()
	}
	return err
}
