package compose_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/sms/compose"
)

// place sends through two providers, the first one first, and reports to the Health what happened
// to each SMS.
type place struct {
	t        *testing.T
	health   *compose.Health
	failover *compose.Failover
	log      bytes.Buffer
	now      time.Time
	used     string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	logger := slog.New(slog.NewTextHandler(&p.log, nil))
	p.health = compose.NewHealth(compose.HealthOptions{Now: func() time.Time { return p.now }, Logger: logger})
	through := func(name string) compose.Provider {
		return compose.Provider{Name: name, Sender: sms.Func(func(context.Context, sms.Message) error {
			p.used = name
			return nil
		})}
	}
	var err error
	p.failover, err = compose.NewFailover(compose.FailoverOptions{Health: p.health, Logger: logger}, through("first"), through("second"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// send sends to a country and returns the provider. If status is not empty, a receipt with that
// status follows.
func (p *place) send(country string, confirmed bool, receipt string) string {
	p.t.Helper()
	if err := p.failover.Send(p.t.Context(), sms.Message{ID: "m", To: "+447700900001", Country: country}); err != nil {
		p.t.Fatal(err)
	}
	ctx := p.t.Context()
	p.health.Observe(ctx, observe.SMS{Meta: observe.Meta{At: p.now}, Provider: p.used, Country: country, Outcome: observe.Accepted})
	if receipt != "" {
		p.health.Observe(ctx, observe.Receipt{Meta: observe.Meta{At: p.now}, Provider: p.used, Country: country, Status: receipt})
	}
	if confirmed {
		p.health.Observe(ctx, observe.Validation{
			Meta: observe.Meta{At: p.now.Add(20 * time.Second)}, Provider: p.used, Country: country, TimeToValidate: 20 * time.Second,
		})
	}
	return p.used
}

// usual sends one SMS a minute for six hours, nine of ten confirmed.
func (p *place) usual() {
	for i := range 6 * 60 {
		p.send("GB", i%10 != 0, "")
		p.now = p.now.Add(time.Minute)
	}
}

// until sends one SMS at each step until one goes through the second provider. It returns the
// number of SMS that did not, at most 200.
func (p *place) until(step time.Duration, send func() string) int {
	for i := range 200 {
		if send() == "second" {
			return i
		}
		p.now = p.now.Add(step)
	}
	return -1
}

func TestHealthOfReceipts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for range 9 {
		p.send("GB", false, "delivered")
	}
	if n := p.until(time.Second, func() string { return p.send("GB", false, "failed") }); n != 10 {
		t.Errorf("passed over after %d failures, want 10", n)
	}
	if got := p.send("FR", false, ""); got != "first" {
		t.Errorf("another country: %s", got)
	}
	p.now = p.now.Add(15*time.Minute - 2*time.Second)
	if got := p.send("GB", false, ""); got != "second" {
		t.Errorf("just before it is tried again: %s", got)
	}
	p.now = p.now.Add(2 * time.Second)
	if got := p.send("GB", false, "delivered"); got != "first" {
		t.Errorf("15 minutes later: %s", got)
	}
	if n := p.until(time.Second, func() string { return p.send("GB", false, "failed") }); n != 10 {
		t.Errorf("passed over again after %d failures, want 10", n)
	}
	log := p.log.String()
	if strings.Count(log, "is passed over in a country") != 2 || strings.Count(log, "is tried again") != 1 || !strings.Contains(log, "provider=first country=GB") {
		t.Errorf("log: %s", log)
	}
}

func TestHealthOfConfirmations(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.usual()
	n := p.until(time.Minute, func() string { return p.send("GB", false, "") })
	if n < 15 || n > 40 { // less than a quarter of the judged half hour is confirmed
		t.Errorf("passed over after %d SMS", n)
	}
	p.now = p.now.Add(15 * time.Minute)
	if got := p.send("GB", true, ""); got != "first" {
		t.Errorf("15 minutes later: %s", got)
	}
	for range 60 { // the provider works again
		p.now = p.now.Add(time.Minute)
		if got := p.send("GB", true, ""); got != "first" {
			t.Fatalf("although its SMS are confirmed: %s", got)
		}
	}
}

// TestHealthOfAPump sends ten times as many SMS as usual, none of which is confirmed.
func TestHealthOfAPump(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.usual()
	if n := p.until(6*time.Second, func() string { return p.send("GB", false, "delivered") }); n >= 0 {
		t.Errorf("passed over after %d SMS", n)
	}
}

// TestHealthOfAll makes all providers fail. Their order does not change.
func TestHealthOfAll(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	seen := map[string]int{}
	for range 30 {
		seen[p.send("GB", false, "failed")]++
	}
	if seen["first"] != 20 || seen["second"] != 10 {
		t.Errorf("SMS by provider: %v", seen)
	}
}

// TestHealthIsNew uses a provider without a history.
func TestHealthIsNew(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if n := p.until(time.Minute, func() string { return p.send("GB", false, "") }); n >= 0 {
		t.Errorf("passed over after %d SMS", n)
	}
}

// TestHealthOfTheFirstHour lets a new provider work well for less than an hour. That is not enough
// to know what is usual.
func TestHealthOfTheFirstHour(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for range 100 {
		p.send("GB", true, "")
		p.now = p.now.Add(30 * time.Second)
	}
	for i := range 30 {
		if got := p.send("GB", false, ""); got != "first" {
			t.Fatalf("passed over after %d SMS", i)
		}
		p.now = p.now.Add(time.Minute)
	}
}

// TestHealthOfFewSMS sends only ten SMS in half an hour, none of which is confirmed.
func TestHealthOfFewSMS(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.usual()
	p.now = p.now.Add(40 * time.Minute)
	if n := p.until(3*time.Minute, func() string { return p.send("GB", false, "") }); n >= 0 {
		t.Errorf("passed over after %d SMS", n)
	}
}

// TestHealthOfOtherNodes reports receipts for SMS of other nodes, a third of which failed.
func TestHealthOfOtherNodes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 90 {
		status := "delivered"
		if i%3 == 0 {
			status = "failed"
		}
		p.health.Observe(t.Context(), observe.Receipt{Meta: observe.Meta{At: p.now}, Provider: "first", Country: "GB", Status: status})
	}
	if got := p.send("GB", false, ""); got != "first" {
		t.Errorf("through %s", got)
	}
}

// TestHealthIsBounded reports more providers than are kept, from several goroutines.
func TestHealthIsBounded(t *testing.T) {
	t.Parallel()
	h := compose.NewHealth(compose.HealthOptions{Logger: slog.New(slog.DiscardHandler)})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				h.Observe(t.Context(), observe.SMS{Meta: observe.Meta{At: time.Now()}, Provider: fmt.Sprint(g, i), Country: "GB", Outcome: observe.Accepted})
			}
		})
	}
	wg.Wait()
	if n := h.Places(); n > 2000 {
		t.Errorf("%d places are kept", n)
	}
}

