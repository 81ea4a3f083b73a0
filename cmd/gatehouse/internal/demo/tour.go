package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// apiKey is the secret of the one machine; the demo makes up no other.
const apiKey = "demo-batch-key-2b7e151628aed2a6"

// decisionTimeout is how long a decision may take to appear in gatehouse's log.
const decisionTimeout = 5 * time.Second

// A step is one request of the tour and what must come of it.
type step struct {
	title   string
	method  string
	path    string
	headers [][2]string // $ALICE and the like stand for tokens, as in a shell

	byEnvoy   bool // Envoy refuses by itself
	status    int
	challenge string            // part of www-authenticate; "" for none asked
	upstream  map[string]string // headers that the upstream must see; nil: it must see nothing. "" for: absent
}

var identity = []string{"x-tenant-id", "x-user", "x-roles", "x-auth-method"}

var bearer = func(who string) [2]string { return [2]string{"authorization", "Bearer $" + who} }

// tour is what the demo shows. Each step proves something that an operator would want to
// see before trusting the thing.
var tour = []step{
	{title: "Anybody may see the front page; nobody is identified.",
		method: "GET", path: "/", status: 200,
		upstream: map[string]string{}},
	{title: "Alice, a reader of tenant acme, reads acme's orders. The upstream learns who she is and never sees her token.",
		method: "GET", path: "/tenants/acme/orders/1", headers: [][2]string{bearer("ALICE")}, status: 200,
		upstream: map[string]string{"x-tenant-id": "acme", "x-user": "alice@example.com", "x-roles": "reader", "x-auth-method": "people", "authorization": ""}},
	{title: "The same token in a cookie. The other cookie goes on, the token does not.",
		method: "GET", path: "/tenants/acme/orders/1", headers: [][2]string{{"cookie", "theme=dark; access_token=$ALICE"}}, status: 200,
		upstream: map[string]string{"x-tenant-id": "acme", "x-user": "alice@example.com", "x-roles": "reader", "x-auth-method": "people", "cookie": "theme=dark"}},
	{title: "A machine with an API key.",
		method: "GET", path: "/tenants/acme/orders/1", headers: [][2]string{{"x-api-key", "$API_KEY"}}, status: 200,
		upstream: map[string]string{"x-tenant-id": "acme", "x-roles": "service", "x-auth-method": "machines", "x-api-key": ""}},
	{title: "No credential: 401, and how to get in.",
		method: "GET", path: "/tenants/acme/orders/1", status: 401, challenge: "Bearer"},
	{title: "A token that has expired.",
		method: "GET", path: "/tenants/acme/orders/1", headers: [][2]string{bearer("EXPIRED")}, status: 401, challenge: "invalid_token"},
	{title: "A wrong API key beside a good token is refused, not passed over.",
		method: "GET", path: "/tenants/acme/orders/1", headers: [][2]string{{"x-api-key", "guess"}, bearer("ALICE")}, status: 401},
	{title: "Bob is of tenant globex: acme's orders are not his.",
		method: "GET", path: "/tenants/acme/orders/1", headers: [][2]string{bearer("BOB")}, status: 403},
	{title: "Alice may read, not write.",
		method: "POST", path: "/tenants/acme/orders/", headers: [][2]string{bearer("ALICE")}, status: 403},
	{title: "Forged identity headers do not reach the upstream; ours do. (Envoy strips three of them, gatehouse all.)",
		method: "GET", path: "/me", headers: [][2]string{bearer("BOB"), {"x-user", "root@example.com"}, {"x-roles", "admin"}, {"x-auth-method", "machines"}}, status: 200,
		upstream: map[string]string{"x-tenant-id": "globex", "x-user": "bob@example.com", "x-roles": "reader,writer", "x-auth-method": "people"}},
	{title: "They do not on a public page either.",
		method: "GET", path: "/", headers: [][2]string{{"x-user", "root@example.com"}, {"x-auth-method", "machines"}}, status: 200,
		upstream: map[string]string{}},
	{title: "A path that upstreams read in two ways is refused: by Envoy,",
		method: "GET", path: "/tenants/acme/orders/..%2f..%2f..%2fadmin/", headers: [][2]string{bearer("ALICE")}, status: 400, byEnvoy: true},
	{title: "and what Envoy lets pass, by gatehouse.",
		method: "GET", path: "/tenants/acme/orders/1;v=2", headers: [][2]string{bearer("ALICE")}, status: 400},
	{title: "What no route covers is forbidden.",
		method: "GET", path: "/debug", headers: [][2]string{bearer("CAROL")}, status: 403},
}

// observed is what came of one request.
type observed struct {
	status    int
	challenge string
	upstream  *seen     // nil: the request did not reach it
	decision  *decision // nil: Envoy answered without asking
}

// decision is what the demo reads from gatehouse's log.
type decision struct {
	Msg      string `json:"msg"`
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason"`
	Route    string `json:"route"`
	Position string `json:"position"`
}

