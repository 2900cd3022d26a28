package admin

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/threepid/observe"
)

// tally sums up the SMS of one country, one provider or one part of a period.
type tally struct {
	Name string

	Sent, Accepted, Failed, Rejected, Unknown int64
	Confirmed                                 int64
	Delivered, Undelivered                    int64
	Segments                                  int64
	Cost                                      float64

	latency, confirming time.Duration
}

// Share returns the share of confirmed SMS.
func (t *tally) Share() string { return percent(t.Confirmed, t.Accepted+t.Unknown) }

// DeliveredShare returns the share of delivered SMS among those with a final receipt.
func (t *tally) DeliveredShare() string { return percent(t.Delivered, t.Delivered+t.Undelivered) }

// Latency returns the mean latency of the provider.
func (t *tally) Latency() string {
	if t.Sent == 0 {
		return "–"
	}
	return span(t.latency / time.Duration(t.Sent))
}

// ToConfirm returns the mean time from SMS to confirmation.
func (t *tally) ToConfirm() string {
	if t.Confirmed == 0 {
		return "–"
	}
	return span((t.confirming / time.Duration(t.Confirmed)).Round(time.Second))
}

// add adds a statistic.
func (t *tally) add(s *observe.Statistic, price float64) {
	switch s.Event {
	case "sms":
		t.Sent += s.Count
		t.latency += s.Duration
		t.Segments += s.Segments
		t.Cost += float64(s.Segments) * price
		switch s.Result {
		case "accepted":
			t.Accepted += s.Count
		case "failed":
			t.Failed += s.Count
		case "rejected":
			t.Rejected += s.Count
		case "unknown":
			t.Unknown += s.Count
		}
	case "validation":
		t.Confirmed += s.Count
		t.confirming += s.Duration
	case "receipt":
		switch s.Result {
		case "delivered":
			t.Delivered += s.Count
		case "failed":
			t.Undelivered += s.Count
		}
	}
}

// merge adds another tally.
func (t *tally) merge(o *tally) {
	t.Sent += o.Sent
	t.Accepted += o.Accepted
	t.Failed += o.Failed
	t.Rejected += o.Rejected
	t.Unknown += o.Unknown
	t.Confirmed += o.Confirmed
	t.Delivered += o.Delivered
	t.Undelivered += o.Undelivered
	t.Segments += o.Segments
	t.Cost += o.Cost
	t.latency += o.latency
	t.confirming += o.confirming
}

// named is a count of something with a name.
type named struct {
	Name  string
	Count int64
}

// summary sums up a period.
type summary struct {
	From, To time.Time
	Step     time.Duration

	All       tally
	Parts     []tally // one for each Step
	Countries []tally // most SMS first
	Providers []tally
	Times     []named // confirmations by time since the SMS
	Reasons   []named // refusals by reason, most first
	Wrong     int64   // codes
}

// summarize sums statistics up in one pass.
func summarize(statistics []observe.Statistic, from, to time.Time, step time.Duration, price func(provider, country string) float64) *summary {
	s := &summary{From: from, To: to, Step: step}
	for at := from; at.Before(to); at = at.Add(step) {
		s.Parts = append(s.Parts, tally{})
	}
	countries, providers := make(map[string]*tally), make(map[string]*tally)
	times, reasons := make(map[string]int64), make(map[string]int64)
	for i := range statistics {
		one := &statistics[i]
		part := int(one.Hour.Sub(from) / step)
		if one.Hour.Before(from) || part >= len(s.Parts) {
			continue
		}
		cost := 0.0
		if price != nil {
			cost = price(one.Provider, one.Country)
		}
		s.All.add(one, cost)
		s.Parts[part].add(one, cost)
		switch one.Event {
		case "refusal":
			reasons[one.Result] += one.Count
			continue
		case "code":
			if one.Result == "wrong" {
				s.Wrong += one.Count
			}
			continue
		case "validation":
			times[one.Result] += one.Count
		}
		of(countries, one.Country).add(one, cost)
		of(providers, one.Provider).add(one, cost)
	}
	s.Countries, s.Providers = sorted(countries), sorted(providers)
	for _, bound := range observe.TimesToValidate() {
		s.Times = append(s.Times, named{bound, times[bound]})
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		s.Reasons = append(s.Reasons, named{reason, reasons[reason]})
	}
	slices.SortStableFunc(s.Reasons, func(a, b named) int { return cmp.Compare(b.Count, a.Count) })
	return s
}

func of(tallies map[string]*tally, name string) *tally {
	t := tallies[name]
	if t == nil {
		t = &tally{Name: name}
		tallies[name] = t
	}
	return t
}

// sorted returns tallies, those with the most SMS first.
func sorted(tallies map[string]*tally) []tally {
	list := make([]tally, 0, len(tallies))
	for _, t := range tallies {
		list = append(list, *t)
	}
	slices.SortFunc(list, func(a, b tally) int {
		return cmp.Or(cmp.Compare(b.Sent, a.Sent), strings.Compare(a.Name, b.Name))
	})
	return list
}

// Median returns the bound of the time that half of the confirmations took, or an empty string.
func (s *summary) Median() string {
	var total, below int64
	for _, t := range s.Times {
		total += t.Count
	}
	for _, t := range s.Times {
		if below += t.Count; total > 0 && below*2 >= total {
			return boundWords(t.Name)
		}
	}
	return ""
}

// boundWords writes a bound of the times to validate.
func boundWords(bound string) string {
	if bound == "more" {
		return "more than 10 min"
	}
	d, err := time.ParseDuration(bound)
	if err != nil {
		return bound
	}
	return "up to " + span(d)
}
