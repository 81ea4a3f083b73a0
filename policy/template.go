package policy

// A Template is text that may refer to the request: `{path.tenant}`.
type Template struct {
	At   Position
	text string
}

// String is the template as written.
func (t Template) String() string { return t.text }
