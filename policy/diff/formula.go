package diff

import "slices"

// A formula is a condition over variables: all of its parts, one of its parts, that a
// variable has one of some values, or whatever can be told once some variables are chosen.
type formula struct {
	op       op
	variable int
	in       []bool // by value
	parts    []formula
	on       []int // the variables that tell depends on
	tell     func(chosen []int) bool
}

type op uint8

const (
	isIn op = iota
	allOf
	oneOf
	told
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
	case told:
		tell := f.tell
		f.tell = func(chosen []int) bool { return !tell(chosen) }
		return f
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

// isNever tells whether f holds for nobody, as far as one sees without trying.
func (f *formula) isNever() bool {
	switch f.op {
	case oneOf:
		return !slices.ContainsFunc(f.parts, func(part formula) bool { return !part.isNever() })
	case allOf:
		return slices.ContainsFunc(f.parts, func(part formula) bool { return part.isNever() })
	case isIn:
		return !slices.Contains(f.in, true)
	}
	return false
}

// variables adds the variables of f to list.
func (f *formula) variables(list []int) []int {
	add := func(i int) {
		if !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	switch f.op {
	case isIn:
		add(f.variable)
	case told:
		for _, i := range f.on {
			add(i)
		}
	}
	for i := range f.parts {
		list = f.parts[i].variables(list)
	}
	return list
}
