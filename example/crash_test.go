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

// TestCrashes kills the example repeatedly under load. After each restart, everything that was
// acknowledged must still be true, and requests without a response must succeed when repeated.
func TestCrashes(t *testing.T) {
	t.Parallel()
	rounds := crashRounds(t)
	for name, open := range databases(30) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			g := newGateway(t, func(m message, w http.ResponseWriter, r *http.Request) {
				// Half of the SMS are accepted at once, so that many requests use the
				// database when the server is killed.
				if rand.N(2) == 0 {
					delay(8*time.Millisecond)(m, w, r)
				}
			})
			l := &ledger{t: t, gateway: g}
			for range rounds {
				l.crash(start(t, "-db", db, "-sms", "webhook:"+g.url))
			}
			s := start(t, "-db", db, "-sms", "webhook:"+g.url)
			survivors := l.validated(50)
			l.retryAcknowledged(s.url)
			l.retryUnacknowledged(s.url) // waits for the leases of the killed servers
			l.retryAcknowledged(s.url)
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
		t.Fatalf("%s must be a positive number of rounds, not %q", variable, given)
	}
	return rounds
}

// crash kills the server at a random time under load.
func (l *ledger) crash(s *server) {
	end := background(func(stop <-chan struct{}) { l.randomCalls(s.url, crashCallers, stop) })
	time.Sleep(50*time.Millisecond + rand.N(350*time.Millisecond))
	s.kill()
	end()
	l.gateway.expectDiscreet(l.t, s.stderr.String())
}

// TestTerminationUnderLoad sends SIGTERM under load. Requests in progress must get a response,
// and what was acknowledged must still be true after a restart.
func TestTerminationUnderLoad(t *testing.T) {
	t.Parallel()
	for name, open := range databases(30) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			g := newGateway(t, delay(300*time.Millisecond))
			l := &ledger{t: t, gateway: g}
			s := start(t, "-db", db, "-sms", "webhook:"+g.url)
			end := background(func(stop <-chan struct{}) { l.randomCalls(s.url, crashCallers, stop) })
			time.Sleep(200*time.Millisecond + rand.N(200*time.Millisecond))
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			end()
			if err := s.cmd.Wait(); err != nil {
				t.Errorf("exit: %v\n%s", err, s.stderr)
			}
			l.expectAcknowledged()
			s = start(t, "-db", db, "-sms", "webhook:"+g.url)
			l.retryAcknowledged(s.url)
			l.expectAcknowledged()
			l.retryUnacknowledged(s.url)
			l.submitAll(s.url)
			l.audit()
			s.stop()
		})
	}
}

// expectAcknowledged checks that for each SMS at the gateway, the request got status 200.
func (l *ledger) expectAcknowledged() {
	l.t.Helper()
	for _, a := range l.all() {
		for _, m := range l.gateway.to(a.number()) {
			if !a.isAcknowledged(m.Attempt) {
				l.t.Errorf("%s: the SMS of attempt %d was sent, but the request did not get status 200", a.number(), m.Attempt)
			}
		}
	}
}
