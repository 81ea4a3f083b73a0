package authn

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// PeerOptions are the settings of a [Peer].
type PeerOptions struct {
	Stamp Stamp

	Secret        Secret // of bearer tokens; empty: none are taken
	RequireExpiry bool   // bearer tokens must have exp
	Signature     *PeerSignatureOptions

	// Origins are where peers come from; nil: anywhere, which is for when they are not
	// strict. Whoever gives them starts and closes them.
	Origins *Origins

	// Principal is whom a peer is. Its subject defaults to the peer's name.
	Principal policy.Principal

	CacheKeys *CacheKeys // shared by all authenticators; nil: its own
}

// Peer verifies instances of one cluster, which share a secret: by HS256 bearer tokens
// `{"peer": "NAME"}`, by signatures over the request (RFC 9421), or both. Then it
// looks where they come from.
type Peer struct {
	options   PeerOptions
	token     *JWT           // nil: no bearer tokens
	signature *peerSignature // nil: no signatures
	signer    *Identity      // of signatures: the key's id is the peer's name
}

// NewPeer checks options.
func NewPeer(options PeerOptions) (*Peer, error) {
	p := &Peer{options: options}
	if options.Secret.Empty() && options.Signature == nil {
		return nil, errors.New("either a secret or a signature is needed")
	}
	var err error
	if !options.Secret.Empty() {
		p.token, err = NewJWT(JWTOptions{
			AnyIssuer:      true, // Takes wants none
			AnyAudience:    true,
			Algorithms:     []string{"HS256"},
			ExpiryOptional: !options.RequireExpiry,
			SharedSecret:   options.Secret,
			Map:            p.principal,
			CacheKeys:      options.CacheKeys,
		})
		if err != nil {
			return nil, err
		}
	}
	if options.Signature != nil {
		if p.signature, err = newPeerSignature(*options.Signature); err != nil {
			return nil, fmt.Errorf("signature: %w", err)
		}
		p.signer = &Identity{Principal: p.named(options.Signature.KeyID)}
	}
	return p, nil
}

// Warnings are what an operator should know though it is no error.
func (p *Peer) Warnings() []string {
	if p.token == nil {
		return nil
	}
	return p.token.Warnings()
}

// principal makes a principal of a peer's claims.
func (p *Peer) principal(claims Claims) (*policy.Principal, policy.Reason, error) {
	switch name := claims["peer"].(type) {
	case nil:
		return nil, policy.ReasonClaimMissing, errors.New(`claim "peer" is absent`)
	case string:
		if name != "" {
			return p.named(name), policy.ReasonNone, nil
		}
	}
	return nil, policy.ReasonClaimType, errors.New(`claim "peer" is not a text, or empty`)
}

func (p *Peer) named(name string) *policy.Principal {
	own := p.options.Principal
	if own.Subject == "" {
		own.Subject = name
	}
	return p.options.Stamp.Principal(own)
}

// Takes tells whether a JWT that says p of itself can be a peer's: those name no
// issuer.
func (p *Peer) Takes(peek Peek) bool {
	return p.token != nil && !peek.HasIssuer && p.token.Takes(peek)
}

// Presented tells whether the request has a signature that is said to be of ours.
func (p *Peer) Presented(in *Input) bool { return p.signature != nil && p.signature.presented(in) }

// Authenticate implements [Authenticator]. The signature is verified first, then the
// origin: a good credential from elsewhere is [policy.ReasonOriginRefused].
func (p *Peer) Authenticate(ctx context.Context, in *Input) Result {
	result := p.verify(ctx, in)
	if result.Identity != nil && p.options.Origins != nil && !p.options.Origins.Contains(in.Request.Source) {
		return Refuse(policy.ReasonOriginRefused, fmt.Errorf("the peer %q comes from %v", clip(result.Identity.Principal.Subject), in.Request.Source))
	}
	return result
}

func (p *Peer) verify(ctx context.Context, in *Input) Result {
	switch {
	case in.Value != "" && p.token != nil:
		return p.token.Authenticate(ctx, in)
	case in.Value == "" && p.signature != nil:
		reason, err := p.signature.verify(ctx, in)
		if reason != policy.ReasonNone {
			return Refuse(reason, err)
		}
		return Result{Identity: p.signer}
	}
	return Refuse(policy.ReasonCredentialMalformed, errors.New("this kind of credential is not taken"))
}
