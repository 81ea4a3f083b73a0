package metrics

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

func snapshot(hash string, names ...string) *extauthz.Snapshot {
	config := &extauthz.Config{Hash: hash, Forward: &extauthz.Forward{}}
	for i, name := range names {
		config.Routes = append(config.Routes, extauthz.Route{
			Policy: &policy.Route{Name: name, Index: i, Shadow: strings.HasPrefix(name, "shadow")}, Forward: config.Forward,
		})
	}
	s, err := extauthz.NewSnapshot(config)
	if err != nil {
		panic(err)
	}
	return s
}

func record(s *extauthz.Snapshot, route int, reason policy.Reason) *extauthz.Record {
	r := &extauthz.Record{Snapshot: s, Latency: 30 * time.Microsecond}
	r.Decision.Reason, r.Decision.Outcome = reason, reason.Outcome()
	if route >= 0 {
		r.Decision.Route = s.Config().Routes[route].Policy
	}
	return r
}

func TestDecisionsAreCounted(t *testing.T) {
	m := New(Build{})
	s := snapshot("h1", "orders", "shadow-me")
	m.Use(s, false, time.Unix(100, 0))
	m.Observe(record(s, 0, policy.ReasonMet))
	m.Observe(record(s, 0, policy.ReasonMet))
	m.Observe(record(s, 0, policy.ReasonExpired))
	m.Observe(record(s, -1, policy.ReasonNoRoute))
	m.Observe(record(nil, -1, policy.ReasonNotReady)) // before the first snapshot, seen late
	public := record(s, 0, policy.ReasonPublic)
	public.Ignored = policy.ReasonExpired
	public.Shadow = &policy.Decision{Route: s.Config().Routes[1].Policy, Outcome: policy.Forbidden}
	public.Panic = "boom"
	m.Observe(public)
	want := `
# HELP gatehouse_decisions_total Decisions by the route that covers the request, outcome and reason.
# TYPE gatehouse_decisions_total counter
gatehouse_decisions_total{outcome="allowed",reason="public",route="orders"} 1
gatehouse_decisions_total{outcome="allowed",reason="requirement_met",route="orders"} 2
gatehouse_decisions_total{outcome="forbidden",reason="no_route",route="(none)"} 1
gatehouse_decisions_total{outcome="unauthenticated",reason="expired",route="orders"} 1
gatehouse_decisions_total{outcome="unavailable",reason="not_ready",route="(none)"} 1
# HELP gatehouse_panics_total Faults of gatehouse while deciding; each was answered 503.
# TYPE gatehouse_panics_total counter
gatehouse_panics_total 1
# HELP gatehouse_public_credentials_ignored_total Credentials that were not good and counted as none because the route is public.
# TYPE gatehouse_public_credentials_ignored_total counter
gatehouse_public_credentials_ignored_total{reason="expired"} 1
# HELP gatehouse_shadow_decisions_total What routes in shadow mode would have decided, or what --shadow-all let pass.
# TYPE gatehouse_shadow_decisions_total counter
gatehouse_shadow_decisions_total{outcome="forbidden",route="shadow-me"} 1
# HELP gatehouse_shadow_routes Routes in shadow mode; all of them with --shadow-all.
# TYPE gatehouse_shadow_routes gauge
gatehouse_shadow_routes 1
# HELP gatehouse_snapshot_info 1; the label is the hash of the configuration in use.
# TYPE gatehouse_snapshot_info gauge
gatehouse_snapshot_info{hash="h1"} 1
# HELP gatehouse_snapshot_loaded_timestamp_seconds When the configuration in use was loaded.
# TYPE gatehouse_snapshot_loaded_timestamp_seconds gauge
gatehouse_snapshot_loaded_timestamp_seconds 100
`
	if err := testutil.GatherAndCompare(m.Registry, strings.NewReader(want), "gatehouse_decisions_total", "gatehouse_panics_total",
		"gatehouse_public_credentials_ignored_total", "gatehouse_shadow_decisions_total", "gatehouse_shadow_routes",
		"gatehouse_snapshot_info", "gatehouse_snapshot_loaded_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

func TestDurationIsClassicAndNative(t *testing.T) {
	m := New(Build{})
	m.Observe(record(nil, -1, policy.ReasonNotReady))
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "gatehouse_check_duration_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if len(h.GetBucket()) != len(classicBuckets) || len(h.GetPositiveSpan()) == 0 || h.GetSampleCount() != 1 {
			t.Errorf("histogram = %v; want classic buckets, native spans and one sample", h)
		}
		return
	}
	t.Error("no gatehouse_check_duration_seconds")
}

