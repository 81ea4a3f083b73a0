// Package authzen asks gatehouse as applications do, by the Authorization API 1.0 of
// OpenID AuthZEN, over TLS. Start reading at [TestCertification].
package authzen

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// config has the fixture of the certification scenario (user, record) and of the gateways'
// interop scenario (identity, todos). CERT and KEY are files.
const config = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  http: {address: "127.0.0.1:0", tls: {cert_file: CERT, key_file: KEY}}
  ops: {address: "127.0.0.1:0"}
authenticators:
- name: applications
  api_key:
    from: [{header: authorization, scheme: Bearer}]
    keys: [{id: pep, secret: {env: PEP_KEY}, principal: {roles: [pep]}}]
- name: user
  jwt: {issuer: users, any_audience: true, shared_secret: {env: SECRET}, from: [{header: x-user-token}], principal: {subject: {claim: sub}}}
- name: identity
  jwt: {issuer: identities, any_audience: true, shared_secret: {env: SECRET}, from: [{header: x-identity-token}], principal: {subject: {claim: sub}}}
grants:
- when: {authenticators: [identity], subjects: [RICK, MORTY, SUMMER]}
  add: {roles: [editor]}
- when: {authenticators: [identity], subjects: [BETH, JERRY]}
  add: {roles: [viewer]}
