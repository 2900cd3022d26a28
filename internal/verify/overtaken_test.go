package verify_test

import (
	"errors"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
)

// TestTokenThatWasReplacedMeanwhile gives the session a new code after the old one was compared and
// before the result is recorded.
func TestTokenThatWasReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	inner, texts, clock := memstore.New(), smstest.New(), newClock()
	other := config(inner, inner)
	other.Sender, other.Now = texts, clock.Now
	others := verify.New(other)
	defer others.Close()
	receipt, err := others.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	const confirmStep = 3 // after reading the session and counting the try
	s := &steps{Store: inner, Accounts: inner, Sender: texts}
	s.at = func(step int64, after bool) error {
		if step == confirmStep && !after {
			clock.advance(other.TokenLifetime)
			_, err := others.Request(t.Context(), request(2))
			return err
		}
		return nil
	}
	c := other
	c.Store = s
	service := verify.New(c)
	defer service.Close()
	first, _ := texts.Last()
	var refusal *verify.Error
	_, err = service.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: first.Text})
	if !errors.As(err, &refusal) || refusal.Code != verify.SessionExpired {
		t.Errorf("Submit: %v", err)
	}
	if n := s.count.Load(); n != confirmStep {
		t.Errorf("it took %d steps", n)
	}
	if _, err := service.Validated(t.Context(), receipt.SID, "secret"); !errors.Is(err, verify.ErrNotValidated) {
		t.Errorf("Validated: %v", err)
	}
}

// TestClientThatWasReplacedMeanwhile lets another client request an SMS of the session while a code
// is being checked. Neither client gets back the other one's SMS.
func TestClientThatWasReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	const confirmStep = 4 // after reading the session, the limits, and counting the try
	inner, texts := memstore.New(), smstest.New()
	c := config(inner, inner)
	c.Sender, c.Now = texts, newClock().Now
	c.Limits.PerClient = []limits.Limit{{Burst: 2, Every: time.Hour}}
	c.Limits.WrongCodesPerClient = []limits.Limit{{Burst: 9, Every: time.Hour}}
	others := verify.New(c)
	defer others.Close()
	ask := func(client, number string, attempt int64) string {
		r := request(attempt)
		r.Client, r.PhoneNumber = client, number
		receipt, err := others.Request(t.Context(), r)
		if err != nil {
			t.Errorf("%s requests an SMS to %s: %v", client, number, err)
		}
		return receipt.SID
	}
	sid := ask("first", "07700900001", 1)
	m, _ := texts.Last()
	ask("first", "07700900002", 1) // not confirmed, so it stays charged

	s := &steps{Store: inner, Accounts: inner, Sender: texts}
	s.at = func(step int64, after bool) error {
		if step == confirmStep && !after {
			ask("second", "07700900001", 2)
		}
		return nil
	}
	c.Store = s
	service := verify.New(c)
	defer service.Close()
	_, err := service.Submit(t.Context(), verify.Submission{SID: sid, ClientSecret: "secret", Token: m.Text, Client: "first"})
	if n := s.count.Load(); err != nil || n != confirmStep {
		t.Fatalf("%v, after %d steps", err, n)
	}
	// The second client's SMS belongs to the session, which is validated.
	ask("second", "07700900003", 1)
	ask("second", "07700900004", 1)
}
