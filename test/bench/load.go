package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// raw is a codec for messages that are bytes already, so that the load costs little
// and the same for every server.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" }

var _ encoding.CodecV2 = raw{}

const checkMethod = "/envoy.service.auth.v3.Authorization/Check"

type client []*grpc.ClientConn

func dial(address string, connections int) (client, error) {
	c := make(client, connections)
	for i := range c {
		cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
		if err != nil {
			return nil, err
		}
		c[i] = cc
	}
	return c, nil
}

func (c client) close() {
	for _, cc := range c {
		cc.Close()
	}
}

// run sends calls Checks, concurrency at a time, taking messages in turn from start on,
// and fails unless each answer has the wanted status code.
func (c client) run(ctx context.Context, messages [][]byte, start, calls, concurrency int, want uint64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range concurrency {
		wg.Go(func() {
			conn := c[i%len(c)]
			var answer []byte
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= calls {
					return
				}
				if err := conn.Invoke(ctx, checkMethod, &messages[(start+n)%len(messages)], &answer); err != nil {
					cancel(err)
					return
				}
				got, err := statusCode(answer)
				if err == nil && got != want {
					err = fmt.Errorf("the answer has status code %d, want %d: %q", got, want, answer)
				}
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// first sends a message until it gets the wanted answer, or the server has had a minute.
func (c client) first(ctx context.Context, message []byte, want uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if err = c.run(ctx, [][]byte{message}, 0, 1, 1, want); err == nil {
			return nil
		}
		for _, cc := range c {
			cc.ResetConnectBackoff()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return err
}

// statusCode reads CheckResponse.status.code.
func statusCode(answer []byte) (uint64, error) {
	for len(answer) > 0 {
		num, typ, n := protowire.ConsumeTag(answer)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		answer = answer[n:]
		if num == 1 && typ == protowire.BytesType {
			status, n := protowire.ConsumeBytes(answer)
			if n < 0 {
				return 0, protowire.ParseError(n)
			}
			if len(status) == 0 {
				return 0, nil
			}
			if num, typ, n = protowire.ConsumeTag(status); n < 0 || num != 1 || typ != protowire.VarintType {
				return 0, nil
			}
			code, n := protowire.ConsumeVarint(status[n:])
			if n < 0 {
				return 0, protowire.ParseError(n)
			}
			return code, nil
		}
		if n = protowire.ConsumeFieldValue(num, typ, answer); n < 0 {
			return 0, protowire.ParseError(n)
		}
		answer = answer[n:]
	}
	return 0, fmt.Errorf("no status")
}
