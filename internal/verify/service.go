// Package verify is the domain: what a request means. It knows no HTTP and no
// SQL. Rules are pure functions of a session and the time (session.go, token.go,
// fields.go); the flows that tie them to a store and a sender are
// methods of Service (request.go, submit.go).
package verify

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/timing"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

const (
	// storeTimeout bounds one unit of work, also one that goes on although its
	// caller may have hung up.
	storeTimeout = 10 * time.Second

	// leaseMargin is what a lease lasts beyond the time a send may take: the
	// time to record how the send ended, and some difference between clocks.
	leaseMargin = 5 * time.Second

	// budgetLeases is how many times as long as an attempt a lease of a budget lasts.
	budgetLeases = 3

	// expiredRetention is how long a session stays after it expired, so that a client
	// that comes late is told that it expired, and not that it is unknown.
	expiredRetention = 24 * time.Hour

	// Expired rows are deleted in chunks that are small enough not to hold up a
	// writer. After each chunk the janitor pauses for as long as the chunk took, so
	// that it has the writer half of the time at most, however much there is to delete.
	sweepChunk    = 100
	minSweepPause = time.Millisecond
)

// Config is what a Service works with. Every field up to
// NextLinkHosts is required; the zero values of the others mean none.
type Config struct {
	Store    store.Store
	Accounts store.Accounts
	Sender   sms.Sender // nil if there is a Delegate
	Logger   *slog.Logger

	Now    func() time.Time
	Random io.Reader

	// Observer receives the events of package observe; nil: there is none.
	Observer observe.Observer

	// Text returns an SMS and its language, a BCP 47 tag. Equal arguments give equal
	// texts, since a retry may repeat an SMS that was sent.
	Text func(kind texts.Kind, acceptLanguage, code string) (text, language string)

	TokenDigits     int
	TokenLifetime   time.Duration
	SessionLifetime time.Duration
	SendTimeout     time.Duration
	SweepInterval   time.Duration
	NextLinkHosts   []string // lower case; none means any

	Policy limits.Policy
	Limits limits.Limits
	Guard  limits.Guard

	// Conceal gives requests for a number that has an account, or that has none and
	// needs one, the same response as any other. The SMS says what is wrong.
	Conceal bool

	// ServerKeys are part of every new token's key; none means that the nonce is
	// all of it.
	ServerKeys [][]byte

	// Delegate texts and checks tokens in place of Sender and us; nil: it does not.
	Delegate delegate.Service
}

// Service carries the flows out. Its methods may be called from many
// goroutines.
type Service struct {
	Config
	flights   flights
	numbers   phone.Cache
	lookUps   limit.LookUps
	lifetimes lifetimes

	testNumbers map[string]limits.TestNumber

	keys    serverKeys
	slots   timing.Slots
	limiter *limit.Limiter
	budgets *limit.Budgets
	events  *events
	units   store.Store // Store, whose units are observed

	mu      sync.Mutex
	active  sync.WaitGroup  // requests under way, and the janitor
	closing context.Context // done once Close was called, with the cause ErrClosed
	close   context.CancelCauseFunc
}

// New makes a Service. Nothing runs until Start.
func New(c Config) *Service {
	closing, cancel := context.WithCancelCause(context.Background())
	c.Guard = c.Guard.WithDefaults()
	counters, _ := c.Store.(store.Counters)
	node, now := nodeName(), func() int64 { return c.Now().UnixMilli() }
	watch := limit.NewWatch(c.Guard, counters, node, now)
	events, units := newEvents(c), c.Store
	if events.wanted() {
		units = observedStore{c.Store, events}
	}
	return &Service{
		events: events, units: units,
		budgets: limit.NewBudgets(c.Limits, c.Store, node, budgetLeases*(c.SendTimeout+leaseMargin), now),
		limiter: &limit.Limiter{Limits: c.Limits, Guard: c.Guard, Watch: watch, CountFailedChecks: c.Delegate != nil},
		Config:  c,
		closing: closing,
		close:   cancel,
		keys:    newServerKeys(c.ServerKeys),

		testNumbers: testNumbers(c.Policy.TestNumbers),

		slots: timing.NewSlots(),
		lifetimes: lifetimes{
			token:   c.TokenLifetime,
			session: c.SessionLifetime,
			lease:   c.SendTimeout + leaseMargin,
		},
	}
}

