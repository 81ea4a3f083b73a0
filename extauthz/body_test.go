package extauthz

import (
	"encoding/json"
	"html/template"
	"strings"
	"testing"
)

func TestBodies(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Answers = Answers{Contact: `ops@example.com`, Documentation: `https://docs.example.com/"x"`}
	})
	ask := w.asker(t)
	got := ask(req{path: "/nowhere"})
	var problem map[string]any
	if err := json.Unmarshal([]byte(got.body), &problem); err != nil {
		t.Fatalf("problem %s: %v", got.body, err)
	}
	want := map[string]any{
		"type": "about:blank", "title": "Forbidden", "status": 403.0, "decision_id": "ID",
		"contact": "ops@example.com", "documentation": `https://docs.example.com/"x"`,
	}
	for name, value := range want {
		if problem[name] != value {
			t.Errorf("problem: %s is %v, want %v", name, problem[name], value)
		}
	}
	if len(problem) != len(want) {
		t.Errorf("problem %v says more than %v", problem, want)
	}

	page := ask(req{path: "/nowhere"}.with("accept", "text/html")).body
	for _, part := range []string{`<html lang="en">`, "<h1>Forbidden</h1>", `<a href="mailto:ops@example.com">`, `<a href="https://docs.example.com/%22x%22">`, "<code>ID</code>", `name="viewport"`} {
		if !strings.Contains(page, part) {
			t.Errorf("the page has no %s:\n%s", part, page)
		}
	}
	for _, never := range []string{"no_route", "route", "<script"} {
		if strings.Contains(page, never) {
			t.Errorf("the page says %q:\n%s", never, page)
		}
	}
	if body := ask(req{path: "/nowhere"}.with("accept", "text/plain")).body; body != "403 Forbidden\ndecision ID\n" {
		t.Errorf("text: %q", body)
	}
	if body := ask(req{method: "POST", path: "/a.B/C"}.with("content-type", "application/grpc+proto")).body; body != "permission denied (decision ID)" {
		t.Errorf("grpc-message: %q", body)
	}
}

func TestPageOfTheOperator(t *testing.T) {
	own := template.Must(template.New("own").Parse(`{{.Status}} {{.Title}} {{.DecisionID}} {{.Contact}}`))
	w := newWorld(t, func(c *Config) { c.Answers = Answers{Page: own, Contact: "<b>"} })
	if body := w.asker(t)(req{path: "/nowhere"}.with("accept", "text/html")).body; body != "403 Forbidden ID &lt;b&gt;" {
		t.Errorf("the operator's page: %q", body)
	}
	broken := template.Must(template.New("own").Parse(`half a page {{.Nothing}}`))
	w = newWorld(t, func(c *Config) { c.Answers = Answers{Page: broken} })
	if body := w.asker(t)(req{path: "/nowhere"}.with("accept", "text/html")).body; strings.Contains(body, "half") || !strings.Contains(body, "Forbidden") {
		t.Errorf("a page that fails: %q", body)
	}
}

func TestPrefers(t *testing.T) {
	for accept, want := range map[string]string{
		"":              "application/problem+json",
		"*/*":           "application/problem+json",
		"text/html":     "text/html",
		"TEXT/HTML;q=1": "text/html",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "text/html",
		"text/html;q=0.5, application/json":                               "application/json",
		"application/json, text/html":                                     "application/json",
		"text/plain, text/html;q=0.9":                                     "text/plain",
		"text/*":                                                          "text/html",
		"text/*, text/html;q=0":                                           "text/plain",
		"text/html;q=0":                                                   "application/problem+json",
		"text/html;q=2":                                                   "application/problem+json",
		"text/html;q=NaN":                                                 "application/problem+json",
		"image/png":                                                       "application/problem+json",
		";;,,=":                                                           "application/problem+json",
	} {
		if got := prefers(accept); got != want {
			t.Errorf("prefers(%q) = %s, want %s", accept, got, want)
		}
	}
}
