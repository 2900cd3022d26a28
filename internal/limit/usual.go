package limit

import "time"

// What is usual at this host. A low share of validations looks like pumping, but may be the
// provider's fault, or normal for the host. The measure are the hours in which enough numbers
// validated, which an attacker cannot produce.

const (
	hoursKept = 25 // of each subject
	hoursLate = 3  // how many hours a provider's outage is excused
	hourSpan  = int64(time.Hour / time.Millisecond)
)

// good calls fn with what was counted in each of the latest hours in which enough
// numbers validated.
func (w *Watch) good(s *watched, latest int64, now int64, fn func(sent, validated int64)) {
	for hour := now/hourSpan - latest; hour <= now/hourSpan; hour++ {
		var sent, validated int64
		for _, list := range []counts{s.hours, s.before} {
			for _, part := range list {
				if part[0] == hour {
					sent, validated = sent+part[1], validated+part[2]
				}
			}
		}
		if sent >= int64(w.MinNumbers) && validated*100 >= int64(w.MinValidatedPercent)*sent {
			fn(sent, validated)
		}
	}
}

// percent returns how many of a hundred numbers must validate: half the usual share
// if that is less than MinValidatedPercent.
func (w *Watch) percent(s *watched, now int64) int {
	var sent, validated int64
	w.good(s, hoursKept-1, now, func(s, v int64) { sent, validated = sent+s, validated+v })
	if sent == 0 {
		return w.MinValidatedPercent
	}
	return min(w.MinValidatedPercent, max(1, int(validated*100/sent/2)))
}

// excused reports whether few validations are no reason to block a subject: it sends
// no more than in the good hours before, or the whole host does and fails.
func (w *Watch) excused(s *watched, now int64) bool {
	return s.area == areaCountry && w.usualVolume(s, now) || w.hostFails(now)
}

// hostFails reports whether few SMS of the whole host validate although no more are
// sent than usual.
func (w *Watch) hostFails(now int64) bool {
	host := w.subjects[hostKey]
	if host == nil {
		return false
	}
	sent, validated, _ := host.totals(w.rules, now)
	return sent >= int64(w.MinNumbers) && validated*100 < int64(w.percent(host, now))*sent && w.usualVolume(host, now)
}

// usualVolume reports whether no more numbers are asked for than one and a half times
// what was usual in the good hours of the last three.
func (w *Watch) usualVolume(s *watched, now int64) bool {
	usual := int64(0)
	w.good(s, hoursLate, now, func(sent, _ int64) { usual = max(usual, sent) })
	if usual == 0 {
		return false
	}
	sent, _, since := s.totals(w.rules, now)
	return 2*sent*hourSpan <= 3*usual*max(now-since, w.slotSpan())
}

// totals returns what is counted in the window, and since when.
func (s *watched) totals(g rules, now int64) (sent, validated, since int64) {
	since = now
	for _, list := range []counts{*s.counting(now), s.others} {
		for _, part := range list {
			sent, validated = sent+part[1], validated+part[2]
			since = min(since, part[0]*g.slotSpan())
		}
	}
	return sent, validated, since
}
