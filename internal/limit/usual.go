package limit

import "time"

// What is usual at this host. A low share of validations looks like pumping, but the provider may
// be the cause, or it may be normal for the host. The guard compares with the hours in which enough
// numbers were validated, because an attacker cannot produce those.

const (
	hoursKept = 25 // per subject
	hoursLate = 3  // for this many hours, a provider's outage is excused
	hourSpan  = int64(time.Hour / time.Millisecond)
)

// good calls fn with the counts of each of the latest hours in which enough numbers were validated.
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

// percent returns the percentage of numbers that must validate: half the usual share, if that is
// less than MinValidatedPercent.
func (w *Watch) percent(s *watched, now int64) int {
	var sent, validated int64
	w.good(s, hoursKept-1, now, func(s, v int64) { sent, validated = sent+s, validated+v })
	if sent == 0 {
		return w.MinValidatedPercent
	}
	return min(w.MinValidatedPercent, max(1, int(validated*100/sent/2)))
}

// excused reports whether few validations are no reason to block a subject: either its own SMS are
// no more than in the good hours before, or the whole host's SMS fail.
func (w *Watch) excused(s *watched, now int64) bool {
	return s.area == areaCountry && w.usualVolume(s, now) || w.hostFails(now)
}

// hostFails reports whether few SMS of the whole host validate although it sends no more than
// usual.
func (w *Watch) hostFails(now int64) bool {
	host := w.subjects[hostKey]
	if host == nil {
		return false
	}
	sent, validated, _ := host.totals(w.rules, now)
	return sent >= int64(w.MinNumbers) && validated*100 < int64(w.percent(host, now))*sent && w.usualVolume(host, now)
}

// usualVolume reports whether at most one and a half times as many numbers are requested as in the
// good hours of the last three.
func (w *Watch) usualVolume(s *watched, now int64) bool {
	usual := int64(0)
	w.good(s, hoursLate, now, func(sent, _ int64) { usual = max(usual, sent) })
	if usual == 0 {
		return false
	}
	sent, _, since := s.totals(w.rules, now)
	return 2*sent*hourSpan <= 3*usual*max(now-since, w.slotSpan())
}

// totals returns the counts in the window, and when they begin.
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
