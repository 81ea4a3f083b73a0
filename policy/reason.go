package policy

// Reason says why a decision came out as it did. The set is closed: logs, metrics
// and tests name nothing else, and each reason belongs to exactly one [Outcome].
// The zero Reason forbids.
type Reason uint8

const (
	// Forbidden.
	ReasonNone              Reason = iota // nobody decided; forbidden
	ReasonNoRoute                         // no route covers the request
	ReasonRouteUnknown                    // context_extensions name a route that does not exist
	ReasonRouteMismatch                   // context_extensions name a route that the request does not match
	ReasonRouteForbids                    // forbid: true
	ReasonRequirement                     // no requirement of the route holds
	ReasonInsufficientScope               // only scopes are missing (RFC 6750 §3.1)
	ReasonExpressionError                 // no requirement holds and an expression could not be evaluated
	ReasonNotHTTP                         // a Check without an HTTP part that no tcp rule allows
	ReasonInvalidIdentity                 // an identity value cannot be a header
	ReasonIdentityTooLarge                // identity headers over their size limit
	ReasonOriginRefused                   // a peer's credential is good, its origin is not listed
	ReasonPrincipalDisabled               // disabled in the directory
	ReasonPrincipalUnknown                // not in the directory, and provisioning is off
	ReasonProxyUntrusted                  // forward-auth was asked by a peer that is not in trusted_proxies
	ReasonCredentialStays                 // a credential in the query that forward-auth cannot have removed

	// Allowed.
	ReasonPublic    // the route is public
	ReasonMet       // a requirement holds
	ReasonPreflight // CORS preflight that the asked-for route lets through
	ReasonShadowed  // --shadow-all let a refusal pass

	// Unauthenticated.
	ReasonNoCredential         // nothing was presented to any authenticator consulted
	ReasonCredentialMalformed  // present, but not of its form
	ReasonWrongPlace           // presented outside only_from
	ReasonKeyUnknown           // no API key has this value
	ReasonUnknownIssuer        // no authenticator claims the token
	ReasonUnknownKey           // the issuer's set has no such key
	ReasonKeyUnsuitable        // the key may not verify this token (use, key_ops, alg, size)
	ReasonTokenMalformed       // not a JWS in compact form to the letter
	ReasonTokenTooLarge        // over limits.token_bytes
	ReasonTokenEncrypted       // five parts
	ReasonAlgorithmRefused     // alg is none, unknown or not configured
	ReasonTypeRefused          // header typ not in types
	ReasonCriticalHeader       // crit present
	ReasonSignatureInvalid     // the signature does not verify
	ReasonExpired              // exp passed
	ReasonNotYetValid          // nbf in the future
	ReasonIssuedInFuture       // iat in the future
	ReasonExpiryMissing        // no exp where one is required
	ReasonLifetimeTooLong      // exp - iat over max_lifetime
	ReasonIssuerMismatch       // iss is not the configured one
	ReasonAudienceMismatch     // aud does not hold what is configured
	ReasonClaimMissing         // a required claim is absent
	ReasonClaimType            // a claim has the wrong type
	ReasonRequireFailed        // a require expression does not hold
	ReasonPasswordWrong        // unknown user or wrong password
	ReasonRealmUnknown         // the realm header names no realm
	ReasonTenantNotSelectable  // the caller may not act for the tenant or user it asked for
	ReasonTokenUnknown         // an opaque token that nobody knows
	ReasonTokenRevoked         // revoked by its owner, an administrator or a rule
	ReasonTokenInactive        // introspection says inactive
	ReasonProviderRefused      // the remote provider refused the credential
	ReasonExchangeRefused      // the token endpoint refused the client or refresh token
	ReasonPeerSignature        // an RFC 9421 signature does not verify or covers too little
	ReasonPeerReplayed         // its nonce was seen before
	ReasonPeerStale            // created or expires outside the window
	ReasonDigestMismatch       // content-digest does not match the body
	ReasonBodyPartial          // the digest needs the whole body and Envoy sent a part
	ReasonCertificateUnmatched // no mtls principal pattern matches the peer certificate
	ReasonTooManyFailures      // failures of this name and source are limited

	// Malformed.
	ReasonPathNotCanonical   // the path can be read in two ways
	ReasonHostInvalid        // not one host
	ReasonMethodInvalid      // not a method token
	ReasonCredentialRepeated // two values where one is expected
	ReasonSelectionRepeated  // a tenant selection header repeated or not canonical
	ReasonRequestUndecodable // the Check itself could not be decoded
	ReasonHeadersTooLarge    // over limits.header_bytes

	// Unavailable.
	ReasonKeysUnavailable     // no usable key set of the issuer
	ReasonProviderUnavailable // a remote provider is down, slow or talks nonsense
	ReasonStoreUnavailable    // the token store cannot be asked and nothing fresh is cached
	ReasonOverloaded          // beyond the concurrency and queue limits
	ReasonInternal            // a fault of ours
	ReasonNotReady            // no configuration yet

	reasonCount
)

type reasonInfo struct {
	name    string
	outcome Outcome
}

