package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

// signingKey writes a new P-256 key, PKCS #8 in PEM.
func signingKey(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keysAge is how long Envoy keeps the published keys in these tests.
const keysAge = time.Second

// TestSigningKeysRotateUnderTraffic: the next key is published, then signs, then the first
// is dropped, each by a reload; and Envoy's own jwt_authn, which verifies what the
// upstream is to get, refuses nothing meanwhile.
func TestSigningKeysRotateUnderTraffic(t *testing.T) {
	upstream := startEcho(t)
	first, second := signingKey(t, "first.pem"), signingKey(t, "second.pem")
	with := func(keys ...string) string {
		list := ""
		for _, file := range keys {
			list += fmt.Sprintf("{id: %s, file: %q}, ", strings.TrimSuffix(filepath.Base(file), ".pem"), file)
		}
		return strings.Replace(mintedConfig, "audience: orders}", "audience: orders, ttl: 2s, keys: ["+list+"]}", 1)
	}
	gatehouse := startGatehouse(t, with(first), "")
	gatehouse.WaitServing(t)
	address := startVerifying(t, gatehouse, upstream.Address()).Address(t, "front")

	var mu sync.Mutex
	answers, signers, failures := 0, map[string]int{}, []string{}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				answer, err := harness.TrySend(address, "GET /orders/", "x-api-key: "+batchKey)
				mu.Lock()
				answers++
				switch {
				case err != nil:
					failures = append(failures, err.Error())
				case answer.Status != http.StatusOK || answer.Upstream == nil:
					failures = append(failures, fmt.Sprint(answer.Status, " ", answer.Body))
				default:
					signers[strings.Join(harness.Folded(answer.Upstream, "x-signed-by"), ",")]++
				}
				mu.Unlock()
			}
		})
	}
	// What is published now is known to Envoy once what it has is too old.
	learned := func() {
		t.Helper()
		mu.Lock()
		before := answers
		mu.Unlock()
		deadline := time.Now().Add(2 * keysAge)
		harness.Eventually(t, settle, func() error {
			mu.Lock()
			defer mu.Unlock()
			if time.Now().Before(deadline) || answers < before+10 {
				return fmt.Errorf("%d answers", answers-before)
			}
			return nil
		})
	}
	learned()
	for _, keys := range [][]string{{first, second}, {second, first}, {second}} {
		gatehouse.Configure(t, with(keys...))
		gatehouse.Reload(t, "configuration loaded")
		learned()
	}
	close(stop)
	clients.Wait()
	if len(failures) > 0 {
		t.Errorf("%d of %d answers: %q", len(failures), answers, failures[0])
	}
	if signers["x-signed-by: first"] == 0 || signers["x-signed-by: second"] == 0 {
		t.Errorf("keys that signed what the upstream got: %v, want both", signers)
	}
}

//go:embed verify.py
var verifier []byte

//go:embed requirements.txt
var verifierModules []byte

// verifyElsewhere has joserfc verify tokens, with what discovery leads it to.
func verifyElsewhere(t *testing.T, base, audience, secret string, tokens ...string) (verified []map[string]map[string]any) {
	t.Helper()
	modules, err := tools.PythonModules(t.Context(), "joserfc", verifierModules)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "verify.py")
	if err := os.WriteFile(script, verifier, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", script, base, "https://gatehouse.example.com", audience, secret)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+modules)
	cmd.Stdin = strings.NewReader(strings.Join(tokens, "\n") + "\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("verify.py: %v\n%s", err, stderr.String())
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var one map[string]map[string]any
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil { // an error is a text
			one = nil
		}
		verified = append(verified, one)
	}
	if len(verified) != len(tokens) {
		t.Fatalf("%d results of %d tokens:\n%s", len(verified), len(tokens), out)
	}
	return verified
}

// TestMintedTokenIsVerifiedByAnotherLibrary: what the upstream gets is good for a library
// of another language, by discovery alone, in each algorithm; and not once it was changed.
func TestMintedTokenIsVerifiedByAnotherLibrary(t *testing.T) {
	upstream := startEcho(t)
	for _, algorithm := range []string{"ES256", "EdDSA", "RS256", "HS256"} {
		t.Run(algorithm, func(t *testing.T) {
			token, secret := "algorithm: "+algorithm, ""
			if algorithm == "HS256" {
				token, secret = token+", shared_secret: {env: BATCH_KEY}", batchKey
			}
			gatehouse := startGatehouse(t, strings.Replace(mintedConfig, "audience: orders}", "audience: orders, "+token+"}", 1), "")
			gatehouse.WaitServing(t)
			address := harness.StartEnvoy(t, upstream.Address(), harness.Front{Name: "front", Gatehouse: []string{gatehouse.GRPC}}).Address(t, "front")
			minted := func(path string) string {
				t.Helper()
				answer := harness.Send(t, address, "GET "+path, "x-api-key: "+batchKey)
				if answer.Status != http.StatusOK || answer.Upstream == nil {
					t.Fatalf("%d %s", answer.Status, answer.Body)
				}
				return strings.TrimPrefix(strings.Join(harness.Folded(answer.Upstream, "authorization"), ","), "authorization: Bearer ")
			}
			good, elsewhere := minted("/orders/"), minted("/billing/")
			parts := strings.Split(good, ".")
			moved := parts[0] + "." + strings.Split(elsewhere, ".")[1] + "." + parts[2]
			got := verifyElsewhere(t, "http://"+gatehouse.HTTP, "orders", secret, good, elsewhere, moved)
			if got[0] == nil || got[0]["header"]["alg"] != algorithm || got[0]["claims"]["sub"] != "machines:batch" || got[0]["claims"]["tenant"] != "acme" {
				t.Errorf("a token for orders: %v", got[0])
			}
			if got[1] != nil || got[2] != nil {
				t.Errorf("a token for billing: %v, and one with another's claims: %v; want both refused", got[1], got[2])
			}
		})
	}
}
