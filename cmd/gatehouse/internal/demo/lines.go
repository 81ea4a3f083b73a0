package demo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// lines keeps what a program writes, line by line. It is safe for concurrent use.
type lines struct {
	mu      sync.Mutex
	done    []string
	partial []byte
	more    chan struct{} // closed at the next line
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	grew := false
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			break
		}
		l.done = append(l.done, string(l.partial[:i]))
		l.partial = l.partial[i+1:]
		grew = true
	}
	if grew {
		close(l.more)
		l.more = make(chan struct{})
	}
	return len(p), nil
}

// len is the number of whole lines.
func (l *lines) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.done)
}

// next gives the lines from the from-th on, and a channel that is closed when there are more.
func (l *lines) next(from int) ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done[from:len(l.done):len(l.done)], l.more
}

// String is everything written so far.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(append(l.done[:len(l.done):len(l.done)], string(l.partial)), "\n")
}

// waitFor calls look with each line from the from-th on until it returns true. It fails
// when timeout passes or ctx ends.
func (l *lines) waitFor(ctx context.Context, what string, from int, timeout time.Duration, look func(line string) bool) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		fresh, more := l.next(from)
		for _, line := range fresh {
			if look(line) {
				return nil
			}
		}
		from += len(fresh)
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-deadline.C:
			return fmt.Errorf("waiting for %s: nothing after %v", what, timeout)
		}
	}
}