// Start loads what the guard has decided, and starts what runs until Close: the
// janitor, which deletes expired rows, and the exchange of the guard's counts.
func (s *Service) Start() {
	ctx, cancel := bounded(context.Background())
	defer cancel()
	if err := s.limiter.Watch.Load(ctx); err != nil {
		s.Logger.Error("threepid: the guard starts without the verdicts of other nodes, and reads them when the database works", "error", err)
	}
	for _, run := range []func(){s.sweepUntilClosed, s.flushUntilClosed} {
		if s.enter() != nil {
			return
		}
		go func() {
			defer s.active.Done()
			run()
		}()
	}
}

// Ready returns nil if the service is not closed and the store responds.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := s.units.View(ctx, store.Names{Records: []store.Key{store.RecordKey("ready")}})
	return err
}

// Close refuses further requests and returns when those under way have ended. A
// request that has not called the provider yet ends with ErrClosed; one that has goes
// on until the SMS was sent, or timed out, and recorded. It is safe to call twice.
//
// That takes SendTimeout and a moment at most. A store that does not respond adds up to
// 15 seconds: storeTimeout for a claim, or recordTimeout twice for an outcome.
func (s *Service) Close() {
	s.mu.Lock()
	s.close(ErrClosed)
	s.mu.Unlock()
	s.active.Wait()
	_ = s.flush(true)
	s.events.close()
}

// untilClosed is a context for work that need not be finished when Close is called.
func (s *Service) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.closing, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// enter counts a request as under way; who entered must call s.active.Done.
func (s *Service) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Err() != nil {
		return ErrClosed
	}
	s.active.Add(1)
	return nil
}

// now is the injected clock in Unix milliseconds.
func (s *Service) now() int64 { return s.Now().UnixMilli() }

// detached is a context for work that must be finished although the caller may
// hang up: a claim or a text half done helps nobody.
func detached(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// bounded is a context for work that may end with its caller. A store that does
// not answer at all must not keep callers for ever, and with them Close.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, storeTimeout)
}

func (s *Service) sweepUntilClosed() {
	ticker := time.NewTicker(s.SweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
			s.sweep()
		}
	}
}

// sweep deletes what has expired by now, chunk by chunk, unless Close comes.
func (s *Service) sweep() {
	deleted, start := 0, time.Now() //nolint:forbidigo // how long the store really takes
	defer func() {
		if s.events.wanted() {
			s.events.emit(observe.Sweep{Meta: s.events.meta(context.Background()), Deleted: deleted, Duration: time.Since(start)})
		}
	}()
	before := s.Now().Add(-expiredRetention)
	if counters, ok := s.Store.(store.Counters); ok {
		ctx, cancel := context.WithTimeout(s.closing, storeTimeout)
		if err := counters.DeleteExpiredCounts(ctx, s.Now()); err != nil && s.closing.Err() == nil {
			s.Logger.Error("threepid: cannot delete expired counts of the guard; trying again later", "error", err)
		}
		cancel()
	}
	for {
		ctx, cancel := context.WithTimeout(s.closing, storeTimeout)
		began := time.Now() //nolint:forbidigo // how long the store really takes
		n, err := s.Store.DeleteExpired(ctx, before, sweepChunk)
		cancel()
		if s.closing.Err() != nil {
			return
		}
		if err != nil {
			s.Logger.Error("threepid: cannot delete expired sessions; trying again later", "error", err)
			return
		}
		if deleted += n; n < sweepChunk {
			return
		}
		select {
		case <-s.closing.Done():
			return
		case <-time.After(max(minSweepPause, time.Since(began))):
		}
	}
}

// live reports whether a session is there and has not expired.
func (s *Service) live(sess store.Session) bool { return sess.SID != "" && !expired(sess, s.now()) }

// expectNames returns a [store.NamesError] if rows are not those of names: because
// names follow from a field that has changed since it was read.
func expectNames(rows *store.Rows, names store.Names) error {
	named := func(r store.Record, key store.Key) bool { return r.Key == key }
	if !slices.EqualFunc(rows.Records, names.Records, named) {
		return &store.NamesError{Names: names}
	}
	return nil
}

func byKey(key store.Key) store.SessionRef { return store.SessionRef{Key: key} }

func bySID(sid string) store.SessionRef { return store.SessionRef{SID: sid} }
