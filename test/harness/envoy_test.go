package harness

import (
	"fmt"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/echo"
)

// TestEnvoyWithoutGatehouse has every kind of front start and proves what each does when
// nobody answers its checks.
func TestEnvoyWithoutGatehouse(t *testing.T) {
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	nobody := []string{"127.0.0.1:1"}
	e := StartEnvoy(t, upstream.Address(),
		Front{Name: "hardened", Gatehouse: nobody},
		Front{Name: "unhardened", Gatehouse: nobody, Changes: []Change{Unhardened, RawHeaders, ContextExtensions(map[string]string{"listener": "x"})}},
		Front{Name: "open", Gatehouse: nobody, Changes: []Change{Unhardened, FailOpen}},
		Front{Name: "tcp", Gatehouse: nobody, Changes: []Change{TCP}},
	)
	for _, front := range []string{"hardened", "unhardened"} {
		if answer := Send(t, e.Address(t, front), "GET /"); answer.Status != 503 || answer.Upstream != nil {
			t.Errorf("%s: %d, want 503: %s", front, answer.Status, answer.Body)
		}
	}
	answer := Send(t, e.Address(t, "open"), "GET /a%2fb/../c", "x_user: mallory", "X-User: mallory", "x-other: 1")
	if answer.Status != 200 || answer.Upstream == nil {
		t.Fatalf("open: %d, want 200: %s", answer.Status, answer.Body)
	}
	if answer.Upstream.Target != "/a%2fb/../c" {
		t.Errorf("the path reached the upstream as %q", answer.Upstream.Target)
	}
	if got := Folded(answer.Upstream, "x-user"); len(got) != 2 {
		t.Errorf("headers that fold to x-user: %v, want both", got)
	}
	if answer, err := TrySend(e.Address(t, "tcp"), "GET /"); err == nil {
		t.Errorf("tcp: answered %d although nobody allowed the connection", answer.Status)
	}
	if upstream.Served() != 1 {
		t.Errorf("the upstream was asked %d times, want once", upstream.Served())
	}
	Eventually(t, answerTimeout, func() error {
		if n := len(e.AccessLog()); n != 3 {
			return fmt.Errorf("%d access log entries, want 3", n)
		}
		return nil
	})
}
