package verify_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// overtakenAt pauses a request before one of its steps, lets another request on another node take
// the number's last SMS, and returns the result of the first request.
func overtakenAt(t *testing.T, at int64, r verify.Request) (inner *memstore.Store, texts *smstest.Recorder, late error) {
	t.Helper()
	inner, texts = memstore.New(), smstest.New()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := &steps{Store: inner, Accounts: inner, Sender: texts}
	s.at = func(step int64, after bool) error {
		if step == at && !after {
			close(arrived)
			<-release
		}
		return nil
	}
	c := config(s, s)
	c.Sender = s
	c.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
	service := verify.New(c)
	defer service.Close()
	c.Store, c.Accounts, c.Sender = inner, inner, texts
	other := verify.New(c)
	defer other.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := service.Request(t.Context(), r)
		ended <- err
	}()
	<-arrived
	if _, err := other.Request(t.Context(), request(1)); err != nil {
		t.Error(err)
	}
	close(release)
	return inner, texts, <-ended
}

// TestRefusedClaimLeavesNothing lets another session take the last SMS after the limits have
// allowed a request and before that claims. The unit that would have created its session refuses
// the request and stores nothing.
func TestRefusedClaimLeavesNothing(t *testing.T) {
	t.Parallel()
	r := request(1)
	r.ClientSecret = "late"
	inner, _, late := overtakenAt(t, claimStep, r)
	var refusal *verify.Error
	if !errors.As(late, &refusal) || refusal.Code != verify.Limited {
		t.Errorf("got %v", late)
	}
	key := store.SessionKey(r.ClientSecret, r.Country, "447700900001")
	rows, err := inner.View(t.Context(), store.Names{Session: store.SessionRef{Key: key}})
	if err != nil || rows.Session.SID != "" {
		t.Errorf("it has a session: %+v, error %v", rows.Session, err)
	}
}

// TestTryIsLimitedWhereItIsCounted lets another session of the number use the last try after the
// limits have allowed a guess and before that is counted.
func TestTryIsLimitedWhereItIsCounted(t *testing.T) {
	t.Parallel()
	const countStep = 3 // after reading the session and the limits
	inner := memstore.New()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := &steps{Store: inner, Accounts: inner, Sender: smstest.New()}
	var guessing atomic.Bool
	var guessed atomic.Int64
	s.at = func(_ int64, after bool) error {
		if guessing.Load() && !after && guessed.Add(1) == countStep {
			close(arrived)
			<-release
		}
		return nil
	}
	c := config(s, s)
	c.Limits.WrongCodesPerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
	service := verify.New(c)
	defer service.Close()
	guess := func(secret, sid string) error {
		_, err := service.Submit(t.Context(), verify.Submission{SID: sid, ClientSecret: secret, Token: "nonsense"})
		return err
	}
	sids := map[string]string{}
	for _, secret := range []string{"early", "late"} {
		r := request(1)
		r.ClientSecret = secret
		receipt, err := service.Request(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		sids[secret] = receipt.SID
	}
	guessing.Store(true)
	late := make(chan error, 1)
	go func() { late <- guess("late", sids["late"]) }()
	<-arrived
	expectCode(t, guess("early", sids["early"]), verify.TokenIncorrect)
	close(release)
	expectCode(t, <-late, verify.Limited)
}

func expectCode(t *testing.T, err error, code verify.Code) {
	t.Helper()
	var refusal *verify.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("got %v, want code %d", err, code)
	}
}
