package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"

	"example.com/threepid/sms"
)

const (
	defaultThreshold = 5
	defaultCooldown  = 30 * time.Second
)

// Provider is a Sender with its name for the log.
type Provider struct {
	Name   string
	Sender sms.Sender
}

// FailoverOptions configure a Failover. The zero value works.
type FailoverOptions struct {
	// Timeout is how long one provider may take. Defaults to the time that the context
	// has left, divided by the number of providers that are left.
	Timeout time.Duration

	// ContinueOnUncertain tries the next provider also if the SMS may have been sent. The
	// person may then receive the same code twice, and both SMS are billed. Defaults to
	// false: the client gets an error and may try again, and its next SMS begins with the
	// next provider.
	ContinueOnUncertain bool

	// A provider that fails FailureThreshold times in a row is skipped for Cooldown. Then
	// one message tries it. A rejected number is not a failure.
	// Defaults to 5, and 30 seconds.
	FailureThreshold uint32
	Cooldown         time.Duration

	// Health passes over a provider in a country to which it does not deliver. Defaults to
	// none: only Send's errors count.
	Health *Health

	// Logger receives a record for each provider that failed, without numbers and codes,
	// and for each that is skipped. Defaults to slog.Default().
	Logger *slog.Logger
}

// Failover sends through the first provider that accepts the message. A resend begins with
// the next provider, because the SMS before it probably did not arrive: after n SMS
// (Message.SentBefore) with provider n modulo their number. The client's Attempt does not
// matter, so a client cannot choose an expensive provider without an SMS through each of
// those before it.
//
// With a Health, a provider that does not deliver to the number's country is tried last. A
// rejected number is not tried with another provider. If all providers are skipped, all
// are tried nevertheless: a slow response is better than none.
type Failover struct {
	options   FailoverOptions
	providers []guarded
}

type guarded struct {
	Provider

	breaker *gobreaker.CircuitBreaker[struct{}]
}

var _ sms.Sender = (*Failover)(nil)

// NewFailover returns an error unless there is a provider, and each has a name and a Sender.
func NewFailover(o FailoverOptions, providers ...Provider) (*Failover, error) {
	if len(providers) == 0 {
		return nil, errors.New("compose: NewFailover needs a provider")
	}
	if o.FailureThreshold == 0 {
		o.FailureThreshold = defaultThreshold
	}
	if o.Cooldown == 0 {
		o.Cooldown = defaultCooldown
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	f := &Failover{options: o}
	for _, p := range providers {
		if p.Name == "" || p.Sender == nil {
			return nil, errors.New("compose: each Provider needs a Name and a Sender")
		}
		f.providers = append(f.providers, guarded{p, f.breaker(p.Name)})
	}
	return f, nil
}

func (f *Failover) breaker(name string) *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:          name,
		Timeout:       f.options.Cooldown,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= f.options.FailureThreshold },
		IsSuccessful:  func(err error) bool { return err == nil || errors.Is(err, sms.ErrRejected) },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) }, // the caller gave up
		OnStateChange: func(name string, _, to gobreaker.State) { f.logState(name, to) },
	})
}

// logState logs what a circuit breaker calls open, half-open and closed.
func (f *Failover) logState(provider string, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		f.options.Logger.Warn("threepid: an SMS provider keeps failing and is skipped", "provider", provider, "consecutive_failures", f.options.FailureThreshold, "for", f.options.Cooldown)
	case gobreaker.StateHalfOpen:
		f.options.Logger.Info("threepid: an SMS provider that was skipped is tried with one SMS", "provider", provider)
	case gobreaker.StateClosed:
		f.options.Logger.Info("threepid: an SMS provider that was skipped works again", "provider", provider)
	}
}

// Send returns nil as soon as one provider accepts the message, and otherwise the joined
// errors of all that were tried, except that ErrRejected is returned alone.
func (f *Failover) Send(ctx context.Context, m sms.Message) error {
	start := max(m.SentBefore, 0) % len(f.providers)
	order := slices.Concat(f.providers[start:], f.providers[:start])
	slices.SortStableFunc(order, func(a, b guarded) int {
		return boolInt(f.options.Health.passes(a.Name, m.Country)) - boolInt(f.options.Health.passes(b.Name, m.Country))
	})
	errs, done := f.try(ctx, m, order, true)
	if !done && len(errs) == 0 {
		errs, done = f.try(ctx, m, order, false)
	}
	if done && len(errs) == 0 {
		return nil
	}
	return errors.Join(errs...)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// try tries one provider after another, and skips those whose circuit breaker is open if
// guard is set. done means that no further provider may be tried; without errors it is
// success.
func (f *Failover) try(ctx context.Context, m sms.Message, order []guarded, guard bool) (errs []error, done bool) {
	for i, p := range order {
		err := f.ask(ctx, m, p, len(order)-i, guard)
		switch {
		case err == nil:
			return nil, true
		case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
			continue
		}
		err = fmt.Errorf("%s: %w", p.Name, err)
		if errors.Is(err, sms.ErrRejected) {
			if uncertain(errors.Join(errs...)) {
				return errs, true // an earlier provider may have sent the SMS
			}
			return []error{err}, true
		}
		f.log(p.Name, m, err)
		errs = append(errs, err)
		if uncertain(err) && !f.options.ContinueOnUncertain || ctx.Err() != nil {
			return errs, true
		}
	}
	return errs, false
}

// log logs an error if the operator must act, although another provider may send the SMS.
func (f *Failover) log(provider string, m sms.Message, err error) {
	log, words := f.options.Logger.Warn, "threepid: an SMS provider failed"
	if errors.Is(err, sms.ErrMisconfigured) {
		log, words = f.options.Logger.Error, "threepid: an SMS provider refuses the account or its settings; no SMS is sent through it until that is fixed"
	}
	log(words, "provider", provider, "id", m.ID, "error", sms.Redact(err.Error(), m))
}

func (f *Failover) ask(ctx context.Context, m sms.Message, p guarded, left int, guard bool) error {
	defer sms.Report(ctx, sms.Result{Provider: p.Name})
	timeout := f.options.Timeout
	if deadline, ok := ctx.Deadline(); timeout == 0 && ok {
		timeout = time.Until(deadline) / time.Duration(left)
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if !guard {
		return p.Sender.Send(ctx, m)
	}
	_, err := p.breaker.Execute(func() (struct{}, error) { return struct{}{}, p.Sender.Send(ctx, m) })
	return err
}
