package hostile

import (
	"testing"

	"google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// services lists what the gRPC listener of s serves, as it says itself.
func services(t *testing.T, s server) map[string]bool {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request := &grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, service := range answer.GetListServicesResponse().GetService() {
		found[service.GetName()] = true
	}
	if len(found) == 0 {
		t.Fatal("no service is listed")
	}
	return found
}
