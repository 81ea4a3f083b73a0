package transport

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// A live context is one that somebody waits for.
type live struct {
	context.Context
	cancel context.CancelFunc
}

// Deadline implements [context.Context].
func (s *stream) Deadline() (time.Time, bool) { return s.deadline, !s.deadline.IsZero() }

// Done implements [context.Context].
func (s *stream) Done() <-chan struct{} { return s.alive().Done() }

// Err implements [context.Context].
func (s *stream) Err() error {
	if l := s.live.Load(); l != nil {
		return l.Err()
	}
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	switch {
	case gone:
		return context.Canceled
	case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements [context.Context].
func (s *stream) Value(key any) any {
	switch key {
	case patience.TurnKey{}:
		return s
	case incomingKey:
		return metadata.NewIncomingContext(context.Background(), incoming(s.fields, s.authority)).Value(key)
	}
	// What derives a context from this one asks for the one that can be waited for.
	if l := s.live.Load(); l != nil {
		if v := l.Value(key); v != nil {
			return v
		}
	}
	return s.conn.context.Value(key)
}

// incomingKey is under which package metadata keeps what came.
var incomingKey = func() (key any) {
	metadata.FromIncomingContext(probe{context.Background(), &key})
	return key
}()

// A probe is a context that notes what it is asked for.
type probe struct {
	context.Context
	key *any
}

// Value implements [context.Context].
func (p probe) Value(key any) any {
	*p.key = key
	return nil
}

// Arrived implements [patience.Turn].
func (s *stream) Arrived() time.Time { return s.arrived }

func (s *stream) alive() *live {
	if l := s.live.Load(); l != nil {
		return l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.live.Load(); l != nil {
		return l
	}
	l := &live{}
	if s.deadline.IsZero() {
		l.Context, l.cancel = context.WithCancel(context.Background())
	} else {
		l.Context, l.cancel = context.WithDeadline(context.Background(), s.deadline)
	}
	if s.gone {
		l.cancel()
	}
	s.live.Store(l)
	return l
}

// cancel ends the context: nobody waits for the answer, or it has been given.
func (s *stream) cancel() {
	s.mu.Lock()
	s.gone = true
	l := s.live.Load()
	s.mu.Unlock()
	if l != nil {
		l.cancel()
	}
}
