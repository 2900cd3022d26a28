package compose_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/compose"
	"example.com/threepid/sms/smstest"
)

var (
	errBusy      = errors.New("busy")
	errNoCredit  = fmt.Errorf("no credit: %w", sms.ErrMisconfigured)
	errRefused   = fmt.Errorf("no such number: %w", sms.ErrRejected)
	errUncertain = fmt.Errorf("hung up: %w", sms.ErrUncertain)
)

// message is the nth SMS of a session. The client's own number is always the same.
func message(nth int) sms.Message {
	return sms.Message{
		ID: "msg_1", To: "+447400123456", Text: "123456 is your code.", Country: "GB", Attempt: 98, SentBefore: nth - 1,
	}
}

func fail(err error) *smstest.Recorder {
	r := smstest.New()
	r.FailAlways(err)
	return r
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	from := map[string]string{"GB": "EXAMPLE"}
	r := smstest.New()
	s := compose.WithSenderIDs(r, from)
	from["FR"] = "later"
	for country, want := range map[string]string{"GB": "EXAMPLE", "FR": "default"} {
		m := message(1)
		m.Country, m.From = country, "default"
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := r.Calls()[len(r.Calls())-1].From; got != want {
			t.Errorf("%s: from %q, want %q", country, got, want)
		}
	}
}

func TestRoute(t *testing.T) {
	t.Parallel()
	names := []string{"British", "Irish or French", "mobile", "London", "otherwise"}
	to := make(map[string]*smstest.Recorder)
	for _, name := range names {
		to[name] = smstest.New()
	}
	route, err := compose.NewRoute(to["otherwise"],
		compose.Rule{Countries: []string{"GB"}, Sender: to["British"]},
		compose.Rule{Countries: []string{"IE", "FR"}, Sender: to["Irish or French"]},
		compose.Rule{Prefixes: []string{"+447"}, Sender: to["mobile"]},
		compose.Rule{Prefixes: []string{"+4420", "+44740012"}, Sender: to["London"]},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ number, country, want string }{
		{"+441632960000", "GB", "British"},
		{"+35385000000", "IE", "Irish or French"},
		{"+33600000000", "FR", "Irish or French"},
		{"+447900000000", "GB", "mobile"},
		{"+447400123456", "GB", "London"},
		{"+442079460000", "GB", "London"},
		{"+4", "", "otherwise"},
		{"+15005550006", "US", "otherwise"},
	} {
		before := len(to[c.want].Calls())
		m := message(1)
		m.To, m.Country = c.number, c.country
		if err := route.Send(t.Context(), m); err != nil || len(to[c.want].Calls()) != before+1 {
			t.Errorf("%s did not go to %s: %v", c.number, c.want, err)
		}
	}
}

func TestRouteToNowhere(t *testing.T) {
	t.Parallel()
	route, err := compose.NewRoute(nil, compose.Rule{Countries: []string{"FR"}, Sender: smstest.New()})
	if err != nil {
		t.Fatal(err)
	}
	if err := route.Send(t.Context(), message(1)); !errors.Is(err, sms.ErrRejected) {
		t.Errorf("error %v", err)
	}
}

func TestRouteRules(t *testing.T) {
	t.Parallel()
	s := smstest.New()
	for name, rules := range map[string][]compose.Rule{
		"for nothing":          {{Sender: s}},
		"no sender":            {{Countries: []string{"GB"}}},
		"a country twice":      {{Countries: []string{"GB", "GB"}, Sender: s}},
		"a prefix twice":       {{Prefixes: []string{"+44"}, Sender: s}, {Prefixes: []string{"+44"}, Sender: s}},
		"a country's name":     {{Countries: []string{"Ireland"}, Sender: s}},
		"a country in small":   {{Countries: []string{"gb"}, Sender: s}},
		"a prefix without +":   {{Prefixes: []string{"44"}, Sender: s}},
		"a prefix of a + only": {{Prefixes: []string{"+"}, Sender: s}},
		"a prefix of letters":  {{Prefixes: []string{"+44x"}, Sender: s}},
	} {
		if _, err := compose.NewRoute(s, rules...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		fails   int
		options compose.RetryOptions
		calls   int
		good    bool
	}{
		"passes":              {errBusy, 2, compose.RetryOptions{}, 3, true},
		"does not pass":       {errBusy, 9, compose.RetryOptions{}, 3, false},
		"told how often":      {errBusy, 9, compose.RetryOptions{MaxAttempts: 5}, 5, false},
		"rejected":            {errRefused, 9, compose.RetryOptions{}, 1, false},
		"misconfigured":       {errNoCredit, 9, compose.RetryOptions{}, 1, false},
		"uncertain":           {errUncertain, 9, compose.RetryOptions{}, 1, false},
		"deadline":            {context.DeadlineExceeded, 9, compose.RetryOptions{}, 1, false},
		"uncertain, told to":  {errUncertain, 1, compose.RetryOptions{ContinueOnUncertain: true}, 2, true},
		"the caller gave up":  {context.Canceled, 9, compose.RetryOptions{}, 1, false},
		"rejected, uncertain": {errRefused, 9, compose.RetryOptions{ContinueOnUncertain: true}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := smstest.New()
				r.Fail(slices.Repeat([]error{c.err}, c.fails)...)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				err := compose.Retry(r, c.options).Send(ctx, message(1))
				if (err == nil) != c.good || err != nil && !errors.Is(err, c.err) || len(r.Calls()) != c.calls {
					t.Errorf("error %v after %d calls", err, len(r.Calls()))
				}
				for _, m := range r.Calls() {
					if m != message(1) {
						t.Errorf("another message: %+v", m)
					}
				}
			})
		})
	}
}

