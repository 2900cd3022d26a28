package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// shownBlock is a block, as the page shows it.
type shownBlock struct {
	limits.Block

	Kind, Subject string
}

func shown(b limits.Block) shownBlock {
	switch {
	case b.Network != "":
		return shownBlock{b, "network of clients", b.Network}
	case b.Range != "":
		return shownBlock{b, "range of numbers", "+" + b.Range + "****"}
	}
	return shownBlock{b, "country", countryName(b.Country) + " (" + b.Country + ")"}
}

// blocksShown is how many blocks the page shows.
const blocksShown = 100

func (s *server) blocks(w http.ResponseWriter, r *http.Request) { s.showBlocks(w, r, "") }

func (s *server) showBlocks(w http.ResponseWriter, r *http.Request, notice string) {
	blocks, err := s.plugin.AllBlocks(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	list := make([]shownBlock, 0, blocksShown)
	for _, b := range blocks[:min(len(blocks), blocksShown)] {
		list = append(list, shown(b))
	}
	s.show(w, r, http.StatusOK, "blocks", page{Title: "Blocks", Current: "/blocks", Notice: notice, Content: struct {
		Shown []shownBlock
		Rest  int
	}{list, len(blocks) - len(list)}})
}

func (s *server) lift(w http.ResponseWriter, r *http.Request) {
	b := limits.Block{Country: r.PostFormValue("country"), Range: r.PostFormValue("range"), Network: r.PostFormValue("network")}
	notice := "The block of " + shown(b).Subject + " is lifted. It ends on other nodes within two seconds."
	switch err := s.plugin.Lift(r.Context(), b); {
	case errors.Is(err, threepid.ErrNotBlocked):
		notice = "That block has ended already."
	case err != nil:
		s.broken(w, r, err)
		return
	}
	s.showBlocks(w, r, notice)
}

// auditShown is how many actions the page shows, and auditAge the maximum age of an action.
const (
	auditShown = 200
	auditAge   = 366 * 24 * time.Hour
)

func (s *server) audit(w http.ResponseWriter, r *http.Request) {
	actions, err := s.plugin.Actions(r.Context(), s.now().Add(-auditAge), auditShown)
	if err != nil && !errors.Is(err, store.ErrUnsupported) {
		s.broken(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "audit", page{Title: "Audit log", Current: "/audit", Content: struct {
		Kept    bool
		Actions []observe.Action
	}{err == nil, actions}})
}

// rule is a setting, in words.
type rule struct {
	Name  string
	Words []string
}

func (s *server) limits(w http.ResponseWriter, r *http.Request) {
	o := s.plugin.Options()
	s.show(w, r, http.StatusOK, "limits", page{Title: "Limits", Current: "/limits", Content: struct {
		Limits, Guard, Policy []rule
	}{limitRules(&o.Limits), guardRules(&o.Guard), policyRules(&o.Policy)}})
}

func limitRules(l *limits.Limits) []rule {
	if l.Disabled {
		return []rule{{"Disabled", []string{"There are no limits."}}}
	}
	list := []struct {
		name   string
		limits []limits.Limit
	}{
		{"SMS to a number", l.PerNumber},
		{"Reserve for a number", l.Reserve},
		{"SMS to a number, requested by one client", l.PerNumberAndClient},
		{"SMS requested by one client", l.PerClient},
		{"SMS to a range, requested by one client", l.PerRangeAndClient},
		{"SMS to a range", l.PerRange},
		{"SMS to a country", l.PerCountry},
		{"All SMS", l.Global},
		{"Look-ups of accounts by one client", l.LookUps},
		{"Failed SMS", l.FailedSends},
		{"Wrong codes for a number", l.WrongCodesPerNumber},
		{"Reserve for codes", l.ReserveCodes},
		{"Wrong codes for a number, from one client", l.WrongCodesPerNumberAndClient},
		{"Wrong codes from one client", l.WrongCodesPerClient},
	}
	rules := make([]rule, 0, len(list)+1)
	for _, entry := range list {
		one := rule{Name: entry.name}
		for _, limit := range entry.limits {
			one.Words = append(one.Words, limitWords(limit))
		}
		if len(one.Words) == 0 {
			one.Words = []string{"no limit"}
		}
		rules = append(rules, one)
	}
	return append(rules, rule{"Wrong codes for a number without a right one", []string{fmt.Sprintf("%d", l.MaxWrongCodes)}})
}

func guardRules(g *limits.Guard) []rule {
	if g.Disabled {
		return []rule{{"Disabled", []string{"Nothing is blocked."}}}
	}
	mode := "The guard blocks what looks like SMS pumping."
	if g.DryRun {
		mode = "Dry run: the guard reports what it would block, and blocks nothing."
	}
	return []rule{
		{"Mode", []string{mode}},
		{"Decides", []string{fmt.Sprintf("after at least %d numbers in %s", g.MinNumbers, span(g.Window))}},
		{"Requires", []string{fmt.Sprintf("%d%% of them validated", g.MinValidatedPercent)}},
		{"Blocks", []string{"for " + span(g.InitialBlock) + " at first, then for twice as long each time, up to " + span(g.MaxBlock)}},
		{"Never blocks", []string{orNone(g.Allow)}},
	}
}

func policyRules(p *limits.Policy) []rule {
	countries := "all, except numbers that belong to no country"
	if len(p.AllowCountries) > 0 {
		countries = strings.Join(p.AllowCountries, ", ")
	}
	yes := map[bool]string{true: "yes", false: "no"}
	return []rule{
		{"Countries", []string{countries}},
		{"Countries that are refused", []string{orNone(p.DenyCountries)}},
		{"Prefixes that are refused", []string{orNone(p.DenyPrefixes)}},
		{"Fixed lines are refused", []string{yes[p.RefuseFixedLines]}},
		{"Premium rate and other service numbers are allowed", []string{yes[p.AllowServiceNumbers]}},
		{"Numbers must be valid in their numbering plan", []string{yes[p.RequireValidNumbers]}},
		{"Test numbers", []string{fmt.Sprint(len(p.TestNumbers))}},
		{"The host must approve each SMS", []string{yes[p.Approve != nil]}},
	}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
