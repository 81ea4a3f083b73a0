package authn

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// DefaultTokenBytes is the longest token that is looked at, unless configured
// otherwise. Tokens of real providers are 0.5 to 4 KiB; a token has to fit into
// Envoy's 60 KiB of request headers beside everything else.
const DefaultTokenBytes = 16 << 10

// MaxTokenBytes bounds what can be configured, and what [Input] reads.
const MaxTokenBytes = 64 << 10

// maxKeyIDBytes bounds a kid, which is looked up and ends up in logs.
const maxKeyIDBytes = 1024

// A jws is a signed token in compact form (RFC 7515 §7.1), read to the letter and
// not verified.
type jws struct {
	header    header
	payload   []byte
	claims    Claims // of parseJWS
	input     string // what is signed: the first two parts
	signature []byte
}

// header is what matters of a JOSE header.
type header struct {
	algorithm string
	typ       string
	hasType   bool
	keyID     string
	hasKeyID  bool
}

var (
	errTokenParts     = errors.New("token does not have three parts")
	errTokenEncrypted = errors.New("token has five parts")
	errTokenBase64    = errors.New("token part is not canonical base64url without padding")
	errTokenSignature = errors.New("token has no signature")
)

// parseJWS reads token, whose payload is a JSON object (RFC 7519 §7.2). Where that
// fails, the reason says how; nothing of the token is in the error.
//
// The reading admits one spelling only, so that no two tokens that differ in a byte
// are the same token: base64url without padding, line breaks or stray bits (RFC 7515
// §2), JSON as in [DecodeObject].
func parseJWS(token string, maxBytes int) (jws, policy.Reason, error) {
	t, reason, err := parseCompact(token, maxBytes)
	if err != nil {
		return jws{}, reason, err
	}
	if t.claims, err = decodeOwn(t.payload); err != nil {
		return jws{}, policy.ReasonTokenMalformed, fmt.Errorf("reading the claims: %w", err)
	}
	return t, policy.ReasonNone, nil
}

// parseCompact reads token, whatever its payload is.
func parseCompact(token string, maxBytes int) (jws, policy.Reason, error) {
	if len(token) > maxBytes {
		return jws{}, policy.ReasonTokenTooLarge, fmt.Errorf("token is longer than %d bytes", maxBytes)
	}
	switch strings.Count(token, ".") {
	case 2:
	case 4:
		return jws{}, policy.ReasonTokenEncrypted, errTokenEncrypted
	default:
		return jws{}, policy.ReasonTokenMalformed, errTokenParts
	}
	encodedHeader, rest, _ := strings.Cut(token, ".")
	encodedPayload, encodedSignature, _ := strings.Cut(rest, ".")
	t := jws{input: token[:len(token)-len(encodedSignature)-1]}

	var reason policy.Reason
	var err error
	if t.header, reason, err = knownHeaders.read(encodedHeader); err != nil {
		return jws{}, reason, fmt.Errorf("reading the header: %w", err)
	}
	if t.payload, err = decodeBase64URL(encodedPayload); err != nil {
		return jws{}, policy.ReasonTokenMalformed, fmt.Errorf("reading the payload: %w", err)
	}
	if t.signature, err = decodeBase64URL(encodedSignature); err != nil {
		return jws{}, policy.ReasonTokenMalformed, fmt.Errorf("reading the signature: %w", err)
	}
	if len(t.signature) == 0 {
		return jws{}, policy.ReasonTokenMalformed, errTokenSignature
	}
	return t, policy.ReasonNone, nil
}

// headers remembers headers that it has read. All tokens of one key have the same, so that
// a few serve nearly all tokens. It is safe for concurrent use.
type headers struct {
	seed maphash.Seed
	some [32]atomic.Pointer[readHeader] // by the hash of what they were read from
}

type readHeader struct {
	encoded string
	header  header
}

// maxRememberedHeader is longer than any that issuers send.
const maxRememberedHeader = 512

// What a header says depends on nothing but its text, so that all share what was read.
var knownHeaders = headers{seed: maphash.MakeSeed()}

// read reads a header that is encoded.
func (h *headers) read(encoded string) (header, policy.Reason, error) {
	place := &h.some[maphash.String(h.seed, encoded)%uint64(len(h.some))]
	if known := place.Load(); known != nil && known.encoded == encoded {
		return known.header, policy.ReasonNone, nil
	}
	decoded, err := decodeBase64URL(encoded)
	if err != nil {
		return header{}, policy.ReasonTokenMalformed, err
	}
	members, err := DecodeObject(decoded)
	if err != nil {
		return header{}, policy.ReasonTokenMalformed, err
	}
	read, reason, err := parseHeader(members)
	if err == nil && len(encoded) <= maxRememberedHeader {
		place.Store(&readHeader{strings.Clone(encoded), read})
	}
	return read, reason, err
}

