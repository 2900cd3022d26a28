package main_test

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// each runs fn for every account, n at a time.
func (l *ledger) each(callers int, fn func(a *account)) {
	accounts := l.all()
	var next atomic.Int64
	together(callers, func(int) {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(accounts) {
				return
			}
			fn(accounts[i])
		}
	})
}

// retryTold repeats every attempt that got status 200. audit then shows
// whether an SMS was sent again for one of them.
func (l *ledger) retryTold(url string) {
	l.each(16, func(a *account) {
		for attempt := int64(1); attempt <= a.attempts(); attempt++ {
			if !a.isTold(attempt) {
				continue
			}
			if got := l.request(url, a, attempt); got.status != http.StatusOK {
				l.t.Errorf("%s: attempt %d, acknowledged before: %v", a.number(), attempt, got)
			}
		}
	})
}

// retryUntold makes every attempt again that was not answered, all at once, and
// wants each answered now, after its lease at the latest.
func (l *ledger) retryUntold(url string) {
	l.each(len(l.all()), func(a *account) {
		for attempt := int64(1); attempt <= a.attempts(); attempt++ {
			if a.isTold(attempt) {
				continue
			}
			if got := l.request(url, a, attempt); got.status != http.StatusOK {
				l.t.Errorf("%s: attempt %d, cut off before: %v", a.number(), attempt, got)
			}
		}
	})
}

// submitAll brings every code back.
func (l *ledger) submitAll(url string) {
	l.each(16, func(a *account) {
		if got := l.submit(url, a); got.status != http.StatusOK {
			l.t.Errorf("%s: submit %v", a.number(), got)
		}
	})
}

// expectValidated wants those sessions validated: when five wrong codes have
// used the right one up, only a validated session takes it still. A right code
// whose server died between counting and comparing it is one of the five.
func (l *ledger) expectValidated(url string, accounts []*account) {
	together(len(accounts), func(i int) {
		a := accounts[i]
		for try := range 5 {
			got := a.submit(url, a.sid, "0")
			if try > 0 && got.errcode == "M_SESSION_EXPIRED" {
				break
			}
			if got.errcode != "M_TOKEN_INCORRECT" {
				l.t.Errorf("%s: wrong code %d: %v", a.number(), try+1, got)
			}
		}
		if got := l.submit(url, a); got.status != http.StatusOK {
			l.t.Errorf("%s: was validated, and now %v", a.number(), got)
		}
	})
}

// validated returns some of the accounts that were told that they are.
func (l *ledger) validated(most int) []*account {
	var some []*account
	for _, a := range l.all() {
		a.mu.Lock()
		if a.validated && len(some) < most {
			some = append(some, a)
		}
		a.mu.Unlock()
	}
	return some
}

// audit holds what callers were told against what the gateway got: each
// acknowledged attempt has its SMS, none was sent after that, and all SMS of
// a session carry one token, those of an attempt one ID.
func (l *ledger) audit() {
	l.t.Helper()
	told, twice := 0, 0
	for _, a := range l.all() {
		texts := l.gateway.to(a.number())
		l.auditTexts(a, texts)
		for i, when := range a.told {
			attempt := int64(i) + 1
			if count(texts, attempt) > 1 {
				twice++
			}
			if when.IsZero() {
				continue
			}
			told++
			l.auditAttempt(a, texts, attempt, when)
		}
	}
	l.t.Logf("%d sessions, %d attempts acknowledged, %d texts, %d attempts texted again before an answer",
		len(l.all()), told, l.gateway.count(), twice)
}

// auditAttempt checks an attempt that was acknowledged at that time. A later
// attempt stands in for it: no SMS is sent for what was seen in between.
func (l *ledger) auditAttempt(a *account, texts []text, attempt int64, when time.Time) {
	l.t.Helper()
	if !slices.ContainsFunc(texts, func(m text) bool { return m.Attempt >= attempt && m.at.Before(when) }) {
		l.t.Errorf("%s: attempt %d was acknowledged and the gateway has %v", a.number(), attempt, texts)
	}
	for _, m := range texts {
		if m.Attempt <= attempt && m.at.After(when) {
			l.t.Errorf("%s: attempt %d was texted %v after attempt %d was acknowledged",
				a.number(), m.Attempt, m.at.Sub(when), attempt)
		}
	}
}

func (l *ledger) auditTexts(a *account, texts []text) {
	l.t.Helper()
	attempts := map[string]int64{}
	ids := map[int64]string{}
	for _, m := range texts {
		if m.Text != texts[0].Text {
			l.t.Errorf("%s: two tokens within a token's lifetime", a.number())
		}
		if id, again := ids[m.Attempt]; again && id != m.ID {
			l.t.Errorf("%s: attempt %d was texted as %s and as %s", a.number(), m.Attempt, id, m.ID)
		}
		if attempt, again := attempts[m.ID]; again && attempt != m.Attempt {
			l.t.Errorf("%s: attempts %d and %d have one ID", a.number(), attempt, m.Attempt)
		}
		ids[m.Attempt], attempts[m.ID] = m.ID, m.Attempt
	}
}

func count(texts []text, attempt int64) int {
	n := 0
	for _, m := range texts {
		if m.Attempt == attempt {
			n++
		}
	}
	return n
}
