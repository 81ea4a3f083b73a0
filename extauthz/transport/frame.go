package transport

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9
	prefixLen      = 5 // of a gRPC message: whether it is compressed, and its length

	// ourFrameSize is the largest payload of a frame that we take. It is what HTTP/2
	// begins with, so that clients need not be told.
	ourFrameSize = 16 << 10

	minWindow = 64<<10 - 1 // what HTTP/2 begins with
	maxWindow = 1<<31 - 1

	// connWindow is how many bytes a client may send ahead on a connection. We read as
	// fast as we answer, so that the line itself holds back who is too fast. Calls that
	// wait here are seen and can be refused in time; calls that wait with the client
	// cannot.
	connWindow = 16 << 20
)

// appendFrame appends the header of a frame.
func appendFrame(dst []byte, length int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(dst,
		byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendSettings(dst []byte, settings ...http2.Setting) []byte {
	dst = appendFrame(dst, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
		dst = binary.BigEndian.AppendUint32(dst, s.Val)
	}
	return dst
}

func appendSettingsAck(dst []byte) []byte {
	return appendFrame(dst, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

func appendPing(dst []byte, flags http2.Flags, data [8]byte) []byte {
	return append(appendFrame(dst, 8, http2.FramePing, flags, 0), data[:]...)
}

func appendWindowUpdate(dst []byte, id, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, http2.FrameWindowUpdate, 0, id), n)
}

func appendReset(dst []byte, id uint32, code http2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, http2.FrameRSTStream, 0, id), uint32(code))
}

func appendGoAway(dst []byte, last uint32, code http2.ErrCode, text string) []byte {
	dst = appendFrame(dst, 8+len(text), http2.FrameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, text...)
}

// setLength writes the length of a frame whose header begins at at and whose payload is
// the rest of dst.
func setLength(dst []byte, at int) {
	n := len(dst) - at - frameHeaderLen
	dst[at], dst[at+1], dst[at+2] = byte(n>>16), byte(n>>8), byte(n)
}
