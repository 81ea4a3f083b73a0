package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

func (p *program) tokensCommand() *cobra.Command {
	client := &adminClient{program: p}
	cmd := &cobra.Command{
		Use:   "tokens",
		Short: "Make, list, revoke and renew API tokens and API keys",
		Long: `Manages the opaque tokens that gatehouse gives out: long-lived, scoped, and revoked at
every replica within a second.
` + adminWhere,
		Example: `  gatehouse tokens create --config gatehouse.yaml --owner adam --realm ecmwf --scope read:users
  gatehouse tokens list --config gatehouse.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	client.flags(cmd)
	cmd.AddCommand(p.tokensCreate(client), p.tokensList(client), p.tokensRevoke(client), p.tokensRotate(client))
	return cmd
}

// ownerFlags name somebody.
type ownerFlags struct{ issuer, realm, subject string }

func (o *ownerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.subject, "owner", "", "the owner's `subject`, or username in --realm")
	cmd.Flags().StringVar(&o.issuer, "issuer", "", "the owner's issuer, a `URL`")
	cmd.Flags().StringVar(&o.realm, "realm", "", "the owner's realm, for people without an issuer, a `name`")
}

func (o *ownerFlags) owner() *adminv1.Owner {
	issuer := o.issuer
	if issuer == "" && o.realm != "" {
		issuer = realmIssuer + o.realm
	}
	if issuer == "" && o.subject == "" {
		return nil
	}
	return &adminv1.Owner{Issuer: issuer, Subject: o.subject}
}

// realmIssuer and a realm's name are the issuer of people who have none.
const realmIssuer = "realm:"

func (p *program) tokensCreate(client *adminClient) *cobra.Command {
	var owner ownerFlags
	var r adminv1.CreateTokenRequest
	var ttl time.Duration
	var key bool
	var attributes []string
	var output string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token, and show it once",
		Long: `Makes a token for an owner. What it may have is a part of what its owner has; of owners
whom the directory does not know, the operator says what they are.
` + adminWhere,
		Example: `  gatehouse tokens create --config gatehouse.yaml --owner adam --realm ecmwf --scope read:users
  gatehouse tokens create --owner adam --realm ecmwf --name laptop --ttl 2160h --output json
  gatehouse tokens create --store=gatehouse.db --key --owner batch --realm machines --role service`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return outputError(output)
			}
			if ttl < 0 {
				return usagef("invalid --ttl %s: it is negative", ttl)
			}
			if ttl > 0 {
				r.Ttl = durationpb.New(ttl)
			}
			r.Owner, r.Realm, r.Kind = owner.owner(), owner.realm, adminv1.Kind_KIND_TOKEN
			if key {
				r.Kind = adminv1.Kind_KIND_API_KEY
			}
			var err error
			if r.Attributes, err = attributeFlags(attributes); err != nil {
				return err
			}
			return client.use(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
				answer, err := adminv1.NewTokensClient(conn).Create(ctx, &r)
				if err != nil {
					return err
				}
				return p.printSecret(answer, output)
			})
		},
	}
	owner.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&r.Scopes, "scope", nil, "a `scope`; may be repeated")
	flags.StringArrayVar(&r.Roles, "role", nil, "a `role` of the owner; may be repeated; default all")
	flags.BoolVar(&r.NoRoles, "no-roles", false, "none of the owner's roles")
	flags.StringVar(&r.Name, "name", "", "a `name` for people")
	flags.DurationVar(&ttl, "ttl", 0, "how long it is good; default for good")
	flags.BoolVar(&key, "key", false, "make an API key instead of a token")
	flags.StringVar(&r.Username, "username", "", "the owner's `username`; default the subject")
	flags.StringVar(&r.Tenant, "tenant", "", "the owner's `tenant`")
	flags.StringArrayVar(&attributes, "attribute", nil, "an attribute of the owner, `name=value`; repeated ones make a list")
	outputFlag(cmd, &output)
	return cmd
}

// attributeFlags reads name=value; several values of one name are a list.
func attributeFlags(flags []string) (map[string]*adminv1.Attribute, error) {
	all := map[string]*adminv1.Attribute{}
	for _, flag := range flags {
		name, value, ok := strings.Cut(flag, "=")
		if !ok || name == "" {
			return nil, usagef("invalid --attribute %q: write name=value", flag)
		}
		if all[name] == nil {
			all[name] = &adminv1.Attribute{}
		}
		all[name].Values = append(all[name].Values, value)
		all[name].List = len(all[name].Values) > 1
	}
	return all, nil
}

// printSecret shows a token for the only time.
func (p *program) printSecret(answer *adminv1.CreateTokenResponse, output string) error {
	if output == "json" {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(answer.GetRecord())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.out, "{\"id\": %q, \"token\": %q, \"record\": %s}\n", answer.GetRecord().GetId(), answer.GetToken(), text)
		return err
	}
	fmt.Fprintln(p.out, answer.GetToken())
	fmt.Fprintf(p.err, "id %s; this is the only time that the secret is shown\n", answer.GetRecord().GetId())
	return nil
}

func (p *program) tokensList(client *adminClient) *cobra.Command {
	var owner ownerFlags
	var r adminv1.ListTokensRequest
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens and keys, the newest first",
		Long:  "Lists the tokens that you may manage, without their secrets, which nobody has.\n" + adminWhere,
		Example: `  gatehouse tokens list --config gatehouse.yaml --active
  gatehouse tokens list --owner adam --realm ecmwf --output json | jq -r .id`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return outputError(output)
			}
			r.Owner = owner.owner()
			return client.use(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
				var all []*adminv1.Token
				for {
					page, err := adminv1.NewTokensClient(conn).List(ctx, &r)
					if err != nil {
						return err
					}
					all = append(all, page.GetTokens()...)
					if r.PageToken = page.GetNextPageToken(); r.PageToken == "" {
						return p.printTokens(all, output)
					}
				}
			})
		},
	}
	owner.add(cmd)
	cmd.Flags().StringVar(&r.Tenant, "tenant", "", "only of this `tenant`")
	cmd.Flags().BoolVar(&r.Active, "active", false, "only those neither revoked nor expired")
	outputFlag(cmd, &output)
	return cmd
}

func (p *program) printTokens(all []*adminv1.Token, output string) error {
	if output == "json" {
		return printLines(p, all)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tOWNER\tISSUER\tTENANT\tSCOPES\tCREATED\tUSED\tSTATE")
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.GetId(), dash(t.GetName()), t.GetOwner().GetSubject(), t.GetOwner().GetIssuer(),
			dash(t.GetTenant()), dash(strings.Join(t.GetScopes(), " ")), day(t.GetCreatedAt()), day(t.GetLastUsedAt()), tokenState(t))
	}
	return w.Flush()
}

func tokenState(t *adminv1.Token) string {
	switch {
	case t.GetRevokedAt() != nil:
		return "revoked " + day(t.GetRevokedAt())
	case t.GetExpiresAt() != nil && !time.Now().Before(t.GetExpiresAt().AsTime()):
		return "expired " + day(t.GetExpiresAt())
	case t.GetExpiresAt() != nil:
		return "good until " + day(t.GetExpiresAt())
	}
	return "good"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func day(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.DateOnly)
}

// printLines prints messages as JSON, one a line.
func printLines[M proto.Message](p *program, all []M) error {
	for _, m := range all {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.out, "%s\n", text); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) tokensRevoke(client *adminClient) *cobra.Command {
	var owner ownerFlags
	var r adminv1.RevokeAllRequest
	var before string
	cmd := &cobra.Command{
		Use:   "revoke [ID]",
		Short: "End a token for good, or everything that was issued to somebody",
		Long: `Ends one token or key by its id. Without an id, refuses everything that was issued up to
now (or --before) to an owner, a tenant or an issuer, or one token of others by its jti.
` + adminWhere,
		Example: `  gatehouse tokens revoke 5x3Kd0aVw1mQ9ZpR
  gatehouse tokens revoke --owner adam --realm ecmwf
  gatehouse tokens revoke --issuer https://idp.example.com --jti 9f86d081
  gatehouse tokens revoke --tenant acme --before 2026-01-31T12:00:00Z`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			scoped := cmd.Flags().NFlag() > 0 && (owner != ownerFlags{} || r.Tenant != "" || r.TokenId != "" || r.Everything || before != "")
			switch {
			case len(args) > 1:
				return usagef("unexpected argument %q", args[1])
			case len(args) == 1 && scoped:
				return usagef("an id and the flags for whom exclude each other")
			case len(args) == 0 && !scoped:
				return usagef("the token's id is missing")
			}
			if before != "" {
				at, err := time.Parse(time.RFC3339, before)
				if err != nil {
					return usagef("invalid --before %q: write 2026-01-31T12:00:00Z", before)
				}
				r.Before = timestamppb.New(at)
			}
			return client.use(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
				tokens := adminv1.NewTokensClient(conn)
				if len(args) == 1 {
					t, err := tokens.Revoke(ctx, &adminv1.RevokeTokenRequest{Id: args[0]})
					if err == nil {
						fmt.Fprintf(p.out, "revoked %s\n", t.GetId())
					}
					return err
				}
				r.Issuer, r.Subject = owner.owner().GetIssuer(), owner.owner().GetSubject()
				answer, err := tokens.RevokeAll(ctx, &r)
				if err == nil {
					what := "what"
					if r.GetTokenId() != "" {
						what = "the token with jti " + r.GetTokenId() + ", if it"
					}
					fmt.Fprintf(p.out, "revoked %s was issued up to %s\n", what, answer.GetBefore().AsTime().Format(time.RFC3339))
				}
				return err
			})
		},
	}
	owner.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&r.Tenant, "tenant", "", "everything of this `tenant`")
	flags.StringVar(&r.TokenId, "jti", "", "one token of others, by its `jti`; with --issuer")
	flags.BoolVar(&r.Everything, "everything", false, "every token there is")
	flags.StringVar(&before, "before", "", "what was issued up to this `time`, as 2026-01-31T12:00:00Z; default now")
	return cmd
}

func (p *program) tokensRotate(client *adminClient) *cobra.Command {
	var grace time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a token a new secret, and show it once",
		Long:  "Gives a token or key a new secret under its old id.\n" + adminWhere,
		Example: `  gatehouse tokens rotate 5x3Kd0aVw1mQ9ZpR
  gatehouse tokens rotate --grace 1h 5x3Kd0aVw1mQ9ZpR   # the old one is good for an hour more`,
		Args: oneArg("the token's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return outputError(output)
			}
			return client.use(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
				answer, err := adminv1.NewTokensClient(conn).Rotate(ctx, &adminv1.RotateTokenRequest{Id: args[0], Grace: durationpb.New(grace)})
				if err != nil {
					return err
				}
				return p.printSecret(answer, output)
			})
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", 0, "how long the old secret is good besides, at most 24h")
	outputFlag(cmd, &output)
	return cmd
}
