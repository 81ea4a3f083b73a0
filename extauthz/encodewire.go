package extauthz

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// appendCheckResponse writes what [CheckResponse] makes, without making it: mostly
// bytes that were computed when the principal was first seen. A test holds the two to
// the same meaning. scratch is memory for parts of it, given back for the next time.
func appendCheckResponse(b, scratch []byte, a *Answer) (message, reuse []byte) {
	if a.Allowed() {
		b = append(b, responseStatus, 0)
		b, scratch = appendOK(b, scratch, a)
	} else {
		code := uint64(a.code())
		b = appendLength(b, responseStatus, 1+protowire.SizeVarint(code))
		b = protowire.AppendVarint(append(b, statusCode), code)
		b, scratch = appendDenied(b, scratch, a)
	}
	scratch = appendDecisionMetadata(scratch[:0], a.ID, &a.Decision)
	scratch = appendSubjectMetadata(scratch, a.Decision.Principal)
	principal := a.principal
	if principal == "" {
		scratch = appendKindMetadata(scratch, a.Decision.Principal)
	}
	b = appendLength(b, responseMetadata, len(scratch)+len(principal))
	b = append(b, scratch...)
	return append(b, principal...), scratch
}

func appendOK(b, scratch []byte, a *Answer) (message, reuse []byte) {
	scratch = scratch[:0]
	switch a.cookies {
	case cookieRewritten:
		scratch = appendHeader(scratch, okHeaders, "cookie", a.cookie)
	case cookieRemoved:
		scratch = appendString(scratch, okRemove, "cookie")
	}
	scratch = appendTexts(scratch, okRemove, a.also)
	scratch = appendTexts(scratch, okQueryRemove, a.query)
	u := a.upstream
	b = appendLength(b, responseOK, len(u.setWire)+len(u.removal.wire)+len(scratch))
	b = append(b, u.setWire...)
	b = append(b, u.removal.wire...)
	return append(b, scratch...), scratch
}

func appendDenied(b, scratch []byte, a *Answer) (message, reuse []byte) {
	status := uint64(a.refusalStatus())
	scratch = appendLength(scratch[:0], deniedStatus, 1+protowire.SizeVarint(status))
	scratch = protowire.AppendVarint(append(scratch, statusCode), status)
	scratch = appendHeaders(scratch, deniedHeaders, a.headers)
	if a.body != "" {
		scratch = appendString(scratch, deniedBody, a.body)
	}
	b = appendLength(b, responseDenied, len(scratch))
	return append(b, scratch...), scratch
}
