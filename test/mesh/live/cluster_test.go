package live

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

const (
	// startTimeout is how long a control plane may take to start on a busy machine.
	startTimeout = 2 * time.Minute

	apiServer = "10.99.0.1:6443"
	etcd      = "http://127.0.0.1:2379"
	etcdPeers = "http://127.0.0.1:2380"

	// adminToken is the bearer token of a cluster's administrator: whoever holds a token of
	// system:masters may do anything.
	adminToken = "admin"
)

// cluster is an API server with its store, and nothing that would run a pod.
type cluster struct {
	dir        string
	kubeconfig string
}

// startCluster starts a cluster that lasts as long as the test.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	if err := network(); err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: t.TempDir()}
	harness.Start(t, "etcd", exec.Command(program(t, programs.Etcd), "--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--log-level", "warn",
		"--listen-peer-urls", etcdPeers, "--initial-advertise-peer-urls", etcdPeers, "--initial-cluster", "default="+etcdPeers))
	pki := filepath.Join(c.dir, "pki")
	key := c.write(t, "accounts.pem", accountKey(t))
	tokens := c.write(t, "tokens.csv", adminToken+`,admin,1,"system:masters"`)
	harness.Start(t, "kube-apiserver", exec.Command(program(t, programs.APIServer), "--etcd-servers", etcd, "--cert-dir", pki,
		"--bind-address", "10.99.0.1", "--advertise-address", "10.99.0.1", "--secure-port", "6443",
		"--token-auth-file", tokens, "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		// No controller makes accounts and endpoints here.
		"--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none"))
	c.kubeconfig = c.write(t, "kubeconfig", fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: live
contexts: [{name: live, context: {cluster: live, user: admin}}]
clusters: [{name: live, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %s}}]
`, apiServer, adminToken))
	harness.Eventually(t, startTimeout, func() error {
		out, err := c.client(t, programs.Kubectl, "get", "--raw", "/readyz").CombinedOutput()
		if err != nil {
			return fmt.Errorf("kube-apiserver: %w: %s", err, out)
		}
		return nil
	})
	return c
}

// accountKey is a key for the tokens of service accounts, as PEM.
func accountKey(t testing.TB) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// program is the path of a program that TestMain has built.
func program(t testing.TB, p programs.Program) string {
	t.Helper()
	path, err := p.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// write makes a file in the cluster's own folder.
func (c *cluster) write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client is a command line program that talks to the cluster, as a user's would.
func (c *cluster) client(t testing.TB, p programs.Program, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, p), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.dir)
	return cmd
}

// kubectl runs kubectl, which must succeed, and returns what it printed.
func (c *cluster) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, c.client(t, programs.Kubectl, args...))
}

// apply gives the API server the documents of files, as a user does; an unknown field is an
// error.
func (c *cluster) apply(t testing.TB, files ...string) {
	t.Helper()
	for _, file := range files {
		c.kubectl(t, "apply", "--validate=strict", "--filename", file)
	}
}

// applyText is apply for documents of the test's own.
func (c *cluster) applyText(t testing.TB, documents string) {
	t.Helper()
	cmd := c.client(t, programs.Kubectl, "apply", "--validate=strict", "--filename", "-")
	cmd.Stdin = strings.NewReader(documents)
	run(t, cmd)
}

// remove deletes what files hold.
func (c *cluster) remove(t testing.TB, files ...string) {
	t.Helper()
	for _, file := range files {
		c.kubectl(t, "delete", "--filename", file)
	}
}

// run runs a command that must succeed, and returns what it printed.
func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(append([]string{filepath.Base(cmd.Path)}, cmd.Args[1:]...), " "), err, out)
	}
	return string(out)
}
