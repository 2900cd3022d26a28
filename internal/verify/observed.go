package verify

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"example.com/threepid/internal/history"
	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// How the flows report what happens, in events of package observe.

// log returns the logger for a request, whose records have its ID.
func (s *Service) log(ctx context.Context) *slog.Logger {
	if id := observe.ID(ctx); id != "" {
		return s.Logger.With("request", id)
	}
	return s.Logger
}

// ObserveRefusal reports a refusal of which no number is known.
func (s *Service) ObserveRefusal(ctx context.Context, err error, country string, p store.Purpose) {
	s.observeRefusal(ctx, err, country, p, "")
}

// observeRefusal reports a refusal with its reason. msisdn may be empty.
func (s *Service) observeRefusal(ctx context.Context, err error, country string, p store.Purpose, msisdn string) {
	var refusal *Error
	if !s.events.wanted() || !errors.As(err, &refusal) {
		return
	}
	if reason := refusal.reason(); reason != "" {
		s.events.record(ctx, observe.Refusal{Meta: s.events.meta(ctx), Reason: reason, Country: country, Purpose: string(p)}, aboutNumber(msisdn))
	}
}

// reason returns why a request was refused, or an empty string for what is reported as another
// event: a failed SMS, or a wrong code.
func (e *Error) reason() string {
	if e.Reason != "" {
		return e.Reason
	}
	switch e.Code {
	case TooLarge, NotJSON, BadJSON, MissingParam, InvalidParam, InvalidNumber:
		return "bad input"
	case Denied:
		return "policy"
	case InUse:
		return "in use"
	case NotAssociated:
		return "not found"
	case Limited:
		return "limit"
	case SessionExpired:
		return "code expired"
	case ServerNotTrusted:
		return "server not trusted"
	case MissingToken, UnknownToken:
		return "not authorized"
	case AuthFailed, AuthFailedLegacy:
		return "not validated"
	case DestinationRejected, SendFailed, TokenIncorrect, CheckFailed:
	}
	return ""
}

// sendReport collects what the sender reports about a message. A careless sender may report the
// message, so name and ID are kept only if they look like ones, and without code and number.
type sendReport struct {
	message sms.Message

	mu     sync.Mutex
	result sms.Result
}

// maxReported is in bytes.
const maxReported = 128

// plainID returns s if it is made of the characters of IDs, and otherwise an empty string.
func plainID(s string) string {
	foreign := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-_.:", r)
	}
	if len(s) > maxReported || strings.ContainsFunc(s, foreign) {
		return ""
	}
	return s
}

func (r *sendReport) report(result sms.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := plainID(result.Provider); name != "" {
		r.result.Provider = sms.Redact(name, r.message)
	}
	if id := plainID(result.MessageID); id != "" {
		r.result.MessageID = sms.Redact(id, r.message)
	}
}

func (r *sendReport) get() sms.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result
}

// aboutNumber is for the journal of a number; there is none for an empty string.
func aboutNumber(msisdn string) history.About {
	if msisdn == "" {
		return history.About{}
	}
	return history.About{Subject: history.NumberKey(msisdn)}
}

// providerOf returns the name of who sent a message.
func (s *Service) providerOf(r sms.Result) string {
	switch {
	case r.Provider != "":
		return r.Provider
	case s.Delegate != nil:
		return "delegate"
	}
	return "custom"
}

// observeSMS reports an SMS that was passed to the sender or the delegate.
func (s *Service) observeSMS(ctx context.Context, d delivery, c *claim, m sms.Message, o store.Outcome, latency time.Duration, r sms.Result) {
	if !s.events.wanted() || d.test {
		return
	}
	e := observe.SMS{
		Meta: s.events.meta(ctx), Provider: c.provider, MessageID: r.MessageID, Country: d.number.Home(), Purpose: string(d.Purpose),
		Number: phone.Mask(m.To), Latency: latency, Outcome: observe.Failed,
	}
	switch o {
	case store.OutcomeAccepted:
		e.Outcome = observe.Accepted
	case store.OutcomeRejected:
		e.Outcome = observe.Rejected
	case store.OutcomeUnknown:
		e.Outcome = observe.Unknown
	case store.OutcomeFailed, store.OutcomePending:
	}
	if m.Text != "" {
		e.Segments, _ = sms.Segments(m.Text)
	}
	about := aboutNumber(d.number.MSISDN)
	about.SID = c.sess.SID
	s.events.record(ctx, e, about)
}

