package verify_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// openUnits counts the units of work in progress, and fails the test if code of the host runs
// during one: a logger that blocks, or a hook that calls the plugin, would delay all other writers.
type openUnits struct {
	*memstore.Store
	tb   testing.TB
	open atomic.Int64
	seen atomic.Int64 // calls of the host's code
}

func (o *openUnits) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return o.Store.Update(ctx, names, func(rows *store.Rows) error {
		o.open.Add(1)
		defer o.open.Add(-1)
		return change(rows)
	})
}

func (o *openUnits) host(what string) {
	o.seen.Add(1)
	if o.open.Load() > 0 {
		o.tb.Errorf("inside a unit of work: %s", what)
	}
}

// Enabled, Handle, WithAttrs and WithGroup implement slog.Handler.
func (o *openUnits) Enabled(context.Context, slog.Level) bool { return true }

func (o *openUnits) Handle(_ context.Context, r slog.Record) error {
	o.host("log: " + r.Message)
	return nil
}
func (o *openUnits) WithAttrs([]slog.Attr) slog.Handler { return o }
func (o *openUnits) WithGroup(string) slog.Handler      { return o }

// Read implements io.Reader as the source of randomness.
func (o *openUnits) Read(p []byte) (int, error) {
	o.host("randomness")
	for i := range p {
		p[i] = byte(o.seen.Load()) + byte(i)
	}
	return len(p), nil
}

func (o *openUnits) Owner(ctx context.Context, msisdn string) (string, error) {
	o.host("Accounts.Owner")
	return o.Store.Owner(ctx, msisdn)
}

func (o *openUnits) Associate(ctx context.Context, a store.Association) error {
	o.host("Accounts.Associate")
	return o.Store.Associate(ctx, a)
}

func (o *openUnits) Dissociate(ctx context.Context, userID, msisdn string) error {
	o.host("Accounts.Dissociate")
	return o.Store.Dissociate(ctx, userID, msisdn)
}

// service returns a Service in which all parts that a host supplies report to o.
func (o *openUnits) service(texts *smstest.Recorder, now *clock, change func(*verify.Config)) *verify.Service {
	c := config(o, o)
	c.Logger, c.Random, c.Now = slog.New(o), o, now.Now
	c.Sender = sms.Func(func(ctx context.Context, m sms.Message) error {
		o.host("Sender.Send")
		return texts.Send(ctx, m)
	})
	c.Text = codeAfter(func() { o.host("text") })
	c.Policy.Approve = func(context.Context, limits.ApprovalRequest) (limits.Approval, error) {
		o.host("Policy.Approve")
		return limits.Approved, nil
	}
	c.Limits.PerNumber = []limits.Limit{{Burst: 3, Every: time.Hour}}
	c.Limits.WrongCodesPerClient = []limits.Limit{{Burst: 3, Every: time.Hour}}
	change(&c)
	return verify.New(c)
}

func TestNothingOfTheHostRunsInsideAUnit(t *testing.T) {
	t.Parallel()
	o, texts, now := &openUnits{Store: memstore.New(), tb: t}, smstest.New(), newClock()
	service := o.service(texts, now, func(*verify.Config) {})
	defer service.Close()
	var sid string
	for attempt := range int64(3) {
		texts.Fail([]error{nil, errors.New("no route"), sms.ErrUncertain}[attempt])
		if receipt, err := service.Request(t.Context(), request(attempt)); err == nil {
			sid = receipt.SID
		}
	}
	submit := func(token string) error {
		_, err := service.Submit(t.Context(), verify.Submission{SID: sid, ClientSecret: "secret", Token: token, Client: "192.0.2.1"})
		return err
	}
	m, _ := texts.Last()
	for range 4 {
		_ = submit("wrong")
	}
	now.advance(24 * time.Hour)
	for attempt := range int64(5) { // the last ones are refused
		if receipt, err := service.Request(t.Context(), request(10+attempt)); err == nil {
			sid = receipt.SID
		}
	}
	m, _ = texts.Last()
	_, unblocked := service.Unblock(t.Context(), "+447700900001")
	err := errors.Join(
		unblocked,
		submit(m.Text),
		service.Add(t.Context(), "alice", verify.Addition{SID: sid, ClientSecret: "secret"}),
		service.Remove(t.Context(), "alice", verify.Removal{Medium: "msisdn", Address: "447700900001"}),
	)
	if err != nil {
		t.Error(err)
	}
	if err := service.Release(t.Context(), "+447700900001"); !errors.Is(err, verify.ErrNoAccount) {
		t.Error(err)
	}
	if n := o.seen.Load(); n < 30 {
		t.Errorf("only %d calls were seen", n)
	}
}

// TestRefusalInsideAUnitIsLoggedAfterIt lets another request use a client's last try after the
// limits were read and before the try is counted.
func TestRefusalInsideAUnitIsLoggedAfterIt(t *testing.T) {
	t.Parallel()
	const countStep = 3 // after reading the session and the limits
	o, texts, now := &openUnits{Store: memstore.New(), tb: t}, smstest.New(), newClock()
	others := o.service(texts, now, func(*verify.Config) {})
	defer others.Close()
	receipt, err := others.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	wrong := verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: "wrong", Client: "192.0.2.1"}
	_, _ = others.Submit(t.Context(), wrong)
	_, _ = others.Submit(t.Context(), wrong)
	s := &steps{Store: o, Accounts: o, Sender: texts}
	s.at = func(step int64, after bool) error {
		if step == countStep && !after {
			_, _ = others.Submit(t.Context(), wrong)
		}
		return nil
	}
	service := o.service(texts, now, func(c *verify.Config) { c.Store = s })
	defer service.Close()
	before := o.seen.Load()
	_, err = service.Submit(t.Context(), wrong)
	var refusal *verify.Error
	if !errors.As(err, &refusal) || refusal.Code != verify.Limited {
		t.Errorf("Submit: %v", err)
	}
	if n := s.count.Load(); n != countStep || o.seen.Load() == before {
		t.Errorf("%d steps, and %d log lines", n, o.seen.Load()-before)
	}
}
