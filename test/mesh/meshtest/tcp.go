package meshtest

import (
	"net/http"
	"testing"
)

// CheckTCP is about connections: the check has a peer and nothing else. The bytes in the
// connection happen to be a request, so that the echo answers.
func (c Client) CheckTCP(t *testing.T) {
	t.Helper()
	got, err := c.Ask(t, SidecarTCP, "ns/billing/sa/reports", "GET", "/x", nil)
	if err != nil || got.Status != http.StatusOK {
		t.Errorf("TCP: a peer with the role got %d, %v; want the application", got.Status, err)
	}
	c.CheckTCPRefused(t, "ns/demo/sa/client", "system/node")
}

// CheckTCPRefused has callers find their connection closed.
func (c Client) CheckTCPRefused(t *testing.T, callers ...string) {
	t.Helper()
	for _, caller := range callers {
		if got, err := c.Ask(t, SidecarTCP, caller, "GET", "/x", nil); err == nil {
			t.Errorf("TCP: %s got %d, want a closed connection", caller, got.Status)
		}
	}
}

// CheckTLSIsRequired has a client without a certificate try.
func (c Client) CheckTLSIsRequired(t *testing.T) {
	t.Helper()
	for _, listener := range []string{Sidecar, SidecarTCP} {
		if got, err := c.Ask(t, listener, "", "GET", "/api/orders", nil); err == nil {
			t.Errorf("%s answered %d to a client without a certificate", listener, got.Status)
		}
	}
}
