package extauthz

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// oddSpellings adds to list the headers that are spelled like none that is taken, but
// that some servers cannot tell from one: `x.tenant.id`. Those that are removed of
// every request anyway are left out.
func (t *taken) oddSpellings(list []string, headers []policy.Pair, why takenName, always []string) []string {
	for i := range headers {
		name := headers[i].Name
		if !isOdd(name) || t.folded[foldName(name)]&why == 0 || slices.Contains(always, name) || slices.Contains(list, name) {
			continue
		}
		list = append(list, name)
	}
	return list
}

// A cookieChange is what becomes of the Cookie header.
type cookieChange uint8

const (
	cookieAsIs cookieChange = iota
	cookieRewritten
	cookieRemoved
)

// clearCookies takes the cookies called one of names out of headers.
func clearCookies(headers []policy.Pair, names []string) (string, cookieChange) {
	if len(names) == 0 {
		return "", cookieAsIs
	}
	change := cookieAsIs
	for i := range headers {
		if headers[i].Name != "cookie" {
			continue
		}
		if _, removed := authn.RemoveCookies(headers[i].Value, names); removed {
			change = cookieRewritten
		}
	}
	if change == cookieAsIs {
		return "", cookieAsIs
	}
	var rest []string
	for i := range headers {
		if headers[i].Name != "cookie" {
			continue
		}
		line, _ := authn.RemoveCookies(headers[i].Value, names)
		for one := range strings.SplitSeq(line, ";") {
			// What could not be written into the answer would break it as a whole.
			if one = strings.Trim(one, " \t"); one != "" && isCookieText(one) {
				rest = append(rest, one)
			}
		}
	}
	if len(rest) == 0 {
		return "", cookieRemoved
	}
	return strings.Join(rest, "; "), cookieRewritten
}

func isCookieText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// queryKeys lists the keys, as they are written in query, of the parameters called one
// of names. Envoy removes parameters by the spelling of their keys, and splits at `&`
// only: where a server would find a parameter behind a semicolon, the parameter around
// it goes as well.
func queryKeys(query string, names []string) []string {
	if query == "" || len(names) == 0 {
		return nil
	}
	var keys []string
	for parameter := range strings.SplitSeq(query, "&") {
		for one := range strings.SplitSeq(parameter, ";") {
			key, _, _ := strings.Cut(one, "=")
			if !slices.Contains(names, key) {
				decoded, err := url.QueryUnescape(key)
				if err != nil || !slices.Contains(names, decoded) {
					continue
				}
			}
			around, _, _ := strings.Cut(parameter, "=")
			if !slices.Contains(keys, around) {
				keys = append(keys, around)
			}
		}
	}
	return keys
}
