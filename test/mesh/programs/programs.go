// Package programs builds the control planes that gatehouse is proven with, and Traefik,
// from source and at pinned versions: each folder below this one is a Go module that
// requires them and nothing else, and its go.sum is what is checked.
//
// The programs are other people's and unmodified. They are kept in the user's cache folder.
package programs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gatehouse-authz/gatehouse/test/tools"
)

// A Program is one command of a pinned module.
type Program struct {
	Name   string   // of the executable
	module string   // the folder that pins it
	pkg    string   // its import path
	stamp  []string // what the linker tells it about its version
}

// The programs, with those first that take longest to build.
var (
	Istiod       = Program{Name: "pilot-discovery", module: "istio", pkg: "istio.io/istio/pilot/cmd/pilot-discovery"}
	Istioctl     = Program{Name: "istioctl", module: "istio", pkg: "istio.io/istio/istioctl/cmd/istioctl"}
	EnvoyGateway = Program{Name: "envoy-gateway", module: "gateway", pkg: "github.com/envoyproxy/gateway/cmd/envoy-gateway"}
	APIServer    = Program{Name: "kube-apiserver", module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-apiserver", stamp: kubernetesVersion}
	Kubectl      = Program{Name: "kubectl", module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kubectl", stamp: kubernetesVersion}
	Etcd         = Program{Name: "etcd", module: "kubernetes", pkg: "go.etcd.io/etcd/server/v3"}
	Helm         = Program{Name: "helm", module: "helm", pkg: "helm.sh/helm/v3/cmd/helm"}
	Traefik      = Program{Name: "traefik", module: "traefik", pkg: "github.com/traefik/traefik/v3/cmd/traefik"}
)

// All are the programs that the live tests run.
var All = []Program{Istiod, Istioctl, EnvoyGateway, APIServer, Kubectl, Etcd, Helm, Traefik}

// kubernetesVersion is what the build scripts of Kubernetes would say: clients ask for it.
var kubernetesVersion = []string{
	"k8s.io/component-base/version.gitVersion=v1.36.1",
	"k8s.io/component-base/version.gitMajor=1",
	"k8s.io/component-base/version.gitMinor=36",
}

// Install returns the path of the program, building it first if the cache does not have it.
func (p Program) Install(ctx context.Context) (string, error) {
	folder, err := folder(ctx, p.module)
	if err != nil {
		return "", err
	}
	return tools.GoProgram(ctx, folder, p.pkg, p.Name, p.stamp...)
}

// Source returns the folder with the source of the module that the program belongs to, as it
// was checked against go.sum: there are the definitions of its custom resources.
func (p Program) Source(ctx context.Context, module string) (string, error) {
	pinned, err := folder(ctx, p.module)
	if err != nil {
		return "", err
	}
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	download.Dir = pinned
	out, err := download.Output()
	if err != nil {
		return "", fmt.Errorf("downloading %s: %w: %s", module, err, out)
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Dir == "" {
		return "", errors.Join(err, fmt.Errorf("downloading %s: no folder in %s", module, out))
	}
	return answer.Dir, nil
}

// folder is where a pinned module is in the source tree.
func folder(ctx context.Context, module string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gatehouse-authz/gatehouse").Output()
	if err != nil {
		return "", fmt.Errorf("finding the source tree: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "test", "mesh", "programs", module), nil
}
