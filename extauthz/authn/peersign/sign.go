package peersign

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/dunglas/httpsfv"
)

// A Signer signs requests. It is safe for concurrent use.
type Signer struct {
	KeyID      string
	Secret     []byte   // shared by all peers
	Components []string // covered; default [DefaultComponents]

	// Now and Nonce are for tests; default the clock, and 18 random bytes in base64url.
	Now   func() time.Time
	Nonce func() string
}

// maxBodyBytes bounds what is read of a request's body, which has to fit into memory:
// the digest stands before it.
const maxBodyBytes = 64 << 20

// Sign signs r, which is ready to be sent: method, URL, host, headers and body count. Where
// a proxy takes the port out of the host, r.Host is to be without it.
// It sets the fields content-digest, signature-input and signature, and reads the body
// and puts it back. Retries need a new signature: a peer takes each one once.
func (s *Signer) Sign(r *http.Request) error {
	if s.KeyID == "" || len(s.Secret) == 0 {
		return errors.New("signing a request: key id and secret are needed")
	}
	components := s.Components
	if len(components) == 0 {
		components = DefaultComponents
	}
	if slices.Contains(components, DigestField) {
		body, err := takeBody(r)
		if err != nil {
			return fmt.Errorf("signing a request: %w", err)
		}
		digest := httpsfv.NewDictionary()
		sum := sha256.Sum256(body)
		digest.Add("sha-256", httpsfv.NewItem(sum[:]))
		text, err := httpsfv.Marshal(digest)
		if err != nil {
			return fmt.Errorf("signing a request: %w", err)
		}
		r.Header.Set(DigestField, text)
	}
	input := s.input(components)
	base, err := Base(input, requestMessage(r))
	if err != nil {
		return fmt.Errorf("signing a request: %w", err)
	}
	inputs, signatures := httpsfv.NewDictionary(), httpsfv.NewDictionary()
	inputs.Add("sig1", input)
	signatures.Add("sig1", httpsfv.NewItem(MAC(s.Secret, base)))
	for name, dictionary := range map[string]*httpsfv.Dictionary{InputField: inputs, SignatureField: signatures} {
		text, err := httpsfv.Marshal(dictionary)
		if err != nil {
			return fmt.Errorf("signing a request: %w", err)
		}
		r.Header.Set(name, text)
	}
	return nil
}

func (s *Signer) input(components []string) httpsfv.InnerList {
	now, nonce := time.Now, rand24
	if s.Now != nil {
		now = s.Now
	}
	if s.Nonce != nil {
		nonce = s.Nonce
	}
	input := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, name := range components {
		input.Items = append(input.Items, httpsfv.NewItem(name))
	}
	input.Params.Add("created", now().Unix())
	input.Params.Add("keyid", s.KeyID)
	input.Params.Add("alg", Algorithm)
	input.Params.Add("nonce", nonce())
	return input
}

// rand24 is 18 random bytes as 24 characters.
func rand24() string {
	b := make([]byte, 18)
	rand.Read(b) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// MAC is the signature of base (RFC 9421 §3.3.3).
func MAC(secret []byte, base string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(base))
	return mac.Sum(nil)
}

// takeBody reads the body of r and puts it back.
func takeBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	if closed := r.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if len(body) > maxBodyBytes {
		return nil, fmt.Errorf("reading the body: it is longer than %d bytes", maxBodyBytes)
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength = int64(len(body))
	return body, nil
}

// A Transport signs each request and sends it.
type Transport struct {
	Signer *Signer
	Base   http.RoundTripper // default [http.DefaultTransport]
}

// RoundTrip implements [http.RoundTripper]. The request is not changed.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	signed := r.Clone(r.Context())
	if err := t.Signer.Sign(signed); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as RoundTrippers must
		}
		return nil, err
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(signed)
}
