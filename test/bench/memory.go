package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"
)

const (
	// startsPerSize is of how many starts the median counts.
	startsPerSize = 5

	// restAfter is when a process that nobody has asked is looked at: loading is over,
	// and what it took was given back.
	restAfter = 5 * time.Second

	// loadFor is how long a process is looked at under load. Every token comes many
	// times, so that all of them are cached, and the heap grows to what it is let to.
	loadFor = 15 * time.Second

	memoryLookEvery = 50 * time.Millisecond
)

// A size is how much a gatehouse has to keep.
type size struct {
	routes, tokens int
	limitMiB       float64       // the resident set that it should stay under
	limitStart     time.Duration // to the first correct Check
}

// String is what -only is compared with.
func (z size) String() string {
	return fmt.Sprintf("memory and start: %d routes, %d tokens", z.routes, z.tokens)
}

func sizes() []size {
	return []size{
		{routes: 10, tokens: 1},
		{routes: 1000, tokens: 1000, limitMiB: 40, limitStart: 150 * time.Millisecond},
		{routes: 100_000, tokens: 100_000, limitMiB: 300, limitStart: 5 * time.Second},
	}
}

// Memory is what a gatehouse of one size keeps, and how long it takes to start.
type Memory struct {
	Routes      int       `json:"routes"`
	Tokens      int       `json:"tokens"`
	LimitMiB    float64   `json:"limit_mib"`
	LimitMillis float64   `json:"limit_start_ms"`
	StartMillis []float64 `json:"start_ms"` // from exec to the first correct Check
	Peak        float64   `json:"peak_mib"` // the most that was resident before the load, while loading say
	Rest        resident  `json:"rest"`     // before the load
	Load        resident  `json:"load"`     // the most of all looks under load
}

// memory measures one size: starts, then a look at rest, then the load.
func (l *lab) memory(ctx context.Context, z size) (Memory, error) {
	m := Memory{Routes: z.routes, Tokens: z.tokens, LimitMiB: z.limitMiB, LimitMillis: float64(z.limitStart.Milliseconds())}
	grpc, err := freeAddress()
	if err != nil {
		return m, err
	}
	ops, err := freeAddress()
	if err != nil {
		return m, err
	}
	config, err := l.config(scenario{routes: z.routes, load: freshES256}, grpc, ops)
	if err != nil {
		return m, err
	}
	messages, err := l.spread(z)
	if err != nil {
		return m, err
	}
	for range startsPerSize - 1 {
		server, c, millis, err := l.started(ctx, config, grpc, messages[0])
		if err != nil {
			return m, err
		}
		c.close()
		server.stop()
		m.StartMillis = append(m.StartMillis, millis)
	}
	server, c, millis, err := l.started(ctx, config, grpc, messages[0])
	if err != nil {
		return m, err
	}
	defer server.stop()
	defer c.close()
	m.StartMillis = append(m.StartMillis, millis)
	time.Sleep(restAfter)
	if m.Rest, err = server.memory(); err != nil {
		return m, err
	}
	m.Peak = m.Rest.PeakMiB
	if m.Load, err = l.load(ctx, server, c, messages); err != nil || l.opts.profile == "" {
		return m, err
	}
	if err := os.MkdirAll("bench", 0o755); err != nil {
		return m, err
	}
	return m, fetch("http://"+ops+"/debug/pprof/heap?gc=1", fmt.Sprintf("bench/heap-%d-routes.pprof", z.routes))
}

// started starts gatehouse and waits for the first correct answer.
func (l *lab) started(ctx context.Context, config, grpc string, message []byte) (*process, client, float64, error) {
	server, err := start(l.dir, l.binary, nil, l.serve(config)...)
	if err != nil {
		return nil, nil, 0, err
	}
	c, err := dial(grpc, l.opts.connections)
	if err != nil {
		server.stop()
		return nil, nil, 0, err
	}
	if err := c.first(ctx, message, codeOK); err != nil {
		c.close()
		server.stop()
		return nil, nil, 0, fmt.Errorf("the first Check: %w\n%s", err, server.output())
	}
	return server, c, float64(time.Since(server.started).Microseconds()) / 1000, nil
}

// load sends all messages in turn for loadFor, at least three times each, and gives the
// most that was resident at any look after the first round.
func (l *lab) load(ctx context.Context, server *process, c client, messages [][]byte) (resident, error) {
	var most resident
	if err := c.run(ctx, messages, 0, len(messages), l.opts.concurrency, codeOK); err != nil {
		return most, err
	}
	done := make(chan error, 1)
	go func() {
		for until, round := time.Now().Add(loadFor), 0; time.Now().Before(until) || round < 2; round++ {
			if err := c.run(ctx, messages, 0, max(len(messages), 1000), l.opts.concurrency, codeOK); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	look := time.NewTicker(memoryLookEvery)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return most, err
		case <-look.C:
			now, err := server.memory()
			if err != nil {
				return most, err
			}
			if now.MiB > most.MiB {
				most = now
			}
		}
	}
}

// spread signs z.tokens tokens and spreads their Checks over the routes.
func (l *lab) spread(z size) ([][]byte, error) {
	key, err := l.ecdsaKey(filepath.Join(l.dir, "es256.json"))
	if err != nil {
		return nil, err
	}
	messages := make([][]byte, z.tokens)
	for i := range messages {
		token, err := signedToken(es256, key, i, "reader")
		if err != nil {
			return nil, err
		}
		path := fmt.Sprintf("/service-%d/acme/items/4711?expand=items", 2+i%(z.routes-2))
		if messages[i], err = proto.Marshal(check(path, map[string]string{"authorization": "Bearer " + token})); err != nil {
			return nil, err
		}
	}
	return messages, nil
}
