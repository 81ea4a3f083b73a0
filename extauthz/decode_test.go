package extauthz

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// fastCall decodes like the fast door.
func fastCall(message []byte) *Call {
	var d wireDecoder
	c := &Call{}
	d.decode(message, c)
	return c
}

// sorted gives c with what came from maps in a fixed order. Headers that repeat are
// kept in theirs.
func sorted(c *Call) *Call {
	byName := func(a, b policy.Pair) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(c.Headers, byName)
	slices.SortStableFunc(c.Context, byName)
	return c
}

// readFields is the CheckRequest as the fast decoder knows it: of everything else it
// does not even see that it is well-formed. By the numbers of its fields.
var readFields = map[protoreflect.FullName][]protoreflect.FieldNumber{
	"envoy.service.auth.v3.CheckRequest":                 {1},
	"envoy.service.auth.v3.AttributeContext":             {1, 4, 10},
	"envoy.service.auth.v3.AttributeContext.Peer":        {1, 4},
	"envoy.service.auth.v3.AttributeContext.Request":     {2},
	"envoy.service.auth.v3.AttributeContext.HttpRequest": {2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13},
	"envoy.config.core.v3.Address":                       {1, 2, 3},
	"envoy.config.core.v3.SocketAddress":                 {2},
	"envoy.config.core.v3.HeaderMap":                     {1},
	"envoy.config.core.v3.HeaderValue":                   {1, 2, 3},
}

// trimmed makes the type of a CheckRequest with only readFields, so that what is left
// out is unknown to it.
func trimmed(t testing.TB) protoreflect.MessageType {
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("trimmed.proto"), Package: proto.String("trimmed"), Syntax: proto.String("proto3")}
	for full, numbers := range readFields {
		found, err := protoregistry.GlobalTypes.FindMessageByName(full)
		if err != nil {
			t.Fatal(err)
		}
		from := protodesc.ToDescriptorProto(found.Descriptor())
		message := &descriptorpb.DescriptorProto{Name: proto.String(flatName(string(full)))}
		oneofs := false
		for _, f := range from.GetField() {
			if !slices.Contains(numbers, protoreflect.FieldNumber(f.GetNumber())) {
				continue
			}
			f.Options, f.JsonName = nil, nil
			if f.OneofIndex != nil {
				f.OneofIndex, oneofs = proto.Int32(0), true
			}
			f.TypeName = retype(message, from, f)
			message.Field = append(message.Field, f)
		}
		if oneofs {
			message.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("one")}}
		}
		file.MessageType = append(file.MessageType, message)
	}
	slices.SortFunc(file.MessageType, func(a, b *descriptorpb.DescriptorProto) int { return strings.Compare(a.GetName(), b.GetName()) })
	// Members of the address that nobody looks into.
	file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{Name: proto.String("Opaque")})
	built, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessageType(built.Messages().ByName(protoreflect.Name(flatName("envoy.service.auth.v3.CheckRequest"))))
}

func flatName(full string) string { return strings.ReplaceAll(full, ".", "_") }

// retype points a field to the trimmed type, and copies the entry type of a map.
func retype(message, from *descriptorpb.DescriptorProto, f *descriptorpb.FieldDescriptorProto) *string {
	if f.TypeName == nil {
		return nil
	}
	name := strings.TrimPrefix(f.GetTypeName(), ".")
	if _, ok := readFields[protoreflect.FullName(name)]; ok {
		return proto.String(".trimmed." + flatName(name))
	}
	for _, nested := range from.GetNestedType() {
		if nested.GetOptions().GetMapEntry() && strings.HasSuffix(name, "."+nested.GetName()) {
			message.NestedType = append(message.NestedType, nested)
			return proto.String(".trimmed." + message.GetName() + "." + nested.GetName())
		}
	}
	return proto.String(".trimmed.Opaque")
}

