package authn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// DefaultSignatureMaxAge is how old a signed request may be.
	DefaultSignatureMaxAge = 30 * time.Second

	// DefaultSignatureLeeway is for clocks that are ahead of ours.
	DefaultSignatureLeeway = 5 * time.Second

	maxNonceBytes = 128
)

// PeerSignatureOptions are the settings of signatures over requests (RFC 9421).
type PeerSignatureOptions struct {
	KeyID      string
	Secret     Secret
	Components []string      // that must be covered; default [peersign.DefaultComponents]
	MaxAge     time.Duration // from created; default [DefaultSignatureMaxAge]
	Leeway     time.Duration // of created in the future; negative: none, 0: [DefaultSignatureLeeway]
	Nonces     NonceStore    // nil: [Nonces] of its own
}

// A peerSignature verifies signatures with one key.
//
// What a signature with content-digest covers is the body that the proxy sent along: a
// proxy that does not send bodies leaves nothing to compare, and requests that have
// one are refused.
type peerSignature struct {
	options PeerSignatureOptions
}

func newPeerSignature(options PeerSignatureOptions) (*peerSignature, error) {
	if options.KeyID == "" || options.Secret.Empty() {
		return nil, errors.New("key_id and secret are needed")
	}
	if len(options.Components) == 0 {
		options.Components = peersign.DefaultComponents
	}
	probe := peersign.Message{Field: func(string) []string { return []string{""} }}
	input := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, name := range options.Components {
		input.Items = append(input.Items, httpsfv.NewItem(name))
	}
	if _, err := peersign.Base(input, probe); err != nil {
		return nil, fmt.Errorf("components: %w", err)
	}
	if options.MaxAge <= 0 {
		options.MaxAge = DefaultSignatureMaxAge
	}
	switch {
	case options.Leeway < 0:
		options.Leeway = 0
	case options.Leeway == 0:
		options.Leeway = DefaultSignatureLeeway
	}
	if options.Nonces == nil {
		options.Nonces = &Nonces{}
	}
	return &peerSignature{options: options}, nil
}

// presented tells whether the request has a signature with our key's id, or one that
// cannot be read.
func (s *peerSignature) presented(in *Input) bool {
	if _, ok := in.Request.Header(peersign.InputField); !ok {
		return false
	}
	_, _, found, err := s.find(in)
	return found || err != nil
}

// find gives the label and the parameters of the signature with our key's id.
func (s *peerSignature) find(in *Input) (label string, input httpsfv.InnerList, found bool, err error) {
	inputs, err := httpsfv.UnmarshalDictionary(fieldLines(in, peersign.InputField))
	if err != nil {
		return "", input, false, errors.New("signature-input cannot be read")
	}
	for _, name := range inputs.Names() {
		member, _ := inputs.Get(name)
		list, ok := member.(httpsfv.InnerList)
		if !ok {
			return "", input, false, errors.New("signature-input cannot be read")
		}
		if id, _ := parameter[string](list, "keyid"); id != s.options.KeyID {
			continue
		}
		if found {
			return "", input, true, errors.New("two signatures with one key")
		}
		label, input, found = name, list, true
	}
	return label, input, found, nil
}

func fieldLines(in *Input, name string) []string {
	var lines []string
	for _, h := range in.Request.Headers {
		if h.Name == name {
			lines = append(lines, h.Value)
		}
	}
	return lines
}

func parameter[T any](list httpsfv.InnerList, name string) (T, bool) {
	var none T
	if list.Params == nil {
		return none, false
	}
	v, ok := list.Params.Get(name)
	if !ok {
		return none, false
	}
	typed, ok := v.(T)
	return typed, ok
}

// verify verifies the signature over the request in (RFC 9421 §3.2). The nonce is
// taken last, so that only what was signed uses one up.
func (s *peerSignature) verify(ctx context.Context, in *Input) (policy.Reason, error) {
	label, input, found, err := s.find(in)
	if err != nil {
		return policy.ReasonPeerSignature, err
	}
	if !found {
		return policy.ReasonPeerSignature, errors.New("no signature has our key's id")
	}
	if err := s.covers(input); err != nil {
		return policy.ReasonPeerSignature, err
	}
	if err := s.checkMAC(in, label, input); err != nil {
		return policy.ReasonPeerSignature, err
	}
	expires, err := s.checkTimes(input, in.Now)
	if err != nil {
		return policy.ReasonPeerStale, err
	}
	if reason, err := checkDigest(in, input); err != nil {
		return reason, err
	}
	if _, inMemory := s.options.Nonces.(*Nonces); in.Local && !inMemory {
		return policy.ReasonStoreUnavailable, errLocal
	}
	nonce, _ := parameter[string](input, "nonce")
	ctx, cancel := patience.For(ctx)
	defer cancel()
	fresh, err := s.options.Nonces.UseNonce(ctx, s.options.KeyID, nonce, expires, in.Now)
	switch {
	case err != nil:
		return policy.ReasonStoreUnavailable, fmt.Errorf("taking the nonce: %w", err)
	case !fresh:
		return policy.ReasonPeerReplayed, errors.New("the nonce was used before")
	}
	return policy.ReasonNone, nil
}

