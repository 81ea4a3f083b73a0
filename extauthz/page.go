package extauthz

import (
	_ "embed"
	"html/template"
	"net/http"
	"strings"
)

// A Page is what the template of the page for browsers is executed with.
type Page struct {
	Status        int    // 403
	Title         string // "Forbidden"
	Text          string // a sentence for the reader
	DecisionID    string
	Contact       string // as configured; may be empty, as the rest
	ContactURL    string // Contact as a link
	Documentation string // a URL
}

//go:embed page.html
var pageText string

// DefaultPage is our page for browsers: without scripts, pictures or anything else
// from elsewhere.
func DefaultPage() *template.Template {
	return template.Must(template.New("page").Parse(pageText))
}

// pageTexts are what a reader can do about it. The cause is not among them.
var pageTexts = map[int]string{
	http.StatusBadRequest:         "This request could not be read without doubt, so it was not forwarded.",
	http.StatusUnauthorized:       "You need to sign in, or what you signed in with is no longer good.",
	http.StatusForbidden:          "You may not see this page. If you think that you should, ask whoever runs it.",
	http.StatusNotFound:           "There is nothing at this address.",
	http.StatusServiceUnavailable: "This cannot be checked right now. Please try again in a moment.",
}

// statusTitle is the status's name in HTTP.
func statusTitle(status int) string {
	if title := http.StatusText(status); title != "" {
		return title
	}
	return http.StatusText(http.StatusForbidden)
}

// contactURL makes a link of a contact, if it looks like one.
func contactURL(contact string) string {
	switch {
	case strings.HasPrefix(contact, "https://"), strings.HasPrefix(contact, "http://"), strings.HasPrefix(contact, "mailto:"):
		return contact
	case strings.Contains(contact, "@") && !strings.ContainsAny(contact, " <>:/"):
		return "mailto:" + contact
	}
	return ""
}
