package extauthz

// Page is what the template of the page for browsers is executed with.
type Page struct {
	Status        int    // 403
	Title         string // "Forbidden"
	Text          string // one sentence for the reader
	DecisionID    string
	Contact       string // may be empty, as are the rest
	ContactURL    string // Contact as a link
	Documentation string
}