// TestRetryReportsUncertainSends lets the first try perhaps send the SMS, and the second one
// certainly not. The error must not say that nothing was sent.
func TestRetryReportsUncertainSends(t *testing.T) {
	t.Parallel()
	for _, then := range []error{errBusy, errNoCredit} {
		synctest.Test(t, func(t *testing.T) {
			r := smstest.New()
			r.Fail(errUncertain, then, then)
			err := compose.Retry(r, compose.RetryOptions{ContinueOnUncertain: true}).Send(t.Context(), message(1))
			if !errors.Is(err, sms.ErrUncertain) || !errors.Is(err, then) {
				t.Errorf("error %v, want both that it may have left and %v", err, then)
			}
		})
	}
}

func TestRetryWithoutPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := smstest.New()
		r.Fail(errBusy)
		if err := compose.Retry(r, compose.RetryOptions{Pause: -time.Second}).Send(t.Context(), message(1)); err != nil {
			t.Error(err)
		}
	})
}

// TestRetryPauses checks that pauses grow, and that Retry returns at once if the next pause would
// exceed the deadline.
func TestRetryPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var at []time.Time
		s := sms.Func(func(context.Context, sms.Message) error {
			at = append(at, time.Now())
			return errBusy
		})
		begin := time.Now()
		err := compose.Retry(s, compose.RetryOptions{MaxAttempts: 100, Pause: time.Second}).Send(ctx, message(1))
		if !errors.Is(err, errBusy) || len(at) < 3 || len(at) > 5 || time.Since(begin) >= 10*time.Second {
			t.Errorf("error %v after %d tries and %v", err, len(at), time.Since(begin))
		}
		for i := 1; i < len(at); i++ {
			pause := time.Second << (i - 1)
			if took := at[i].Sub(at[i-1]); took < pause/2 || took >= pause*3/2 {
				t.Errorf("pause %d was %v", i, took)
			}
		}
	})
}

func TestCapConcurrent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := smstest.New()
		s := compose.Throttle(smstest.Delay(r, time.Second), compose.ThrottleOptions{Concurrent: 2})
		begin := time.Now()
		errs := make(chan error)
		for range 6 {
			go func() { errs <- s.Send(t.Context(), message(1)) }()
		}
		for range 6 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("6 sends of a second each, 2 at once, took %v", took)
		}
	})
}

func TestCapRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := compose.Throttle(smstest.New(), compose.ThrottleOptions{PerSecond: 10, Burst: 5})
		begin := time.Now()
		for range 25 {
			if err := s.Send(t.Context(), message(1)); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("5 at once and 20 at 10 a second took %v", took)
		}
	})
}

// TestCapIsFull checks that the error says that nothing was sent if the limit leaves no time.
func TestCapIsFull(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]compose.ThrottleOptions{
		"concurrent": {Concurrent: 1}, "rate": {PerSecond: 0.001},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := smstest.New()
				s := compose.Throttle(smstest.Delay(r, time.Minute), o)
				first := make(chan error)
				go func() { first <- s.Send(t.Context(), message(1)) }()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := s.Send(ctx, message(1))
				if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sms.ErrUncertain) {
					t.Errorf("error %v", err)
				}
				if err := <-first; err != nil || len(r.Calls()) != 1 {
					t.Errorf("%d calls, error %v", len(r.Calls()), err)
				}
			})
		})
	}
}

func TestNoCap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := compose.Throttle(smstest.New(), compose.ThrottleOptions{})
		begin := time.Now()
		for range 1000 {
			if err := s.Send(t.Context(), message(1)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}
