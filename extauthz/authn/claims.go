package authn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Claims are a token's claims as they were written: names keep their case, numbers
// are [json.Number], lists []any, objects map[string]any. No name occurs twice, at
// any depth.
type Claims map[string]any

// An Expression computes something from claims. It is safe for concurrent use.
type Expression interface {
	Eval(claims Claims) (any, error)
	String() string // its source, for messages
}

// A Requirement is an expression that must be true of a token's claims.
type Requirement struct {
	Expression Expression
	Message    string // for the log, where it is not
}

// maxNumericDate is the last second of the year 9999, which is as far as RFC 3339
// and most calendars go. A date beyond it is a mistake (milliseconds, usually) or an
// attempt to overflow something.
const maxNumericDate = 253402300799

// text is the claim called name, which must be a string if it is there. An explicit
// null is not a string.
func (c Claims) text(name string) (string, bool, error) {
	v, present := c[name]
	if !present {
		return "", false, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", true, fmt.Errorf("claim %q is not a string", name)
	}
	return s, true, nil
}

// date is the claim called name as a time (RFC 7519 §2, NumericDate): a JSON number
// of seconds, fractions allowed, between 1970 and 9999.
func (c Claims) date(name string) (time.Time, bool, error) {
	v, present := c[name]
	if !present {
		return time.Time{}, false, nil
	}
	number, ok := v.(json.Number)
	if !ok {
		return time.Time{}, true, fmt.Errorf("claim %q is not a number", name)
	}
	seconds, err := strconv.ParseFloat(string(number), 64)
	if err != nil || !(seconds >= 0 && seconds <= maxNumericDate) {
		return time.Time{}, true, fmt.Errorf("claim %q is not a date between 1970 and 9999", name)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true, nil
}

// audiences is the claim aud (RFC 7519 §4.1.3): one string or a list of strings.
func (c Claims) audiences() ([]string, error) {
	switch v := c["aud"].(type) {
	case string:
		return []string{v}, nil
	case []any:
		all := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, errors.New(`claim "aud" holds something that is not a string`)
			}
			all[i] = s
		}
		return all, nil
	case nil:
		if _, present := c["aud"]; !present {
			return nil, nil
		}
	}
	return nil, errors.New(`claim "aud" is neither a string nor a list of strings`)
}
