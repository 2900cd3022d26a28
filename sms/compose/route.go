package compose

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"example.com/threepid/sms"
)

// Rule sends messages through a Sender: those to one of the countries, as two uppercase
// letters as in Message.Country, and those whose number begins with one of the prefixes,
// such as "+4474".
type Rule struct {
	Countries []string
	Prefixes  []string
	Sender    sms.Sender
}

// Route selects a Sender for each message: by the longest prefix that matches, otherwise by
// country, otherwise the default.
type Route struct {
	countries map[string]sms.Sender
	prefixes  map[string]sms.Sender
	maxPrefix int // bytes
	otherwise sms.Sender
}

var _ sms.Sender = (*Route)(nil)

// NewRoute returns a Route with otherwise as its default. If otherwise is nil, messages that
// no rule matches are rejected. It returns an error for a country or prefix that is invalid
// or in two rules.
func NewRoute(otherwise sms.Sender, rules ...Rule) (*Route, error) {
	r := &Route{countries: make(map[string]sms.Sender), prefixes: make(map[string]sms.Sender), otherwise: otherwise}
	var errs []error
	put := func(table map[string]sms.Sender, key string, s sms.Sender, fine bool) {
		if _, twice := table[key]; twice || !fine || s == nil {
			errs = append(errs, fmt.Errorf("compose: a Rule has no Sender, or %q is duplicated or is not a country or prefix", key))
		}
		table[key] = s
	}
	for _, rule := range rules {
		if len(rule.Countries)+len(rule.Prefixes) == 0 {
			errs = append(errs, errors.New("compose: a Rule has neither Countries nor Prefixes, so it matches no message"))
		}
		for _, c := range rule.Countries {
			put(r.countries, c, rule.Sender, len(c) == 2 && c == strings.ToUpper(c))
		}
		for _, p := range rule.Prefixes {
			put(r.prefixes, p, rule.Sender, len(p) > 1 && p[0] == '+' && strings.Trim(p[1:], "0123456789") == "")
			r.maxPrefix = max(r.maxPrefix, len(p))
		}
	}
	return r, errors.Join(errs...)
}

// Send sends the message through the Sender that it selects.
func (r *Route) Send(ctx context.Context, m sms.Message) error {
	for n := min(r.maxPrefix, len(m.To)); n > 1; n-- {
		if s, ok := r.prefixes[m.To[:n]]; ok {
			return s.Send(ctx, m)
		}
	}
	if s, ok := r.countries[m.Country]; ok {
		return s.Send(ctx, m)
	}
	if r.otherwise == nil {
		return fmt.Errorf("compose: no route to %q: %w", m.Country, sms.ErrRejected)
	}
	return r.otherwise.Send(ctx, m)
}