// headerTexts are the registered header parameters that are strings (RFC 7515 §4.1).
// jku, x5u and the thumbprints are looked at no further: a token does not say where
// its key is, and nothing that it names is ever fetched.
var headerTexts = [...]string{"alg", "typ", "cty", "kid", "jku", "x5u", "x5t", "x5t#S256"}

// parseHeader takes what matters from a JOSE header, and refuses what would change
// the meaning of a token for a reader that looks at it.
func parseHeader(members map[string]any) (header, policy.Reason, error) {
	// No extension is understood here, so crit is refused whatever it lists (RFC 7515
	// §4.1.11). b64 changes what is signed and means nothing without crit (RFC 7797 §6).
	for _, name := range [...]string{"crit", "b64"} {
		if _, present := members[name]; present {
			return header{}, policy.ReasonCriticalHeader, fmt.Errorf("header parameter %q is present", name)
		}
	}
	// A token that brings its own key proves nothing (RFC 8725 §3.10 and CVE-2018-0114).
	for _, name := range [...]string{"jwk", "x5c"} {
		if _, present := members[name]; present {
			return header{}, policy.ReasonKeyUnsuitable, fmt.Errorf("header parameter %q embeds a key", name)
		}
	}
	// Only encrypted tokens have these (RFC 7516 §4.1, §9).
	for _, name := range [...]string{"enc", "zip"} {
		if _, present := members[name]; present {
			return header{}, policy.ReasonTokenMalformed, fmt.Errorf("header parameter %q belongs to an encrypted token", name)
		}
	}
	for _, name := range headerTexts {
		if v, present := members[name]; present {
			if _, ok := v.(string); !ok {
				return header{}, policy.ReasonTokenMalformed, fmt.Errorf("header parameter %q is not a string", name)
			}
		}
	}
	var h header
	var ok bool
	if h.algorithm, ok = members["alg"].(string); !ok {
		return header{}, policy.ReasonTokenMalformed, errors.New(`header parameter "alg" is absent`)
	}
	h.typ, h.hasType = members["typ"].(string)
	h.keyID, h.hasKeyID = members["kid"].(string)
	if len(h.keyID) > maxKeyIDBytes {
		return header{}, policy.ReasonTokenMalformed, fmt.Errorf(`header parameter "kid" is longer than %d bytes`, maxKeyIDBytes)
	}
	return h, policy.ReasonNone, nil
}

// decodeBase64URL decodes base64url as RFC 7515 §2 writes it: no padding, no line
// breaks, and nothing in the bits that the last character has to spare. encoding/base64
// ignores line breaks even when it is strict.
func decodeBase64URL(s string) ([]byte, error) {
	if strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, '\n') >= 0 {
		return nil, errTokenBase64
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errTokenBase64
	}
	return decoded, nil
}

// A Peek is what a token says of itself before anything is verified. It serves to
// choose the authenticator that the token goes to, and for nothing else.
type Peek struct {
	Issuer      string // claim iss; empty if it is not a string
	HasIssuer   bool   // whether iss is there at all
	Algorithm   string // header alg
	Type        string // header typ, as written
	PayloadType string // claim typ, which some providers use for the kind of token
}

// parseJWS reads token, as [parseJWS] does, unless it was the last that was read.
func (in *Input) parseJWS(token string, maxBytes int) (*jws, policy.Reason, error) {
	if in.token != nil && in.tokenOf == token && len(token) <= maxBytes {
		return in.token, policy.ReasonNone, nil
	}
	parsed, reason, err := parseJWS(token, maxBytes)
	if err != nil {
		return nil, reason, err
	}
	in.token, in.tokenOf = &parsed, token
	return in.token, policy.ReasonNone, nil
}

// peekJWT reads what token says of itself. It is the reading that verification uses,
// so both see the same token. Where it is not ok the token cannot be good: any
// [JWT] says why, without I/O.
func (in *Input) peekJWT(token string) (Peek, bool) {
	parsed, _, err := in.parseJWS(token, MaxTokenBytes)
	if err != nil {
		return Peek{}, false
	}
	return parsed.peek(), true
}

func (t *jws) peek() Peek {
	p := Peek{Algorithm: t.header.algorithm, Type: t.header.typ}
	_, p.HasIssuer = t.claims["iss"]
	p.Issuer, _ = t.claims["iss"].(string)
	p.PayloadType, _ = t.claims["typ"].(string)
	return p
}
