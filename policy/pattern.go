package policy

// A Pattern is one method, host and path pattern: `GET example.com/orders/{id}`.
type Pattern struct {
	At   Position
	text string
}

// String is the pattern in its canonical form.
func (p Pattern) String() string { return p.text }
