package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

func TestHashSHA256(t *testing.T) {
	// FIPS 180-2 appendix B.1: the digest of "abc"; a line break is not part of a secret.
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
	for _, stdin := range []string{"abc", "abc\n", "abc\r\n", "abc\nmore\n"} {
		got := runLine(t, stdin, "hash", "sha256")
		if got.code != exitOK || got.out != want {
			t.Errorf("hash sha256 of %q = exit %d, %q, want 0, %q", stdin, got.code, got.out, want)
		}
	}
}

func TestHashArgon2id(t *testing.T) {
	got := runLine(t, "correct horse", "hash", "argon2id")
	m := regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)\n$`).FindStringSubmatch(got.out)
	if m == nil {
		t.Fatalf("hash argon2id = exit %d, %q", got.code, got.out)
	}
	salt, err := base64.RawStdEncoding.DecodeString(m[1])
	if err != nil || len(salt) != 16 {
		t.Fatalf("salt %q: %d bytes, %v", m[1], len(salt), err)
	}
	want := argon2.IDKey([]byte("correct horse"), salt, 2, 19456, 1, 32)
	if m[2] != base64.RawStdEncoding.EncodeToString(want) {
		t.Errorf("the hash does not verify: %q", got.out)
	}
	if again := runLine(t, "correct horse", "hash", "argon2id"); again.out == got.out {
		t.Errorf("two hashes of one password are equal: the salt is not random")
	}
}

func TestHashBcrypt(t *testing.T) {
	got := runLine(t, "correct horse\n", "hash", "bcrypt")
	if err := bcrypt.CompareHashAndPassword([]byte(strings.TrimSpace(got.out)), []byte("correct horse")); err != nil {
		t.Errorf("hash bcrypt = exit %d, %q: %v", got.code, got.out, err)
	}
	long := runLine(t, strings.Repeat("x", 73), "hash", "bcrypt")
	if long.code != exitRefused || !strings.Contains(long.err, "use argon2id") {
		t.Errorf("hash bcrypt of 73 bytes = exit %d, %q; want 1 and a remedy", long.code, long.err)
	}
}

func TestHashGenerate(t *testing.T) {
	got := runLine(t, "", "hash", "sha256", "--generate")
	_, secret, ok := strings.Cut(strings.TrimSpace(got.err), "secret (shown once): ")
	sum := sha256.Sum256([]byte(secret))
	if !ok || len(secret) != 43 || got.out != hex.EncodeToString(sum[:])+"\n" {
		t.Errorf("hash --generate = exit %d, stdout %q, stderr %q; want the hash of the secret", got.code, got.out, got.err)
	}
	if strings.Contains(got.out, secret) {
		t.Errorf("the secret is on standard output, where the hash belongs")
	}
}

func TestHashRefusesAnEmptySecret(t *testing.T) {
	for _, stdin := range []string{"", "\n", "\r\n"} {
		if got := runLine(t, stdin, "hash", "sha256"); got.code != exitRefused || got.out != "" {
			t.Errorf("hash of %q = exit %d, %q, want 1 and nothing", stdin, got.code, got.out)
		}
	}
}
