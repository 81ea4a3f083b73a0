package extauthz

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// asking lets callers of corp ask the table.
func asking(w *world) func(*Config) {
	return func(c *Config) {
		c.Routes = append(c.Routes, Route{Forward: c.Forward, Policy: &policy.Route{
			Name: "ask", Index: len(c.Routes), Patterns: patterns(w.t, "POST /access/v1/"),
			Allow: []policy.Requirement{{Roles: &policy.Sets{Any: []string{"pep"}}}},
		}})
	}
}

// authzen serves the door, and gives a function that asks it and one's token for that.
func (w *world) authzen(t *testing.T) (post func(path, token, body string) (int, map[string]any), pep string) {
	server := w.httpServer(t)
	return func(path, token, body string) (int, map[string]any) {
		t.Helper()
		request := must(http.NewRequest("POST", server.URL+path, strings.NewReader(body)))
		request.Header.Set("Content-Type", "application/json")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response := must(http.DefaultClient.Do(request))
		defer response.Body.Close()
		var answer map[string]any
		if err := json.Unmarshal(must(io.ReadAll(response.Body)), &answer); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, answer
	}, w.token(map[string]any{"groups": []string{"pep"}})
}

const (
	reader = `"subject":{"type":"corp","id":"u1","properties":{"tenant":"acme","roles":["reader"]}}`
	orders = `"action":{"name":"GET"},"resource":{"type":"route","id":"/tenants/acme/orders/7"}`
)

func TestAuthZEN(t *testing.T) {
	w := newWorld(t)
	w = newWorld(t, asking(w))
	post, pep := w.authzen(t)
	for _, row := range []struct {
		name     string
		token    string
		body     string
		status   int
		decision any
		reason   string
	}{
		{"a reader may read", pep, `{` + reader + `,` + orders + `}`, 200, true, "requirement_met"},
		{"by a URL as well", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"uri","id":"https://api.example.com/tenants/acme/orders/7"}}`, 200, true, "requirement_met"},
		{"another tenant may not", pep, strings.Replace(`{`+reader+`,`+orders+`}`, "acme", "globex", 1), 200, false, "requirement_not_met"},
		{"nobody gets a wildcard by saying so", pep, strings.Replace(`{`+reader+`,`+orders+`}`, `"tenant":"acme"`, `"tenant":"*"`, 1), 200, false, "requirement_not_met"},
		{"a path with two readings", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"//x"}}`, 200, false, "path_not_canonical"},
		{"an authenticator that the route does not accept", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"/machines/"}}`, 200, false, "no_credential"},
		{"what no route covers", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"/nowhere"}}`, 200, false, "no_route"},
		{"an unknown authenticator", pep, `{"subject":{"type":"user","id":"u"},` + orders + `}`, 400, nil, ""},
		{"a role that is no text", pep, strings.Replace(`{`+reader+`,`+orders+`}`, `["reader"]`, `["reader",7]`, 1), 400, nil, ""},
		{"roles that are no list", pep, strings.Replace(`{`+reader+`,`+orders+`}`, `["reader"]`, `"reader"`, 1), 400, nil, ""},
		{"properties that are no object", pep, `{"subject":{"type":"corp","id":"u1","properties":[]},` + orders + `}`, 400, nil, ""},
		{"a context that is no object", pep, `{` + reader + `,` + orders + `,"context":"x"}`, 400, nil, ""},
		{"a host that is no text", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"/me/","properties":{"hostname":1}}}`, 400, nil, ""},
		{"null is as good as nothing", pep, `{` + reader + `,` + orders + `,"context":null,"options":null,"evaluations":null}`, 200, true, "requirement_met"},
		{"names in another case are other names", pep, `{` + reader + `,` + orders + `,"Subject":{"type":"corp","id":"u2"},"ACTION":7}`, 200, true, "requirement_met"},
		{"a subject twice", pep, `{"subject":{"type":"corp","id":"u2"},` + reader + `,` + orders + `}`, 400, nil, ""},
		{"an id twice", pep, `{"subject":{"type":"corp","id":"u1","id":"u2"},` + orders + `}`, 400, nil, ""},
		{"something behind the question", pep, `{` + reader + `,` + orders + `}{}`, 400, nil, ""},
		{"several questions where one is asked", pep, `{` + reader + `,` + orders + `,"evaluations":7,"options":7}`, 200, true, "requirement_met"},
		{"a list", pep, `[{` + reader + `,` + orders + `}]`, 400, nil, ""},
		{"brackets without end", pep, `{"context":` + strings.Repeat(`[`, 10_000), 400, nil, ""},
		{"more than a mebibyte", pep, `{` + reader + `,` + orders + `,"padding":"` + strings.Repeat("x", 1<<20) + `"}`, 413, nil, ""},
		// An id that is no path is one below its type.
		{"a resource of the application's own", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"order","id":"7"}}`, 200, true, "requirement_met"},
		{"its id ends where it ends", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"order","id":"7/../../me"}}`, 200, false, "path_not_canonical"},
		{"and so does its type", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"order/7","id":"x"}}`, 200, false, "path_not_canonical"},
		{"dots are not a way up", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"order","id":".."}}`, 200, false, "path_not_canonical"},
		{"a question mark is part of the id", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"order","id":"7?x=y"}}`, 200, true, "requirement_met"},
		{"no subject", pep, `{` + orders + `}`, 400, nil, ""},
		{"no JSON", pep, `{`, 400, nil, ""},
		{"who may not ask", w.token(nil), `{` + reader + `,` + orders + `}`, 403, nil, ""},
		{"who does not say who he is", "", `{` + reader + `,` + orders + `}`, 401, nil, ""},
	} {
		status, answer := post(EvaluationPath, row.token, row.body)
		context, _ := answer["context"].(map[string]any)
		reason, _ := context["reason"].(string)
		if status != row.status || answer["decision"] != row.decision || reason != row.reason {
			t.Errorf("%s: %d %v, want %d %v %s", row.name, status, answer, row.status, row.decision, row.reason)
		}
	}
}