func TestReloadsAreCounted(t *testing.T) {
	m := New(Build{})
	m.Use(snapshot("h1", "a"), true, time.Unix(1, 0))
	m.ReloadFailed()
	want := `
# HELP gatehouse_config_last_reload_successful 1 if the configuration in use is the one on disk when last read, 0 if that one was broken.
# TYPE gatehouse_config_last_reload_successful gauge
gatehouse_config_last_reload_successful 0
# HELP gatehouse_reloads_total Loads of the configuration, the first included, by result: ok or failed.
# TYPE gatehouse_reloads_total counter
gatehouse_reloads_total{result="failed"} 1
gatehouse_reloads_total{result="ok"} 1
# HELP gatehouse_shadow_routes Routes in shadow mode; all of them with --shadow-all.
# TYPE gatehouse_shadow_routes gauge
gatehouse_shadow_routes 1
`
	if err := testutil.GatherAndCompare(m.Registry, strings.NewReader(want), "gatehouse_config_last_reload_successful",
		"gatehouse_reloads_total", "gatehouse_shadow_routes"); err != nil {
		t.Error(err)
	}
}

// TestCardinalityIsBounded reloads a large table under other names again and again, with
// several reasons for every route.
func TestCardinalityIsBounded(t *testing.T) {
	m := New(Build{})
	reasons := policy.Reasons()[:10] // all of them take ten seconds and prove no more
	for generation := range 3 {
		names := make([]string, maxRoutes+50)
		for i := range names {
			names[i] = fmt.Sprintf("route-%d-%d", generation, i)
		}
		s := snapshot(fmt.Sprint(generation), names...)
		m.Use(s, false, time.Unix(1, 0))
		for i := range names {
			for _, reason := range reasons {
				m.Observe(record(s, i, reason))
			}
		}
		for _, reason := range reasons {
			m.Observe(record(s, -1, reason))
		}
		want := (maxRoutes + 2) * len(reasons)
		if got := testutil.CollectAndCount(m.decisions); got != want {
			t.Fatalf("generation %d: %d series of gatehouse_decisions_total, want %d", generation, got, want)
		}
		if got := testutil.CollectAndCount(m.snapshotInfo); got != 1 {
			t.Fatalf("generation %d: %d series of gatehouse_snapshot_info, want 1", generation, got)
		}
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	m := New(Build{})
	s := snapshot("h", "a", "b")
	m.Use(s, false, time.Unix(1, 0))
	r := record(s, 1, policy.ReasonMet)
	m.Observe(r)
	if n := testing.AllocsPerRun(1000, func() { m.Observe(r) }); n != 0 {
		t.Errorf("Observe allocates %v times, want 0", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(Build{})
	s := snapshot("h", "a", "b")
	m.Use(s, false, time.Unix(1, 0))
	r := record(s, 1, policy.ReasonMet)
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(r)
	}
}

// TestGRPCMetrics calls a real server: one call that succeeds, one that fails, one stream.
func TestGRPCMetrics(t *testing.T) {
	m := New(Build{})
	server := grpc.NewServer(grpc.UnaryInterceptor(m.Unary), grpc.StreamInterceptor(m.Stream))
	healthpb.RegisterHealthServer(server, health.NewServer())
	m.Serves(server)
	listener := bufconn.Listen(1 << 16)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	client := healthpb.NewHealthClient(conn)
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "unknown"}); status.Code(err) != codes.NotFound {
		t.Fatalf("an unknown service: %v, want NotFound", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = conn.Close()
	server.GracefulStop() // waits for the stream's handler
	want := `
# HELP grpc_server_handled_total RPCs that ended, by status code.
# TYPE grpc_server_handled_total counter
grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="grpc.health.v1.Health",grpc_type="server_stream"} 1
grpc_server_handled_total{grpc_code="NotFound",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1
grpc_server_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1
grpc_server_handled_total{grpc_code="OK",grpc_method="List",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 0
grpc_server_handled_total{grpc_code="OK",grpc_method="Watch",grpc_service="grpc.health.v1.Health",grpc_type="server_stream"} 0
# HELP grpc_server_msg_sent_total Messages sent.
# TYPE grpc_server_msg_sent_total counter
grpc_server_msg_sent_total{grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1
grpc_server_msg_sent_total{grpc_method="List",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 0
grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="grpc.health.v1.Health",grpc_type="server_stream"} 1
`
	if err := testutil.GatherAndCompare(m.Registry, strings.NewReader(want), "grpc_server_handled_total", "grpc_server_msg_sent_total"); err != nil {
		t.Error(err)
	}
}

// TestNamesAndHelp runs promlint over everything that is ours.
func TestNamesAndHelp(t *testing.T) {
	m := New(Build{Version: "1"})
	s := snapshot("h", "a")
	m.Use(s, false, time.Unix(1, 0))
	m.Observe(record(s, 0, policy.ReasonMet))
	problems, err := testutil.GatherAndLint(m.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "gatehouse_") || strings.HasPrefix(p.Metric, "grpc_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
