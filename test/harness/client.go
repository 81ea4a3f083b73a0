package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/echo"
)

// answerTimeout is how long Send waits for one answer.
const answerTimeout = 30 * time.Second

// Answer is what a client got.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	// Upstream is what the echo upstream received; nil if the answer is not its.
	Upstream *echo.Received
}

// Send writes one HTTP/1.1 request, byte for byte as given, and reads the answer. request
// is "METHOD TARGET"; headers are "name: value" lines in their order. Without a Host
// among them it is "example.com".
func Send(t testing.TB, address, request string, headers ...string) Answer {
	t.Helper()
	answer, err := TrySend(address, request, headers...)
	if err != nil {
		t.Fatalf("sending %s: %v", request, err)
	}
	return answer
}

// TrySend is Send for requests that may get no answer.
func TrySend(address, request string, headers ...string) (Answer, error) {
	return trySend(nil, address, request, headers)
}

// SendFrom is Send over a connection that comes from a local address, such as 127.0.0.2.
func SendFrom(t testing.TB, source, address, request string, headers ...string) Answer {
	t.Helper()
	answer, err := trySend(&net.TCPAddr{IP: net.ParseIP(source)}, address, request, headers)
	if err != nil {
		t.Fatalf("sending %s from %s: %v", request, source, err)
	}
	return answer
}

func trySend(source net.Addr, address, request string, headers []string) (Answer, error) {
	conn, err := (&net.Dialer{Timeout: answerTimeout, LocalAddr: source}).Dial("tcp", address)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return Answer{}, err
	}
	if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(strings.ToLower(h), "host:") }) {
		headers = append([]string{"Host: example.com"}, headers...)
	}
	method, _, _ := strings.Cut(request, " ")
	// No "Connection: close": it makes Envoy linger for a second after a malformed request.
	if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\n%s\r\n\r\n", request, strings.Join(headers, "\r\n")); err != nil {
		return Answer{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	if resp.Header.Get("X-Upstream") == "echo" && len(body) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&answer.Upstream); err != nil {
			return Answer{}, fmt.Errorf("reading the upstream's answer: %w: %s", err, body)
		}
	}
	return answer, nil
}

// Folded lists, as "name: value" in their order, the headers that an upstream could take
// for one of the names: letter case is ignored, and every character that is neither
// letter nor digit counts as a hyphen (as CGI, WSGI and PHP do).
func Folded(received *echo.Received, names ...string) []string {
	var lines []string
	for _, header := range received.Headers {
		for _, name := range names {
			if fold(header[0]) == fold(name) {
				lines = append(lines, header[0]+": "+header[1])
			}
		}
	}
	return lines
}

func fold(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
}
