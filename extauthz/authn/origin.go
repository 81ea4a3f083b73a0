package authn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultResolve is how often host names are resolved again.
	DefaultResolve = 30 * time.Second

	// resolveTimeout bounds one resolution.
	resolveTimeout = 5 * time.Second

	// A name server that is out of order leaves the last addresses for this many
	// rounds. One that says that there is no such name takes them away at once.
	resolveStaleRounds = 10
)

// A Resolver looks up the addresses of a host. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Origins are the addresses that peers may come from: addresses, networks, and host
// names, which are resolved again and again. Looking one up takes no lock.
type Origins struct {
	networks []netip.Prefix // addresses are networks of one
	hosts    []string
	resolver Resolver
	every    time.Duration

	resolved atomic.Pointer[map[netip.Addr]bool]
	known    map[string]*resolution // of the loop

	life    context.Context // ends with Close
	end     context.CancelFunc
	started sync.Once
	running sync.WaitGroup
}

type resolution struct {
	addresses []netip.Addr
	failures  int // in a row
}

// NewOrigins reads peers. Of each, white space, scheme, port and path are dropped, and
// what is empty then is nobody. resolver may be nil for that of the system; every is
// how often names are resolved, 0 for [DefaultResolve].
func NewOrigins(peers []string, resolver Resolver, every time.Duration) (*Origins, error) {
	o := &Origins{resolver: resolver, every: every, known: make(map[string]*resolution)}
	if o.resolver == nil {
		o.resolver = net.DefaultResolver
	}
	if o.every <= 0 {
		o.every = DefaultResolve
	}
	var errs []error
	for _, peer := range peers {
		network, host, err := parsePeer(peer)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("peer %q: %w", peer, err))
		case host != "" && !slices.Contains(o.hosts, host):
			o.hosts = append(o.hosts, host)
		case network.IsValid():
			o.networks = append(o.networks, network)
		}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	o.resolved.Store(&map[netip.Addr]bool{})
	o.life, o.end = context.WithCancel(context.Background())
	return o, nil
}

// parsePeer reads an entry: a network, a host name in lower case, or neither if it is
// empty.
func parsePeer(text string) (network netip.Prefix, host string, err error) {
	s := strings.TrimSpace(text)
	_, rest, hasScheme := strings.Cut(s, "://")
	if hasScheme {
		s = rest
	} else if prefix, err := netip.ParsePrefix(s); err == nil {
		return plainPrefix(prefix).Masked(), "", nil
	}
	if before, path, found := strings.Cut(s, "/"); found {
		if path != "" && strings.Trim(path, "0123456789") == "" && !hasScheme {
			return netip.Prefix{}, "", errors.New("it is not a network")
		}
		s = before
	}
	if s == "" {
		return netip.Prefix{}, "", nil
	}
	if address, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return single(address), "", nil
	}
	if withPort, err := netip.ParseAddrPort(s); err == nil {
		return single(withPort.Addr()), "", nil
	}
	if name, port, found := strings.Cut(s, ":"); found {
		if strings.Trim(port, "0123456789") != "" {
			return netip.Prefix{}, "", errors.New("it is neither an address, a network nor a host name")
		}
		s = name
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if !isHostName(s) {
		return netip.Prefix{}, "", errors.New("it is neither an address, a network nor a host name")
	}
	return netip.Prefix{}, s, nil
}

func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// isHostName tells whether s is a name of letters, digits, hyphens and underscores,
// and not a broken address: the last label is not a number.
func isHostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if !isAlphaNumeric(label[i]) && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// Contains tells whether address is one of the origins.
func (o *Origins) Contains(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	return containsAddr(o.networks, address) || (*o.resolved.Load())[address]
}

// Empty tells whether nothing is listed, so that nobody is admitted.
func (o *Origins) Empty() bool { return len(o.networks)+len(o.hosts) == 0 }

// Start begins to resolve host names, now and from then on, until [Origins.Close]. It
// does not wait.
func (o *Origins) Start() {
	if len(o.hosts) == 0 {
		return
	}
	o.started.Do(func() { o.running.Go(o.loop) })
}

// Close ends it.
func (o *Origins) Close() {
	o.end()
	o.running.Wait()
}

func (o *Origins) loop() {
	ticks := time.NewTicker(o.every)
	defer ticks.Stop()
	for o.life.Err() == nil {
		o.resolve(o.life)
		select {
		case <-ticks.C:
		case <-o.life.Done():
		}
	}
}

// resolve looks every name up, all at once. One that does not resolve admits nobody.
func (o *Origins) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var wait sync.WaitGroup
	for _, host := range o.hosts {
		known := o.known[host]
		if known == nil {
			known = &resolution{}
			o.known[host] = known
		}
		wait.Go(func() { known.refresh(o.resolver.LookupNetIP(ctx, "ip", host)) })
	}
	wait.Wait()
	resolved := make(map[netip.Addr]bool)
	for _, known := range o.known {
		for _, address := range known.addresses {
			resolved[address.Unmap().WithZone("")] = true
		}
	}
	o.resolved.Store(&resolved)
}

func (r *resolution) refresh(addresses []netip.Addr, err error) {
	if err == nil {
		r.addresses, r.failures = addresses, 0
		return
	}
	r.failures++
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound || r.failures > resolveStaleRounds {
		r.addresses = nil
	}
}
