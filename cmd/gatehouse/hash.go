package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// bcryptCost takes about as long as argon2id with the parameters of [authn.HashPassword] does.
const bcryptCost = 12

// generatedSecretBytes is the entropy of a secret made by --generate.
const generatedSecretBytes = 32

func (p *program) hashCommand() *cobra.Command {
	var generate bool
	cmd := &cobra.Command{
		Use:       "hash argon2id|bcrypt|sha256",
		Short:     "Hash a password or an API key for the configuration file",
		ValidArgs: []string{"argon2id", "bcrypt", "sha256"},
		Long: `Reads a secret from the terminal, or one line from standard input, and prints its hash.

  argon2id  for people's passwords: password_hash of a basic user
  bcrypt    for password_hash too, where hashes must be readable by other programs
  sha256    for API keys: sha256 of an api_key key. Only for secrets that a program
            made, such as those of --generate: a person's password would be guessed`,
		Example: `  gatehouse hash argon2id
  printf %s "$PASSWORD" | gatehouse hash bcrypt
  gatehouse hash sha256 --generate`,
		Args: oneArg("the kind of hash"),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := hasher(args[0])
			if err != nil {
				return err
			}
			var secret []byte
			if generate {
				secret = []byte(newSecret())
			} else if secret, err = p.readSecret(); err != nil {
				return err
			}
			text, err := hash(secret)
			if err != nil {
				return err
			}
			if generate {
				fmt.Fprintf(p.err, "secret (shown once): %s\n", secret)
			}
			_, err = fmt.Fprintln(p.out, text)
			return err
		},
	}
	cmd.Flags().BoolVar(&generate, "generate", false, "make a random secret and print it on standard error")
	return cmd
}

func hasher(kind string) (func([]byte) (string, error), error) {
	switch kind {
	case "argon2id":
		return func(secret []byte) (string, error) { return authn.HashPassword(string(secret)) }, nil
	case "bcrypt":
		return hashBcrypt, nil
	case "sha256":
		return func(secret []byte) (string, error) {
			sum := sha256.Sum256(secret)
			return hex.EncodeToString(sum[:]), nil
		}, nil
	}
	return nil, usagef("unknown kind of hash %q: give argon2id, bcrypt or sha256", kind)
}

func hashBcrypt(secret []byte) (string, error) {
	sum, err := bcrypt.GenerateFromPassword(secret, bcryptCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", errors.New("bcrypt reads 72 bytes of a password and this one is longer: use argon2id")
	}
	return string(sum), err
}

// newSecret makes a random secret that survives headers, shells and URLs.
func newSecret() string {
	b := make([]byte, generatedSecretBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// readSecret reads without echo from a terminal, else the first line of standard input.
func (p *program) readSecret() ([]byte, error) {
	var secret []byte
	if f, ok := p.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(p.err, "secret: ")
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.err)
		if err != nil {
			return nil, fmt.Errorf("reading the secret: %w", err)
		}
		secret = line
	} else {
		line, err := bufio.NewReader(p.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the secret: %w", err)
		}
		secret = []byte(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	if len(secret) == 0 {
		return nil, errors.New("the secret is empty")
	}
	return secret, nil
}
