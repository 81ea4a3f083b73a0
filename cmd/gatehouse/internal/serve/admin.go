package serve

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/story"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/portal"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// adminServer serves the admin API by whatever configuration is in use: gRPC, also over
// HTTP/2 without TLS on a Unix socket, and JSON.
func (s *service) adminServer(l *configv1.Listener) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := s.newHTTPServer("admin", l, portal.New(portal.Options{
		Gate:  s.gate,
		View:  s.store,
		Roles: func() []string { return s.loaded.Load().AdminRoles() },
		Explain: func(ctx context.Context, call *extauthz.Call) (any, error) {
			return story.Ask(ctx, s.loaded.Load().Gate, story.Question{Call: call, Now: time.Now()})
		},
	}))
	server.Protocols = protocols
	server.ConnContext = portal.ConnContext
	return server
}

// store is that of the configuration in use; nil without one.
func (s *service) store() *tokens.View {
	if loaded := s.loaded.Load(); loaded != nil {
		return loaded.Store
	}
	return nil
}

// watchStore logs and counts what a store's view does from now on. view may be nil.
func (s *service) watchStore(view *tokens.View) {
	if view == nil {
		return
	}
	view.Hook(tokens.Hooks{
		Heard: s.metrics.Heard,
		Asked: s.metrics.Asked,
		Reached: func(err error) {
			if err != nil {
				s.log.Error("the store cannot be asked", zap.Error(err))
				return
			}
			s.log.Info("the store answers")
		},
		Postponed: func(err error) { s.log.Warn("the store cannot be written to; trying again", zap.Error(err)) },
	})
}

// WaitForStore waits until the store was reached, or ctx ends. A store that is down
// keeps a new process from being ready: it could not tell a revoked token from a good
// one. view may be nil.
func WaitForStore(ctx context.Context, view *tokens.View) {
	tick := time.NewTicker(keysPoll)
	defer tick.Stop()
	for view != nil && view.Age(time.Now()) < 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func storeCondition(view *tokens.View, now time.Time) Condition {
	c := Condition{Name: "store (" + view.Store().Name() + ")", State: Good}
	age := view.Age(now)
	switch err := view.Ready(now); {
	case age < 0:
		c.State, c.Detail = Failing, fmt.Sprint(err)
	case err != nil:
		c.State, c.Detail = Degraded, "tokens are answered 503: "+err.Error()
	default:
		c.Detail = fmt.Sprintf("heard of %s ago", age.Round(time.Millisecond))
	}
	return c
}
