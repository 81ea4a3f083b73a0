package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	// maxLine bounds one record, in bytes; a path may be some 60 KiB.
	maxLine = 4 << 20
	// batchBytes is how much of a log one worker gets at a time.
	batchBytes = 256 << 10
)

// A batch is some lines of a log.
type batch struct {
	log   string
	index int // of the log
	first int // number of its first line
	lines []byte
	ends  []int // of each line, in lines
	cut   bool  // its last line ends with the log, without an end of its own
}

// readAll splits logs into batches of whole lines.
func readAll(ctx context.Context, logs []Log, batches chan<- *batch) error {
	for i, log := range logs {
		in, err := decompressed(log.In)
		if err != nil {
			return fmt.Errorf("reading the decision log: %s: %w", log.Name, err)
		}
		if err := readLog(ctx, log.Name, i, in, batches); err != nil {
			return err
		}
	}
	return nil
}

var gzipMagic = []byte{0x1f, 0x8b}

// decompressed is what r holds, which is compressed if it begins like a file of gzip. One
// that ends too early, as of a writer that was killed, ends there.
func decompressed(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, batchBytes)
	if magic, _ := buffered.Peek(len(gzipMagic)); !bytes.Equal(magic, gzipMagic) {
		return buffered, nil
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("it begins like gzip and is not: %w", err)
	}
	return lenient{z}, nil
}

// lenient takes an early end for an end.
type lenient struct{ r io.Reader }

func (l lenient) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// readLog splits one log.
func readLog(ctx context.Context, name string, index int, in io.Reader, batches chan<- *batch) error {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 0, batchBytes), maxLine)
	whole := true
	scanner.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			whole = false
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	next := &batch{log: name, index: index, first: 1}
	number := 0
	send := func() error {
		select {
		case batches <- next:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for scanner.Scan() {
		number++
		next.lines = append(next.lines, scanner.Bytes()...)
		next.ends = append(next.ends, len(next.lines))
		if len(next.lines) < batchBytes || !whole {
			continue
		}
		if err := send(); err != nil {
			return err
		}
		next = &batch{log: name, index: index, first: number + 1, lines: make([]byte, 0, batchBytes+batchBytes/4)}
	}
	if err := scanner.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("reading the decision log: %s:%d: the line is over %d MiB: give the file of decision_log", name, number+1, maxLine>>20)
		}
		return fmt.Errorf("reading the decision log: %s:%d: %w", name, number+1, err)
	}
	next.cut = !whole
	return send()
}
