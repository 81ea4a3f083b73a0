package envoy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ownedByForwarders are the identity headers of the configurations that nginx, Caddy and others ask with.
var ownedByForwarders = []string{"X-Tenant-Id", "X-User", "X-Roles"}

// read decodes a file and refuses fields that the type lacks.
func read(t *testing.T, path string, into any) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// traefikFile is what Traefik 3.6 knows of dynamic configuration, as far as ours uses it.
type traefikFile struct {
	HTTP struct {
		Routers map[string]struct {
			Rule, Service string
			Middlewares   []string
		}
		Middlewares map[string]struct {
			Headers *struct {
				CustomRequestHeaders map[string]string `yaml:"customRequestHeaders"`
			}
			ForwardAuth *struct {
				Address                string
				TrustForwardHeader     *bool    `yaml:"trustForwardHeader"`
				AuthResponseHeaders    []string `yaml:"authResponseHeaders"`
				PreserveLocationHeader bool     `yaml:"preserveLocationHeader"`
			} `yaml:"forwardAuth"`
		}
		Services map[string]struct {
			LoadBalancer struct{ Servers []struct{ URL string } } `yaml:"loadBalancer"`
		}
	}
}

// TestTraefikFile: the structure, and what must not be missing. Traefik itself is run by
// "make acceptance" (test/traefik).
func TestTraefikFile(t *testing.T) {
	var file traefikFile
	read(t, "traefik/dynamic.yaml", &file)
	order := file.HTTP.Routers["all"].Middlewares
	if !slices.Equal(order, []string{"client", "gatehouse", "credentials"}) {
		t.Fatalf("middlewares %v: what a client made up has to go before gatehouse is asked, credentials after", order)
	}
	for _, router := range file.HTTP.Routers {
		if _, known := file.HTTP.Services[router.Service]; !known {
			t.Errorf("no service %q", router.Service)
		}
	}
	auth := file.HTTP.Middlewares["gatehouse"].ForwardAuth
	if auth == nil || !strings.HasSuffix(auth.Address, "/authorize") || auth.TrustForwardHeader == nil || *auth.TrustForwardHeader || !auth.PreserveLocationHeader {
		t.Fatalf("forwardAuth is %+v", auth)
	}
	if !slices.Equal(auth.AuthResponseHeaders, ownedByForwarders) {
		t.Errorf("authResponseHeaders are %v, want %v", auth.AuthResponseHeaders, ownedByForwarders)
	}
	for middleware, names := range map[string][]string{
		"client": append([]string{
			"X-Original-Url", "X-Original-Uri", "X-Original-Method", "X-Original-Host", "X-Rewrite-Url",
			"X-Http-Method-Override", "X-Http-Method", "X-Method-Override",
		}, folded(ownedByForwarders)...),
		"credentials": {"Authorization", "X-Api-Key"},
	} {
		headers := file.HTTP.Middlewares[middleware].Headers
		for _, name := range names {
			if value, named := headers.CustomRequestHeaders[name]; !named || value != "" {
				t.Errorf("%s does not remove %s", middleware, name)
			}
		}
	}
}

// TestTraefikStaticFile: nothing a client says about where it comes from is believed, and
// paths are resolved before gatehouse is asked.
func TestTraefikStaticFile(t *testing.T) {
	var file struct {
		Global struct {
			CheckNewVersion    bool `yaml:"checkNewVersion"`
			SendAnonymousUsage bool `yaml:"sendAnonymousUsage"`
		}
		EntryPoints map[string]struct {
			Address string
			HTTP    struct {
				SanitizePath *bool `yaml:"sanitizePath"`
			}
		} `yaml:"entryPoints"`
		Providers struct{ File struct{ Filename string } }
	}
	read(t, "traefik/traefik.yaml", &file)
	if file.Providers.File.Filename != "dynamic.yaml" || len(file.EntryPoints) != 1 {
		t.Errorf("it serves %+v by %+v", file.EntryPoints, file.Providers)
	}
	if sanitize := file.EntryPoints["web"].HTTP.SanitizePath; sanitize == nil || !*sanitize {
		t.Error("sanitizePath is not true")
	}
}

// folded are the names as CGI-like upstreams would read them as well.
func folded(names []string) (spelled []string) {
	for _, name := range names {
		first, rest := name[:1], strings.ToLower(name[1:])
		spelled = append(spelled, first+strings.ReplaceAll(rest, "-", "_"))
	}
	return spelled
}

// TestIngressFile: the annotations are ones that ingress-nginx has, and what must not be
// missing is there. ingress-nginx itself is not run; nginx.conf, which is, says the same.
func TestIngressFile(t *testing.T) {
	var file struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct {
			Name        string
			Annotations map[string]string
		}
		Spec struct {
			IngressClassName string `yaml:"ingressClassName"`
			Rules            []struct {
				Host string
				HTTP struct {
					Paths []struct {
						Path     string
						PathType string `yaml:"pathType"`
						Backend  struct {
							Service struct {
								Name string
								Port struct{ Number int }
							}
						}
					}
				}
			}
		}
	}
	read(t, "ingress-nginx/ingress.yaml", &file)
	if file.APIVersion != "networking.k8s.io/v1" || file.Kind != "Ingress" || file.Spec.IngressClassName != "nginx" {
		t.Errorf("%s %s of class %q", file.APIVersion, file.Kind, file.Spec.IngressClassName)
	}
	const prefix = "nginx.ingress.kubernetes.io/"
	get := func(name string) string { return file.Metadata.Annotations[prefix+name] }
	for name := range file.Metadata.Annotations {
		if known := []string{"auth-url", "auth-method", "auth-response-headers", "auth-signin", "configuration-snippet"}; !slices.Contains(known, strings.TrimPrefix(name, prefix)) {
			t.Errorf("annotation %s", name)
		}
	}
	if !strings.HasSuffix(get("auth-url"), "/authorize") || get("auth-method") != "GET" {
		t.Errorf("it asks %s %s", get("auth-method"), get("auth-url"))
	}
	if got := strings.Split(get("auth-response-headers"), ","); !slices.Equal(got, append(slices.Clone(ownedByForwarders), "Authorization")) {
		t.Errorf("auth-response-headers are %v", got)
	}
	// The snippet removes what the location of nginx.conf does, which is tried with nginx.
	conf, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	location, _, _ := strings.Cut(string(conf), "location = /_gatehouse")
	for _, header := range regexp.MustCompile(`proxy_set_header (\S+) +\$gh_`).FindAllStringSubmatch(location, -1) {
		if !slices.Contains(strings.Split(get("auth-response-headers"), ","), header[1]) {
			t.Errorf("auth-response-headers lack %s, which nginx.conf takes over", header[1])
		}
	}
	removed := regexp.MustCompile(`proxy_set_header (\S+) +"";`)
	for _, header := range removed.FindAllStringSubmatch(location, -1) {
		if name := header[1]; name != "Authorization" && name != "Connection" && !regexp.MustCompile(`proxy_set_header `+name+` +"";`).MatchString(get("configuration-snippet")) {
			t.Errorf("the snippet does not remove %s", name)
		}
	}
}
