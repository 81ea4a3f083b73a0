package extauthz

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that encoding.GetCodecV2 gives
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// A check is one Check call: the exchange, the message that came and the one that
// goes. It is used again for later calls.
type check struct {
	exchange
	message []byte // as it came; the call's texts point into it
	decoder wireDecoder

	reply   []byte // what goes
	scratch []byte
}

// maxReused is the size of buffers beyond which they are not kept.
const maxReused = 64 << 10

// reset makes c ready for the next call, with the memory of the last. The message is
// overwritten, so that no credential stays behind, and used again unless somebody may
// still look at texts of it: authenticators go on with a credential after its caller has
// given up.
func (c *check) reset() {
	also := c.answer.also[:0]
	headers := c.answer.headers[:0]
	if c.kept != authn.KeptNothing || cap(c.message) > maxReused {
		c.message = nil
	}
	clear(c.message)
	c.message = c.message[:0]
	c.exchange = exchange{}
	c.answer.also, c.answer.headers = also, headers
	c.decoder.reset()
	if cap(c.reply) > maxReused || cap(c.scratch) > maxReused {
		c.reply, c.scratch = nil, nil
	}
	c.reply, c.scratch = c.reply[:0], c.scratch[:0]
}

// decode reads the message.
func (c *check) decode(plain bool) {
	if plain {
		c.call = *DecodeCheck(c.message)
		return
	}
	c.decoder.decode(c.message, &c.call)
}

// encode writes the reply.
func (c *check) encode(plain bool) {
	if plain {
		reply, err := proto.Marshal(CheckResponse(&c.answer))
		if err != nil {
			panic(err) // answered like every fault of ours
		}
		c.reply = reply
		return
	}
	c.reply, c.scratch = appendCheckResponse(c.reply[:0], c.scratch, &c.answer)
}

// A checkCodec reads and writes Check messages itself, and has the generated code do
// all others. It never fails on a Check: Envoy would take an RPC error as permission
// under failure_mode_allow, so that what cannot be decoded is left to the gate.
type checkCodec struct {
	encoding.CodecV2
	release func(*check)
}

func (c checkCodec) Unmarshal(data mem.BufferSlice, v any) error {
	check, ok := v.(*check)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	for _, piece := range data { // nearly always one
		check.message = append(check.message, piece.ReadOnlyData()...)
	}
	return nil
}

func (c checkCodec) Marshal(v any) (mem.BufferSlice, error) {
	check, ok := v.(*check)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(len(check.reply))
	copy(*buffer, check.reply)
	c.release(check)
	return mem.BufferSlice{mem.NewBuffer(buffer, pool)}, nil
}

// A directCodec is a [checkCodec] for messages that are in one piece.
type directCodec struct{ release func(*check) }

// Unmarshal implements [transport.Codec].
func (directCodec) Unmarshal(message []byte, v any) error {
	switch v := v.(type) {
	case *check:
		v.message = append(v.message, message...)
		return nil
	case proto.Message:
		return proto.Unmarshal(message, v)
	}
	return fmt.Errorf("reading into a %T, which is no message", v)
}

// Append implements [transport.Codec].
func (c directCodec) Append(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case *check:
		dst = append(dst, v.reply...)
		c.release(v)
		return dst, nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(dst, v)
	}
	return nil, fmt.Errorf("writing a %T, which is no message", v)
}
