package authn

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// A CorePool bounds how much arithmetic is done at once, by all authenticators that
// share it: as much as there are cores, and some that waits. What waits here does not
// wait for a core of the scheduler, where it would be in the way of everybody else:
// of whoever reads the next Check, or writes an answer.
type CorePool struct {
	waiting chan struct{} // what waits and what is done
	cores   chan struct{}
}

// NewCorePool makes a pool of GOMAXPROCS cores, for which queue may wait.
func NewCorePool(queue int) *CorePool {
	cores := runtime.GOMAXPROCS(0)
	return &CorePool{waiting: make(chan struct{}, cores+queue), cores: make(chan struct{}, cores)}
}

var errPoolFull = errors.New("more are waiting for a core than the queue holds")

// run does work when it is its turn. It gives up when the queue is full or ctx ends.
func (p *CorePool) run(ctx context.Context, work func()) error {
	patience.Ahead(ctx)
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return errPoolFull
	}
	select {
	case p.cores <- struct{}{}:
	default:
		ctx, cancel := patience.For(ctx)
		defer cancel()
		select {
		case p.cores <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("waiting for a core: %w", ctx.Err())
		}
	}
	defer func() { <-p.cores }()
	runtime.Gosched() // work may keep the core for long: let go out what is ready to
	work()
	return nil
}
