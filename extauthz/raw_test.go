package extauthz

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// rawMessage is sent as it is, whatever it means.
type rawMessage string

type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	raw, ok := v.(rawMessage)
	if !ok {
		return nil, fmt.Errorf("marshalling %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
}

func callRaw() grpc.CallOption { return grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")}) }
