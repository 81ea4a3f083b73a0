package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

func (p *program) usersCommand() *cobra.Command {
	client := &adminClient{program: p}
	cmd := &cobra.Command{
		Use:   "users",
		Short: "List, disable and enable people and services",
		Long: `Manages the directory: who was seen, and who is refused. Whoever is disabled is refused
with all tokens, at every replica within a second.
` + adminWhere,
		Example: `  gatehouse users list --config gatehouse.yaml
  gatehouse users disable --config gatehouse.yaml alice@example.com`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	client.flags(cmd)
	cmd.AddCommand(
		p.usersList(client),
		p.usersChange(client, "disable", "Refuse somebody everywhere", func(ctx context.Context, d adminv1.DirectoryClient, who *adminv1.Owner) error {
			_, err := d.Disable(ctx, &adminv1.DisableRequest{Owner: who})
			return err
		}),
		p.usersChange(client, "enable", "Take disable back", func(ctx context.Context, d adminv1.DirectoryClient, who *adminv1.Owner) error {
			_, err := d.Enable(ctx, &adminv1.EnableRequest{Owner: who})
			return err
		}),
	)
	return cmd
}

func (p *program) usersList(client *adminClient) *cobra.Command {
	var r adminv1.ListPeopleRequest
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List people and services",
		Long:    "Lists who was seen or spoken of, by issuer and subject.\n" + adminWhere,
		Example: "  gatehouse users list --config gatehouse.yaml\n  gatehouse users list --disabled --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return outputError(output)
			}
			return client.use(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
				all, err := people(ctx, conn, &r)
				if err != nil {
					return err
				}
				return p.printPeople(all, output)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.Issuer, "issuer", "", "only of this issuer, a `URL`")
	flags.StringVar(&r.Realm, "realm", "", "only of this realm, a `name`")
	flags.StringVar(&r.Username, "username", "", "only with this `username`")
	flags.StringVar(&r.Email, "email", "", "only with this mail `address`")
	flags.StringVar(&r.Tenant, "tenant", "", "only of this `tenant`")
	flags.BoolVar(&r.Disabled, "disabled", false, "only those who are disabled")
	outputFlag(cmd, &output)
	return cmd
}

// people reads all pages.
func people(ctx context.Context, conn grpc.ClientConnInterface, r *adminv1.ListPeopleRequest) ([]*adminv1.Person, error) {
	var all []*adminv1.Person
	for {
		page, err := adminv1.NewDirectoryClient(conn).List(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetPeople()...)
		if r.PageToken = page.GetNextPageToken(); r.PageToken == "" {
			return all, nil
		}
	}
}

func (p *program) printPeople(all []*adminv1.Person, output string) error {
	if output == "json" {
		return printLines(p, all)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SUBJECT\tISSUER\tUSERNAME\tEMAIL\tTENANT\tROLES\tFIRST SEEN\tLAST SEEN\tSTATE")
	for _, one := range all {
		state := "good"
		if one.GetDisabledAt() != nil {
			state = "disabled " + day(one.GetDisabledAt())
		}
		roles := strings.Join(append(append([]string{}, one.GetRoles()...), one.GetGrantedRoles()...), " ")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.GetOwner().GetSubject(), one.GetOwner().GetIssuer(), dash(one.GetUsername()),
			dash(one.GetEmail()), dash(one.GetTenant()), dash(roles), day(one.GetFirstSeen()), day(one.GetLastSeen()), state)
	}
	return w.Flush()
}

func (p *program) usersChange(client *adminClient, verb, short string, change func(context.Context, adminv1.DirectoryClient, *adminv1.Owner) error) *cobra.Command {
	var owner ownerFlags
	cmd := &cobra.Command{
		Use:   verb + " USER",
		Short: short,
		Long: short + `. USER is a subject of --issuer, or a username of --realm; without them, the username or
mail address of somebody in the directory.
` + adminWhere,
		Example: "  gatehouse users " + verb + " adam --realm ecmwf\n  gatehouse users " + verb + " alice@example.com",
		Args:    oneArg("the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			owner.subject = args[0]
			return client.use(cmd.Context(), func(ctx context.Context, conn grpc.ClientConnInterface) error {
				who, err := findPerson(ctx, conn, owner)
				if err != nil {
					return err
				}
				if err := change(ctx, adminv1.NewDirectoryClient(conn), who); err != nil {
					return err
				}
				fmt.Fprintf(p.out, "%sd %s of %s\n", verb, who.GetSubject(), who.GetIssuer())
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&owner.issuer, "issuer", "", "the issuer, a `URL`")
	cmd.Flags().StringVar(&owner.realm, "realm", "", "the realm, a `name`")
	return cmd
}

// findPerson finds who is meant. A name that several people have names nobody.
func findPerson(ctx context.Context, conn grpc.ClientConnInterface, who ownerFlags) (*adminv1.Owner, error) {
	if who.issuer != "" {
		return who.owner(), nil
	}
	for _, r := range []*adminv1.ListPeopleRequest{
		{Realm: who.realm, Username: who.subject},
		{Realm: who.realm, Email: who.subject},
	} {
		found, err := people(ctx, conn, r)
		switch {
		case err != nil:
			return nil, err
		case len(found) == 1:
			return found[0].GetOwner(), nil
		case len(found) > 1:
			return nil, fmt.Errorf("%d people are called %s: give --issuer or --realm", len(found), who.subject)
		}
	}
	if who.realm != "" {
		return who.owner(), nil // nobody was seen: one of a realm without an issuer
	}
	return nil, fmt.Errorf("the directory knows nobody called %s: give --issuer or --realm", who.subject)
}
