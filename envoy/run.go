package envoy

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed envoy.yaml
var hardened []byte

// Addresses are what [Render] puts in the place of those in envoy.yaml: host:port each,
// port 0 for one that the kernel chooses. An empty Addresses field keeps what is there.
type Addresses struct {
	Admin     string
	Listen    string
	Gatehouse []string // one per replica
	Upstream  string
}

// Render returns envoy.yaml with other addresses in it and nothing else changed; its
// comments are lost.
func Render(a Addresses) ([]byte, error) { return RenderConfig(hardened, a) }

// RenderConfig is Render for a configuration that was made from envoy.yaml. Every
// listener of it gets the address to listen on.
func RenderConfig(config []byte, a Addresses) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(config, &root); err != nil {
		return nil, fmt.Errorf("reading envoy.yaml: %w", err)
	}
	top := root.Content[0]
	resources := field(top, "static_resources")
	var errs []error
	if a.Admin != "" {
		errs = append(errs, setAddress(field(top, "admin"), a.Admin))
	}
	if a.Listen != "" {
		for _, listener := range field(resources, "listeners").Content {
			errs = append(errs, setAddress(listener, a.Listen))
		}
	}
	if len(a.Gatehouse) > 0 {
		errs = append(errs, setEndpoints(resources, "gatehouse", a.Gatehouse))
	}
	if a.Upstream != "" {
		errs = append(errs, setEndpoints(resources, "upstream", []string{a.Upstream}))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return yaml.Marshal(&root)
}

// field returns the value of a mapping's key, or the item of a list that has the name.
func field(n *yaml.Node, name string) *yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			if v := field(item, "name"); v != nil && v.Value == name {
				return item
			}
		}
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// setAddress sets the address of a listener or of the admin endpoint.
func setAddress(thing *yaml.Node, address string) error {
	socket, err := socketAddress(address)
	if err != nil {
		return err
	}
	at := field(thing, "address")
	if at == nil {
		return errors.New("rendering envoy.yaml: something that should listen has no address")
	}
	return at.Encode(socket)
}

func setEndpoints(resources *yaml.Node, cluster string, addresses []string) error {
	var list []any
	for _, address := range addresses {
		socket, err := socketAddress(address)
		if err != nil {
			return err
		}
		list = append(list, map[string]any{"endpoint": map[string]any{"address": socket}})
	}
	assignment := field(field(field(resources, "clusters"), cluster), "load_assignment")
	if assignment == nil {
		return fmt.Errorf("rendering envoy.yaml: it has no cluster %q", cluster)
	}
	return field(assignment, "endpoints").Encode([]any{map[string]any{"lb_endpoints": list}})
}

func socketAddress(address string) (map[string]any, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("rendering envoy.yaml: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("rendering envoy.yaml: port of %q: %w", address, err)
	}
	return map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}}, nil
}

// Args are the arguments that run Envoy with the configuration file, one worker thread,
// and its admin address written to the file adminPath once it is known.
func Args(configPath, adminPath string) []string {
	return []string{
		"--config-path", configPath,
		"--admin-address-path", adminPath,
		"--concurrency", "1",
		// Hot restart takes a shared memory region that two Envoys on one machine fight for.
		"--disable-hot-restart",
		"--log-level", "warning",
		// Access log lines appear at once and not after ten seconds.
		"--file-flush-interval-msec", "50",
	}
}

// Running says where an Envoy serves: host:port each.
type Running struct {
	Admin     string
	Listeners map[string]string // by name
}

// pollEvery is how often WaitReady asks; Envoy needs some 150 ms to start.
const pollEvery = 20 * time.Millisecond

// WaitReady waits until the Envoy that was started with [Args] serves on all its
// listeners, or until ctx ends.
func WaitReady(ctx context.Context, adminPath string) (Running, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		running, err := ask(ctx, adminPath)
		if err == nil {
			return running, nil
		}
		select {
		case <-ctx.Done():
			return Running{}, fmt.Errorf("waiting for Envoy: %w (last: %w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

func ask(ctx context.Context, adminPath string) (Running, error) {
	written, err := os.ReadFile(adminPath)
	if err != nil {
		return Running{}, err
	}
	running := Running{Admin: strings.TrimSpace(string(written)), Listeners: map[string]string{}}
	if err := get(ctx, running.Admin, "/ready", nil); err != nil {
		return Running{}, err
	}
	var answer struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := get(ctx, running.Admin, "/listeners?format=json", &answer); err != nil {
		return Running{}, err
	}
	for _, l := range answer.Statuses {
		running.Listeners[l.Name] = net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port))
	}
	return running, nil
}

// get fetches a page of the admin port and decodes its JSON into answer, if there is one.
func get(ctx context.Context, admin, page string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+page, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking Envoy for %s: status %d", page, resp.StatusCode)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
