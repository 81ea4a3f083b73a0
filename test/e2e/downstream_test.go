package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// corsFirst puts Envoy's own cors filter before ext_authz.
func corsFirst(p harness.Parts) {
	p.Connection["http_filters"] = append([]any{map[string]any{
		"name":         "envoy.filters.http.cors",
		"typed_config": map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"},
	}}, p.Connection["http_filters"].([]any)...)
	filters := p.VirtualHost["typed_per_filter_config"].(map[string]any)
	filters["envoy.filters.http.cors"] = map[string]any{
		"@type":                     "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
		"allow_origin_string_match": []any{map[string]any{"exact": "https://ui.example.com"}},
		"allow_methods":             "GET,POST", "allow_headers": "authorization",
	}
}

// connects lets CONNECT through to routing, and websockets over HTTP/2 (RFC 8441).
func connects(p harness.Parts) {
	p.Connection["http2_protocol_options"].(map[string]any)["allow_connect"] = true
	p.Connection["upgrade_configs"] = append(p.Connection["upgrade_configs"].([]any), map[string]any{"upgrade_type": "CONNECT"})
	p.VirtualHost["routes"] = append([]any{map[string]any{
		"match": map[string]any{"connect_matcher": map[string]any{}},
		"route": map[string]any{"cluster": "upstream"},
	}}, p.VirtualHost["routes"].([]any)...)
}

// TestDownstreams: who answers preflights, and what CONNECT comes to.
func TestDownstreams(t *testing.T) {
	s := start(t)
	envoy := harness.StartEnvoy(t, s.upstream.Address(),
		harness.Front{Name: "cors", Gatehouse: []string{s.gatehouse.GRPC}, Changes: []harness.Change{corsFirst}},
		harness.Front{Name: "connect", Gatehouse: []string{s.gatehouse.GRPC}, Changes: []harness.Change{connects}},
	)
	s.envoy = envoy
	s.waitForKeys(t, "cors")

	t.Run("Envoy's cors filter first", func(t *testing.T) {
		origin := "origin: https://ui.example.com"
		for _, row := range []struct {
			name    string
			request string
			headers []string
			status  int
			allowed string // access-control-allow-origin
			asked   bool   // gatehouse was
		}{
			{"a good preflight is answered by Envoy", "OPTIONS /me", []string{origin, "access-control-request-method: GET"}, 200, "https://ui.example.com", false},
			{"one of another origin is asked about", "OPTIONS /me", []string{"origin: https://evil.example", "access-control-request-method: GET"}, 401, "", true},
			{"a refusal can be read by the page", "GET /me", []string{origin}, 401, "https://ui.example.com", true},
			{"a refusal to another origin cannot", "GET /me", []string{"origin: https://evil.example"}, 401, "", true},
			{"an answer can", "GET /me", []string{origin, s.expand("authorization: Bearer $alice")}, 200, "https://ui.example.com", true},
		} {
			before := s.decisions(t)
			answer := harness.Send(t, envoy.Address(t, "cors"), row.request, row.headers...)
			if got := answer.Header.Get("access-control-allow-origin"); answer.Status != row.status || got != row.allowed {
				t.Errorf("%s: %d, allowed %q; want %d, %q", row.name, answer.Status, got, row.status, row.allowed)
			}
			if asked := s.decisions(t) > before; asked != row.asked {
				t.Errorf("%s: gatehouse was asked: %t, want %t", row.name, asked, row.asked)
			}
		}
	})

	// A CONNECT has no path: no route covers it, whoever asks (RFC 9110 §9.3.6).
	t.Run("CONNECT over HTTP/1.1 is refused", func(t *testing.T) {
		for _, header := range []string{"x-nothing: 1", s.expand("authorization: Bearer $root")} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", envoy.Address(t, "connect"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(settle))
			served := s.upstream.Served()
			fmt.Fprintf(conn, "CONNECT internal.example:443 HTTP/1.1\r\nHost: internal.example:443\r\n%s\r\n\r\n", header)
			answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != http.StatusForbidden || answer.Header.Get("x-gatehouse-decision-id") == "" || s.upstream.Served() != served {
				t.Errorf("with %s: %d %v, want gatehouse's 403", header, answer.StatusCode, answer.Header)
			}
		}
	})

	t.Run("CONNECT over HTTP/2 is refused", func(t *testing.T) {
		status, id := askHTTP2(t, envoy.Address(t, "connect"), [][2]string{{":method", "CONNECT"}, {":authority", "internal.example:443"}, {"authorization", "Bearer " + s.words["root"]}})
		if status != "403" || id == "" {
			t.Errorf("status %s, decision id %q; want gatehouse's 403", status, id)
		}
	})

	// RFC 8441: Envoy tells of it as of the GET that it would be over HTTP/1.1.
	t.Run("a websocket over HTTP/2 is decided like any GET", func(t *testing.T) {
		open := [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", "example.com"}, {":path", "/me"}, {"sec-websocket-version", "13"}}
		if status, id := askHTTP2(t, envoy.Address(t, "connect"), open); status != "401" || id == "" {
			t.Errorf("without a token: status %s, decision id %q; want gatehouse's 401", status, id)
		}
		// This upstream does not speak websocket over HTTP/2: what passed ends there.
		if status, id := askHTTP2(t, envoy.Address(t, "connect"), append(open, [2]string{"authorization", "Bearer " + s.words["alice"]})); id != "" {
			t.Errorf("with a token: status %s, refused by gatehouse", status)
		}
		harness.Eventually(t, settle, func() error {
			decisions := s.gatehouse.Decisions()
			if last := decisions[len(decisions)-1]; last["outcome"] != "allowed" || last["method"] != "GET" || last["path"] != "/me" {
				return fmt.Errorf("the last decision is %v", last)
			}
			return nil
		})
	})
}

// decisions is how many gatehouse has made.
func (s *stack) decisions(t *testing.T) (n int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.gatehouse.Ops+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "gatehouse_check_duration_seconds_count "); ok {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// askHTTP2 sends one request's headers as they are, which net/http would not, and gives
// the status and the decision id of the answer.
func askHTTP2(t *testing.T, address string, headers [][2]string) (status, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settle)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(settle))
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, h := range headers {
		if err := encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("%v: %v", headers, err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				switch field.Name {
				case ":status":
					status = field.Value
				case "x-gatehouse-decision-id":
					id = field.Value
				}
			}
			return status, id
		case *http2.RSTStreamFrame:
			return "reset " + f.ErrCode.String(), ""
		case *http2.GoAwayFrame:
			return "goaway " + f.ErrCode.String(), ""
		}
	}
}