routes:
- {match: ["POST /access/v1/"], name: ask, allow: [{roles: {any: [pep]}}]}
- {match: ["read /record/record-1"], name: read, allow: [{authenticators: [user], subjects: [alice, bob]}]}
- {match: ["write /record/record-1"], name: write, allow: [{authenticators: [user], subjects: [alice]}]}
- {match: ["GET /users/{user}", "GET /todos"], name: view, allow: [{roles: {any: [viewer, editor]}}]}
- {match: ["POST /todos", "PUT,DELETE /todos/{todo}"], name: edit, allow: [{roles: {any: [editor]}}]}
`

const key = "the-key-of-the-application-is-long"

// A point is a policy decision point, and a client that trusts its certificate.
type point struct {
	url    string
	client *http.Client
}

func start(t *testing.T) *point {
	t.Helper()
	authority := harness.NewAuthority(t)
	certFile, keyFile := authority.Sign(t, "localhost", "")
	replacements := []string{"CERT", certFile, "KEY}}", keyFile + "}}"}
	for name, id := range identities {
		replacements = append(replacements, name, id)
	}
	g := harness.StartGatehouse(t, strings.NewReplacer(replacements...).Replace(config),
		harness.Env("PEP_KEY="+key), harness.Env("SECRET=a secret that is known to nobody but this test"))
	ca, err := os.ReadFile(authority.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	_, port, _ := strings.Cut(g.HTTP, ":")
	return &point{url: "https://localhost:" + port, client: &http.Client{Transport: transport}}
}

// An answered is the status of an answer, its decisions one after the other ("" if there
// are none) and the rest of it.
type answered struct {
	status    int
	decisions string
	header    http.Header
	body      map[string]any
}

// post asks; a header of "" is left out.
func (p *point) post(t *testing.T, path, body string, headers map[string]string) answered {
	t.Helper()
	request, err := http.NewRequest("POST", p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+key)
	for name, value := range headers {
		request.Header.Set(name, value)
		if value == "" {
			request.Header.Del(name)
		}
	}
	response, err := p.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answered{status: response.StatusCode, header: response.Header}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&a.body); err != nil {
		t.Fatalf("%s %s answers %d %q: %v", path, body, a.status, text, err)
	}
	list, several := a.body["evaluations"].([]any)
	if !several {
		list = []any{a.body}
	}
	var decisions []string
	for _, one := range list {
		if decision, ok := one.(map[string]any)["decision"].(bool); ok {
			decisions = append(decisions, fmt.Sprint(decision))
		}
	}
	a.decisions = strings.Join(decisions, " ")
	return a
}

const (
	evaluation  = "/access/v1/evaluation"
	evaluations = "/access/v1/evaluations"

	alice   = `"subject": {"type": "user", "id": "alice"}`
	bob     = `"subject": {"type": "user", "id": "bob"}`
	read    = `"action": {"name": "read"}`
	write   = `"action": {"name": "write"}`
	record1 = `"resource": {"type": "record", "id": "record-1"}`
	record2 = `"resource": {"type": "record", "id": "record-2"}`
)

// TestCertification sends the requests of the working group's certification scenario
// (github.com/openid/authzen, certification/authorization-api-1_0-scenario.md): rows are
// named after its sections. All of the levels Basic Core, Batch Core and Discovery is here,
// and of Batch Properties what does not depend on a property. The rest of Properties is
// not, since conditions of routes cannot name properties of resources and actions, and
// Search is not served.
func TestCertification(t *testing.T) {
	p := start(t)
	plain := object(alice, read, record1)
	for _, row := range []struct {
		name      string
		path      string
		body      string
		status    int
		decisions string
	}{
		{"2.2.1 a permit", evaluation, plain, 200, "true"},
		{"2.2.2 a denial", evaluation, object(bob, write, record1), 200, "false"},
		{"2.2.3 context", evaluation, object(alice, read, record1, `"context": {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}`), 200, "true"},
		{"2.2.8 further properties", evaluation, object(
			`"subject": {"type": "user", "id": "alice", "properties": {"department": "Sales", "role": "manager"}}`,
			`"action": {"name": "read", "properties": {"method": "GET"}}`,
			`"resource": {"type": "record", "id": "record-1", "properties": {"status": "active", "owner": "bob"}}`), 200, "true"},
		{"2.2.9 unknown fields", evaluation, object(alice, read, record1, `"foo": "bar"`, `"futureField": {"nested": true}`), 200, "true"},
		{"2.4.1 no subject", evaluation, object(read, record1), 400, ""},
		{"2.4.1 no action", evaluation, object(alice, record1), 400, ""},
		{"2.4.1 no resource", evaluation, object(alice, read), 400, ""},
		{"2.4.2 a subject without a type", evaluation, object(`"subject": {"id": "alice"}`, read, record1), 400, ""},
		{"2.4.2 a subject without an id", evaluation, object(`"subject": {"type": "user"}`, read, record1), 400, ""},
		{"2.4.2 an action without a name", evaluation, object(alice, `"action": {}`, record1), 400, ""},
		{"2.4.2 a resource without a type", evaluation, object(alice, read, `"resource": {"id": "record-1"}`), 400, ""},
		{"2.4.2 a resource without an id", evaluation, object(alice, read, `"resource": {"type": "record"}`), 400, ""},
		{"2.4.4 no JSON", evaluation, `{"subject": `, 400, ""},
		{"2.4.5 nothing", evaluation, ``, 400, ""},
		{"2.4.6 a subject that is a text", evaluation, object(`"subject": "alice"`, read, record1), 400, ""},
		{"2.4.6 a name that is a number", evaluation, object(alice, `"action": {"name": 123}`, record1), 400, ""},
		{"3.2.1 two resources", evaluations, object(alice, read, batch(record1, record2)), 200, "true false"},
		{"3.2.2 two actions, in order", evaluations, object(bob, record1, batch(read, write)), 200, "true false"},
		{"3.2.5 no defaults", evaluations, object(batch(alice+","+read+","+record1, bob+","+write+","+record1)), 200, "true false"},
		{"3.2.6 context of all and of one", evaluations, object(alice, read, `"context": {"time": "2025-06-27T18:03-07:00"}`,
			batch(record1, record2+`, "context": {"time": "2025-06-27T19:00-07:00", "source": "batch-override"}`)), 200, "true false"},
		{"3.2.7 a default type", evaluations, object(alice, write, `"resource": {"type": "record"}`,
			batch(`"resource": {"id": "record-1", "properties": {"status": "active"}}`, record2)), 200, "true false"},
		{"3.4.1 a resource is missing in one", evaluations, object(alice, read, batch(record1, "")), 200, "true false"},
		{"3.4.2 no evaluations", evaluations, plain, 200, "true"},
		{"3.4.3 empty evaluations", evaluations, object(alice, read, record1, `"evaluations": []`), 200, "true"},
	} {
		for _, time := range []string{"first", "second"} { // 2.6, 5: the same answer again
			got := p.post(t, row.path, row.body, map[string]string{"X-Request-ID": "r " + row.name})
			if got.status != row.status || got.decisions != row.decisions {
				t.Errorf("%s: the %s answer to %s is %d %v, want %d %q", row.name, time, row.body, got.status, got.body, row.status, row.decisions)
			}
			if kind := got.header.Get("Content-Type"); got.status == 200 && kind != "application/json" {
				t.Errorf("%s: Content-Type is %s", row.name, kind)
			}
			if id := got.header.Get("X-Request-ID"); id != "r "+row.name { // 2.5.1
				t.Errorf("%s: X-Request-ID is %q", row.name, id)
			}
			if context, present := got.body["context"]; present { // 2.3.2
				if _, isObject := context.(map[string]any); !isObject {
					t.Errorf("%s: the context is %v", row.name, context)
				}
			}
			if _, several := got.body["evaluations"]; several && got.body["decision"] != nil { // 3.3.4
				t.Errorf("%s: a decision beside evaluations: %v", row.name, got.body)
			}
		}
	}
	if got := p.post(t, evaluation, plain, map[string]string{"Content-Type": "text/plain"}); got.status != 400 {
		t.Errorf("2.4.3 another content type: %d, want 400", got.status)
	}
	if got := p.post(t, evaluation, plain, map[string]string{"Content-Type": ""}); got.status != 400 {
		t.Errorf("2.4.3 no content type: %d, want 400", got.status)
	}
	if got := p.post(t, evaluation, plain, map[string]string{"Content-Type": "Application/JSON; charset=utf-8"}); got.status != 200 {
		t.Errorf("a content type with a parameter: %d, want 200", got.status)
	}
}

// TestCertificationDiscovery is the level Discovery of the same scenario: the document names
// what there is, at the URL by which it was asked for.
func TestCertificationDiscovery(t *testing.T) {
	p := start(t)
	response, err := p.client.Get(p.url + "/.well-known/authzen-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got map[string]string
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(map[string]string{
		"policy_decision_point":       p.url,
		"access_evaluation_endpoint":  p.url + evaluation,
		"access_evaluations_endpoint": p.url + evaluations,
	})
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" || fmt.Sprint(got) != want {
		t.Errorf("the document is %d %s %v, want %s", response.StatusCode, response.Header.Get("Content-Type"), got, want)
	}
}

// identities are the subjects of the interop scenario "API gateway": gateways ask about the
// person of a token by the subject that its issuer gave.
var identities = map[string]string{
	"RICK":   "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"MORTY":  "CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"SUMMER": "CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"BETH":   "CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"JERRY":  "CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
}

// TestInteropGateways has the decisions that gateways expect of a decision point in the
// working group's interop (github.com/openid/authzen, interop/authzen-api-gateways,
// test-harness/test/decisions.json): they ask about the templates of routes.
func TestInteropGateways(t *testing.T) {
	p := start(t)
	routes := []string{"GET /users/{userId}", "GET /todos", "POST /todos", "PUT /todos/{todoId}", "DELETE /todos/{todoId}"}
	for name, want := range map[string]string{
		"RICK":   "true true true true true",
		"MORTY":  "true true true true true",
		"SUMMER": "true true true true true",
		"BETH":   "true true false false false",
		"JERRY":  "true true false false false",
	} {
		subject := fmt.Sprintf(`"subject": {"type": "identity", "id": %q}`, identities[name])
		var questions, single []string
		for _, route := range routes {
			method, path, _ := strings.Cut(route, " ")
			// What the gateways add is in the properties.
			question := fmt.Sprintf(`"action": {"name": %q}, "resource": {"type": "route", "id": %q, "properties": {"uri": "https://todo.example.com/7", "schema": "https", "path": "/7", "params": {"id": "7"}, "ip": null}}`, method, path)
			questions = append(questions, question)
			single = append(single, p.post(t, evaluation, object(subject, question, `"context": {}`), nil).decisions)
		}
		if got := strings.Join(single, " "); got != want {
			t.Errorf("%s, route by route: %s, want %s", name, got, want)
		}
		if got := p.post(t, evaluations, object(subject, batch(questions...)), nil); got.decisions != want {
			t.Errorf("%s, at once: %v, want %s", name, got.body, want)
		}
	}
}

// object is a JSON object of the members that are given as they are written.
func object(members ...string) string { return "{" + strings.Join(members, ", ") + "}" }

// batch is the member evaluations, with the members of each.
func batch(members ...string) string {
	return `"evaluations": [{` + strings.Join(members, "}, {") + `}]`
}
