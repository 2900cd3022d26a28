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
	defaultFailures = 5
	defaultPause    = 30 * time.Second
)

// Provider is a Sender with the name that the log has for it.
type Provider struct {
	Name   string
	Sender sms.Sender
}

// FailoverOptions adjust a Failover. The zero value works.
type FailoverOptions struct {
	// Timeout is what one provider may take. Default: the time that is left of
	// the context's, divided by the providers that are left.
	Timeout time.Duration

	// AfterUncertain goes on to the next provider also when the text may have
	// sent: a person who gets two SMS gets the same code twice, and two are paid for.
	// Default: the client is told to try again, with the next provider's turn
	// coming when it asks for another text.
	AfterUncertain bool

	// Failures in a row have a provider passed over for Pause, after which one
	// message tries it. A number that is rejected is no failure.
	// Default: 5, and 30 seconds.
	Failures uint32
	Pause    time.Duration

	// Logger hears of each provider that failed, with numbers and codes taken
	// out, and of those passed over. Default: slog.Default().
	Logger *slog.Logger
}

// Failover sends through the first provider that accepts. A resend begins with
// the next one, since the SMS before it probably did not arrive: after n SMS
// (Message.SentBefore) with provider n, round and round. The client's Attempt does not
// matter, so a client cannot choose an expensive provider without a paid SMS
// through each of those before it.
//
// A rejected number is not tried elsewhere. When all providers are passed over,
// they are asked all the same: better a slow answer than none.
type Failover struct {
	options   FailoverOptions
	providers []guarded
}

type guarded struct {
	Provider

	breaker *gobreaker.CircuitBreaker[struct{}]
}

var _ sms.Sender = (*Failover)(nil)

// NewFailover needs at least one provider, each with a name and a Sender.
func NewFailover(o FailoverOptions, providers ...Provider) (*Failover, error) {
	if len(providers) == 0 {
		return nil, errors.New("compose: NewFailover needs a provider")
	}
	if o.Failures == 0 {
		o.Failures = defaultFailures
	}
	if o.Pause == 0 {
		o.Pause = defaultPause
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
		Timeout:       f.options.Pause,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= f.options.Failures },
		IsSuccessful:  func(err error) bool { return err == nil || errors.Is(err, sms.ErrRejected) },
		IsExcluded:    func(err error) bool { return errors.Is(err, context.Canceled) }, // by the caller: it tells nothing
		OnStateChange: func(name string, _, to gobreaker.State) { f.logState(name, to) },
	})
}

// logState says in words what a breaker calls open, half-open and closed.
func (f *Failover) logState(provider string, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		f.options.Logger.Warn("threepid: an SMS provider is passed over, since it keeps failing", "provider", provider, "for", f.options.Pause)
	case gobreaker.StateHalfOpen:
		f.options.Logger.Info("threepid: an SMS provider that was passed over is tried with one text", "provider", provider)
	case gobreaker.StateClosed:
		f.options.Logger.Info("threepid: an SMS provider that was passed over works again", "provider", provider)
	}
}

// Send returns nil as soon as one provider accepts, else what all that were asked
// said, joined: errors.Is finds each of them. ErrRejected stands alone.
func (f *Failover) Send(ctx context.Context, m sms.Message) error {
	start := max(m.SentBefore, 0) % len(f.providers)
	order := slices.Concat(f.providers[start:], f.providers[:start])
	errs, done := f.try(ctx, m, order, true)
	if !done && len(errs) == 0 {
		errs, done = f.try(ctx, m, order, false)
	}
	if done && len(errs) == 0 {
		return nil
	}
	return errors.Join(errs...)
}

// try asks one provider after another. done says that there is nothing more to
// ask; then no errors are success.
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
				return errs, true // one before it may have texted the number all the same
			}
			return []error{err}, true
		}
		f.log(p.Name, m, err)
		errs = append(errs, err)
		if uncertain(err) && !f.options.AfterUncertain || ctx.Err() != nil {
			return errs, true
		}
	}
	return errs, false
}

// log is loud when the operator has to act, although the text may leave elsewhere.
func (f *Failover) log(provider string, m sms.Message, err error) {
	log, words := f.options.Logger.Warn, "threepid: an SMS provider failed"
	if errors.Is(err, sms.ErrMisconfigured) {
		log, words = f.options.Logger.Error, "threepid: an SMS provider refuses the account or its settings: somebody has to mend that"
	}
	log(words, "provider", provider, "id", m.ID, "error", sms.Redact(err.Error(), m))
}

func (f *Failover) ask(ctx context.Context, m sms.Message, p guarded, left int, guard bool) error {
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