// observeCode reports a code that was compared.
func (s *Service) observeCode(ctx context.Context, sess store.Session, country string, right bool) {
	if s.events.wanted() {
		e := observe.Code{Meta: s.events.meta(ctx), Right: right, Country: country, Purpose: string(sess.Purpose)}
		s.events.record(ctx, e, aboutNumber(sess.MSISDN))
	}
}

// observeValidation reports a validation. before is the session before it.
func (s *Service) observeValidation(ctx context.Context, before store.Session, country string) {
	if !s.events.wanted() {
		return
	}
	sentAt := time.UnixMilli(before.TokenExpiresAt).Add(-s.TokenLifetime)
	s.events.record(ctx, observe.Validation{
		Meta: s.events.meta(ctx), Country: country, Purpose: string(before.Purpose), Provider: before.Provider,
		TimeToValidate: max(0, s.Now().Sub(sentAt)),
	}, aboutNumber(before.MSISDN))
}

// observeBlock reports what the guard has blocked.
func (s *Service) observeBlock(ctx context.Context, b limits.Block) {
	if !s.events.wanted() {
		return
	}
	kind, subject := blocked(b)
	s.events.record(ctx, observe.Block{
		Meta: s.events.meta(ctx), Kind: kind, Subject: subject,
		Reason: b.Reason, Count: b.Count, Until: b.Until, DryRun: b.DryRun,
	}, history.About{})
}

const rangeMark = "****" // in place of a range's digits

// blocked returns what a block is of: a range, country or network.
func blocked(b limits.Block) (kind, subject string) {
	switch {
	case b.Network != "":
		return "network", b.Network
	case b.Range != "":
		return "range", "+" + b.Range + rangeMark
	}
	return "country", b.Country
}

// observeUnblock reports that an operator has ended a block.
func (s *Service) observeUnblock(ctx context.Context, kind, subject string, about history.About) {
	if s.events.wanted() {
		s.events.record(ctx, observe.Unblock{Meta: s.events.meta(ctx), Kind: kind, Subject: subject}, about)
	}
}

// observeAction reports what an operator did.
func (s *Service) observeAction(ctx context.Context, action, subject string) {
	if s.events.wanted() {
		operator := observe.Operator(ctx)
		operator = strings.ToValidUTF8(operator[:min(len(operator), maxReported)], "")
		e := observe.Action{Meta: s.events.meta(ctx), Operator: operator, Action: action, Subject: subject}
		s.events.record(ctx, e, history.About{})
	}
}

// observeNumber reports a change of an account's numbers.
func (s *Service) observeNumber(ctx context.Context, change, msisdn string) {
	if !s.events.wanted() {
		return
	}
	country := ""
	if n, err := s.numbers.Parse("+"+msisdn, ""); err == nil {
		country = n.Home()
	}
	s.events.record(ctx, observe.Number{Meta: s.events.meta(ctx), Change: change, Country: country}, aboutNumber(msisdn))
}

// observedStore reports each unit of work.
type observedStore struct {
	store.Store

	events *events
}

func (o observedStore) View(ctx context.Context, names store.Names) (store.Rows, error) {
	var run store.Run
	began := time.Now() //nolint:forbidigo // how long the store really takes
	rows, err := o.Store.View(store.WithReport(ctx, func(r store.Run) { run = r }), names)
	o.report(ctx, "view", began, run, err)
	return rows, err
}

func (o observedStore) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	refused := false
	var run store.Run
	began := time.Now() //nolint:forbidigo // how long the store really takes
	err := o.Store.Update(store.WithReport(ctx, func(r store.Run) { run = r }), names, func(rows *store.Rows) error {
		err := change(rows)
		refused = err != nil
		return err
	})
	cause := err
	if refused {
		cause = nil // the unit's own decision
	}
	o.report(ctx, "update", began, run, cause)
	return err
}

func (o observedStore) report(ctx context.Context, op string, began time.Time, run store.Run, err error) {
	d := time.Since(began)                                          // before At, so that the unit did not begin before its request
	failed := err != nil && !errors.Is(ctx.Err(), context.Canceled) // by its client, which may disconnect
	o.events.emit(ctx, observe.Unit{
		Meta: o.events.meta(ctx), Op: op, Duration: d, Failed: failed, Batch: run.Batch, Retries: run.Retries,
	})
}
