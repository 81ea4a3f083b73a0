package policy

// Outcome is the verdict on one request. Its zero value forbids, so that a value
// which nobody set can never open anything.
type Outcome uint8

const (
	Forbidden       Outcome = iota // 403: known or not, the caller may not do this
	Allowed                        // forwarded
	Unauthenticated                // 401: no credential, or one that is not good
	Malformed                      // 400: the request can be read in two ways
	Unavailable                    // 503: could not tell, through no fault of the caller
)

var outcomeNames = [...]string{"forbidden", "allowed", "unauthenticated", "malformed", "unavailable"}

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "forbidden"
}
