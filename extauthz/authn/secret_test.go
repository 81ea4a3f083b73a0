package authn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsDoNotPrint(t *testing.T) {
	secret := NewSecret("hunter2")
	holder := struct {
		Name   string
		Secret Secret
		Ptr    *Secret
	}{"key", secret, &secret}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{secret, &secret, holder, []Secret{secret}, map[string]Secret{"a": secret}} {
			if got := fmt.Sprintf(verb, value); strings.Contains(got, "hunter2") || strings.Contains(got, fmt.Sprintf("%x", "hunter2")) {
				t.Errorf("Sprintf(%q) of a %T gives %s", verb, value, got)
			}
		}
	}
	encoded, err := json.Marshal(holder)
	if err != nil || strings.Contains(string(encoded), "hunter2") {
		t.Errorf("json.Marshal gives %s, %v", encoded, err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "secret", secret, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "secret", secret, "holder", holder)
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("slog writes %s", log.String())
	}
}

func TestSecretEqual(t *testing.T) {
	for _, tt := range []struct {
		name      string
		secret    Secret
		presented string
		want      bool
	}{
		{"the same", NewSecret("abc"), "abc", true},
		{"another", NewSecret("abc"), "abd", false},
		{"a prefix", NewSecret("abc"), "ab", false},
		{"nothing presented", NewSecret("abc"), "", false},
		{"empty equals nothing", NewSecret(""), "", false},
		{"zero equals nothing", Secret{}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.secret.Equal(tt.presented); got != tt.want {
				t.Errorf("Equal(%q) = %v, want %v", tt.presented, got, tt.want)
			}
		})
	}
}
