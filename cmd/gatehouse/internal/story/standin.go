package story

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// ErrAuthenticator says that a stand-in names an authenticator that does not exist.
var ErrAuthenticator = errors.New("no such authenticator")

// standInPrefix begins the names of headers that nobody sends: they exist only between
// Ask and the gate.
const standInPrefix = "gatehouse-stand-in-"

// standIn is config with every authenticator looking at a header of its own, and that of
// p, whose header is returned, answering with p. Everything after authentication is as
// it was.
func standIn(config *extauthz.Config, p *policy.Principal) (_ *extauthz.Config, header string, _ error) {
	if config.Set == nil || config.Set.Entry(p.Authenticator) == nil {
		return nil, "", fmt.Errorf("%w: %q", ErrAuthenticator, p.Authenticator)
	}
	var entries []authn.Entry
	for _, e := range config.Set.Entries() {
		entry := authn.Entry{
			Name: e.Name, Realm: e.Realm, Kind: authn.KindAPIKey, Impersonate: e.Impersonate, Scheme: e.Scheme,
			Authenticator: fixed{}, Places: []authn.Place{{Kind: authn.InHeader, Name: standInPrefix + fmt.Sprint(len(entries))}},
		}
		if e.Name == p.Authenticator {
			entry.Authenticator = fixed{&authn.Identity{Principal: p}}
			header = entry.Places[0].Name
		}
		entries = append(entries, entry)
	}
	set, err := authn.NewSet(entries, authn.Options{})
	if err != nil {
		return nil, "", fmt.Errorf("putting a principal in the place of a credential: %w", err)
	}
	copied := *config
	copied.Set = set
	return &copied, header, nil
}

// fixed verifies everything as one identity, or refuses everything.
type fixed struct{ identity *authn.Identity }

// Authenticate implements [authn.Authenticator].
func (f fixed) Authenticate(context.Context, *authn.Input) authn.Result {
	if f.identity == nil {
		return authn.Refuse(policy.ReasonKeyUnknown, nil)
	}
	return authn.Result{Identity: f.identity}
}
