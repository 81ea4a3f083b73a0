package config

import "strings"

// closest finds the name that somebody probably meant; "" if none is near.
func closest(name string, names []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	folded := strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	for _, candidate := range names {
		if folded == strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(candidate)) {
			return candidate // camelCase and kebab-case
		}
		if d := editDistance(name, candidate, distance); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours
// between two texts, bytewise; limit or more comes out as limit.
func editDistance(a, b string, limit int) int {
	if abs(len(a)-len(b)) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// meant is the remedy for an unknown name.
func meant(name string, names []string) string {
	if near := closest(name, names); near != "" {
		return "did you mean " + quote(near) + "?"
	}
	switch {
	case len(names) == 0:
		return "there is none"
	case len(names) == 1:
		return "there is only " + quote(names[0])
	case len(names) <= 12:
		return "known are " + list(names)
	}
	return ""
}
