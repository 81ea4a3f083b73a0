package transport

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// early are cases that ask with GET and look at what the server does of the rest of the
// request. It has been answered then (RFC 9113 section 8.1 allows that): the same rules are
// in TestRules, with calls of gRPC.
var early = map[string]bool{"http2/6.9.1/3": true, "http2/8.1.2.6/1": true, "http2/8.1.2.6/2": true}

// TestH2spec runs the conformance suite of h2spec, strict tests included.
func TestH2spec(t *testing.T) {
	t.Parallel()
	r := start(t)
	host, port, err := net.SplitHostPort(r.address)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Host: host, Path: inlineEcho, Timeout: time.Second, MaxHeaderLen: 4000, Strict: true}
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, suite := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		suite.Test(c)
		passed += suite.PassedCount
		report(t, suite)
	}
	if passed < 130 {
		t.Errorf("%d cases passed, want nearly all", passed)
	}
	r.idle(t)
}

// report tells what failed.
func report(t *testing.T, g *spec.TestGroup) {
	for _, tests := range [][]*spec.TestCase{g.Tests, g.StrictTests} {
		for i, tc := range tests {
			id := fmt.Sprintf("%s/%d", g.ID(), i+1)
			switch {
			case tc.Result == nil || tc.Result.Skipped:
				t.Errorf("%s: %s: not run", id, tc.Desc)
			case tc.Result.Failed && !early[id]:
				t.Errorf("%s: %s: %v", id, tc.Desc, tc.Result.Error)
			case !tc.Result.Failed && early[id]:
				t.Errorf("%s: %s: passes, so that it is no exception any more", id, tc.Desc)
			}
		}
	}
	for _, sub := range g.Groups {
		report(t, sub)
	}
}
