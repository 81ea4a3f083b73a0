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
		Short: "List people and services, disable them, give them roles",
		Long: `Manages the directory: who was seen, who is refused, and which roles they have besides
those that their issuer says. Whoever is disabled is refused with all tokens. Every change
is in effect at every replica within a second.
` + adminWhere,
		Example: `  gatehouse users list --config gatehouse.yaml
  gatehouse users disable --config gatehouse.yaml alice@example.com
  gatehouse users grant --config gatehouse.yaml alice@example.com --role editor`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	client.flags(cmd)
	cmd.AddCommand(
		p.usersList(client),
		p.usersChange(client, "disable", "Refuse somebody everywhere", func(ctx context.Context, d adminv1.DirectoryClient, who *adminv1.Owner) (*adminv1.Person, error) {
			return d.Disable(ctx, &adminv1.DisableRequest{Owner: who})
		}),
		p.usersChange(client, "enable", "Take disable back", func(ctx context.Context, d adminv1.DirectoryClient, who *adminv1.Owner) (*adminv1.Person, error) {
			return d.Enable(ctx, &adminv1.EnableRequest{Owner: who})
		}),
		p.usersGrant(client), p.usersRevoke(client),
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

// userWhere says how a user is named on the command line.
const userWhere = `.
USER is a subject of --issuer, or a username of --realm; without them, the username or
mail address of somebody in the directory.
`

// changePerson is what a command does to somebody.
type changePerson func(context.Context, adminv1.DirectoryClient, *adminv1.Owner) (*adminv1.Person, error)

func (p *program) usersChange(client *adminClient, verb, short string, change changePerson) *cobra.Command {
	var owner ownerFlags
	var output string
	cmd := &cobra.Command{
		Use:     verb + " USER",
		Short:   short,
		Long:    short + userWhere + adminWhere,
		Example: "  gatehouse users " + verb + " adam --realm ecmwf\n  gatehouse users " + verb + " alice@example.com",
		Args:    oneArg("the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			owner.subject = args[0]
			return p.changePerson(cmd.Context(), client, owner, output, change, func(who *adminv1.Person) {
				fmt.Fprintf(p.out, "%sd %s of %s\n", verb, who.GetOwner().GetSubject(), who.GetOwner().GetIssuer())
			})
		},
	}
	userFlags(cmd, &owner, &output)
	return cmd
}

func userFlags(cmd *cobra.Command, owner *ownerFlags, output *string) {
	cmd.Flags().StringVar(&owner.issuer, "issuer", "", "the issuer, a `URL`")
	cmd.Flags().StringVar(&owner.realm, "realm", "", "the realm, a `name`")
	outputFlag(cmd, output)
}

// changePerson finds who is meant, changes them, and prints what they are now: say for
// people, the record as JSON for programs.
func (p *program) changePerson(ctx context.Context, client *adminClient, owner ownerFlags, output string, change changePerson, say func(*adminv1.Person)) error {
	if output != "text" && output != "json" {
		return outputError(output)
	}
	return client.use(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		who, err := findPerson(ctx, conn, owner)
		if err != nil {
			return err
		}
		changed, err := change(ctx, adminv1.NewDirectoryClient(conn), who)
		switch {
		case err != nil:
			return err
		case output == "json":
			return printLines(p, []*adminv1.Person{changed})
		}
		say(changed)
		return nil
	})
}

func (p *program) usersGrant(client *adminClient) *cobra.Command {
	var owner ownerFlags
	var roles []string
	var output string
	cmd := &cobra.Command{
		Use:   "grant USER",
		Short: "Give somebody roles besides those of their issuer",
		Long: `Gives somebody roles besides those that their issuer says, whoever that is: they count
for every credential of theirs, and stay until they are taken back with revoke` + userWhere + adminWhere,
		Example: `  gatehouse users grant adam --realm ecmwf --role operator
  gatehouse users grant alice@example.com --role editor --role reader --output json`,
		Args: oneArg("the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(roles) == 0 {
				return usagef("no role is given: write --role NAME")
			}
			owner.subject = args[0]
			change := func(ctx context.Context, d adminv1.DirectoryClient, who *adminv1.Owner) (*adminv1.Person, error) {
				return d.Grant(ctx, &adminv1.GrantRequest{Owner: who, Add: roles})
			}
			return p.changePerson(cmd.Context(), client, owner, output, change, func(who *adminv1.Person) { p.printGrants("granted to", who) })
		},
	}
	userFlags(cmd, &owner, &output)
	cmd.Flags().StringArrayVar(&roles, "role", nil, "a `role`; may be repeated")
	return cmd
}

func (p *program) usersRevoke(client *adminClient) *cobra.Command {
	var owner ownerFlags
	var roles []string
	var all bool
	var output string
	cmd := &cobra.Command{
		Use:   "revoke USER",
		Short: "Take roles back that were granted here",
		Long: `Takes roles back that somebody was given with grant. Roles that the issuer says stay; to
refuse somebody altogether, disable them` + userWhere + adminWhere,
		Example: `  gatehouse users revoke adam --realm ecmwf --role operator
  gatehouse users revoke alice@example.com --all`,
		Args: oneArg("the user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(roles) == 0) != all {
				return usagef("write either --role NAME or --all")
			}
			owner.subject = args[0]
			change := func(ctx context.Context, d adminv1.DirectoryClient, who *adminv1.Owner) (*adminv1.Person, error) {
				return d.Grant(ctx, &adminv1.GrantRequest{Owner: who, Remove: roles})
			}
			return p.changePerson(cmd.Context(), client, owner, output, change, func(who *adminv1.Person) { p.printGrants("revoked from", who) })
		},
	}
	userFlags(cmd, &owner, &output)
	cmd.Flags().StringArrayVar(&roles, "role", nil, "a `role`; may be repeated")
	cmd.Flags().BoolVar(&all, "all", false, "all roles that were granted")
	return cmd
}

// printGrants says what somebody has been granted now.
func (p *program) printGrants(done string, who *adminv1.Person) {
	fmt.Fprintf(p.out, "%s %s of %s; granted now: %s\n", done, who.GetOwner().GetSubject(), who.GetOwner().GetIssuer(),
		dash(strings.Join(who.GetGrantedRoles(), " ")))
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
