package live

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

const (
	// pace is how often each stream of requests sends one.
	pace = 25 * time.Millisecond
	// fewest is how many requests of each stream a change must have seen.
	fewest = 20
)

// stream repeats one request and compares what becomes of it.
type stream struct {
	row   meshtest.Row
	mu    sync.Mutex
	sent  int
	wrong []string
}

// traffic sends the requests of rows until stop is called.
func traffic(t *testing.T, client meshtest.Client, rows []meshtest.Row) (streams []*stream, stop func()) {
	t.Helper()
	done := make(chan struct{})
	var running sync.WaitGroup
	for _, row := range rows {
		s := &stream{row: row}
		streams = append(streams, s)
		running.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			method, target, _ := strings.Cut(row.Request, " ")
			for {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				got, err := client.Ask(t, row.Listener, row.Caller, method, target, row.Header.Clone())
				s.note(got, err)
			}
		})
	}
	return streams, sync.OnceFunc(func() {
		close(done)
		running.Wait()
	})
}

func (s *stream) note(got meshtest.Answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	switch {
	case err != nil:
		s.wrong = append(s.wrong, err.Error())
	case got.Status != s.row.Status || (got.Upstream != nil) != (s.row.Status == http.StatusOK):
		s.wrong = append(s.wrong, fmt.Sprintf("status %d, application asked %t: %s", got.Status, got.Upstream != nil, got.Body))
	}
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// aftermath waits until each stream has sent some more.
func aftermath(t *testing.T, streams []*stream) {
	t.Helper()
	started := make([]int, len(streams))
	for i, s := range streams {
		started[i] = s.count()
	}
	for i, s := range streams {
		harness.Eventually(t, changeTimeout, func() error {
			if n := s.count() - started[i]; n < fewest {
				return fmt.Errorf("%s: %d requests since the change", s.row.Name, n)
			}
			return nil
		})
	}
}

// undisturbed fails the test if any request was answered otherwise than its row says.
func undisturbed(t *testing.T, streams []*stream) {
	t.Helper()
	for _, s := range streams {
		t.Logf("%s: %d requests", s.row.Name, s.sent)
		if len(s.wrong) > 0 {
			t.Errorf("%s: %d of %d requests went wrong, the first: %s", s.row.Name, len(s.wrong), s.sent, s.wrong[0])
		}
	}
}

// changesUnderTraffic changes the mesh while requests are under way: none may be answered
// otherwise than before, because each change is one that they do not care about.
func (m *mesh) changesUnderTraffic(t *testing.T) {
	alice := meshtest.Bearer(m.alice("reader"))
	const reader = "ns/demo/sa/client"
	streams, stop := traffic(t, m.client, []meshtest.Row{
		meshtest.NewRow("a workload reads", meshtest.Sidecar, reader, "GET /api/orders", nil, 200),
		meshtest.NewRow("a workload may not write", meshtest.Sidecar, reader, "POST /api/orders", nil, 403),
		meshtest.NewRow("an unknown identity", meshtest.Sidecar, "system/node", "GET /api/orders", nil, 401),
		meshtest.NewRow("a person reads at the gateway", meshtest.Gateway, "", "GET /api/orders", alice, 200),
		meshtest.NewRow("nobody at the gateway", meshtest.Gateway, "", "GET /api/orders", nil, 401),
		meshtest.NewRow("a connection that its own sidecar made", caller, "", "GET /api/orders", nil, 200),
	})
	defer stop()

	policy, filter := filepath.Join(istioFolder, "authorization-policy.yaml"), filepath.Join(istioFolder, "envoy-filter.yaml")
	providers := shipped(t, istioFolder, "meshconfig.yaml")
	slashes := func(status int) meshtest.Row {
		return meshtest.NewRow("two slashes", meshtest.Sidecar, reader, "GET //api/orders", nil, status)
	}
	secret := func(status int) meshtest.Row {
		return meshtest.NewRow("what a policy of Istio's own denies", meshtest.Sidecar, reader, "GET /api/secret", nil, status)
	}
	for _, change := range []struct {
		name string
		make func()
		then meshtest.Row
	}{
		{"a policy that names paths", func() {
			m.applyText(t, strings.ReplaceAll(shipped(t, istioFolder, "authorization-policy.yaml"), "rules: [{}]", `rules: [{to: [{operation: {paths: ["/api/*"]}}]}]`))
		}, slashes(200)},
		{"the shipped policy again", func() { m.apply(t, policy) }, slashes(400)},
		{"an EnvoyFilter", func() { m.apply(t, filter) }, slashes(200)},
		{"no EnvoyFilter", func() { m.remove(t, filter) }, slashes(400)},
		{"a policy of Istio's own", func() {
			m.applyText(t, `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: demo}
spec: {selector: {matchLabels: {app: echo}}, action: DENY, rules: [{to: [{operation: {paths: ["/api/secret"]}}]}]}
`)
		}, secret(403)},
		{"without it", func() { m.kubectl(t, "delete", "authorizationpolicy", "secret", "--namespace", "demo") }, secret(200)},
		{"another timeout in the MeshConfig", func() { m.configureMesh(t, replaced(t, providers, "timeout: 1s", "timeout: 2s")) }, slashes(400)},
		{"the shipped MeshConfig again", func() { m.configureMesh(t, providers) }, slashes(400)},
		{"another configuration of gatehouse", func() { m.configure(t, shipped(t, istioFolder, "gatehouse.yaml")+"\n# changed\n") }, slashes(400)},
	} {
		t.Run(change.name, func(t *testing.T) {
			change.make()
			m.until(t, change.then)
			aftermath(t, streams)
		})
	}
	stop()
	undisturbed(t, streams)
}
