package diff

// A formula is a condition over variables: all of its parts, one of its parts, or that a
// variable has one of some values.
type formula struct {
	op       op
	variable int
	in       []bool // by value
	parts    []formula
}

type op uint8

const (
	isIn op = iota
	allOf
	oneOf
)

var (
	always = formula{op: allOf}
	never  = formula{op: oneOf}
)

// not is the formula that holds where f does not.
func (f formula) not() formula {
	switch f.op {
	case isIn:
		in := make([]bool, len(f.in))
		for i := range in {
			in[i] = !f.in[i]
		}
		return formula{op: isIn, variable: f.variable, in: in}
	case allOf:
		f.op = oneOf
	default:
		f.op = allOf
	}
	parts := make([]formula, len(f.parts))
	for i := range parts {
		parts[i] = f.parts[i].not()
	}
	f.parts = parts
	return f
}

func and(parts ...formula) formula { return formula{op: allOf, parts: parts} }
func or(parts ...formula) formula  { return formula{op: oneOf, parts: parts} }
