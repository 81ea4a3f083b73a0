// Package meshtest is what the tests of recorded and of live control planes share: the
// certificates of a mesh, the requests that envoy/istio promises an answer for, and the
// doctor's view of an Envoy. Start reading at [Client.Check].
package meshtest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// answerTimeout is how long a client waits for one answer.
const answerTimeout = 30 * time.Second

// The names of the listeners under test.
const (
	Sidecar    = "sidecar"     // inbound, STRICT mutual TLS
	SidecarTCP = "sidecar-tcp" // the same for a port that is not HTTP
	Gateway    = "gateway"     // plain HTTP, at the edge
)

// Client sends requests to the listeners of a mesh, each in a connection of its own.
type Client struct {
	Authority *Authority
	Address   func(t testing.TB, listener string) string // host:port of a listener
}

// Answer is what a client got.
type Answer struct {
	Status   int
	Body     string
	Upstream *echo.Received // what reached the application; nil if nothing did
}

// Ask sends one request to a listener, over mutual TLS where that is asked for, with the
// certificate of a caller unless that is empty. target is sent as it is written.
func (c Client) Ask(t testing.TB, listener, caller, method, target string, header http.Header) (Answer, error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	scheme := "http"
	if listener == Sidecar || listener == SidecarTCP {
		scheme = "https"
		transport.TLSClientConfig = c.tls(t, caller)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, scheme+"://"+c.Address(t, listener)+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = target
	if strings.HasPrefix(target, "//") { // an opaque URL must not look like one with a host
		request.URL.Opaque, request.URL.Path = "", target
	}
	request.Header, request.Host = header, "echo.demo.svc.cluster.local"
	response, err := (&http.Client{Transport: transport, Timeout: answerTimeout}).Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Status: response.StatusCode, Body: string(body)}
	if response.Header.Get("X-Upstream") == "echo" {
		decoder := json.NewDecoder(bytes.NewReader(body))
		if err := decoder.Decode(&a.Upstream); err != nil {
			t.Fatalf("reading the upstream's answer: %v: %s", err, body)
		}
	}
	return a, nil
}

// tls are the settings of a caller's sidecar; the server is known by its SPIFFE identity,
// which has no host name to verify.
func (c Client) tls(t testing.TB, caller string) *tls.Config {
	t.Helper()
	config := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			roots.AddCert(c.Authority.certificate)
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		},
	}
	if caller != "" {
		config.Certificates = []tls.Certificate{c.Authority.Workload(t, "spiffe://cluster.local/"+caller)}
	}
	return config
}

// Row is one request and what must become of it.
type Row struct {
	Name     string
	Listener string
	Caller   string // the SPIFFE identity below the trust domain
	Request  string // METHOD TARGET
	Header   http.Header
	Status   int
	Seen     []string // identity headers at the application, if the request got there
}

// NewRow is a Row on one line.
func NewRow(name, listener, caller, request string, header http.Header, status int, seen ...string) Row {
	return Row{name, listener, caller, request, header, status, seen}
}

// Check sends the request of each row.
func (c Client) Check(t *testing.T, rows []Row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.Name, func(t *testing.T) {
			method, target, _ := strings.Cut(r.Request, " ")
			got, err := c.Ask(t, r.Listener, r.Caller, method, target, r.Header.Clone())
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != r.Status {
				t.Fatalf("%s as %q: status %d, want %d: %s", r.Request, r.Caller, got.Status, r.Status, got.Body)
			}
			if (got.Upstream != nil) != (r.Status == http.StatusOK) {
				t.Fatalf("%s as %q: status %d, and the application was asked: %t", r.Request, r.Caller, got.Status, got.Upstream != nil)
			}
			if got.Upstream == nil {
				return
			}
			seen := harness.Folded(got.Upstream, "x-user", "x-tenant-id", "x-roles", "authorization")
			slices.Sort(seen)
			if !slices.Equal(seen, r.Seen) {
				t.Errorf("%s as %q: the application saw %q, want %q", r.Request, r.Caller, seen, r.Seen)
			}
		})
	}
}
