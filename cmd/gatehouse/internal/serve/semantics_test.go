package serve

import (
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

// TestSemantics36AdminListener: the admin API has a listener of its own, a socket for its
// owner alone; the one that Envoy asks serves checks, health and reflection only.
func TestSemantics36AdminListener(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "admin.sock")
	r := start(t, `version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}, admin: {address: "unix://`+socket+`"}}
store: {sqlite: {path: "`+filepath.Join(dir, "gatehouse.db")+`"}}
authenticators: [{name: ours, token: {}}]
routes: [{match: ["/orders/"], allow: [{authenticated: true}]}]
`, nil)
	r.eventually("ready", func() bool { code, _ := r.get("/readyz"); return code == http.StatusOK })

	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has mode %v, want %v", info.Mode(), fs.ModeSocket|0o600)
	}
	conn, err := grpc.NewClient(r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := adminv1.NewTokensClient(conn).List(t.Context(), &adminv1.ListTokensRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("the admin API at the listener of Envoy: %v, want Unimplemented", err)
	}
	want := []string{"envoy.service.auth.v3.Authorization", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
	if got := services(t, conn); !slices.Equal(got, want) {
		t.Errorf("the listener of Envoy serves %v, want %v", got, want)
	}
	// What Prometheus may reach does not administer either.
	if code, _ := r.get("/gatehouse.admin.v1.Tokens/List"); code != http.StatusNotFound {
		t.Errorf("the admin API at the ops listener: %d, want 404", code)
	}
}

// TestSemantics36AdminListenerIsOff: without a block there is no admin API anywhere.
func TestSemantics36AdminListenerIsOff(t *testing.T) {
	r := start(t, configuration("http://127.0.0.1:1", "service"), nil)
	if said := r.log.String(); strings.Contains(said, `"listener":"admin"`) || strings.Contains(said, `"listener":"http"`) {
		t.Errorf("a listener that nobody asked for:\n%s", said)
	}
	if _, err := net.Dial("unix", "/run/gatehouse/admin.sock"); err == nil {
		t.Error("somebody listens at /run/gatehouse/admin.sock")
	}
}

// services are the names that reflection lists, sorted.
func services(t *testing.T, conn *grpc.ClientConn) []string {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	slices.Sort(names)
	return names
}
