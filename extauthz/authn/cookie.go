package authn

import (
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// readCookie reads the cookie called name out of all Cookie lines. Envoy joins the
// lines of HTTP/1 with commas, and some servers split at commas anyway, so that the
// value is read twice, split at semicolons and split at both: the two readings must
// find the same single value. Nobody minds the other cookies.
func readCookie(r *policy.Request, name string) reading {
	var value, other string
	n, m := 0, 0
	for i := range r.Headers {
		if r.Headers[i].Name != "cookie" {
			continue
		}
		line := r.Headers[i].Value
		if v, found := findCookie(line, name, false); found > 0 {
			value, n = v, n+found
		}
		if v, found := findCookie(line, name, true); found > 0 {
			other, m = v, m+found
		}
	}
	switch {
	case n == 0 && m == 0:
		return reading{state: absent}
	case n != 1 || m != 1 || value != other:
		return reading{state: repeated}
	}
	if value, ok := cookieValue(value); ok {
		return reading{state: present, value: value}
	}
	return reading{state: malformed}
}

// findCookie gives the value of the last cookie called name as it is written, and
// how many there are. White space around the name is not looked at, and a name without
// a value is an empty cookie: whoever trims it, or reads it so, would find the cookie.
func findCookie(line, name string, commas bool) (value string, n int) {
	for line != "" {
		var one string
		one, _, line = cutCookie(line, commas)
		if key, v, _ := strings.Cut(one, "="); trimSpace(key) == name {
			value, n = trimSpace(v), n+1
		}
	}
	return value, n
}

// cutCookie gives the first cookie of line, the separator after it and the rest.
func cutCookie(line string, commas bool) (one, separator, rest string) {
	for i := 0; i < len(line); i++ {
		if line[i] == ';' || commas && line[i] == ',' {
			return line[:i], line[i : i+1], line[i+1:]
		}
	}
	return line, "", ""
}

// cookieValue takes a cookie's value out of its quotes (RFC 6265 §4.1.1).
func cookieValue(s string) (string, bool) {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == ',' || c == ';' || c == '\\' {
			return "", false
		}
	}
	return s, s != ""
}

// RemoveCookies gives the Cookie value line without the cookies called one of names,
// however it is split, and with the others as they are. It tells whether anything
// was there to remove. The result is empty when nothing is left.
func RemoveCookies(line string, names []string) (string, bool) {
	var kept strings.Builder
	removed := false
	separator := ""
	for rest := line; rest != ""; {
		one, next, after := cutCookie(rest, true)
		key, _, _ := strings.Cut(one, "=")
		if slices.Contains(names, trimSpace(key)) {
			removed = true
			if next == ";" {
				separator = next // or the cookies around it would grow together
			}
		} else {
			if kept.Len() > 0 {
				kept.WriteString(separator)
			} else {
				one = strings.TrimLeft(one, " \t")
			}
			kept.WriteString(one)
			separator = next
		}
		rest = after
	}
	if !removed {
		return line, false
	}
	return trimSpace(kept.String()), true
}
