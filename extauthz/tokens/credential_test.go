package tokens

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestCredentialFormat holds the text to the documented format, with math/big as the oracle
// of its numbers.
func TestCredentialFormat(t *testing.T) {
	format := regexp.MustCompile(`^gh_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}$`)
	for range 1000 {
		credential := NewCredential()
		text := credential.Reveal()
		if !format.MatchString(text) {
			t.Fatalf("%q is not of the documented format", text)
		}
		back, ok := ParseCredential(text)
		if !ok || back != credential {
			t.Fatalf("ParseCredential(%q) = %v, %v", text, back, ok)
		}
		number := new(big.Int)
		for _, r := range text[20:63] {
			number.Mul(number, big.NewInt(62)).Add(number, big.NewInt(int64(strings.IndexRune(alphabet, r))))
		}
		if number.Cmp(new(big.Int).SetBytes(credential.secret[:])) != 0 {
			t.Fatalf("%q does not hold the secret", text)
		}
	}
}

// TestCredentialKnownText keeps the format from changing: tokens that were given out must
// stay good. The text was computed by a program in another language.
func TestCredentialKnownText(t *testing.T) {
	const text = "gh_0123456789ABCDEF_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0EbATs"
	credential := Credential{id: "0123456789ABCDEF"}
	for i := range credential.secret {
		credential.secret[i] = byte(i)
	}
	if got := credential.Reveal(); got != text {
		t.Errorf("got %q, want %q", got, text)
	}
	const sum = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
	if got := fmt.Sprintf("%x", credential.hash(nil)); got != sum {
		t.Errorf("hash is %s, want %s", got, sum)
	}
	if credential.hash(nil) == credential.hash([]byte("key")) {
		t.Error("the key does not matter")
	}
}

func TestParseCredentialRefuses(t *testing.T) {
	good := NewCredential().Reveal()
	for at := range len(good) {
		for _, b := range []byte{'0', 'z', '_', '-', ' ', 0, 0xff} {
			if good[at] == b {
				continue
			}
			if text := good[:at] + string([]byte{b}) + good[at+1:]; accepts(text) {
				t.Errorf("%q, mistyped at %d, is accepted", text, at)
			}
		}
		if at > 0 && good[at] != good[at-1] {
			if text := good[:at-1] + string([]byte{good[at], good[at-1]}) + good[at+1:]; accepts(text) {
				t.Errorf("%q, transposed at %d, is accepted", text, at)
			}
		}
	}
	for name, text := range map[string]string{
		"empty":              "",
		"the prefix alone":   Prefix,
		"one digit less":     good[:len(good)-1],
		"one digit more":     good + "0",
		"surrounded":         " " + good[1:],
		"another's prefix":   "ghp" + good[3:],
		"in upper case":      strings.ToUpper(good),
		"a secret too large": withSum(good[:20] + strings.Repeat("z", secretDigits)),
	} {
		if accepts(text) {
			t.Errorf("%s: %q is accepted", name, text)
		}
	}
	if text := withSum(good[:len(good)-checksumDigits]); !accepts(text) {
		t.Errorf("%q is refused", text)
	}
}

func accepts(text string) bool {
	_, ok := ParseCredential(text)
	return ok
}

// withSum gives a body the checksum that it should have.
func withSum(body string) string {
	secret, ok := parseBase62(body[20:])
	if !ok {
		// A number of more than 256 bits has no Credential: any sum will do.
		return body + "000000"
	}
	credential := Credential{secret: secret}
	credential.id = body[3:19]
	return credential.Reveal()
}

func FuzzParseCredential(f *testing.F) {
	f.Add(NewCredential().Reveal())
	f.Add("")
	f.Add("gh_0123456789ABCDEF_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0EbATs")
	f.Fuzz(func(t *testing.T, text string) {
		if credential, ok := ParseCredential(text); ok && credential.Reveal() != text {
			t.Errorf("%q is accepted and prints as %q", text, credential.Reveal())
		}
	})
}

func TestCredentialIsRedacted(t *testing.T) {
	credential := NewCredential()
	secret := credential.Reveal()[20:]
	asJSON, err := json.Marshal(map[string]any{"c": credential})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", credential)
	for _, text := range []string{
		fmt.Sprint(credential), fmt.Sprintf("%v %+v %#v %s %q", credential, credential, credential, credential, credential),
		string(asJSON), log.String(),
	} {
		if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", credential.secret)) || !strings.Contains(text, redacted) {
			t.Errorf("printed as %q", text)
		}
	}
}

func TestRevocationsCover(t *testing.T) {
	at := time.Unix(1000, 0)
	var r *revocations
	r = r.with([]Revocation{
		{Issuer: "i", Subject: "s", Before: at},
		{Issuer: "i", TokenID: "j", Before: at},
		{Tenant: "t", Before: at},
		{Issuer: "all", Before: at},
	})
	for _, row := range []struct {
		name                             string
		issuer, subject, tenant, tokenID string
		issued                           time.Time
		want                             bool
	}{
		{"issued at the time", "i", "s", "", "", at, true},
		{"issued before", "i", "s", "", "", at.Add(-time.Hour), true},
		{"issued after", "i", "s", "", "", at.Add(time.Second), false},
		{"no time of issue", "i", "s", "", "", time.Time{}, true},
		{"another subject", "i", "x", "", "", at, false},
		{"the same subject of another issuer", "x", "s", "", "", at, false},
		{"the jti", "i", "x", "", "j", at, true},
		{"the same jti of another issuer", "x", "s", "", "j", at, false},
		{"the tenant", "x", "x", "t", "", at, true},
		{"the whole issuer", "all", "x", "x", "x", at, true},
		{"nothing known about it", "", "", "", "", time.Time{}, false},
	} {
		if got := r.covers(row.issuer, row.subject, row.tenant, row.tokenID, row.issued); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	later := r.with([]Revocation{{Issuer: "i", Subject: "s", Before: at.Add(-time.Minute)}})
	if !later.covers("i", "s", "", "", at) {
		t.Error("an earlier revocation of one scope took a later one back")
	}
}
