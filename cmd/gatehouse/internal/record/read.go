package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
	decisionv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/decision/v1"
)

// maxLine bounds one record, in bytes; a path may be some 60 KiB.
const maxLine = 4 << 20

// ErrNoRecord says that a file has no such record.
var ErrNoRecord = errors.New("no such record")

// Read finds a record in a decision log: by its line, counted from 1, or by its decision
// id; with neither, the last one. Lines that are no records count and are skipped, since
// the log may share standard error with others.
func Read(file string, line int, id string) (*decisionv1.Decision, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the decision log: %w", err)
	}
	defer f.Close()
	return find(f, line, id)
}

func find(r io.Reader, line int, id string) (*decisionv1.Decision, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	var last *decisionv1.Decision
	lines := 0
	for n := 1; scanner.Scan(); n++ {
		lines = n
		if line > 0 && n != line {
			continue
		}
		d := &decisionv1.Decision{}
		if err := protojson.Unmarshal(scanner.Bytes(), d); err != nil || d.GetOutcome() == "" {
			if line > 0 {
				return nil, fmt.Errorf("%w: line %d is no record of a decision", ErrNoRecord, line)
			}
			continue
		}
		if line > 0 || id != "" && d.GetId() == id {
			return d, nil
		}
		last = d
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading the decision log: %w", err)
	}
	switch {
	case line > 0:
		return nil, fmt.Errorf("%w: the file ends before line %d", ErrNoRecord, line)
	case id != "":
		return nil, fmt.Errorf("%w: no decision has the id %s", ErrNoRecord, id)
	case last == nil && lines > 0:
		return nil, fmt.Errorf("%w: none of the file's %d lines is the record of a decision", ErrNoRecord, lines)
	case last == nil:
		return nil, fmt.Errorf("%w: the file is empty", ErrNoRecord)
	}
	return last, nil
}

// Call is the call that d was about, as far as it was recorded.
func Call(d *decisionv1.Decision) *extauthz.Call {
	q := d.GetRequest()
	call := &extauthz.Call{
		HTTP: !q.GetTcp(), Method: q.GetMethod(), Host: q.GetHost(), Target: q.GetPath(), Scheme: q.GetScheme(),
		SourcePrincipal: q.GetSourcePrincipal(),
	}
	if addr, err := netip.ParseAddr(q.GetSource()); err == nil { // a pseudonym is none
		call.Source = addr
	}
	for name, value := range q.GetContext() {
		call.Context = append(call.Context, policy.Pair{Name: name, Value: value})
	}
	return call
}

// Principal is the principal of d; nil if there was none.
func Principal(d *decisionv1.Decision) *policy.Principal {
	p := d.GetPrincipal()
	if p == nil {
		return nil
	}
	out := &policy.Principal{
		Authenticator: p.GetAuthenticator(), Realm: p.GetRealm(), Issuer: p.GetIssuer(), Subject: p.GetSubject(),
		Username: p.GetUsername(), TokenID: p.GetTokenId(), Tenant: p.GetTenant(), Wildcard: p.GetWildcard(),
		Roles: p.GetRoles(), Scopes: p.GetScopes(), Unscoped: p.GetUnscoped(),
	}
	for name, a := range p.GetAttributes() {
		if out.Attributes == nil {
			out.Attributes = map[string]policy.Attribute{}
		}
		out.Attributes[name] = policy.Attribute{Values: a.GetValues(), List: a.GetList()}
	}
	return out
}

// Location splits FILE:LINE and FILE:ID, as --record takes them.
func Location(text string) (file string, line int, id string) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, 0, ""
	}
	if _, err := os.Stat(text); err == nil { // a file with a colon in its name
		return text, 0, ""
	}
	file, rest := text[:i], text[i+1:]
	if n, err := strconv.Atoi(rest); err == nil && n > 0 {
		return file, n, ""
	}
	return file, 0, rest
}
