package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// GoProgram builds a command of other people's and returns its path. folder holds a go.mod
// and a go.sum that pin it with all that it is made of, and nothing is built that differs;
// pkg is the command's import path, "." for a main.go in folder that puts it together, name
// what the program is called. stamp are "-X" flags of the linker, for programs that learn
// their version that way.
//
// A big program takes minutes to build, once: it is built again when one of these files,
// the flags or the Go release changes.
func GoProgram(ctx context.Context, folder, pkg, name string, stamp ...string) (string, error) {
	sum := sha256.New()
	files := []string{"go.mod", "go.sum"}
	if pkg == "." {
		files = append(files, "main.go")
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			return "", fmt.Errorf("building %s: %w", name, err)
		}
		sum.Write(content)
	}
	flags := "-s -w"
	for _, assignment := range stamp {
		flags += " -X " + assignment
	}
	fmt.Fprint(sum, pkg, flags, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	dir, err := install(name+"-"+hex.EncodeToString(sum.Sum(nil)[:6]), func(tmp string) error {
		build := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
			"-ldflags", flags, "-o", filepath.Join(tmp, name), pkg)
		build.Dir = folder
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(bytes.TrimSpace(out))))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("building %s of %s: %w", pkg, filepath.Base(folder), err)
	}
	return filepath.Join(dir, name), nil
}
