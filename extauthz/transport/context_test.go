package transport

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// orphan is a call without a connection to speak of, for its context.
func orphan(timeout time.Duration) *stream {
	s := &stream{conn: &conn{context: peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{Port: 7}})}}
	if timeout != 0 {
		s.deadline = time.Now().Add(timeout)
	}
	return s
}

// TestContextErrors: a context ends for one reason, which stays the same whoever asks, and
// whether or not somebody waited for it before.
func TestContextErrors(t *testing.T) {
	watch := func(s *stream) { s.Done() }
	pause := func(*stream) { time.Sleep(2 * time.Second) }
	end := func(s *stream) { s.cancel() }
	ask := func(s *stream) { _ = s.Err() }
	for _, row := range []struct {
		name    string
		timeout time.Duration
		steps   []func(*stream)
		want    error
	}{
		{"nothing", time.Hour, nil, nil},
		{"nothing, watched", time.Hour, []func(*stream){watch, pause}, nil},
		{"no deadline", 0, []func(*stream){pause}, nil},
		{"the end", 0, []func(*stream){end}, context.Canceled},
		{"the end, watched", 0, []func(*stream){watch, end}, context.Canceled},
		{"the deadline", time.Second, []func(*stream){pause}, context.DeadlineExceeded},
		{"the deadline, watched", time.Second, []func(*stream){watch, pause}, context.DeadlineExceeded},
		{"the deadline before the end", time.Second, []func(*stream){pause, end}, context.DeadlineExceeded},
		{"the deadline before the end, asked", time.Second, []func(*stream){pause, ask, end}, context.DeadlineExceeded},
		{"the deadline before the end, watched", time.Second, []func(*stream){watch, pause, end}, context.DeadlineExceeded},
		{"the end before the deadline", time.Second, []func(*stream){end, pause}, context.Canceled},
		{"the end before the deadline, asked", time.Second, []func(*stream){end, ask, pause}, context.Canceled},
		{"the end before the deadline, watched", time.Second, []func(*stream){watch, end, pause}, context.Canceled},
		{"the end twice", time.Second, []func(*stream){end, end}, context.Canceled},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := orphan(row.timeout)
			child, cancel := s.Done, s.cancel
			defer cancel()
			for _, step := range row.steps {
				step(s)
			}
			if got := s.Err(); !errors.Is(got, row.want) {
				t.Errorf("%s: Err = %v, want %v", row.name, got, row.want)
			}
			select {
			case <-child():
				if row.want == nil {
					t.Errorf("%s: Done is closed", row.name)
				}
			default:
				if row.want != nil {
					t.Errorf("%s: Done is not closed", row.name)
				}
			}
			if got := s.Err(); !errors.Is(got, row.want) {
				t.Errorf("%s: Err = %v when somebody waits, want %v", row.name, got, row.want)
			}
			if got := context.Cause(s); !errors.Is(got, row.want) {
				t.Errorf("%s: Cause = %v, want %v", row.name, got, row.want)
			}
			derived, stop := context.WithCancel(s)
			if got := derived.Err(); !errors.Is(got, row.want) {
				t.Errorf("%s: a context derived then has %v, want %v", row.name, got, row.want)
			}
			stop()
		})
	}
}

// TestContextChildren: what is derived from a call's context costs no goroutine that would
// wait for it, and ends with it.
func TestContextChildren(t *testing.T) {
	s := orphan(time.Hour)
	before := runtime.NumGoroutine()
	var children []context.Context
	for range 1000 {
		child, cancel := context.WithCancel(s)
		defer cancel()
		timed, cancelTimed := context.WithTimeout(context.WithValue(child, patience.TurnKey{}, 1), time.Minute)
		defer cancelTimed()
		caused, cancelCaused := context.WithCancelCause(s)
		defer cancelCaused(nil)
		children = append(children, child, timed, caused)
		context.AfterFunc(s, func() {})
	}
	if more := runtime.NumGoroutine() - before; more > 100 {
		t.Errorf("%d goroutines wait for a thousand children", more)
	}
	s.cancel()
	for _, child := range children {
		<-child.Done()
		if child.Err() != context.Canceled || !errors.Is(context.Cause(child), context.Canceled) {
			t.Fatalf("a child ends with %v, because of %v", child.Err(), context.Cause(child))
		}
	}
	detached := context.WithoutCancel(s)
	if detached.Done() != nil || detached.Err() != nil || context.Cause(detached) != nil {
		t.Error("what is without its end has one")
	}
	failed, fail := context.WithCancelCause(orphan(0))
	fail(errors.ErrUnsupported)
	if !errors.Is(context.Cause(failed), errors.ErrUnsupported) {
		t.Errorf("the cause of a child is %v", context.Cause(failed))
	}
}

// TestContextValues: a call's context has what grpc-go's has, and nothing of another's.
func TestContextValues(t *testing.T) {
	s := orphan(0)
	s.method = &method{full: inlineEcho}
	s.authority = "there"
	for _, watched := range []bool{false, true} {
		if watched {
			s.Done()
		}
		p, ok := peer.FromContext(s)
		if !ok || p.Addr.String() != ":7" {
			t.Errorf("the peer is %v", p)
		}
		md, ok := metadata.FromIncomingContext(s)
		if !ok || len(md.Get(":authority")) != 1 {
			t.Errorf("the metadata are %v", md)
		}
		if method, ok := grpc.Method(s); !ok || method != inlineEcho {
			t.Errorf("the method is %q", method)
		}
		if _, ok := metadata.FromOutgoingContext(s); ok {
			t.Error("there are metadata of a call that it makes")
		}
		for _, key := range []any{"x", 1, struct{}{}, nil} {
			if v := s.Value(key); v != nil {
				t.Errorf("Value(%v) = %v", key, v)
			}
		}
	}
	if incomingKey == nil || transportKey == nil {
		t.Error("a key is unknown: the packages of grpc-go keep their values otherwise now")
	}
}
