package policy

import "strconv"

// A Position is a place in a configuration file, counted from 1.
type Position struct {
	File   string
	Line   int
	Column int
}

// String is file:line:column, or "" for the zero Position.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}
