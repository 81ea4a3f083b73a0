package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// What calls to providers do unless told otherwise.
const (
	DefaultRemoteTimeout  = 5 * time.Second // of one call, and of all calls that one credential needs
	DefaultRemoteMaxBytes = 1 << 20         // of one answer; real ones have a few KiB
	DefaultRemoteCalls    = 64              // at once, for each authenticator
	queuedPerCall         = 16              // inquiries that may wait, for each call that may be under way

	// DefaultRemoteEntries is how many good credentials an authenticator that asks
	// others keeps: a few hundred bytes to a few kilobytes each.
	DefaultRemoteEntries = 1 << 14
)

// RemoteOptions say how a provider is called.
type RemoteOptions struct {
	Timeout   time.Duration // default [DefaultRemoteTimeout]
	MaxBytes  int64         // default [DefaultRemoteMaxBytes]
	Calls     int           // default [DefaultRemoteCalls]
	CAPEM     []byte        // trusted instead of the system's certificates
	CacheKeys *CacheKeys    // shared by all authenticators; nil: its own
}

func (o *RemoteOptions) setDefaults() {
	if o.Timeout <= 0 {
		o.Timeout = DefaultRemoteTimeout
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultRemoteMaxBytes
	}
	if o.Calls <= 0 {
		o.Calls = DefaultRemoteCalls
	}
	if o.CacheKeys == nil {
		o.CacheKeys = NewCacheKeys()
	}
}

// A provider is somebody else who is asked about credentials. What it says is remembered. Equal
// credentials that are asked about at the same time are asked about once. An outage
// is never remembered.
type provider struct {
	client   *http.Client
	options  RemoteOptions
	good     *Cache[*Identity]
	refused  *Cache[Result]
	slots    chan struct{} // one for each call under way
	queue    chan struct{} // one for each inquiry, waiting or under way
	mu       sync.Mutex
	underWay map[CacheKey]*inquiry
}

// An inquiry is one question under way. Whoever needs its answer waits for done.
type inquiry struct {
	done   chan struct{}
	result Result
}

func newProvider(options RemoteOptions) (*provider, error) {
	options.setDefaults()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(options.CAPEM) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(options.CAPEM) {
			return nil, errors.New("the CA file holds no PEM certificate")
		}
	}
	return &provider{
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				TLSClientConfig:        config,
				ForceAttemptHTTP2:      true,
				MaxIdleConnsPerHost:    options.Calls,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
			},
			// A redirect would carry the credential to where nobody configured it to go.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		options:  options,
		good:     NewCache[*Identity](DefaultRemoteEntries),
		refused:  NewCache[Result](refusedEntries),
		slots:    make(chan struct{}, options.Calls),
		queue:    make(chan struct{}, options.Calls*(1+queuedPerCall)),
		underWay: make(map[CacheKey]*inquiry),
	}, nil
}

// Close ends idle connections.
func (r *provider) Close() { r.client.CloseIdleConnections() }

// known gives what is remembered of a credential at now.
func (r *provider) known(key CacheKey, now time.Time) (Result, bool) {
	if identity, ok := r.good.Get(key, now); ok {
		return Result{Identity: identity}, true
	}
	return r.refused.Get(key, now)
}

// A verdict is a Result and until when it may be remembered; zero: not at all. What
// refuses the credential is remembered briefly whatever it says.
type verdict struct {
	Result
	until time.Time
}

var errQueueFull = errors.New("more credentials wait to be asked about than the queue holds")

// ask runs question, at most once at a time for each key, and remembers what it says
// from now. It gives up when ctx ends, and the question goes on for others and for
// the cache, until it is answered or the timeout of the options has passed.
func (r *provider) ask(ctx context.Context, key CacheKey, now time.Time, question func(context.Context) verdict) Result {
	r.mu.Lock()
	call, joined := r.underWay[key]
	if !joined {
		// Whoever was first may have finished between the caller's look and here.
		if result, ok := r.known(key, now); ok {
			r.mu.Unlock()
			return result
		}
		select {
		case r.queue <- struct{}{}:
		default:
			r.mu.Unlock()
			return Refuse(policy.ReasonOverloaded, errQueueFull)
		}
		call = &inquiry{done: make(chan struct{})}
		r.underWay[key] = call
		own, cancel := context.WithTimeout(patience.Detach(ctx), r.options.Timeout)
		go func() {
			defer cancel()
			defer func() { <-r.queue }()
			r.run(own, call, key, now, question)
		}()
	}
	r.mu.Unlock()
	ctx, cancel := patience.For(ctx)
	defer cancel()
	select {
	case <-call.done:
		return call.result
	case <-ctx.Done():
		return Refuse(policy.ReasonProviderUnavailable, fmt.Errorf("waiting for the provider: %w", ctx.Err()))
	}
}

