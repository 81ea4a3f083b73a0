package doctor

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// perRoute checks that on each route at least one of the filters is on.
func (x *examination) perRoute(m node, filters []node) {
	routes := m.field("route_config")
	if !routes.present() {
		routes = x.routes[m.at("rds", "route_config_name").text()]
	}
	if !routes.present() {
		x.doubt(orSelf(m.field("rds"), m), "routes", "the routes are not in this file, so nobody can tell whether one switches the filter off", "give a dump with the route configurations")
		return
	}
	initial := make([]state, len(filters))
	for i, f := range filters {
		initial[i] = state{name: f.field("name").text(), off: f.field("disabled").isTrue()}
	}
	told := map[*yaml.Node]bool{}
	for _, host := range routes.field("virtual_hosts").items() {
		onHost := switched(host, initial)
		for _, route := range host.field("routes").items() {
			if route.field("redirect").present() || route.field("direct_response").present() {
				continue // reaches no upstream
			}
			onRoute := switched(route, onHost)
			weighted := route.at("route", "weighted_clusters", "clusters").items()
			for _, w := range weighted {
				x.reaches(w, switched(w, onRoute), told)
			}
			if len(weighted) == 0 {
				x.reaches(route, onRoute, told)
			}
		}
	}
}

// state says whether a filter is off at some place of the routes.
type state struct {
	name string
	off  bool
	by   node // what switched it off; absent if it was off from the beginning
}

// switched gives the states below n.
func switched(n node, above []state) []state {
	below := slices.Clone(above)
	n.field("typed_per_filter_config").members(func(key string, config node) bool {
		for i := range below {
			if below[i].name != key {
				continue
			}
			below[i].off = config.field("disabled").isTrue() && (config.isType("ExtAuthzPerRoute") || config.isType("FilterConfig"))
			below[i].by = config
		}
		return true
	})
	return below
}

// reaches finds fault with a route, or a share of one, where all filters are off. What
// switches them off for many routes is told of once.
func (x *examination) reaches(route node, states []state, told map[*yaml.Node]bool) {
	var by node
	for _, s := range states {
		if !s.off {
			return
		}
		if s.by.present() {
			by = s.by
		}
	}
	switch {
	case !by.present():
		x.wrong(route, "disabled", "the filter is off unless a route switches it on, and this route does not", "attach the policy to this route as well (SecurityPolicy targetRefs), or to the whole Gateway")
	case !told[by.value]:
		told[by.value] = true
		x.wrong(by, "disabled", "this switches the filter off: nobody is asked, and forged identity headers reach the upstream", "remove it, and write a `public: true` route in gatehouse instead")
	}
}
