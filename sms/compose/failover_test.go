package compose_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/compose"
	"example.com/threepid/sms/smstest"
)

func failover(t *testing.T, o compose.FailoverOptions, senders ...sms.Sender) *compose.Failover {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var providers []compose.Provider
	for i, s := range senders {
		providers = append(providers, compose.Provider{Name: []string{"one", "two", "three"}[i], Sender: s})
	}
	f, err := compose.NewFailover(o, providers...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFailoverReportsUncertainSends lets the first provider perhaps send an SMS to a number that
// the second one rejects. The result must not be that nothing was sent.
func TestFailoverReportsUncertainSends(t *testing.T) {
	t.Parallel()
	f := failover(t, compose.FailoverOptions{ContinueOnUncertain: true}, fail(errUncertain), fail(errRefused))
	if err := f.Send(t.Context(), message(1)); !errors.Is(err, sms.ErrUncertain) || errors.Is(err, sms.ErrRejected) {
		t.Errorf("error %v", err)
	}
	f = failover(t, compose.FailoverOptions{ContinueOnUncertain: true}, fail(errBusy), fail(errRefused))
	if err := f.Send(t.Context(), message(1)); !errors.Is(err, sms.ErrRejected) {
		t.Errorf("error %v", err)
	}
}

// TestFailoverProbeWithoutOutcome cancels the one message that tries a provider again. That must
// not count as a sign that the provider works.
func TestFailoverProbeWithoutOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one := smstest.New()
		one.Fail(errBusy, errBusy, context.Canceled)
		f := failover(t, compose.FailoverOptions{FailureThreshold: 2, Cooldown: time.Minute}, one, smstest.New())
		for range 2 {
			_ = f.Send(t.Context(), message(1))
		}
		time.Sleep(time.Minute + time.Second)
		_ = f.Send(t.Context(), message(1))
		one.FailAlways(errBusy)
		for range 3 {
			_ = f.Send(t.Context(), message(1))
		}
		if n := len(one.Calls()); n != 4 { // these three and the next probe
			t.Errorf("%d calls", n)
		}
	})
}

// TestDrill makes the first of two providers fail in various ways. It checks which provider
// received the message, how long that took, and what the caller got.
func TestDrill(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for name, c := range map[string]struct {
		first   sms.Sender
		options compose.FailoverOptions
		by      string // the provider that accepted it
		took    time.Duration
		is      error
	}{
		"works":                 {first: nil, by: "one"},
		"fails":                 {first: fail(errBusy), by: "two"},
		"is out of credit":      {first: fail(errNoCredit), by: "two"},
		"refuses the number":    {first: fail(errRefused), is: sms.ErrRejected},
		"hangs up":              {first: fail(errUncertain), is: sms.ErrUncertain},
		"hangs":                 {first: smstest.Hang(), took: 5 * second, is: context.DeadlineExceeded},
		"hangs, told to go on":  {smstest.Hang(), compose.FailoverOptions{ContinueOnUncertain: true}, "two", 5 * second, nil},
		"hangs, told how long":  {smstest.Hang(), compose.FailoverOptions{ContinueOnUncertain: true, Timeout: second}, "two", second, nil},
		"fails after a while":   {first: smstest.Delay(fail(errBusy), 4*second), by: "two", took: 4 * second},
		"hangs up, told to":     {fail(errUncertain), compose.FailoverOptions{ContinueOnUncertain: true}, "two", 0, nil},
		"refuses, told nothing": {fail(errRefused), compose.FailoverOptions{ContinueOnUncertain: true}, "", 0, sms.ErrRejected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, two := smstest.New(), smstest.New()
				first := c.first
				if first == nil {
					first = one
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*second)
				defer cancel()
				begin := time.Now()
				err := failover(t, c.options, first, two).Send(ctx, message(1))
				took := time.Since(begin)
				by := strings.Repeat("one", len(one.Messages())) + strings.Repeat("two", len(two.Messages()))
				t.Logf("accepted by %q after %v, the caller saw: %v", by, took, err)
				if by != c.by || took != c.took || (err == nil) != (c.by != "") || !errors.Is(err, c.is) {
					t.Errorf("want %q after %v, %v", c.by, c.took, c.is)
				}
			})
		})
	}
}

// TestResend checks that each resend begins with the next provider.
func TestResend(t *testing.T) {
	t.Parallel()
	recorders := []*smstest.Recorder{smstest.New(), smstest.New(), smstest.New()}
	f := failover(t, compose.FailoverOptions{}, recorders[0], recorders[1], recorders[2])
	for nth, want := range map[int]int{-1: 0, 0: 0, 1: 0, 2: 1, 3: 2, 4: 0, 302: 1} {
		before := len(recorders[want].Calls())
		if err := f.Send(t.Context(), message(nth)); err != nil || len(recorders[want].Calls()) != before+1 {
			t.Errorf("SMS %d: not sent by provider %d: %v", nth, want, err)
		}
	}
}