// TestHealthOfSomeFailures reports fewer receipts for failed SMS than for delivered ones.
func TestHealthOfSomeFailures(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 60 {
		receipt := "delivered"
		if i%3 == 0 {
			receipt = "failed"
		}
		if got := p.send("GB", false, receipt); got != "first" {
			t.Fatalf("passed over after %d SMS", i)
		}
	}
}

// TestHealthOfFailuresAlone simulates networks that send receipts only for the few SMS that fail.
func TestHealthOfFailuresAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 60 {
		receipt := ""
		if i%5 == 0 {
			receipt = "failed"
		}
		if got := p.send("GB", receipt == "", receipt); got != "first" {
			t.Fatalf("passed over after %d SMS", i)
		}
	}
}

// TestHealthOfLateConfirmations confirms SMS that were sent earlier while new ones are not
// confirmed.
func TestHealthOfLateConfirmations(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.usual()
	n := p.until(time.Minute, func() string {
		used := p.send("GB", false, "")
		p.health.Observe(t.Context(), observe.Validation{
			Meta: observe.Meta{At: p.now}, Provider: "first", Country: "GB", TimeToValidate: 40 * time.Minute,
		})
		return used
	})
	if n < 15 || n > 40 {
		t.Errorf("passed over after %d SMS", n)
	}
}

// TestHealthWaits sends many SMS within minutes, so that none is confirmed yet.
func TestHealthWaits(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.usual()
	p.now = p.now.Add(45 * time.Minute)
	for i := range 30 {
		if got := p.send("GB", false, ""); got != "first" {
			t.Fatalf("passed over after %d SMS", i)
		}
		p.now = p.now.Add(4 * time.Second)
	}
}
