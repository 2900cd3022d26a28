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

// retryAcknowledged repeats every attempt that got status 200. audit then detects
// SMS that were sent again.
func (l *ledger) retryAcknowledged(url string) {
	l.each(16, func(a *account) {
		for attempt := int64(1); attempt <= a.attempts(); attempt++ {
			if !a.isAcknowledged(attempt) {
				continue
			}
			if got := l.request(url, a, attempt); got.status != http.StatusOK {
				l.t.Errorf("%s: repeating the acknowledged attempt %d: %v", a.number(), attempt, got)
			}
		}
	})
}

// retryUnacknowledged repeats all attempts that have not got status 200, all at once. Each
// must succeed now, at the latest after its lease has expired.
func (l *ledger) retryUnacknowledged(url string) {
	l.each(len(l.all()), func(a *account) {
		for attempt := int64(1); attempt <= a.attempts(); attempt++ {
			if a.isAcknowledged(attempt) {
				continue
			}
			if got := l.request(url, a, attempt); got.status != http.StatusOK {
				l.t.Errorf("%s: repeating the unacknowledged attempt %d: %v", a.number(), attempt, got)
			}
		}
	})
}

// submitAll submits the latest code of every session.
func (l *ledger) submitAll(url string) {
	l.each(16, func(a *account) {
		if got := l.submit(url, a); got.status != http.StatusOK {
			l.t.Errorf("%s: submit: %v", a.number(), got)
		}
	})
}

// expectValidated checks that the sessions are validated: after five wrong codes, only a
// validated session still accepts the right one. If a server was killed after it had
// counted a right code and before it compared it, that counts as one of the five.
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
			l.t.Errorf("%s: the code of a validated session: %v", a.number(), got)
		}
	})
}

// validated returns up to limit accounts whose code was accepted.
func (l *ledger) validated(limit int) []*account {
	var some []*account
	for _, a := range l.all() {
		a.mu.Lock()
		if a.validated && len(some) < limit {
			some = append(some, a)
		}
		a.mu.Unlock()
	}
	return some
}

// audit compares the responses to callers with the SMS at the gateway. Each acknowledged
// attempt has an SMS, and none was sent after the acknowledgement. All SMS of a session
// have the same code, and all SMS of an attempt the same ID.
func (l *ledger) audit() {
	l.t.Helper()
	acknowledged, twice := 0, 0
	for _, a := range l.all() {
		messages := l.gateway.to(a.number())
		l.auditMessages(a, messages)
		for i, when := range a.acknowledged {
			attempt := int64(i) + 1
			if count(messages, attempt) > 1 {
				twice++
			}
			if when.IsZero() {
				continue
			}
			acknowledged++
			l.auditAttempt(a, messages, attempt, when)
		}
	}
	l.t.Logf("%d sessions, %d acknowledged attempts, %d SMS, %d attempts with more than one SMS",
		len(l.all()), acknowledged, l.gateway.count(), twice)
}

// auditAttempt checks an attempt that was acknowledged at the time when. The SMS of a later
// attempt counts for it too, because no SMS is sent for attempts below the last one seen.
func (l *ledger) auditAttempt(a *account, messages []message, attempt int64, when time.Time) {
	l.t.Helper()
	if !slices.ContainsFunc(messages, func(m message) bool { return m.Attempt >= attempt && m.at.Before(when) }) {
		l.t.Errorf("%s: attempt %d was acknowledged without an SMS; the gateway has %v", a.number(), attempt, messages)
	}
	for _, m := range messages {
		if m.Attempt <= attempt && m.at.After(when) {
			l.t.Errorf("%s: the SMS of attempt %d was sent %v after attempt %d was acknowledged",
				a.number(), m.Attempt, m.at.Sub(when), attempt)
		}
	}
}

func (l *ledger) auditMessages(a *account, messages []message) {
	l.t.Helper()
	attempts := map[string]int64{}
	ids := map[int64]string{}
	for _, m := range messages {
		if m.Text != messages[0].Text {
			l.t.Errorf("%s: two different codes within a code's lifetime", a.number())
		}
		if id, again := ids[m.Attempt]; again && id != m.ID {
			l.t.Errorf("%s: the SMS of attempt %d have the IDs %s and %s", a.number(), m.Attempt, id, m.ID)
		}
		if attempt, again := attempts[m.ID]; again && attempt != m.Attempt {
			l.t.Errorf("%s: the SMS of attempts %d and %d have the same ID", a.number(), attempt, m.Attempt)
		}
		ids[m.Attempt], attempts[m.ID] = m.ID, m.Attempt
	}
}

func count(messages []message, attempt int64) int {
	n := 0
	for _, m := range messages {
		if m.Attempt == attempt {
			n++
		}
	}
	return n
}
