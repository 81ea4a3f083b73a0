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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The release of Keycloak on Maven Central, and the SHA-256 sum of its zip.
const (
	keycloakVersion  = "26.7.3"
	keycloakChecksum = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
)

// Keycloak returns the folder of an unpacked Keycloak, fetched with Maven. It must not
// be run in place, since it writes into its own folder: copy it first. It needs mvn and
// Java 17 or later in PATH.
func Keycloak(ctx context.Context) (string, error) {
	dir, err := install("keycloak-"+keycloakVersion, func(tmp string) error {
		mvn := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "dependency:copy",
			"-Dartifact=org.keycloak:keycloak-quarkus-dist:"+keycloakVersion+":zip", "-DoutputDirectory="+tmp)
		mvn.Dir = tmp
		if out, err := mvn.CombinedOutput(); err != nil {
			return fmt.Errorf("running mvn (needs Maven and Java 17 or later): %w: %s", err, bytes.TrimSpace(out))
		}
		archive := filepath.Join(tmp, "keycloak-quarkus-dist-"+keycloakVersion+".zip")
		if err := checkFile(archive, keycloakChecksum); err != nil {
			return err
		}
		return errors.Join(unzip(archive, tmp), os.Remove(archive))
	})
	if err != nil {
		return "", fmt.Errorf("installing Keycloak %s: %w", keycloakVersion, err)
	}
	return filepath.Join(dir, "keycloak-"+keycloakVersion), nil
}

func checkFile(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("checking %s: SHA-256 is %s, want %s", filepath.Base(path), got, want)
	}
	return nil
}

// unzip unpacks an archive into dir, with permissions and without leaving it.
func unzip(archive, dir string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if !filepath.IsLocal(strings.TrimSuffix(f.Name, "/")) {
			return fmt.Errorf("unpacking %s: %q leaves the folder", filepath.Base(archive), f.Name)
		}
		path := filepath.Join(dir, f.Name)
		if f.FileInfo().IsDir() {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := unzipFile(f, path); err != nil {
			return err
		}
	}
	return nil
}

func unzipFile(f *zip.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