// TestOrder checks that each provider is called once, in order, beginning with the attempt's.
func TestOrder(t *testing.T) {
	t.Parallel()
	var asked []string
	ask := func(name string) sms.Sender {
		return sms.Func(func(context.Context, sms.Message) error {
			asked = append(asked, name)
			return errBusy
		})
	}
	err := failover(t, compose.FailoverOptions{}, ask("one"), ask("two"), ask("three")).Send(t.Context(), message(2))
	if !slices.Equal(asked, []string{"two", "three", "one"}) || !errors.Is(err, errBusy) {
		t.Errorf("asked %v, error %v", asked, err)
	}
	for _, name := range asked {
		if !strings.Contains(err.Error(), name+": busy") {
			t.Errorf("the error does not speak of %s: %v", name, err)
		}
	}
}

// TestBreaker makes a provider fail repeatedly. It is skipped, tried with one message after the
// pause, and then used again.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := smstest.New(), smstest.New()
		one.FailAlways(errBusy)
		var log bytes.Buffer
		f := failover(t, compose.FailoverOptions{FailureThreshold: 3, Cooldown: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))}, one, two)
		send := func(wantOne, wantTwo int) {
			t.Helper()
			if err := f.Send(t.Context(), message(1)); err != nil {
				t.Error(err)
			}
			if len(one.Calls()) != wantOne || len(two.Messages()) != wantTwo {
				t.Errorf("%d calls of the first, %d of the second; want %d, %d", len(one.Calls()), len(two.Messages()), wantOne, wantTwo)
			}
		}
		send(1, 1)
		send(2, 2)
		send(3, 3)
		send(3, 4) // skipped
		time.Sleep(time.Minute + time.Second)
		send(4, 5) // tried, and failed
		send(4, 6)
		time.Sleep(time.Minute + time.Second)
		one.FailAlways(nil)
		send(5, 6)
		send(6, 6)
		for said, times := range map[string]int{
			`level=WARN msg="threepid: an SMS provider keeps failing and is skipped" provider=one consecutive_failures=3 for=1m0s`: 2,
			`level=INFO msg="threepid: an SMS provider that was skipped is tried with one SMS" provider=one`:                       2,
			`level=INFO msg="threepid: an SMS provider that was skipped works again" provider=one`:                                 1,
		} {
			if n := strings.Count(log.String(), said); n != times {
				t.Errorf("said %d times, want %d: %s\n%s", n, times, said, &log)
			}
		}
	})
}

// TestRejectionsDoNotOpenTheBreaker checks that rejected numbers do not open the circuit breaker of a
// provider.
func TestRejectionsDoNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	one, two := fail(errRefused), smstest.New()
	f := failover(t, compose.FailoverOptions{FailureThreshold: 2}, one, two)
	for range 10 {
		if err := f.Send(t.Context(), message(1)); !errors.Is(err, sms.ErrRejected) {
			t.Error(err)
		}
	}
	if len(one.Calls()) != 10 || len(two.Calls()) != 0 {
		t.Errorf("%d and %d calls", len(one.Calls()), len(two.Calls()))
	}
}

// TestAllProvidersSkipped checks that all providers are tried if all would be skipped.
func TestAllProvidersSkipped(t *testing.T) {
	t.Parallel()
	one, two := fail(errBusy), fail(errBusy)
	f := failover(t, compose.FailoverOptions{FailureThreshold: 1}, one, two)
	if err := f.Send(t.Context(), message(1)); !errors.Is(err, errBusy) {
		t.Error(err)
	}
	two.FailAlways(nil)
	if err := f.Send(t.Context(), message(1)); err != nil || len(one.Calls()) != 2 || len(two.Messages()) != 1 {
		t.Errorf("error %v, %d calls, %d messages", err, len(one.Calls()), len(two.Messages()))
	}
}

// TestFailoverLog checks the log of a provider that fails: because the second provider sends the
// SMS, an operator can learn of the failure only from the log.
func TestFailoverLog(t *testing.T) {
	t.Parallel()
	echo := errors.New("+447400123456 was not sent 123456")
	for name, row := range map[string]struct {
		err  error
		want []string
	}{
		"fails":         {echo, []string{"level=WARN", "provider=one", "was not sent", "skipped"}},
		"misconfigured": {errors.Join(echo, sms.ErrMisconfigured), []string{"level=ERROR", "provider=one", "was not sent", "until that is fixed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			f := failover(t, compose.FailoverOptions{Logger: slog.New(slog.NewTextHandler(&log, nil)), FailureThreshold: 1}, fail(row.err), smstest.New())
			if err := f.Send(t.Context(), message(1)); err != nil {
				t.Fatal(err)
			}
			for _, want := range row.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log has no %q: %s", want, &log)
				}
			}
			if strings.Contains(log.String(), "123456") {
				t.Errorf("the log has the number or the token: %s", &log)
			}
		})
	}
}

func TestNewFailover(t *testing.T) {
	t.Parallel()
	for name, providers := range map[string][]compose.Provider{
		"none": nil, "no name": {{Sender: smstest.New()}}, "no sender": {{Name: "one"}},
	} {
		if _, err := compose.NewFailover(compose.FailoverOptions{}, providers...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