// Several questions are answered in order, as far as their semantic wants to know.
func TestAuthZENSeveral(t *testing.T) {
	w := newWorld(t)
	post, pep := newWorld(t, asking(w)).authzen(t)
	const several = `{` + reader + `,"action":{"name":"GET"},"evaluations":[
		{"resource":{"type":"route","id":"/tenants/acme/orders/7"}},
		{"resource":{"type":"route","id":"/admin/"}},
		{"resource":{"type":"route"}},
		{"resource":{"type":"route","id":"/me/"}}]`
	for options, want := range map[string]string{
		``: "true false false true",
		`,"options":{"evaluations_semantic":"deny_on_first_deny"}`:     "true false",
		`,"options":{"evaluations_semantic":"permit_on_first_permit"}`: "true",
	} {
		_, answer := post(EvaluationsPath, pep, several+options+`}`)
		var got []string
		list, _ := answer["evaluations"].([]any)
		for _, one := range list {
			got = append(got, map[bool]string{true: "true", false: "false"}[one.(map[string]any)["decision"].(bool)])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("evaluations with %q: %v, want %s", options, answer, want)
		}
	}
	for name, body := range map[string]string{
		"an unknown semantic":               several + `,"options":{"evaluations_semantic":"x"}}`,
		"a semantic that is no text":        several + `,"options":{"evaluations_semantic":{}}}`,
		"options that are no object":        several + `,"options":"execute_all"}`,
		"evaluations that are no list":      `{` + reader + `,` + orders + `,"evaluations":{}}`,
		"more evaluations than are allowed": `{` + reader + `,"evaluations":[1` + strings.Repeat(",1", maxEvaluations) + `]}`,
		"a default that is no object":       strings.Replace(several, `"action":{"name":"GET"}`, `"action":"GET"`, 1) + `}`,
	} {
		if status, answer := post(EvaluationsPath, pep, body); status != 400 || answer["evaluations"] != nil {
			t.Errorf("%s: %d %v, want 400", name, status, answer)
		}
	}
}

// One bad question is a denial with an error, and says nothing about the others.
func TestAuthZENOneOfSeveralIsBad(t *testing.T) {
	w := newWorld(t)
	s := newWorld(t, asking(w)).gate.Snapshot()
	request := must(authn.DecodeObject([]byte(`{"subject":{"type":"corp","id":"u1"},"action":{"name":"GET"},"evaluations":[
		{"resource":{"type":"route","id":"/me/"}},
		7,
		{"resource":"/me/"},
		{"subject":{"type":"corp","id":"u1","properties":{"roles":"admin"}},"resource":{"type":"route","id":"/me/"}},
		{"subject":{"properties":{"username":"eve"}},"resource":{"type":"route","id":"/me/"}},
		{"subject":{"type":"nobody"},"resource":{"type":"route","id":"/me/"}}]}`)))
	answer := must(s.answer(request, true))
	var got []string
	for _, one := range answer.(map[string]any)["evaluations"].([]*evaluated) {
		text := fmt.Sprint(one.Decision)
		if e, bad := one.Context["error"].(map[string]any); bad {
			text = fmt.Sprint(e["status"], " ", e["message"])
		}
		got = append(got, text)
	}
	want := []string{
		"true",
		"400 the evaluation is not an object",
		"400 resource is not an object",
		"400 roles is not a list of texts",
		"true", // type and id are the default's
		"400 the subject's type, or its property authenticator, must name an authenticator of the configuration",
	}
	if !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
}

