package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// period is a length of time that the first page can show.
type period struct {
	Key, Name string
	hours     int
	step      time.Duration
	every     int // the plot has one label for this many steps
}

const day = 24 // hours

func periods() []period {
	return []period{
		{"24h", "24 hours", day, time.Hour, 3},
		{"7d", "7 days", 7 * day, 6 * time.Hour, 8},
		{"30d", "30 days", 30 * day, day * time.Hour, 6},
	}
}

// glance is the content of the first page.
type glance struct {
	Periods  []period
	Period   period
	Summary  *summary
	Headline string
	Findings []string
	Blocks   int
	Priced   bool
	Currency string

	Hours   *chart
	Times   *bars
	Reasons *bars
}

// glance serves the first page: what happened in the latest hours or days.
func (s *server) glance(w http.ResponseWriter, r *http.Request) {
	g := &glance{Periods: periods(), Period: periods()[0], Priced: s.Price != nil, Currency: s.Currency}
	for _, p := range g.Periods {
		if p.Key == r.URL.Query().Get("period") {
			g.Period = p
		}
	}
	hour := s.now().UTC().Truncate(time.Hour)
	to := hour.Add(time.Hour)
	if g.Period.hours > day {
		to = hour.Truncate(day * time.Hour).Add(day * time.Hour) // whole days, including today
	}
	from := to.Add(-time.Duration(g.Period.hours) * time.Hour)
	statistics, err := s.plugin.Statistics(r.Context(), from, to)
	if errors.Is(err, store.ErrUnsupported) {
		s.fail(w, r, http.StatusNotImplemented, "No statistics are kept: the store does not implement store.History, or Options.StatisticsLifetime is negative.")
		return
	}
	var blocks []limits.Block
	if err == nil {
		blocks, err = s.plugin.AllBlocks(r.Context())
		blocks = slices.DeleteFunc(blocks, func(b limits.Block) bool { return b.DryRun })
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	g.Blocks = len(blocks)
	g.Summary = summarize(statistics, from, to, g.Period.step, s.Price)
	g.Headline = headline(statistics, hour, len(blocks))
	g.Findings = findings(statistics, hour)
	g.Hours, g.Times, g.Reasons = chartParts(g.Summary, g.Period.every), barsOfTimes(g.Summary), barsOfReasons(g.Summary)
	s.show(w, r, http.StatusOK, "glance", page{Title: "At a glance", Current: "/", Content: g})
}

// headline sums up this hour, the hour before, and how much is blocked.
func headline(statistics []observe.Statistic, hour time.Time, blocks int) string {
	now := summarize(statistics, hour, hour.Add(time.Hour), time.Hour, nil).All
	before := summarize(statistics, hour.Add(-time.Hour), hour, time.Hour, nil).All
	text := now.words("since "+hour.Format("15:04")+" UTC") + "; " + before.words("in the hour before") + "."
	text = strings.ToUpper(text[:1]) + text[1:]
	switch blocks {
	case 0:
		return text + " Nothing is blocked."
	case 1:
		return text + " One block is in force."
	}
	return text + fmt.Sprintf(" %d blocks are in force.", blocks)
}

// words says how many SMS were sent at a time, and how many of them were confirmed.
func (t *tally) words(when string) string {
	if t.Sent == 0 {
		return "no SMS " + when
	}
	return count(t.Sent) + " SMS " + when + ", " + t.Share() + " confirmed"
}

const (
	// minJudged is how many SMS within two hours are enough to judge them.
	minJudged = 20

	// A provider that fails to send more than maxFailedPercent of its SMS may be down. A share of
	// confirmations that is less than half of the usual share is reported.
	maxFailedPercent = 20
	usualPart        = 2
)

// findings returns a sentence for each problem in this hour and the hour before.
func findings(statistics []observe.Statistic, hour time.Time) (list []string) {
	begin := hour.Add(-time.Hour)
	recent := summarize(statistics, begin, hour.Add(time.Hour), time.Hour, nil)
	earlier := summarize(statistics, hour.Add(-31*24*time.Hour), begin, time.Hour, nil)
	for i := range recent.Providers {
		if p := &recent.Providers[i]; p.Sent >= minJudged && (p.Failed+p.Unknown)*100 > maxFailedPercent*p.Sent {
			list = append(list, fmt.Sprintf("%s failed to send %s of its %s SMS since %s UTC: it may be down.",
				p.Name, percent(p.Failed+p.Unknown, p.Sent), count(p.Sent), begin.Format("15:04")))
		}
	}
	for i := range recent.Countries {
		if finding := judge(&recent.Countries[i], earlier); finding != "" {
			list = append(list, finding)
		}
	}
	return list
}

// judge returns a sentence about a country with unusually few confirmations, and otherwise an empty
// string. earlier sums up the time before.
func judge(now *tally, earlier *summary) string {
	var usual *tally
	for i := range earlier.Countries {
		if earlier.Countries[i].Name == now.Name {
			usual = &earlier.Countries[i]
		}
	}
	sent := now.Accepted + now.Unknown
	switch {
	case sent < minJudged || usual == nil || usual.Accepted < minJudged:
		return ""
	case now.Confirmed*usual.Accepted*usualPart >= usual.Confirmed*sent:
		return ""
	}
	text := fmt.Sprintf("%s: %s of %s SMS confirmed, usually %s.", countryName(now.Name), now.Share(), count(sent), usual.Share())
	hours := int64(0)
	for i := range earlier.Parts {
		if earlier.Parts[i].Sent > 0 {
			hours++
		}
	}
	const two = 2
	switch {
	case now.Undelivered*two > now.Delivered+now.Undelivered:
		return text + " Most receipts say that the SMS were not delivered: the provider or a network may be down."
	case hours > 0 && sent*hours > two*two*usual.Sent:
		return text + fmt.Sprintf(" That is %s as many SMS as usual: it looks like pumping.", times(sent*hours/(two*usual.Sent)))
	}
	return text + " There are no more SMS than usual: the provider may be failing to deliver them."
}

// times writes a factor.
func times(n int64) string {
	const twice = 2
	if n == twice {
		return "twice"
	}
	return count(n) + " times"
}

// label returns the name of a part of a period.
func (s *summary) label(part int) string {
	at := s.From.Add(time.Duration(part) * s.Step)
	if s.Step < 24*time.Hour && s.To.Sub(s.From) <= 24*time.Hour {
		return at.Format("15:04")
	}
	return strings.TrimSuffix(at.Format("2 Jan 15:04"), " 00:00")
}
