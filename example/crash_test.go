package main_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const crashCallers = 16

// TestCrashes kills the example again and again under load. What its responses reported must still
// be true, and requests without a response must succeed when they are repeated.
func TestCrashes(t *testing.T) {
	t.Parallel()
	rounds := crashRounds(t)
	for name, open := range databases(30) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			g := newGateway(t, func(m text, w http.ResponseWriter, r *http.Request) {
				// Half of the SMS are sent at once, so that many callers are at the
				// database when the end comes.
				if rand.N(2) == 0 {
					dawdle(8*time.Millisecond)(m, w, r)
				}
			})
			l := &ledger{t: t, gateway: g}
			for range rounds {
				l.crash(start(t, "-db", db, "-sms", "webhook:"+g.url))
			}
			s := start(t, "-db", db, "-sms", "webhook:"+g.url)
			survivors := l.validated(50)
			l.retryTold(s.url)
			l.retryUntold(s.url) // those wait for the leases of the dead
			l.retryTold(s.url)
			l.expectValidated(s.url, survivors)
			l.submitAll(s.url)
			l.audit()
			g.expectDiscreet(t, s.stderr.String())
			s.stop()
		})
	}
}

func crashRounds(t *testing.T) int {
	t.Helper()
	const variable = "THREEPID_TEST_CRASH_ROUNDS"
	given := os.Getenv(variable)
	if given == "" {
		return 12
	}
	rounds, err := strconv.Atoi(given)
	if err != nil || rounds < 1 {
		t.Fatalf("%s is no number of rounds: %q", variable, given)
	}
	return rounds
}

// crash kills the server at some moment of a storm.
func (l *ledger) crash(s *server) {
	end := background(func(stop <-chan struct{}) { l.storm(s.url, crashCallers, stop) })
	time.Sleep(50*time.Millisecond + rand.N(350*time.Millisecond))
	s.kill()
	end()
	l.gateway.expectDiscreet(l.t, s.stderr.String())
}

// TestTerminationInAStorm sends SIGTERM under load: requests that the server had begun
// to serve get their response, and what it says holds after a restart.
func TestTerminationInAStorm(t *testing.T) {
	t.Parallel()
	for name, open := range databases(30) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			g := newGateway(t, dawdle(300*time.Millisecond))
			l := &ledger{t: t, gateway: g}
			s := start(t, "-db", db, "-sms", "webhook:"+g.url)
			end := background(func(stop <-chan struct{}) { l.storm(s.url, crashCallers, stop) })
			time.Sleep(200*time.Millisecond + rand.N(200*time.Millisecond))
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			end()
			if err := s.cmd.Wait(); err != nil {
				t.Errorf("exit: %v\n%s", err, s.stderr)
			}
			l.expectTextsTold()
			s = start(t, "-db", db, "-sms", "webhook:"+g.url)
			l.retryTold(s.url)
			l.expectTextsTold() // no SMS was sent again
			l.retryUntold(s.url)
			l.submitAll(s.url)
			l.audit()
			s.stop()
		})
	}
}

// expectTextsTold wants each SMS acknowledged: nobody who was sent one was left
// without an answer.
func (l *ledger) expectTextsTold() {
	l.t.Helper()
	for _, a := range l.all() {
		for _, m := range l.gateway.to(a.number()) {
			if !a.isTold(m.Attempt) {
				l.t.Errorf("%s: attempt %d was texted and its caller not answered", a.number(), m.Attempt)
			}
		}
	}
}
