package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
)

func (p *program) signCommand() *cobra.Command {
	var keyID, secretEnv, secretFile, body string
	var components []string
	cmd := &cobra.Command{
		Use:   "sign METHOD URL",
		Short: "Sign one request as a peer of the cluster",
		Long: `Signs one request as a peer (RFC 9421, hmac-sha256) and prints the header lines to send
with it: content-digest, signature-input and signature. They are good once, and for as
long as signature.max_age of the peer authenticator says. Go programs use the package
extauthz/authn/peersign instead.

The URL is the one that gatehouse sees. The shipped Envoy takes the port of its own
listener out of it (strip_matching_host_port): leave that port out of URL.`,
		Example: `  gatehouse sign --key-id cluster --secret-env PEER_SECRET --body sync.json POST https://peer.example/synchronize |
    curl -H @- --data-binary @sync.json https://peer.example/synchronize`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("give a method and a URL")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			secret, err := p.signingSecret(secretEnv, secretFile)
			if err != nil {
				return err
			}
			content, err := p.signedBody(body)
			if err != nil {
				return err
			}
			r, err := http.NewRequestWithContext(cmd.Context(), args[0], args[1], bytes.NewReader(content))
			if err != nil || r.URL.Host == "" {
				return usagef("%q is not a method, or %q is not an absolute URL", args[0], args[1])
			}
			signer := &peersign.Signer{KeyID: keyID, Secret: secret, Components: components}
			if err := signer.Sign(r); err != nil {
				return err
			}
			for _, name := range []string{peersign.DigestField, peersign.InputField, peersign.SignatureField} {
				if value := r.Header.Get(name); value != "" {
					if _, err := fmt.Fprintf(p.out, "%s: %s\n", name, value); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&keyID, "key-id", "", "key_id of the peers' signature (required)")
	flags.StringVar(&secretEnv, "secret-env", "", "the environment variable that holds the secret")
	flags.StringVar(&secretFile, "secret-file", "", "the file that holds the secret; one trailing line break is cut")
	flags.StringVar(&body, "body", "", "the file with the request's body, - for standard input (default: no body)")
	flags.StringSliceVar(&components, "components", peersign.DefaultComponents, "what is covered")
	return cmd
}

// signingSecret reads the secret from the one place that was named.
func (p *program) signingSecret(env, file string) ([]byte, error) {
	if (env == "") == (file == "") {
		return nil, usagef("give either --secret-env or --secret-file")
	}
	secret := ""
	if env != "" {
		secret, _ = p.env(env)
	} else {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the secret: %w", err)
		}
		secret = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	}
	if secret == "" {
		return nil, errors.New("the secret is empty")
	}
	return []byte(secret), nil
}

func (p *program) signedBody(file string) ([]byte, error) {
	var content []byte
	var err error
	switch file {
	case "":
		return nil, nil
	case "-":
		content, err = io.ReadAll(p.in)
	default:
		content, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return content, nil
}
