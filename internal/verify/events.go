package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

const (
	// eventQueue is how many events wait for a slow Observer.
	eventQueue = 4096

	// drainTimeout is how long Close waits for the Observer to receive them.
	drainTimeout = time.Second

	// panicInterval is how often a panic of the Observer is logged.
	panicInterval = time.Minute
)

// events passes events to the host's Observer, in a goroutine of its own: its code must not
// delay a request, and its panic must not end one.
type events struct {
	observer observe.Observer // nil: there is none, and nothing runs
	logger   *slog.Logger
	now      func() time.Time
	queue    chan queued
	ended    chan struct{}

	panics   int // since the latest that was logged
	panicked time.Time

	mu      sync.Mutex
	closed  bool
	dropped int
}

// queued is an event that waits for the Observer.
type queued struct {
	ctx   context.Context // its values alone
	event observe.Event
}

func newEvents(c Config) *events {
	e := &events{observer: c.Observer, logger: c.Logger, now: c.Now}
	if e.observer != nil {
		e.queue, e.ended = make(chan queued, eventQueue), make(chan struct{})
		go e.pass()
	}
	return e
}

func (e *events) wanted() bool { return e.observer != nil }

// meta is the Meta of an event that happens now.
func (e *events) meta(ctx context.Context) observe.Meta {
	return observe.Meta{ID: observe.ID(ctx), At: e.now()}
}

// emit queues an event. If the queue is full it drops the event, and counts it.
func (e *events) emit(ctx context.Context, event observe.Event) {
	if !e.wanted() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	select {
	case e.queue <- queued{context.WithoutCancel(ctx), event}:
	default:
		e.dropped++
	}
}

func (e *events) pass() {
	defer close(e.ended)
	for q := range e.queue {
		e.observe(q.ctx, q.event)
		e.mu.Lock()
		dropped := e.dropped
		e.dropped = 0
		e.mu.Unlock()
		if dropped > 0 {
			e.observe(context.Background(), observe.Dropped{Meta: observe.Meta{At: e.now()}, Count: dropped})
		}
	}
}

func (e *events) observe(ctx context.Context, event observe.Event) {
	defer func() {
		if v := recover(); v != nil {
			e.logPanic(event, v)
		}
	}()
	e.observer.Observe(ctx, event)
}

// logPanic logs one panic a minute, because an Observer that always panics would fill the log.
func (e *events) logPanic(event observe.Event, v any) {
	e.panics++
	now := e.now()
	if now.Sub(e.panicked) < panicInterval {
		return
	}
	e.logger.Error("threepid: Options.Observer panicked; it gets the next event as usual",
		"event", fmt.Sprintf("%T", event), "panic", v, "panics", e.panics)
	e.panics, e.panicked = 0, now
}

// close passes what is queued, for a second at most.
func (e *events) close() {
	if !e.wanted() {
		return
	}
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.queue)
	}
	e.mu.Unlock()
	select {
	case <-e.ended:
	case <-time.After(drainTimeout):
	}
}

// StartRequest returns the context for a request that begins, as the Observer has it.
func (s *Service) StartRequest(ctx context.Context) (started context.Context) {
	starter, ok := s.events.observer.(observe.Starter)
	if !ok {
		return ctx
	}
	defer func() {
		if v := recover(); v != nil {
			s.log(ctx).Error("threepid: Start of Options.Observer panicked; the request goes on", "panic", v)
			started = ctx
		}
	}()
	return starter.Start(ctx)
}

// Observe reports an event of the HTTP layer.
func (s *Service) Observe(ctx context.Context, event func(observe.Meta) observe.Event) {
	if s.events.wanted() {
		s.events.emit(ctx, event(s.events.meta(ctx)))
	}
}

// log returns the logger for a request, whose records have its ID.
func (s *Service) log(ctx context.Context) *slog.Logger {
	if id := observe.ID(ctx); id != "" {
		return s.Logger.With("request", id)
	}
	return s.Logger
}

// ObserveRefusal reports a refusal with its reason.
func (s *Service) ObserveRefusal(ctx context.Context, err error, country string, p store.Purpose) {
	var refusal *Error
	if !s.events.wanted() || !errors.As(err, &refusal) {
		return
	}
	if reason := refusal.reason(); reason != "" {
		s.events.emit(ctx, observe.Refusal{Meta: s.events.meta(ctx), Reason: reason, Country: country, Purpose: string(p)})
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

// observeSMS reports an SMS that was passed to the sender or the delegate.
func (s *Service) observeSMS(ctx context.Context, d delivery, m sms.Message, o store.Outcome, latency time.Duration, r sms.Result) {
	if !s.events.wanted() || d.test {
		return
	}
	e := observe.SMS{
		Meta: s.events.meta(ctx), Provider: r.Provider, MessageID: r.MessageID, Country: d.number.Home(), Purpose: string(d.Purpose),
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
	switch {
	case s.Delegate != nil && e.Provider == "":
		e.Provider = "delegate"
	case e.Provider == "":
		e.Provider = "custom"
	}
	if m.Text != "" {
		e.Segments, _ = sms.Segments(m.Text)
	}
	s.events.emit(ctx, e)
}

// observeCode reports a code that was compared.
func (s *Service) observeCode(ctx context.Context, sess store.Session, country string, right bool) {
	if s.events.wanted() {
		s.events.emit(ctx, observe.Code{Meta: s.events.meta(ctx), Right: right, Country: country, Purpose: string(sess.Purpose)})
	}
}

// observeValidation reports a validation. before is the session before it.
func (s *Service) observeValidation(ctx context.Context, before store.Session, country string) {
	if !s.events.wanted() {
		return
	}
	sentAt := time.UnixMilli(before.TokenExpiresAt).Add(-s.TokenLifetime)
	s.events.emit(ctx, observe.Validation{
		Meta: s.events.meta(ctx), Country: country, Purpose: string(before.Purpose), TimeToValidate: max(0, s.Now().Sub(sentAt)),
	})
}

// observeBlock reports what the guard has blocked.
func (s *Service) observeBlock(ctx context.Context, b limits.Block) {
	if !s.events.wanted() {
		return
	}
	e := observe.Block{
		Meta: s.events.meta(ctx), Kind: "country", Subject: b.Country,
		Reason: b.Reason, Count: b.Count, Until: b.Until, DryRun: b.DryRun,
	}
	switch {
	case b.Network != "":
		e.Kind, e.Subject = "network", b.Network
	case b.Range != "":
		e.Kind, e.Subject = "range", "+"+b.Range+"****"
	}
	s.events.emit(ctx, e)
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
	s.events.emit(ctx, observe.Number{Meta: s.events.meta(ctx), Change: change, Country: country})
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
