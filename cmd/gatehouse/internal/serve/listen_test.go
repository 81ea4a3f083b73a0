package serve

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listen("unix://"+path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket mode = %v, %v, want 0660", info.Mode(), err)
	}
	if got := shownAddress(l.Addr()); got != "unix://"+path {
		t.Errorf("address = %q, want unix://%s", got, path)
	}
	if _, err := listen("unix://"+path, defaultSocketMode); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("listening twice: %v, want a refusal", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

func TestListenUnixReplacesADeadSocketOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := listen("unix://"+path, defaultSocketMode)
	if err != nil {
		t.Fatalf("over a dead socket: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != defaultSocketMode {
		t.Errorf("socket mode = %v, %v, want 0600", info.Mode(), err)
	}
	_ = l.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen("unix://"+path, defaultSocketMode); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v, want a refusal", err)
	}
	if content, _ := os.ReadFile(path); string(content) != "precious" {
		t.Errorf("the file was replaced")
	}
}

func TestListenTCP(t *testing.T) {
	l, err := listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := shownAddress(l.Addr()); !strings.HasPrefix(got, "127.0.0.1:") || strings.HasSuffix(got, ":0") {
		t.Errorf("address = %q, want the port that the kernel chose", got)
	}
}
