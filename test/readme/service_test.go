package readme

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// batchKey is the variable that the README exports.
const batchKey = "BATCH_KEY=0123456789abcdef0123456789abcdef"

// askable is the README's configuration with the route for applications that it shows, the
// listeners of this test, and a decision log.
func askable(t *testing.T, log string) string {
	t.Helper()
	text := readme(t)
	route := regexp.MustCompile(`(?m)^    (- \{match: \["POST /access/v1/"\].*)$`).FindStringSubmatch(text)
	config := firstBlock(t, "yaml")
	if route == nil || !strings.Contains(config, "\nforward:") {
		t.Fatal("the README shows no route for applications, or nothing behind the routes")
	}
	config = strings.Replace(config, "\nforward:", "\n"+route[1]+"\nforward:", 1)
	return config + "listen: {grpc: {address: \"127.0.0.1:0\"}, http: {address: \"127.0.0.1:0\"}, ops: {address: \"127.0.0.1:0\"}}\n" +
		"decision_log: {file: " + log + "}\n"
}

// firstBlock is the first block of a kind.
func firstBlock(t *testing.T, kind string) string {
	t.Helper()
	for _, m := range block.FindAllStringSubmatch(readme(t), -1) {
		if m[1] == kind {
			return m[2]
		}
	}
	t.Fatalf("the README has no block %s", kind)
	return ""
}

// TestServiceLines runs the README's configuration, sends it what the curl and grpcurl lines
// send, and has the lines about tests, changes and decision logs look at what came of it.
func TestServiceLines(t *testing.T) {
	dir := t.TempDir()
	config := askable(t, filepath.Join(dir, "decisions.jsonl"))
	g := harness.StartGatehouse(t, config, harness.Env(batchKey))
	asCurl(t, g)
	asGRPCurl(t, g)
	g.Stop()

	tests := "version: 1\nconfig: ../new.yaml\nenv: {" + strings.Replace(batchKey, "=", ": ", 1) + "}\ntests:\n" + exampleTest(t) + `
- name: a reader reads
  given: {authenticator: people, tenant: acme, roles: [reader]}
  when: GET /tenants/acme/orders/7
  then: {outcome: allowed}
- name: reading takes a role
  given: {authenticator: people, tenant: acme}
  when: GET /tenants/acme/orders/7
  then: {outcome: forbidden}
`
	if err := os.Mkdir(filepath.Join(dir, "tests"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"old.yaml": config, "new.yaml": config, "tests/orders.yaml": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct{ line, want string }{
		{"gatehouse test --min-coverage 90 --mutate --junit report.xml tests/*.yaml", "3 of 3 tests pass"},
		{"gatehouse diff old.yaml new.yaml", "every principal gets the same answer to every request"},
		{"gatehouse replay --log decisions.jsonl --config new.yaml", "2 records, 0 come out differently"},
	} {
		if !strings.Contains(readme(t), "    "+row.line+"\n") {
			t.Errorf("the README does not show %s", row.line)
		}
		// How much three tests cover does not matter: the line must do what is said of it.
		out, err := run(t, dir, row.line, batchKey)
		if !strings.Contains(out, row.want) {
			t.Errorf("%s: %v\n%s\nwant in it %q", row.line, err, out, row.want)
		}
	}
}

// exampleTest is the sentence that the README shows, in a list.
func exampleTest(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^    - name: .*\n(?:      .*\n)+`).FindString(readme(t))
	if m == "" {
		t.Fatal("the README shows no test")
	}
	return strings.ReplaceAll(m, "\n    ", "\n")[4:]
}

// asCurl runs the line of the section about applications, as it stands but for the port.
func asCurl(t *testing.T, g *harness.Gatehouse) {
	t.Helper()
	line := regexp.MustCompile(`(?ms)^    (curl .*?\}')$`).FindStringSubmatch(readme(t))
	if line == nil {
		t.Fatal("the README has no curl line")
	}
	out, err := run(t, t.TempDir(), strings.Replace(line[1], "curl", "curl -sS", 1)+" --connect-to 127.0.0.1:9180:"+g.HTTP, batchKey)
	if err != nil || !strings.Contains(out, `"decision":true`) || !strings.Contains(out, "read-orders") {
		t.Errorf("%s\nprints %s, %v", line[1], out, err)
	}
}

// asGRPCurl sends what grpcurl would: the reflection, the health of the named service, and
// the CheckRequest.
func asGRPCurl(t *testing.T, g *harness.Gatehouse) {
	t.Helper()
	text := firstBlock(t, "grpcurl")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn := harness.Dial(t, g.GRPC)

	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx, grpc.WaitForReady(true))
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
	for _, m := range regexp.MustCompile(`(?m)127\.0\.0\.1:9191 ([\w.]+)/\w+$`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(listed.String(), `"`+m[1]+`"`) {
			t.Errorf("the README asks %s; there are %v", m[1], listed)
		}
	}

	service := regexp.MustCompile(`-d '\{"service": "([\w.]+)"\}'`).FindStringSubmatch(text)
	check := regexp.MustCompile(`-d '(\{"attributes".*\})'`).FindStringSubmatch(text)
	if service == nil || check == nil {
		t.Fatalf("no question about health, or no CheckRequest, in %s", text)
	}
	if health, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service[1]}); err != nil {
		t.Errorf("the health of %s: %v, %v", service[1], health, err)
	}
	request := &authv3.CheckRequest{}
	if err := protojson.Unmarshal([]byte(check[1]), request); err != nil {
		t.Fatal(err)
	}
	if answer, err := authv3.NewAuthorizationClient(conn).Check(ctx, request); err != nil || answer.GetStatus().GetCode() != int32(codes.OK) {
		t.Errorf("the CheckRequest of the README: %v, %v", answer, err)
	}
}
