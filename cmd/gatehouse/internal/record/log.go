// Package record writes the decision log and reads it back. Start reading at [Log];
// what a [Collector] gets of it as well is in collector.go.
package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// flushEvery bounds what a kill -9 may lose; flushBytes what is held in memory.
	flushEvery = 100 * time.Millisecond
	flushBytes = 64 << 10

	// logMode: the records tell who did what.
	logMode fs.FileMode = 0o600
)

// Options say what is recorded, and where.
type Options struct {
	File          string     // "": Out
	Out           io.Writer  // for File ""; nil: only Collector
	Collector     *Collector // gets the records as well; nil: none. It is not closed with the log
	SampleAllowed float64    // the share of allowed decisions that are recorded, 0 to 1
	PseudonymKey  string     // "": personal values are written as they are
	MaxBytes      int64      // of File, before it is rotated
	Keep          int        // how many rotated files are kept

	// Failed is told when records could not be written. They are lost: a full disk
	// does not stop decisions.
	Failed func(error)
}

// A Log writes decisions, one JSON object per line. It is safe for concurrent use.
type Log struct {
	options Options
	hide    *pseudonyms
	lines   sync.Pool // of *[]byte: lines are written without the lock

	mu      sync.Mutex
	buffer  bytes.Buffer
	file    *os.File // nil without Options.File
	size    int64
	closed  bool
	flusher chan struct{} // closed to end it
}

// Open opens the log for appending.
func Open(o Options) (*Log, error) {
	l := &Log{options: o, flusher: make(chan struct{})}
	l.lines.New = func() any { return new([]byte) }
	if o.PseudonymKey != "" {
		l.hide = newPseudonyms([]byte(o.PseudonymKey))
	}
	if o.File != "" {
		if err := l.open(); err != nil {
			return nil, err
		}
	}
	go l.flushRegularly()
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.options.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, logMode)
	if err != nil {
		return fmt.Errorf("opening the decision log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("opening the decision log: %w", err), f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write records a decision: refusals always, allowed ones by chance. It returns false if
// the log is closed already.
//
// The one call in some hundred that fills the buffer writes it, and those that come
// meanwhile wait: a disk that is slow slows decisions down rather than losing records.
func (l *Log) Write(r *extauthz.Record) bool {
	if r.Decision.Outcome == policy.Allowed && l.options.SampleAllowed < 1 && rand.Float64() >= l.options.SampleAllowed {
		return true
	}
	line := l.lines.Get().(*[]byte)
	defer l.lines.Put(line)
	*line = appendLine((*line)[:0], r, l.hide)
	if !l.hold(*line) {
		return false
	}
	if l.options.Collector != nil {
		l.options.Collector.emit(r, *line)
	}
	return true
}

// hold keeps a line for the next flush. It returns false if the log is closed.
func (l *Log) hold(line []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.options.File == "" && l.options.Out == nil {
		return !l.closed
	}
	l.buffer.Write(line)
	if l.buffer.Len() >= flushBytes {
		l.flush()
	}
	return true
}

func (l *Log) flushRegularly() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.mu.Lock()
			l.flush()
			l.mu.Unlock()
		case <-l.flusher:
			return
		}
	}
}

// flush writes what is held. l.mu is held.
func (l *Log) flush() {
	if l.buffer.Len() == 0 {
		return
	}
	defer l.buffer.Reset()
	if l.options.File == "" {
		if _, err := l.options.Out.Write(l.buffer.Bytes()); err != nil {
			l.options.Failed(fmt.Errorf("writing decisions: %w", err))
		}
		return
	}
	if l.file == nil || l.size+int64(l.buffer.Len()) > l.options.MaxBytes && l.size > 0 {
		if err := l.rotate(); err != nil {
			l.options.Failed(err)
			return
		}
	}
	n, err := l.file.Write(l.buffer.Bytes())
	l.size += int64(n)
	if err != nil {
		l.options.Failed(fmt.Errorf("writing decisions: %w", err))
	}
}

// rotate renames FILE to FILE.1, FILE.1 to FILE.2 and so on; the last is dropped. A file
// that could not be opened is tried again at the next flush.
func (l *Log) rotate() error {
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			l.options.Failed(fmt.Errorf("closing the decision log: %w", err))
		}
		l.file = nil
		name := func(i int) string { return fmt.Sprintf("%s.%d", l.options.File, i) }
		for i := l.options.Keep; i > 1; i-- {
			if err := os.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.options.Failed(fmt.Errorf("rotating the decision log: %w", err))
			}
		}
		var err error
		if l.options.Keep > 0 {
			err = os.Rename(l.options.File, name(1))
		} else {
			err = os.Remove(l.options.File)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.options.Failed(fmt.Errorf("rotating the decision log: %w", err))
		}
	}
	return l.open()
}

// Close writes what is held and closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.flusher)
	l.flush()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
