package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// program is one that the machine must have, and what it is needed for.
type program struct {
	name string // in PATH, or below one of the folders
	also string // where else it may be, as a pattern
	apt  string // the package of Debian 12 or later that has it; "" if that is too old
	use  string
}

var programs = []program{
	{"python3", "", "python3", "pip fetches Envoy"},
	{"pip3", "", "python3-pip", "pip fetches Envoy"},
	{"node", "", "", "node 20 or later runs the OpenID provider"},
	{"npm", "", "", "npm installs the OpenID provider"},
	{"java", "", "default-jre-headless", "java 17 or later runs Keycloak"},
	{"mvn", "", "maven", "Maven fetches Keycloak"},
	{"nginx", "/usr/sbin/nginx", "nginx-light", "the HTTP door is tested behind nginx"},
	{"caddy", "", "caddy", "the HTTP door is tested behind Caddy"},
	{"promtool", "", "prometheus", "the alerts are tested by it"},
	{"curl", "", "curl", "the README asks with it"},
	{"initdb", "/usr/lib/postgresql/*/bin/initdb", "postgresql", "the token store is tested on PostgreSQL"},
}

// System makes sure that the programs of the machine are there which the tests start or
// are fetched with. As root on a machine with apt-get it installs those that are missing;
// otherwise it fails and names them all.
func System(ctx context.Context, out io.Writer) error {
	missing := slices.DeleteFunc(slices.Clone(programs), found)
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err == nil && os.Getuid() == 0 {
		if err := aptInstall(ctx, out, missing); err != nil {
			return err
		}
		missing = slices.DeleteFunc(missing, found)
	}
	var errs []error
	for _, p := range missing {
		remedy := "install it"
		if p.apt != "" {
			remedy = "apt-get install " + p.apt
		}
		errs = append(errs, fmt.Errorf("%s is not in PATH (%s): %s", p.name, p.use, remedy))
	}
	return errors.Join(errs...)
}

func found(p program) bool {
	if _, err := exec.LookPath(p.name); err == nil {
		return true
	}
	if p.also == "" {
		return false
	}
	elsewhere, err := filepath.Glob(p.also)
	return err == nil && len(elsewhere) > 0
}

func aptInstall(ctx context.Context, out io.Writer, missing []program) error {
	var packages []string
	for _, p := range missing {
		if p.apt != "" && !slices.Contains(packages, p.apt) {
			packages = append(packages, p.apt)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	fmt.Fprintln(out, "installing", strings.Join(packages, " "))
	for _, args := range [][]string{
		{"update", "-qq"},
		append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...),
	} {
		apt := exec.CommandContext(ctx, "apt-get", args...)
		apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := apt.CombinedOutput(); err != nil {
			return fmt.Errorf("running apt-get %s: %w: %s", args[0], err, output)
		}
	}
	return nil
}