// covers tells whether input covers what it must, with the one algorithm and a nonce.
func (s *peerSignature) covers(input httpsfv.InnerList) error {
	for _, want := range s.options.Components {
		if !hasComponent(input, want) {
			return fmt.Errorf("%s is not covered", want)
		}
	}
	if input.Params != nil {
		if _, given := input.Params.Get("alg"); given {
			if alg, _ := parameter[string](input, "alg"); alg != peersign.Algorithm {
				return fmt.Errorf("the algorithm is not %s", peersign.Algorithm)
			}
		}
	}
	if nonce, _ := parameter[string](input, "nonce"); nonce == "" || len(nonce) > maxNonceBytes {
		return fmt.Errorf("the nonce is absent or longer than %d bytes", maxNonceBytes)
	}
	return nil
}

func hasComponent(input httpsfv.InnerList, name string) bool {
	for _, item := range input.Items {
		if item.Value == name {
			return true
		}
	}
	return false
}

func (s *peerSignature) checkMAC(in *Input, label string, input httpsfv.InnerList) error {
	signatures, err := httpsfv.UnmarshalDictionary(fieldLines(in, peersign.SignatureField))
	if err != nil {
		return errors.New("signature cannot be read")
	}
	member, _ := signatures.Get(label)
	item, _ := member.(httpsfv.Item)
	signature, ok := item.Value.([]byte)
	if !ok {
		return errors.New("signature has no such label")
	}
	message := peerMessage(in)
	for _, message.WithPort = range [...]bool{false, true} {
		base, err := peersign.Base(input, message)
		if err != nil {
			return err
		}
		if hmac.Equal(signature, peersign.MAC([]byte(s.options.Secret.Reveal()), base)) {
			return nil
		}
	}
	return errors.New("the signature does not verify")
}

// peerMessage is what the request says, as it was received.
func peerMessage(in *Input) peersign.Message {
	return peersign.Message{
		Method:    in.Request.Method,
		Scheme:    in.Request.Scheme,
		Authority: in.Authority,
		Target:    in.Target,
		Field:     func(name string) []string { return fieldLines(in, name) },
	}
}

// checkTimes checks created, and expires if it is there, and gives when the message
// is too old.
func (s *peerSignature) checkTimes(input httpsfv.InnerList, now time.Time) (time.Time, error) {
	seconds, ok := parameter[int64](input, "created")
	if !ok {
		return time.Time{}, errors.New("created is absent")
	}
	created := time.Unix(seconds, 0)
	last := created.Add(s.options.MaxAge)
	if input.Params != nil {
		if _, given := input.Params.Get("expires"); given {
			seconds, ok := parameter[int64](input, "expires")
			if !ok {
				return time.Time{}, errors.New("expires is not a time")
			}
			if expires := time.Unix(seconds, 0); expires.Before(last) {
				last = expires
			}
		}
	}
	switch {
	case created.After(now.Add(s.options.Leeway)):
		return time.Time{}, fmt.Errorf("it was created %s ahead of our clock", created.Sub(now).Round(time.Second))
	case now.After(last):
		return time.Time{}, fmt.Errorf("it was created %s ago, or has expired", now.Sub(created).Round(time.Second))
	}
	return last, nil
}

// checkDigest compares content-digest, if it is covered, with the body (RFC 9530 §2).
// Each digest that we can compute must be right, and one must be there.
func checkDigest(in *Input, input httpsfv.InnerList) (policy.Reason, error) {
	if !hasComponent(input, peersign.DigestField) {
		return policy.ReasonNone, nil
	}
	if in.BodyPartial || hidesBody(in) {
		return policy.ReasonBodyPartial, errors.New("the proxy did not send the whole body")
	}
	digests, err := httpsfv.UnmarshalDictionary(fieldLines(in, peersign.DigestField))
	if err != nil {
		return policy.ReasonDigestMismatch, errors.New("content-digest cannot be read")
	}
	right := 0
	for _, name := range digests.Names() {
		var sum []byte
		switch name {
		case "sha-256":
			h := sha256.Sum256(in.Body)
			sum = h[:]
		case "sha-512":
			h := sha512.Sum512(in.Body)
			sum = h[:]
		default:
			continue
		}
		member, _ := digests.Get(name)
		item, _ := member.(httpsfv.Item)
		if given, _ := item.Value.([]byte); subtle.ConstantTimeCompare(given, sum) != 1 {
			return policy.ReasonDigestMismatch, fmt.Errorf("the %s of the body is another", name)
		}
		right++
	}
	if right == 0 {
		return policy.ReasonDigestMismatch, errors.New("content-digest has neither sha-256 nor sha-512")
	}
	return policy.ReasonNone, nil
}

// hidesBody tells whether the request's headers announce a body that is not the one
// that the proxy sent.
func hidesBody(in *Input) bool {
	for _, line := range fieldLines(in, "content-length") {
		if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err != nil || n != int64(len(in.Body)) {
			return true
		}
	}
	return len(in.Body) == 0 && len(fieldLines(in, "transfer-encoding")) > 0
}