var reasons = [reasonCount]reasonInfo{
	ReasonNone:              {"none", Forbidden},
	ReasonNoRoute:           {"no_route", Forbidden},
	ReasonRouteUnknown:      {"route_unknown", Forbidden},
	ReasonRouteMismatch:     {"route_mismatch", Forbidden},
	ReasonRouteForbids:      {"route_forbids", Forbidden},
	ReasonRequirement:       {"requirement_not_met", Forbidden},
	ReasonInsufficientScope: {"insufficient_scope", Forbidden},
	ReasonExpressionError:   {"expression_error", Forbidden},
	ReasonNotHTTP:           {"not_http", Forbidden},
	ReasonInvalidIdentity:   {"invalid_identity", Forbidden},
	ReasonIdentityTooLarge:  {"identity_too_large", Forbidden},
	ReasonOriginRefused:     {"origin_refused", Forbidden},
	ReasonPrincipalDisabled: {"principal_disabled", Forbidden},
	ReasonPrincipalUnknown:  {"principal_unknown", Forbidden},
	ReasonProxyUntrusted:    {"proxy_untrusted", Forbidden},
	ReasonCredentialStays:   {"credential_stays", Forbidden},

	ReasonPublic:    {"public", Allowed},
	ReasonMet:       {"requirement_met", Allowed},
	ReasonPreflight: {"preflight", Allowed},
	ReasonShadowed:  {"shadowed", Allowed},

	ReasonNoCredential:         {"no_credential", Unauthenticated},
	ReasonCredentialMalformed:  {"credential_malformed", Unauthenticated},
	ReasonWrongPlace:           {"wrong_place", Unauthenticated},
	ReasonKeyUnknown:           {"api_key_unknown", Unauthenticated},
	ReasonUnknownIssuer:        {"unknown_issuer", Unauthenticated},
	ReasonUnknownKey:           {"unknown_key", Unauthenticated},
	ReasonKeyUnsuitable:        {"key_unsuitable", Unauthenticated},
	ReasonTokenMalformed:       {"token_malformed", Unauthenticated},
	ReasonTokenTooLarge:        {"token_too_large", Unauthenticated},
	ReasonTokenEncrypted:       {"token_encrypted", Unauthenticated},
	ReasonAlgorithmRefused:     {"algorithm_refused", Unauthenticated},
	ReasonTypeRefused:          {"type_refused", Unauthenticated},
	ReasonCriticalHeader:       {"critical_header", Unauthenticated},
	ReasonSignatureInvalid:     {"signature_invalid", Unauthenticated},
	ReasonExpired:              {"expired", Unauthenticated},
	ReasonNotYetValid:          {"not_yet_valid", Unauthenticated},
	ReasonIssuedInFuture:       {"issued_in_future", Unauthenticated},
	ReasonExpiryMissing:        {"expiry_missing", Unauthenticated},
	ReasonLifetimeTooLong:      {"lifetime_too_long", Unauthenticated},
	ReasonIssuerMismatch:       {"issuer_mismatch", Unauthenticated},
	ReasonAudienceMismatch:     {"audience_mismatch", Unauthenticated},
	ReasonClaimMissing:         {"claim_missing", Unauthenticated},
	ReasonClaimType:            {"claim_type", Unauthenticated},
	ReasonRequireFailed:        {"require_failed", Unauthenticated},
	ReasonPasswordWrong:        {"password_wrong", Unauthenticated},
	ReasonRealmUnknown:         {"realm_unknown", Unauthenticated},
	ReasonTenantNotSelectable:  {"tenant_not_selectable", Unauthenticated},
	ReasonTokenUnknown:         {"token_unknown", Unauthenticated},
	ReasonTokenRevoked:         {"token_revoked", Unauthenticated},
	ReasonTokenInactive:        {"token_inactive", Unauthenticated},
	ReasonProviderRefused:      {"provider_refused", Unauthenticated},
	ReasonExchangeRefused:      {"exchange_refused", Unauthenticated},
	ReasonPeerSignature:        {"peer_signature_invalid", Unauthenticated},
	ReasonPeerReplayed:         {"peer_replayed", Unauthenticated},
	ReasonPeerStale:            {"peer_stale", Unauthenticated},
	ReasonDigestMismatch:       {"digest_mismatch", Unauthenticated},
	ReasonBodyPartial:          {"body_partial", Unauthenticated},
	ReasonCertificateUnmatched: {"certificate_unmatched", Unauthenticated},
	ReasonTooManyFailures:      {"too_many_failures", Unauthenticated},

	ReasonPathNotCanonical:   {"path_not_canonical", Malformed},
	ReasonHostInvalid:        {"host_invalid", Malformed},
	ReasonMethodInvalid:      {"method_invalid", Malformed},
	ReasonCredentialRepeated: {"credential_repeated", Malformed},
	ReasonSelectionRepeated:  {"selection_repeated", Malformed},
	ReasonRequestUndecodable: {"request_undecodable", Malformed},
	ReasonHeadersTooLarge:    {"headers_too_large", Malformed},

	ReasonKeysUnavailable:     {"keys_unavailable", Unavailable},
	ReasonProviderUnavailable: {"provider_unavailable", Unavailable},
	ReasonStoreUnavailable:    {"store_unavailable", Unavailable},
	ReasonOverloaded:          {"overloaded", Unavailable},
	ReasonInternal:            {"internal", Unavailable},
	ReasonNotReady:            {"not_ready", Unavailable},
}

func (r Reason) String() string { return r.info().name }

// Outcome is the one outcome that r belongs to.
func (r Reason) Outcome() Outcome { return r.info().outcome }

// Reasons lists every reason, for metrics and documentation.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// ParseReason finds a reason by its name.
func ParseReason(name string) (Reason, bool) {
	for i, info := range reasons {
		if info.name == name {
			return Reason(i), true
		}
	}
	return ReasonNone, false
}

func (r Reason) info() reasonInfo {
	if r < reasonCount {
		return reasons[r]
	}
	return reasons[ReasonNone]
}
