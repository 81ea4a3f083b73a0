package systems

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A provider stands in front of an identity provider and can be cut off. Clients see it
// as the provider itself: Keycloak takes its own address from the Host header.
type provider struct {
	url  string
	down atomic.Bool // answers 503

	mu    sync.Mutex
	asked map[string]int // requests by the last segment of their path
}

func front(t *testing.T, target string) *provider {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{asked: map[string]int{}}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]++
		p.mu.Unlock()
		if p.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// count tells how often a path that ends in the segment was asked for.
func (p *provider) count(segment string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[segment]
}
