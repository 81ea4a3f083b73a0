// Package pg starts real PostgreSQL servers for tests, each in a folder and on a
// port of its own. Start reading at [Start].
package pg

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// nobody runs the server where the tests run as root, which PostgreSQL refuses.
const nobody = 65534

// A Server is one PostgreSQL server.
type Server struct {
	Port int

	dir       string
	bin       string
	databases atomic.Int64
}

// Start makes a new server, which ends with the test. A machine without PostgreSQL
// fails the test: `apt-get install postgresql`, or set PG_BIN to the folder of initdb.
func Start(t testing.TB) *Server {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: nobody could not enter it.
	dir, err := os.MkdirTemp("", "gatehouse-pg-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir, bin: bin, Port: freePort(t)}
	t.Cleanup(func() {
		_ = s.control("stop", "-m", "immediate") // it may be down already
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the server's folder: %v", err)
		}
	})
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.command("initdb", "-D", s.data(), "-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Up starts the server and returns when it answers.
func (s *Server) Up() error { return s.start("") }

// UpFull starts the server as on a full disk: none of its files may have more bytes than
// most, which is over 16 MiB, the size of a file of its log.
func (s *Server) UpFull(most int64) error {
	return s.start(fmt.Sprintf("ulimit -f %d; ", most/512))
}

// start starts the server after a shell has done what is before.
func (s *Server) start(before string) error {
	// fsync off is safe against crashes of the server, which are what tests make;
	// synchronous_commit stays on, or a crash could take back what was answered.
	options := fmt.Sprintf("-c listen_addresses=127.0.0.1 -c port=%d -c unix_socket_directories=%s -c fsync=off"+
		" -c full_page_writes=off -c shared_buffers=32MB -c max_connections=100", s.Port, s.dir)
	cmd := s.command("pg_ctl", "-D", s.data(), "start", "-w", "-t", "30", "-l", filepath.Join(s.dir, "log"), "-o", options)
	cmd.Args = append([]string{"sh", "-c", before + `exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	return s.done(cmd, "start")
}

// Down stops the server as a crash does: connections break, nothing is tidied up.
func (s *Server) Down() error { return s.control("stop", "-m", "immediate") }

// Database makes a new, empty database and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "d" + strconv.FormatInt(s.databases.Add(1), 10)
	conn, err := pgx.Connect(t.Context(), s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it has done its work
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}

// Through is the URL of a database of this server by way of another address, as of a
// proxy.
func Through(database, address string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", err
	}
	u.Host = address
	return u.String(), nil
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://app@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) control(args ...string) error {
	return s.done(s.command("pg_ctl", append([]string{"-D", s.data()}, args...)...), args[0])
}

func (s *Server) done(cmd *exec.Cmd, what string) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log")) // there may be none yet
		return fmt.Errorf("pg_ctl %s: %w\n%s%s", what, err, out, log)
	}
	return nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir)
	// The server inherits the pipes of pg_ctl: do not wait for it to close them.
	cmd.WaitDelay = time.Second
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// binaries finds the folder that holds initdb: of the newest version, if several.
func binaries() (string, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		return dir, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(strings.Split(path, "/")[4])
			return n
		}
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("finding PostgreSQL: %w: apt-get install postgresql, or set PG_BIN", err)
	}
	return filepath.Dir(initdb), nil
}

func freePort(t testing.TB) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // only its number was wanted
	return listener.Addr().(*net.TCPAddr).Port
}
