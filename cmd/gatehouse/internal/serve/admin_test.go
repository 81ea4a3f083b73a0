package serve

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

// TestAdmin makes a token at the admin listener, uses it, and revokes it.
func TestAdmin(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "admin.sock")
	r := start(t, `version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}, admin: {address: "unix://`+socket+`"}}
store: {sqlite: {path: "`+filepath.Join(dir, "gatehouse.db")+`"}}
authenticators: [{name: ours, token: {}}]
routes:
- {match: ["/orders/"], allow: [{scopes: {all: ["orders:read"]}}]}
`, nil)
	r.eventually("ready", func() bool { code, _ := r.get("/readyz"); return code == 200 })
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := adminv1.NewTokensClient(conn)
	made, err := client.Create(t.Context(), &adminv1.CreateTokenRequest{
		Owner: &adminv1.Owner{Subject: "adam"}, Realm: "ecmwf", Scopes: []string{"orders:read"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.check("/orders/1", "authorization", "Bearer "+made.GetToken()); got != codes.OK {
		t.Errorf("the token: %v, want OK", got)
	}
	service := adminv1.NewServiceClient(conn)
	told, err := service.Explain(t.Context(), &adminv1.ExplainRequest{
		Path: "/orders/1", Headers: []*adminv1.ExplainRequest_Header{{Name: "Authorization", Value: "Bearer " + made.GetToken()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if fields := told.GetStory().AsMap(); fields["outcome"] != "allowed" || fields["reason"] != "requirement_met" {
		t.Errorf("explained as %v", fields)
	}
	if _, err := service.Explain(t.Context(), &adminv1.ExplainRequest{Source: "nowhere"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("explaining a source that is no address: %v", err)
	}
	// A reload keeps the store, and what is known of it.
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.eventually("a reload", func() bool { return strings.Count(r.log.String(), "configuration loaded") == 2 })
	if got := r.check("/orders/1", "authorization", "Bearer "+made.GetToken()); got != codes.OK {
		t.Errorf("the token after a reload: %v, want OK", got)
	}
	if _, err := client.Revoke(t.Context(), &adminv1.RevokeTokenRequest{Id: made.GetRecord().GetId()}); err != nil {
		t.Fatal(err)
	}
	if got := r.check("/orders/1", "authorization", "Bearer "+made.GetToken()); got != codes.Unauthenticated {
		t.Errorf("the revoked token: %v, want Unauthenticated", got)
	}
	if _, body := r.get("/readyz?verbose"); !strings.Contains(body, "store (sqlite)") {
		t.Errorf("readiness does not tell of the store:\n%s", body)
	}
	_, body := r.get("/metrics")
	for _, counted := range []string{"gatehouse_revocation_lag_seconds_count", `gatehouse_store_lookup_duration_seconds_count{result="ok"}`} {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(counted) + ` [1-9]`).MatchString(body) {
			t.Errorf("metrics do not tell of %s", counted)
		}
	}
	if strings.Contains(r.log.String(), made.GetToken()[20:]) {
		t.Error("the log holds the secret")
	}
}

// TestStoreDownAtStart is a store that cannot be opened: not ready, and 503.
func TestStoreDownAtStart(t *testing.T) {
	r := start(t, `version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}}
store: {sqlite: {path: nowhere/gatehouse.db}}
authenticators: [{name: ours, token: {}}]
routes:
- {match: ["/orders/"], allow: [{authenticated: true}]}
`, nil)
	r.eventually("an answer", func() bool { code, _ := r.get("/readyz?verbose"); return code == 503 })
	made := "gh_0123456789ABCDEF_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0EbATs"
	if got := r.check("/orders/1", "authorization", "Bearer "+made); got != codes.Unavailable {
		t.Errorf("a token: %v, want Unavailable", got)
	}
	if got := r.check("/orders/1", "authorization", "Bearer "+made+"x"); got != codes.Unauthenticated {
		t.Errorf("a mistyped token needs no store: %v, want Unauthenticated", got)
	}
}
