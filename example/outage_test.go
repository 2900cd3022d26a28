package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// storeTimeout is how long a unit of work may take.
const storeTimeout = 10 * time.Second

// behindProxy puts a proxy before a database, and returns the database's URL by
// way of it.
func behindProxy(t *testing.T, db string) (*proxy, string) {
	t.Helper()
	u := parseURL(t, db)
	p := newProxy(t, u.Host)
	return p, strings.Replace(db, u.Host, p.addr, 1)
}

// TestDatabaseGoneForAWhile cuts all connections to the database under load, and allows no new ones
// for a while. Callers get errors quickly and try again. Nothing needs a restart, and nobody whose
// request succeeded is sent a second SMS.
func TestDatabaseGoneForAWhile(t *testing.T) {
	t.Parallel()
	for name, open := range servers(20) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, db := behindProxy(t, open(t))
			g := newGateway(t, delay(20*time.Millisecond))
			s := start(t, "-db", db, "-sms", "webhook:"+g.url)
			l := &ledger{t: t, gateway: g, lenient: true}
			end := background(func(stop <-chan struct{}) { l.requestUntilOK(s.url, 12, stop) })
			time.Sleep(300 * time.Millisecond)
			for _, outage := range []time.Duration{1500 * time.Millisecond, 0, 0} {
				p.cut()
				time.Sleep(outage)
				p.restore()
				time.Sleep(300 * time.Millisecond)
			}
			restored := time.Now()
			time.Sleep(500 * time.Millisecond)
			end()
			l.expectFailuresUntil(restored)
			l.lenient = false
			l.retryAcknowledged(s.url)
			l.submitAll(s.url)
			l.audit()
			s.stop()
			g.expectDiscreet(t, s.stderr.String())
			// An SMS that is under way during that time is recorded after all, and
			// fails not: that may be everyone.
			if len(l.failures) > 0 && !strings.Contains(s.stderr.String(), "threepid: request failed") {
				t.Error("the log does not say that requests failed")
			}
		})
	}
}

// expectFailuresUntil wants no call to have failed slowly, or when it was made
// after that time.
func (l *ledger) expectFailuresUntil(restored time.Time) {
	l.t.Helper()
	for _, f := range l.failures {
		if f.took > quick || f.asked.After(restored) {
			l.t.Errorf("asked %v after all was well again: %v", f.asked.Sub(restored), f)
		}
	}
	l.t.Logf("%d calls failed", len(l.failures))
}

// requestUntilOK repeats requests of callers until they succeed, for new sessions until stop is closed.
func (l *ledger) requestUntilOK(url string, callers int, stop <-chan struct{}) {
	const most = 40 * time.Second // a claim whose commit was lost waits for its lease
	together(callers, func(int) {
		for !closed(stop) {
			a := l.open()
			attempt := a.next()
			begin := time.Now()
			for l.request(url, a, attempt).status != http.StatusOK {
				if time.Since(begin) > most {
					l.t.Errorf("%s: no answer but failures", a.number())
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
}

// TestIdleConnectionsCut cuts the connections of a pool that nobody uses, as
// firewalls do, and servers that are restarted.
func TestIdleConnectionsCut(t *testing.T) {
	t.Parallel()
	for name, open := range servers(20) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			const callers = 12
			p, db := behindProxy(t, db)
			g := newGateway(t, accept)
			s := start(t, "-db", db, "-sms", "webhook:"+g.url)
			for _, idle := range []time.Duration{1500 * time.Millisecond, 0} {
				together(callers, func(int) { newPerson().request(s.url, 1) })
				time.Sleep(idle)
				p.cut()
				p.restore()
				together(callers, func(int) {
					if got := newPerson().request(s.url, 1); got.status != http.StatusOK {
						t.Errorf("idle for %v: %v\n%s", idle, got, s.stderr)
					}
				})
			}
		})
	}
}

// TestDatabaseFrozen has the database's machine vanish without a word. Callers are
// not kept waiting for it, and it may come back.
func TestDatabaseFrozen(t *testing.T) {
	t.Parallel()
	for name, open := range servers(20) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, db := behindProxy(t, open(t))
			s := startSending(t, db)
			p.freeze()
			s.accept()
			people := s.expectRefused(8, storeTimeout+quick)
			// Its SMS was sent, but no other node would know.
			if got := <-s.outcome; got.status != http.StatusInternalServerError || got.took > storeTimeout+quick {
				t.Errorf("sent before the database was gone: %v", got)
			}
			p.restore()
			s.expectServed(people)
			s.stop()
			s.gateway.expectDiscreet(t, s.stderr.String())
		})
	}
}