// A request's identifier comes back as it is, whatever it is.
func TestAuthZENRequestID(t *testing.T) {
	w := newWorld(t)
	server := newWorld(t, asking(w)).httpServer(t)
	for _, id := range []string{"7", "with spaces, and; more", strings.Repeat("x", 2000), "größe", ""} {
		request := must(http.NewRequest("POST", server.URL+EvaluationPath, strings.NewReader(`{}`)))
		request.Header.Set("X-Request-Id", id)
		response := must(http.DefaultClient.Do(request))
		response.Body.Close()
		if got := response.Header.Get("X-Request-Id"); response.StatusCode != 401 || got != id {
			t.Errorf("the identifier %.20q: %d with %.20q", id, response.StatusCode, got)
		}
	}
}

// A public route that covers the API lets nobody ask.
func TestAuthZENIsNeverPublic(t *testing.T) {
	w := newWorld(t)
	w = newWorld(t, func(c *Config) {
		c.Routes = append(c.Routes, Route{Forward: c.Forward, Policy: &policy.Route{
			Name: "ask", Index: len(c.Routes), Patterns: patterns(w.t, "POST /access/v1/"), Public: true,
		}})
	})
	server := w.httpServer(t)
	for _, token := range []string{"", w.token(nil)} {
		request := must(http.NewRequest("POST", server.URL+EvaluationPath, strings.NewReader(`{}`)))
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response := must(http.DefaultClient.Do(request))
		response.Body.Close()
		if response.StatusCode != 403 {
			t.Errorf("asking through a public route: %d, want 403", response.StatusCode)
		}
	}
}

// The document names the URL by which it was asked for; a proxy that is trusted says whether
// that was by TLS.
func TestAuthZENConfiguration(t *testing.T) {
	for _, row := range []struct {
		name      string
		changes   []func(*Config)
		forwarded string
		tls       bool
	}{
		{"directly", nil, "", false},
		{"a client says that it was by TLS", nil, "https", false},
		{"a trusted proxy says so", []func(*Config){trusting}, "https", true},
		{"a trusted proxy says nothing", []func(*Config){trusting}, "", false},
		{"a trusted proxy says something else", []func(*Config){trusting}, "https, http", false},
	} {
		server := newWorld(t, row.changes...).httpServer(t)
		request := must(http.NewRequest("GET", server.URL+AuthZENConfigPath, nil))
		if row.forwarded != "" {
			request.Header.Set("X-Forwarded-Proto", row.forwarded)
		}
		response := must(http.DefaultClient.Do(request))
		var got map[string]string
		err := json.NewDecoder(response.Body).Decode(&got)
		response.Body.Close()
		base := server.URL
		if row.tls {
			base = strings.Replace(base, "http:", "https:", 1)
		}
		want := map[string]string{"policy_decision_point": base, "access_evaluation_endpoint": base + EvaluationPath, "access_evaluations_endpoint": base + EvaluationsPath}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: the document is %v %v, want %v", row.name, got, err, want)
		}
	}
}

// FuzzAuthZEN: whatever is asked, there is an answer or an error, and nobody is allowed
// whose authenticator the question does not name.
func FuzzAuthZEN(f *testing.F) {
	for _, seed := range []string{
		`{"subject":{"type":"corp","id":"u1"},"action":{"name":"GET"},"resource":{"type":"route","id":"/me/"}}`,
		`{"subject":{"type":"corp","id":"u1","properties":{"attributes":{"a":[1,true,"x"]}}},"action":{"name":"GET"},"resource":{"type":"order","id":"7"},"context":{"source":"10.0.0.1"}}`,
		`{"action":{"name":"GET"},"evaluations":[{"subject":{"type":"corp","id":"u1"}},7],"options":{"evaluations_semantic":"deny_on_first_deny"}}`,
		`{"evaluations":[]}`, `{"subject":null}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	s := newWorld(f).gate.Snapshot()
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := authn.DecodeObject(body)
		if err != nil {
			return
		}
		named := slices.ContainsFunc([]string{"corp", "machines", `\u`}, func(s string) bool { return bytes.Contains(body, []byte(s)) })
		for _, several := range []bool{false, true} {
			answer, err := s.answer(request, several)
			if err != nil {
				continue
			}
			all := []*evaluated{}
			switch answer := answer.(type) {
			case *evaluated:
				all = append(all, answer)
			case map[string]any:
				all = answer["evaluations"].([]*evaluated)
			}
			if len(all) == 0 {
				t.Errorf("%q has no answer", body)
			}
			for _, one := range all {
				if one.Decision && !named {
					t.Errorf("%q is allowed", body)
				}
			}
		}
	})
}
