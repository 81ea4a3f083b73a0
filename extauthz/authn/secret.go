package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"unicode/utf8"
)

const redacted = "[redacted]"

// A Secret is a value that must not be seen. However it is printed, it prints as
// [redacted]; only Reveal gives it. The zero Secret is empty and equals nothing.
type Secret struct{ value string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal gives the value, for the one place that needs it.
func (s Secret) Reveal() string { return s.value }

// Empty tells whether there is nothing in s.
func (s Secret) Empty() bool { return s.value == "" }

// Equal compares in constant time, over SHA-256. Empty secrets equal nothing.
func (s Secret) Equal(value string) bool {
	a, b := sha256.Sum256([]byte(s.value)), sha256.Sum256([]byte(value))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && s.value != ""
}

func (s Secret) String() string                 { return redacted }
func (s Secret) GoString() string               { return redacted }
func (s Secret) Format(f fmt.State, _ rune)     { _, _ = f.Write([]byte(redacted)) }
func (s Secret) MarshalText() ([]byte, error)   { return []byte(redacted), nil }
func (s Secret) MarshalJSON() ([]byte, error)   { return []byte(`"` + redacted + `"`), nil }
func (s Secret) LogValue() slog.Value           { return slog.StringValue(redacted) }
func (s Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }

// maxDetail is how much of a remote answer's text goes into an error, in bytes.
const maxDetail = 120

// clip shortens text that others wrote for an error message.
func clip(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	cut := maxDetail
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
