package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

func decided(reason policy.Reason) *extauthz.Record {
	return &extauthz.Record{
		ID: "d1", Status: 200, Latency: 1500 * time.Microsecond, Authenticator: "corp",
		Request: &policy.Request{
			Method: "GET", Host: "example.com", Path: "/orders/1", Query: "access_token=s3cr3t",
			Headers: []policy.Pair{{Name: "authorization", Value: "Bearer s3cr3t"}}, Source: netip.MustParseAddr("192.0.2.7"),
		},
		Decision: policy.Decision{
			Outcome: reason.Outcome(), Reason: reason,
			Route:     &policy.Route{Name: "orders"},
			Principal: &policy.Principal{Subject: "u1", Tenant: "acme"},
			At:        policy.Position{File: "gatehouse.yaml", Line: 42, Column: 7},
		},
	}
}

// written logs a record and gives the one line, decoded and without its time.
func written(t *testing.T, r *extauthz.Record, level zapcore.Level) (fields map[string]any, line string) {
	t.Helper()
	var out bytes.Buffer
	log, err := NewLog(&out, "json", level)
	if err != nil {
		t.Fatal(err)
	}
	log.Decision(r)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if out.Len() == 0 {
		return nil, ""
	}
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	delete(fields, "time")
	return fields, out.String()
}

func TestDecisionLine(t *testing.T) {
	got, line := written(t, decided(policy.ReasonMet), zapcore.InfoLevel)
	want := map[string]any{
		"level": "info", "msg": "decision", "decision_id": "d1", "outcome": "allowed", "reason": "requirement_met",
		"route": "orders", "position": "gatehouse.yaml:42:7", "method": "GET", "host": "example.com", "path": "/orders/1",
		"source": "192.0.2.7", "authenticator": "corp", "subject": "u1", "tenant": "acme", "status": 200.0, "latency_ms": 1.5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
	if strings.Contains(line, "s3cr3t") {
		t.Errorf("the line holds a credential: %s", line)
	}
}

func TestDecisionLineOfFaults(t *testing.T) {
	r := decided(policy.ReasonInternal)
	r.Panic, r.Stack, r.Detail = "boom", []byte("goroutine 1"), errors.New(strings.Repeat("x", 2*maxLogged))
	r.Request.Path = "/\n\x1b[31m\"forged\""
	got, line := written(t, r, zapcore.ErrorLevel)
	if got["level"] != "error" || got["panic"] != "boom" || got["stack"] != "goroutine 1" {
		t.Errorf("a panic is logged as %v", got)
	}
	if len(got["detail"].(string)) > maxLogged+len("…") {
		t.Errorf("detail is %d bytes, want at most %d", len(got["detail"].(string)), maxLogged)
	}
	if strings.Count(line, "\n") != 1 || strings.Contains(line, "\x1b") {
		t.Errorf("what a client wrote breaks the line: %q", line)
	}
	if got["path"] != r.Request.Path {
		t.Errorf("path = %q, want %q", got["path"], r.Request.Path)
	}
}

// TestDecisionLineIsWhatZapWrites holds the line that is written by hand against zap's own.
func TestDecisionLineIsWhatZapWrites(t *testing.T) {
	odd := "a\"\\\x00\x1f\x7f\b\n\r\t\u2028<é🚪"
	for _, row := range []struct {
		name   string
		change func(*extauthz.Record)
	}{
		{"allowed", func(*extauthz.Record) {}},
		{"the zero record", func(r *extauthz.Record) { *r = extauthz.Record{} }},
		{"text of every kind", func(r *extauthz.Record) {
			r.ID, r.Authenticator, r.Request.Method, r.Request.Host, r.Request.Path = odd, odd, odd, odd, odd
			r.Decision.Principal = &policy.Principal{Subject: odd, Username: odd, Tenant: strings.Repeat("x", 2*maxLogged)}
			r.Detail = errors.New(odd)
		}},
		{"malformed", func(r *extauthz.Record) {
			r.Request, r.Call = &policy.Request{Method: "GET"}, &extauthz.Call{Method: "PUT", Host: "h", Target: "/a//b?c"}
		}},
		{"everything else", func(r *extauthz.Record) {
			r.Door, r.Redirect, r.Ignored = extauthz.Forwarded, true, policy.ReasonExpired
			r.Shadow = &policy.Decision{Route: r.Decision.Route}
			r.Panic, r.Stack = 7, []byte("goroutine 1\n")
		}},
		{"no time at all", func(r *extauthz.Record) { r.Latency = 0 }},
		{"a microsecond", func(r *extauthz.Record) { r.Latency = time.Microsecond }},
		{"a second and a bit", func(r *extauthz.Record) { r.Latency = 1_002_300 * time.Microsecond }},
	} {
		r := decided(policy.ReasonMet)
		row.change(r)
		now := time.Date(2027, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("east", 3600))
		encoder := zapcore.NewJSONEncoder(encoderConfig())
		want, err := encoder.EncodeEntry(zapcore.Entry{Level: zapcore.WarnLevel, Time: now, Message: "decision"}, []zap.Field{zap.Inline((*decisionLine)(r))})
		if err != nil {
			t.Fatal(err)
		}
		got := string(appendDecision(nil, zapcore.WarnLevel, now, r))
		// zap has no short escape for it.
		got = strings.ReplaceAll(got, `\b`, `\u0008`)
		if got != want.String() {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got, want)
		}
	}
}

func TestDecisionLineOfAMalformedRequest(t *testing.T) {
	r := decided(policy.ReasonPathNotCanonical)
	r.Request = &policy.Request{Method: "GET"}
	r.Call = &extauthz.Call{Method: "GET", Host: "example.com:80", Target: "/a//b?access_token=s3cr3t"}
	got, line := written(t, r, zapcore.InfoLevel)
	if got["path"] != "/a//b" || got["host"] != "example.com:80" || strings.Contains(line, "s3cr3t") {
		t.Errorf("line = %s, want the request as it came, without its query", line)
	}
}

func TestDecisionLineLevels(t *testing.T) {
	for _, row := range []struct {
		reason policy.Reason
		level  zapcore.Level
		logged bool
	}{
		{policy.ReasonMet, zapcore.InfoLevel, true},
		{policy.ReasonMet, zapcore.WarnLevel, false},
		{policy.ReasonExpired, zapcore.InfoLevel, true},
		{policy.ReasonExpired, zapcore.WarnLevel, false},
		{policy.ReasonKeysUnavailable, zapcore.WarnLevel, true},
	} {
		if got, _ := written(t, decided(row.reason), row.level); (got != nil) != row.logged {
			t.Errorf("%v at level %v is logged: %v, want %v", row.reason, row.level, got != nil, row.logged)
		}
	}
}

func TestLogFormats(t *testing.T) {
	for _, format := range LogFormats {
		if _, err := NewLog(&bytes.Buffer{}, format, zapcore.InfoLevel); err != nil {
			t.Errorf("NewLog(%q): %v", format, err)
		}
	}
	if _, err := NewLog(&bytes.Buffer{}, "xml", zapcore.InfoLevel); err == nil {
		t.Error(`NewLog("xml") succeeds`)
	}
}

func BenchmarkDecisionLine(b *testing.B) {
	log, err := NewLog(nowhere{}, "json", zapcore.InfoLevel)
	if err != nil {
		b.Fatal(err)
	}
	r := decided(policy.ReasonMet)
	b.ReportAllocs()
	for b.Loop() {
		log.Decision(r)
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
