package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// storeTimeout is the store's time limit for a unit of work.
const storeTimeout = 10 * time.Second

// behindProxy starts a proxy for a database server. It returns the proxy, and the database's
// URL with the address of the proxy.
func behindProxy(t *testing.T, db string) (*proxy, string) {
	t.Helper()
	u := parseURL(t, db)
	p := newProxy(t, u.Host)
	return p, strings.Replace(db, u.Host, p.addr, 1)
}

// TestDatabaseGoneForAWhile cuts all connections to the database under load, and allows no new ones
// for a while. Callers must get errors quickly, and retry. The server must recover without a restart,
// and no acknowledged attempt may send a second SMS.
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
			// Requests that were sending an SMS during the outage do not fail, because recording
			// it is retried. These may be all requests.
			if len(l.failures) > 0 && !strings.Contains(s.stderr.String(), "threepid: request failed") {
				t.Error("the log does not contain that requests failed")
			}
		})
	}
}

// expectFailuresUntil checks that calls failed quickly, and that no call failed that was made after
// the store was restored.
func (l *ledger) expectFailuresUntil(restored time.Time) {
	l.t.Helper()
	for _, f := range l.failures {
		if f.took > quick || f.asked.After(restored) {
			l.t.Errorf("a call failed slowly or too late; it was made %v after the store was restored: %v", f.asked.Sub(restored), f)
		}
	}
	l.t.Logf("%d calls failed", len(l.failures))
}

// requestUntilOK starts new sessions with concurrent callers until stop is closed. Each caller repeats
// its request until it succeeds.
func (l *ledger) requestUntilOK(url string, callers int, stop <-chan struct{}) {
	const limit = 40 * time.Second // if a claim was committed without a response, a retry waits for its lease
	together(callers, func(int) {
		for !closed(stop) {
			a := l.open()
			attempt := a.next()
			begin := time.Now()
			for l.request(url, a, attempt).status != http.StatusOK {
				if time.Since(begin) > limit {
					l.t.Errorf("%s: all requests failed for %v", a.number(), limit)
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
}

// TestIdleConnectionsCut cuts the idle connections of a pool, as firewalls and restarted servers do.
// The next requests must succeed.
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
						t.Errorf("connections cut after %v of idleness: %v\n%s", idle, got, s.stderr)
					}
				})
			}
		})
	}
}

// TestDatabaseFrozen makes the database server stop responding, without closing its connections.
// Requests must fail within a time limit, and succeed after the server has recovered.
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
			// Its SMS was sent, but that could not be recorded for other nodes.
			if got := <-s.outcome; got.status != http.StatusInternalServerError || got.took > storeTimeout+quick {
				t.Errorf("the request whose SMS was sent: %v", got)
			}
			p.restore()
			s.expectServed(people)
			s.stop()
			s.gateway.expectDiscreet(t, s.stderr.String())
		})
	}
}
