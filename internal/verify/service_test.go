package verify_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

func config(st store.Store, accounts store.Accounts) verify.Config {
	return verify.Config{
		Store: st, Accounts: accounts, Sender: smstest.New(), Logger: slog.New(slog.DiscardHandler),
		Now: time.Now, Random: rand.Reader,
		Text:        codeAfter(func() {}),
		TokenDigits: 6, TokenLifetime: 10 * time.Minute, SessionLifetime: 24 * time.Hour,
		SendTimeout: time.Second, SweepInterval: time.Millisecond, Guard: limits.Guard{Disabled: true},
	}
}

// codeAfter returns a Config.Text that calls do and returns the code as the text of the SMS.
func codeAfter(do func()) func(texts.Kind, string, string) (text, language string) {
	return func(_ texts.Kind, _, code string) (text, language string) {
		do()
		return code, "en"
	}
}

// TestJanitor checks that sessions are deleted a day after they expired, in chunks, and not
// earlier.
func TestJanitor(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	now := time.Now()
	put := func(i int, expires time.Time) {
		s := store.Session{Key: store.SessionKey(fmt.Sprint(i), "GB", "1"), SID: fmt.Sprint(i), ExpiresAt: expires.UnixMilli()}
		names := store.Names{Session: store.SessionRef{Key: s.Key}}
		if err := st.Update(t.Context(), names, func(rows *store.Rows) error { rows.Session = s; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 250 {
		put(i, now.Add(-25*time.Hour))
	}
	put(1000, now.Add(-23*time.Hour)) // expired, but must still be distinguished from an unknown session
	put(1001, now.Add(time.Hour))
	c := config(st, st)
	var deleted atomic.Int64
	c.Observer = observe.Func(func(_ context.Context, e observe.Event) {
		if sweep, ok := e.(observe.Sweep); ok && sweep.Duration > 0 {
			deleted.Add(int64(sweep.Deleted))
		}
	})
	service := verify.New(c)
	service.Start()
	left := func() (n int) {
		for i := range 1002 {
			rows, err := st.View(t.Context(), store.Names{Session: store.SessionRef{SID: fmt.Sprint(i)}})
			if err == nil && rows.Session.SID != "" {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(10 * time.Second); left() > 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d sessions left", left())
		}
	}
	time.Sleep(20 * time.Millisecond)
	if left() != 2 {
		t.Error("the janitor took too much")
	}
	service.Close()
	if deleted.Load() != 250 {
		t.Errorf("the sweeps reported %d rows", deleted.Load())
	}
}

// TestJanitorStops checks that Close ends the janitor, even in the middle of a long sweep.
func TestJanitorStops(t *testing.T) {
	t.Parallel()
	inner := memstore.New()
	swept := make(chan struct{}, 1)
	endless := endlessStore{Store: inner, swept: swept}
	service := verify.New(config(endless, inner))
	service.Start()
	<-swept
	done := make(chan struct{})
	go func() {
		service.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Close waits for a sweep without end")
	}
}

// endlessStore always has more to delete.
type endlessStore struct {
	store.Store
	swept chan struct{}
}

func (s endlessStore) DeleteExpired(_ context.Context, _ time.Time, limit int) (int, error) {
	select {
	case s.swept <- struct{}{}:
	default:
	}
	return limit, nil
}

// TestClaimNotMade lets first the store and then the source of randomness fail. No SMS may be sent.
func TestClaimNotMade(t *testing.T) {
	t.Parallel()
	inner := memstore.New()
	request := verify.Request{
		Purpose: store.PurposeAdd, ClientSecret: "s", Country: "GB", PhoneNumber: "07700900001", Attempt: 1,
	}
	for name, change := range map[string]func(*verify.Config){
		"store fails": func(c *verify.Config) {
			c.Store = storetest.Failing(inner, func(string) error { return errors.New("gone") })
		},
		"store commits and fails": func(c *verify.Config) {
			c.Store = storetest.FailingAfter(memstore.New(), func(op string) error {
				if op == "update" {
					return errors.New("lost connection")
				}
				return nil
			})
		},
		"randomness fails": func(c *verify.Config) { c.Random = failingReader{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(inner, inner)
			texts := smstest.New()
			c.Sender = texts
			change(&c)
			service := verify.New(c)
			defer service.Close()
			var refusal *verify.Error
			if _, err := service.Request(t.Context(), request); err == nil || errors.As(err, &refusal) {
				t.Errorf("error %v", err)
			}
			if len(texts.Calls()) > 0 {
				t.Error("an SMS was sent without a claim")
			}
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("no entropy") }

// TestNumberThatParsesDifferentlyAgain uses a possible number whose E.164 form is parsed as a different
// number. It is refused for every purpose.
func TestNumberThatParsesDifferentlyAgain(t *testing.T) {
	t.Parallel()
	for _, purpose := range []store.Purpose{store.PurposeAdd, store.PurposeRegister, store.PurposePassword} {
		t.Run(string(purpose), func(t *testing.T) {
			t.Parallel()
			st, texts := memstore.New(), smstest.New()
			c := config(st, st)
			c.Sender = texts
			service := verify.New(c)
			defer service.Close()
			_, err := service.Request(t.Context(), verify.Request{
				Purpose: purpose, ClientSecret: "s", Country: "CC", PhoneNumber: "000000", Attempt: 1,
			})
			var refusal *verify.Error
			if !errors.As(err, &refusal) || refusal.Code != verify.InvalidNumber {
				t.Errorf("got %v", err)
			}
			if n := len(texts.Calls()); n != 0 {
				t.Errorf("%d SMS", n)
			}
		})
	}
}

// TestResponsesThatMustNotDifferTakeTheirSlot checks that look-ups take at least one time slot, so
// that their duration does not reveal the result. test/load -timing measures how equal the
// durations are.
func TestResponsesThatMustNotDifferTakeTheirSlot(t *testing.T) {
	t.Parallel()
	const slot = 10 * time.Millisecond
	st := memstore.New()
	c := config(st, st)
	c.Conceal = true
	service := verify.New(c)
	defer service.Close()
	receipt, err := service.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() error{
		"unknown sid": func() error {
			_, err := service.Submit(t.Context(), verify.Submission{SID: "unknown", ClientSecret: "secret", Token: "1"})
			return err
		},
		"wrong secret": func() error {
			_, err := service.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "another", Token: "1"})
			return err
		},
		"account": func() error {
			_, err := service.Request(t.Context(), request(1))
			return err
		},
	} {
		begin := time.Now()
		err := ask()
		if took := time.Since(begin); took < slot {
			t.Errorf("%s: got %v after %v", name, err, took)
		}
	}
}

// TestTokensAreCountedBeforeTheyAreCompared lets the store fail to count a try. The right code and a
// wrong one then get the same response.
func TestTokensAreCountedBeforeTheyAreCompared(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	c := config(inner, inner)
	c.Sender = texts
	service := verify.New(c)
	defer service.Close()
	receipt, err := service.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := texts.Last()
	c.Store = storetest.Failing(inner, failFrom(1))
	failing := verify.New(c)
	defer failing.Close()
	_, right := failing.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: m.Text})
	_, wrong := failing.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: "wrong"})
	if right == nil || wrong == nil || right.Error() != wrong.Error() {
		t.Errorf("the right token got %v, a wrong one %v", right, wrong)
	}
	if _, err := service.Validated(t.Context(), receipt.SID, "secret"); !errors.Is(err, verify.ErrNotValidated) {
		t.Errorf("validated: %v", err)
	}
}
