package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

const (
	maxSecretBytes = 64 << 10 // of a secret's file; a private key takes 3 KiB
	maxInputBytes  = 4 << 20  // of any other file that the configuration names
)

// files reads what the configuration refers to, each file once, so that one load
// sees one state of it.
type files struct {
	dir    string
	read   map[string]fileContent
	secret map[string]bool // those that hold secrets
	paths  []string        // absolute, in the order of reading
}

type fileContent struct {
	data []byte
	err  error
}

func newFiles(dir string) *files {
	return &files{dir: dir, read: map[string]fileContent{}, secret: map[string]bool{}}
}

// resolve makes a path of the configuration one that can be opened.
func (f *files) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.dir, path)
}

// content reads a file of at most limit bytes.
func (f *files) content(path string, limit int64) ([]byte, error) {
	path = f.resolve(path)
	if known, ok := f.read[path]; ok {
		return known.data, known.err
	}
	data, err := readLimited(path, limit)
	f.read[path] = fileContent{data, err}
	f.paths = append(f.paths, path)
	return data, err
}

func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, reason(err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("it is over %d KiB", limit>>10)
	}
	return data, nil
}

// reason is the cause without the path, which the sentence around it has.
func reason(err error) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	return err
}

// secret reads a secret. ok is false if there is none: reported, unless it is
// optional and its owner can do without.
func (b *builder) secret(s *configv1.Secret, mayBeOptional bool) (value authn.Secret, ok bool) {
	if s == nil {
		return authn.Secret{}, false
	}
	if s.GetOptional() && !mayBeOptional {
		b.errorf(b.pos.field(s, "optional"), "remove the line", "only the secrets of api_key keys, basic users and our clients at providers can be optional")
		return authn.Secret{}, false
	}
	text, problem, remedy := b.secretText(s)
	field := "env"
	if s.GetFile() != "" {
		field = "file"
	}
	switch {
	case problem == "" && text != "":
		return authn.NewSecret(text), true
	case problem == "":
		problem = "the secret is empty"
	}
	if !s.GetOptional() {
		b.errorf(b.pos.field(s, field), remedy, "%s", problem)
	}
	return authn.Secret{}, false
}

// secretText reads the value, of which one trailing line break is cut.
func (b *builder) secretText(s *configv1.Secret) (text, problem, remedy string) {
	switch from := s.GetFrom().(type) {
	case *configv1.Secret_Env:
		value, _ := b.env(from.Env)
		if value == "" {
			return "", fmt.Sprintf("variable %s, which holds a secret, is not set or empty", from.Env), "set it"
		}
		text = value
	case *configv1.Secret_File:
		b.files.secret[b.files.resolve(from.File)] = true
		data, err := b.files.content(from.File, maxSecretBytes)
		if err != nil {
			return "", fmt.Sprintf("reading the secret from %s: %v", quote(from.File), err), "check the path, which is relative to the configuration file, and its permissions"
		}
		text = string(data)
		if cut, found := strings.CutSuffix(text, "\n"); found {
			text = strings.TrimSuffix(cut, "\r")
		}
		if text == "" {
			return "", fmt.Sprintf("the secret in %s is empty", quote(from.File)), "write the secret into the file"
		}
	default:
		return "", "", "" // the schema asked for one
	}
	if strings.ContainsAny(text, "\r\n\x00") && s.GetFile() == "" {
		return "", "the secret holds a line break or NUL", "remove it"
	}
	return text, "", ""
}

// file reads another file that a field names; nil if there is none or it was reported.
func (b *builder) file(m proto.Message, field, path string) []byte {
	if path == "" {
		return nil
	}
	data, err := b.files.content(path, maxInputBytes)
	if err != nil {
		b.errorf(b.pos.field(m, field), "check the path, which is relative to the configuration file, and its permissions", "reading %s: %v", quote(path), err)
		return nil
	}
	if len(data) == 0 {
		b.errorf(b.pos.field(m, field), "check the path", "file %s is empty", quote(path))
		return nil
	}
	return data
}

// sorted lists the files that were read, for watching.
func (f *files) sorted() []string {
	paths := slices.Clone(f.paths)
	slices.Sort(paths)
	return slices.Compact(paths)
}