// FuzzDecodeCheckRequest holds the fast decoder to the generated one: equal meaning
// where that can decode the message, and a refusal where a type with only the fields
// that are read cannot either.
func FuzzDecodeCheckRequest(f *testing.F) {
	for _, m := range decodeSeeds(f) {
		f.Add(m)
	}
	narrow := trimmed(f)
	f.Fuzz(func(t *testing.T, message []byte) {
		fast := sorted(fastCall(message))
		plain := sorted(DecodeCheck(message))
		if fast.TooLarge && plain.TooLarge {
			return // what is kept of an absurd request does not matter
		}
		if !plain.Undecodable {
			if diff := cmp.Diff(plain, fast, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("decoding %q (-plain +fast):\n%s", message, diff)
			}
			return
		}
		err, verdict := unmarshalSlowly(message, narrow)
		if verdict && (err != nil) != fast.Undecodable {
			t.Errorf("decoding %q: fast refuses: %t; a type with the fields that are read: %v", message, fast.Undecodable, err)
		}
	})
}

// unmarshalSlowly decodes by reflection. There is no verdict on messages at which the
// library panics: map entries whose key has another wire type (protobuf-go 1.36.12).
func unmarshalSlowly(message []byte, as protoreflect.MessageType) (err error, verdict bool) {
	defer func() {
		if recover() != nil {
			verdict = false
		}
	}()
	return proto.Unmarshal(message, as.New().Interface()), true
}

func decodeSeeds(t testing.TB) [][]byte {
	seeds := [][]byte{nil, []byte("\x0a"), []byte("\x0a\x02\x52\x00"), []byte("\x0b\x0c"), []byte("\x0a\x03\x22\x01\x12")}
	full := req{
		path: "/a?b=c", method: "POST", context: map[string]string{"a": "1", "gatehouse.route": "x"}, body: "body",
		headers: map[string]string{"Cookie": "a=1", "x-envoy-auth-partial-body": "true", "": "empty"},
	}.message()
	full.Attributes.Source.Principal = "spiffe://a/b"
	full.Attributes.Source.Certificate = "cert"
	full.Attributes.Request.Http.Query = "d=e"
	full.Attributes.MetadataContext = &corev3.Metadata{}
	raw := req{path: "/", raw: [][2]string{{"cookie", "a=\xff"}, {"cookie", "b"}, {"X-Y", ""}}}.message()
	pipe := req{path: "/"}.message()
	pipe.Attributes.Source.Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}}
	tcp := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Source: full.Attributes.Source}}
	for _, m := range []*authv3.CheckRequest{full, raw, pipe, tcp} {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, b)
	}
	n := len(seeds)
	for i := n - 4; i < n; i++ { // merged messages, in both orders
		for j := n - 4; j < n; j++ {
			seeds = append(seeds, append(slices.Clone(seeds[i]), seeds[j]...))
		}
	}
	return seeds
}

func TestDecodeSeedsDecode(t *testing.T) {
	seeds := decodeSeeds(t)
	for _, m := range seeds[5:] {
		if c := fastCall(m); c.Undecodable {
			t.Errorf("decoding %q: refused", m)
		}
	}
}

func TestSemantics10InvalidUTF8IsMalformed(t *testing.T) {
	http := protowire.AppendTag(nil, 4, protowire.BytesType)
	http = protowire.AppendString(http, "/\xff")
	request := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), http)
	attributes := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), request)
	message := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), attributes)
	if !fastCall(message).Undecodable || !DecodeCheck(message).Undecodable {
		t.Errorf("a path that is not UTF-8 is decodable")
	}
}

func TestTooManyHeadersAreRefused(t *testing.T) {
	headers := map[string]string{}
	for i := range maxHeaders {
		headers["x-"+strings.Repeat("a", i)] = "v"
	}
	message := must(proto.Marshal(req{path: "/", headers: headers}.message()))
	for name, c := range map[string]*Call{"fast": fastCall(message), "plain": DecodeCheck(message)} {
		if !c.TooLarge {
			t.Errorf("%s: a request with more than %d headers is not too large", name, maxHeaders)
		}
	}
}

func TestTargetOfParts(t *testing.T) {
	for _, row := range []struct{ name, path, query, fragment, want string }{
		{"the path holds the query", "/a?b", "", "", "/a?b"},
		{"a query apart is put behind", "/a", "b", "", "/a?b"},
		{"the same query twice is one", "/a?b", "b", "", "/a?b"},
		{"two queries are not canonical", "/a?b", "c", "", "/a?b#"},
		{"a fragment is not canonical", "/a", "", "f", "/a#f"},
	} {
		p := parts{path: row.path, query: row.query, fragment: row.fragment}
		if got := p.target(); got != row.want {
			t.Errorf("%s: target = %q, want %q", row.name, got, row.want)
		}
	}
}