// A guide walks the tour.
type guide struct {
	out    io.Writer
	envoy  string            // host:port
	secret map[string]string // what stands behind $ALICE and the like
	log    *lines            // of gatehouse
	dir    string            // of its configuration file
}

// walk takes every step, prints it, and returns how many came out otherwise than they must.
func (g *guide) walk(ctx context.Context) (wrong int, err error) {
	for i, s := range tour {
		got, err := g.take(ctx, s)
		if err != nil {
			return wrong, fmt.Errorf("step %d of the tour: %w", i+1, err)
		}
		complaints := s.check(got)
		g.print(i+1, s, got, complaints)
		if len(complaints) > 0 {
			wrong++
		}
	}
	return wrong, nil
}

func (g *guide) take(ctx context.Context, s step) (observed, error) {
	before := g.log.len()
	req, err := http.NewRequestWithContext(ctx, s.method, "http://"+g.envoy, nil)
	if err != nil {
		return observed{}, err
	}
	// Opaque: the path goes out as it is written here.
	req.URL.Opaque = "//" + g.envoy + s.path
	for _, h := range s.headers {
		req.Header.Add(h[0], expand(h[1], g.secret))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return observed{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return observed{}, err
	}
	got := observed{status: resp.StatusCode, challenge: strings.Join(resp.Header.Values("www-authenticate"), ", ")}
	if resp.Header.Get(fromUpstream) != "" {
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&got.upstream); err != nil {
			return observed{}, fmt.Errorf("reading the upstream's answer: %w", err)
		}
	}
	if s.byEnvoy {
		return got, nil
	}
	err = g.log.waitFor(ctx, "gatehouse's log line", before, decisionTimeout, func(line string) bool {
		var d decision
		if json.Unmarshal([]byte(line), &d) != nil || d.Msg != "decision" {
			return false
		}
		got.decision = &d
		return true
	})
	return got, err
}

// check lists what is not as it must be.
func (s step) check(got observed) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	if got.status != s.status {
		complain("the client got %d, it must get %d", got.status, s.status)
	}
	if !strings.Contains(got.challenge, s.challenge) {
		complain("www-authenticate is %q, it must hold %q", got.challenge, s.challenge)
	}
	if s.upstream == nil {
		if got.upstream != nil {
			complain("the upstream saw the request, it must not")
		}
		return complaints
	}
	if got.upstream == nil {
		return append(complaints, "the upstream did not see the request, it must")
	}
	for name, want := range s.upstream {
		if value := got.upstream.Headers[name]; value != want {
			complain("the upstream saw %s: %q, it must be %q", name, value, want)
		}
	}
	for _, name := range identity {
		if _, expected := s.upstream[name]; !expected {
			if value, there := got.upstream.Headers[name]; there {
				complain("the upstream saw %s: %q, it must not", name, value)
			}
		}
	}
	return complaints
}

func (g *guide) print(number int, s step, got observed, complaints []string) {
	w := g.out
	fmt.Fprintf(w, "%2d. %s\n", number, s.title)
	fmt.Fprintf(w, "    $ %s\n", s.curl(g.envoy))
	fmt.Fprintf(w, "    client     %d %s", got.status, http.StatusText(got.status))
	if got.challenge != "" {
		fmt.Fprintf(w, "   www-authenticate: %s", got.challenge)
	}
	fmt.Fprintln(w)
	if got.upstream == nil {
		fmt.Fprintln(w, "    upstream   saw nothing")
	} else {
		fmt.Fprintf(w, "    upstream   %s %s\n", got.upstream.Method, got.upstream.Path)
		for _, line := range got.upstream.shown() {
			fmt.Fprintf(w, "               %s\n", line)
		}
	}
	switch d := got.decision; {
	case d == nil:
		fmt.Fprintln(w, "    gatehouse  was not asked: Envoy refused by itself")
	case d.Route == "":
		fmt.Fprintf(w, "    gatehouse  %s: %s\n", d.Outcome, d.Reason)
	default:
		fmt.Fprintf(w, "    gatehouse  %s: %s, route %s (%s)\n", d.Outcome, d.Reason, d.Route, strings.TrimPrefix(d.Position, g.dir+"/"))
	}
	for _, c := range complaints {
		fmt.Fprintf(w, "    WRONG      %s\n", c)
	}
	fmt.Fprintln(w)
}

// curl is the step as a line to copy.
func (s step) curl(envoy string) string {
	var b strings.Builder
	b.WriteString("curl -i")
	if s.method != http.MethodGet {
		b.WriteString(" -X " + s.method)
	}
	for _, h := range s.headers {
		fmt.Fprintf(&b, ` -H "%s: %s"`, h[0], h[1])
	}
	b.WriteString(" http://" + envoy + s.path)
	return b.String()
}

// expand replaces $NAME by its value.
func expand(text string, values map[string]string) string {
	for name, value := range values {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	return text
}
