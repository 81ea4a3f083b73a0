package doctor

import (
	"slices"
	"strings"
)

// enabled checks whether the filter runs on each request.
func (x *examination) enabled(m, filter node) {
	config := filter.field("typed_config")
	if fraction := config.at("filter_enabled", "default_value"); fraction.present() {
		x.wrong(fraction, "sampled", "only a share of the requests is asked about", "remove filter_enabled")
	}
	if metadata := config.field("filter_enabled_metadata"); metadata.present() {
		x.conditions(m.field("http_filters").items(), metadata)
	}
}

// conditions checks what decides whether the filter runs: as Istio writes it, those shadow
// rules of an RBAC filter before it whose name has a prefix.
func (x *examination) conditions(filters []node, metadata node) {
	prefix := metadata.at("value", "string_match", "prefix").text()
	var rules []node
	for _, f := range filters {
		f.at("typed_config", "shadow_rules", "policies").members(func(name string, policy node) bool {
			if strings.HasPrefix(name, prefix) {
				rules = append(rules, policy)
			}
			return true
		})
	}
	if len(rules) == 0 {
		x.wrong(metadata, "conditional", "the filter runs only where other filters said so in metadata", "remove filter_enabled_metadata, or check what sets it")
		return
	}
	if slices.ContainsFunc(rules, func(r node) bool {
		return slices.ContainsFunc(r.field("permissions").items(), anyOf) && slices.ContainsFunc(r.field("principals").items(), anyOf)
	}) {
		return
	}
	for _, r := range rules {
		x.wrong(r, "conditional", "only requests that match these rules are asked about: `//api`, `/%2fapi` and `/API` do not match `/api/*` and pass", "write `rules: [{}]` in the AuthorizationPolicy and let gatehouse's own table decide")
	}
}

// anyOf says whether a permission or a principal of an RBAC filter matches everything.
func anyOf(p node) bool {
	if p.field("any").isTrue() {
		return true
	}
	for _, all := range [][]node{p.at("and_rules", "rules").items(), p.at("and_ids", "ids").items()} {
		if len(all) > 0 && !slices.ContainsFunc(all, func(n node) bool { return !anyOf(n) }) {
			return true
		}
	}
	return slices.ContainsFunc(p.at("or_rules", "rules").items(), anyOf) || slices.ContainsFunc(p.at("or_ids", "ids").items(), anyOf)
}