func (r *provider) run(ctx context.Context, call *inquiry, key CacheKey, now time.Time, question func(context.Context) verdict) {
	var v verdict
	defer func() {
		if p := recover(); p != nil {
			v = verdict{Result: Refuse(policy.ReasonInternal, fmt.Errorf("asking the provider: panic: %v\n%s", p, debug.Stack()))}
		}
		call.result = sound(v.Result)
		switch {
		case call.result.Identity != nil:
			r.good.Put(key, call.result.Identity, v.until, now)
		case call.result.Reason.Outcome() == policy.Unauthenticated:
			r.refused.Put(key, call.result, now.Add(refusedFor), now)
		}
		r.mu.Lock()
		delete(r.underWay, key)
		r.mu.Unlock()
		close(call.done)
	}()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
		v = question(ctx)
	case <-ctx.Done():
		v = verdict{Result: Refuse(policy.ReasonOverloaded, fmt.Errorf("%d calls are under way", r.options.Calls))}
	}
}

// unavailable is the verdict where a provider is down, slow or talks nonsense.
func unavailable(err error) verdict {
	return verdict{Result: Refuse(policy.ReasonProviderUnavailable, err)}
}

func refused(reason policy.Reason, err error) verdict { return verdict{Result: Refuse(reason, err)} }

// A reply is a provider's whole answer.
type reply struct {
	status int
	body   []byte
}

// do sends request. Anything but a whole answer of bounded size is an error; what is
// in the request, address included, is not in it.
func (r *provider) do(request *http.Request) (reply, error) {
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "gatehouse")
	span := startSpan(request)
	defer span.End()
	response, err := r.client.Do(request)
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		return reply{}, fmt.Errorf("calling %s: %w", request.URL.Host, bare(err))
	}
	defer response.Body.Close()
	span.SetAttributes(attribute.Int("http.response.status_code", response.StatusCode))
	body, err := io.ReadAll(io.LimitReader(response.Body, r.options.MaxBytes+1))
	if err != nil {
		return reply{}, fmt.Errorf("reading the answer of %s: %w", request.URL.Host, err)
	}
	if int64(len(body)) > r.options.MaxBytes {
		return reply{}, fmt.Errorf("reading the answer of %s: it is longer than %d bytes", request.URL.Host, r.options.MaxBytes)
	}
	return reply{status: response.StatusCode, body: body}, nil
}

// startSpan starts the span of a call to a provider, below that of the decision which
// waits for it; without one it does nothing. The address may hold a credential, so only
// its host is told.
func startSpan(request *http.Request) trace.Span {
	_, span := trace.SpanFromContext(request.Context()).TracerProvider().Tracer("github.com/gatehouse-authz/gatehouse/extauthz/authn").
		Start(request.Context(), "gatehouse.ask", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("server.address", request.URL.Hostname()), attribute.String("http.request.method", request.Method)))
	return span
}

// bare takes the address off an error of net/http: it may hold a credential.
func bare(err error) error {
	var withAddress *url.Error
	if errors.As(err, &withAddress) {
		return withAddress.Err
	}
	return err
}

// form makes a POST request with a form body (RFC 6749 appendix B) as client id with
// secret (RFC 6749 §2.3.1).
func form(ctx context.Context, address, id string, secret Secret, fields ...string) (*http.Request, error) {
	var body strings.Builder
	for i := 0; i+1 < len(fields); i += 2 {
		if i > 0 {
			body.WriteByte('&')
		}
		body.WriteString(url.QueryEscape(fields[i]) + "=" + url.QueryEscape(fields[i+1]))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body.String()))
	if err != nil {
		return nil, errors.New("making a request")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret.Reveal()))
	return request, nil
}
