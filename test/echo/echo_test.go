package echo

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
)

func serve(t *testing.T) *Server {
	t.Helper()
	s, err := Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestHTTP1AsReceived sends two requests on one connection: what the first said must not
// show in the second.
func TestHTTP1AsReceived(t *testing.T) {
	s := serve(t)
	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	ask := func(request string) Received {
		t.Helper()
		fmt.Fprint(conn, request)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got Received
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := ask("POST /a%2f?q=1 HTTP/1.1\r\nHost: h\r\nx_b: 1\r\nX-A: 2\r\nx-a: 3\r\nContent-Length: 5\r\n\r\nhello")
	want := [][2]string{{"Host", "h"}, {"x_b", "1"}, {"X-A", "2"}, {"x-a", "3"}, {"Content-Length", "5"}}
	if got.Method != "POST" || got.Target != "/a%2f?q=1" || got.Host != "h" || got.Body != "hello" || !slices.Equal(got.Headers, want) {
		t.Errorf("first request came out as %+v", got)
	}
	got = ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if want := [][2]string{{"Host", "h"}}; !slices.Equal(got.Headers, want) {
		t.Errorf("second request has headers %v, want %v", got.Headers, want)
	}
	if s.Served() != 2 {
		t.Errorf("Served() = %d, want 2", s.Served())
	}
}

func TestHTTP2(t *testing.T) {
	s := serve(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	resp, err := client.Get("http://" + s.Address() + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got Received
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Protocol != "HTTP/2.0" || got.Target != "/x" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestGRPC(t *testing.T) {
	s := serve(t)
	conn, err := grpc.NewClient(s.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-user", "alice")
	var answer structpb.Struct
	if err := conn.Invoke(ctx, "/orders.Orders/Get", &structpb.Struct{}, &answer); err != nil {
		t.Fatal(err)
	}
	if got := answer.Fields["method"].GetStringValue(); got != "/orders.Orders/Get" {
		t.Errorf("method = %q", got)
	}
	if got := answer.Fields["metadata"].GetStructValue().Fields["x-user"].GetStringValue(); got != "alice" {
		t.Errorf("x-user = %q, want alice", got)
	}
}

func TestWebSocket(t *testing.T) {
	s := serve(t)
	ws, err := websocket.Dial("ws://"+s.Address()+"/ws", "", "http://"+s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := websocket.Message.Send(ws, "hello"); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := websocket.Message.Receive(ws, &got); err != nil || got != "hello" {
		t.Errorf("Receive = %q, %v; want hello", got, err)
	}
}
