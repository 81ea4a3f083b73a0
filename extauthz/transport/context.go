package transport

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
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
	defer s.mu.Unlock()
	if s.err == nil && s.expired() {
		s.err = context.DeadlineExceeded
	}
	return s.err
}

func (s *stream) expired() bool { return !s.deadline.IsZero() && !time.Now().Before(s.deadline) }

// Value implements [context.Context].
func (s *stream) Value(key any) any {
	switch key {
	case patience.TurnKey{}:
		return s
	case incomingKey:
		md := incoming(s.fields, s.content, s.authority)
		return metadata.NewIncomingContext(context.Background(), md).Value(key)
	case transportKey:
		return call{s}
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

// transportKey is under which package grpc keeps the call, for [grpc.SetHeader] and the like.
var transportKey = func() (key any) {
	grpc.ServerTransportStreamFromContext(probe{context.Background(), &key})
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
	if s.deadline.IsZero() || errors.Is(s.err, context.Canceled) {
		l.Context, l.cancel = context.WithCancel(context.Background())
	} else {
		l.Context, l.cancel = context.WithDeadline(context.Background(), s.deadline)
	}
	if s.err != nil {
		l.cancel()
	}
	s.live.Store(l)
	return l
}

// cancel ends the context: nobody waits for the answer, or it has been given.
func (s *stream) cancel() {
	s.mu.Lock()
	l := s.live.Load()
	if l == nil && s.err == nil {
		if s.err = context.Canceled; s.expired() {
			s.err = context.DeadlineExceeded
		}
	}
	s.mu.Unlock()
	if l != nil {
		l.cancel()
	}
}
