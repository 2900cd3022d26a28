// Package verify is the domain: sessions, attempts, codes and accounts. It imports neither
// HTTP nor SQL. The rules are pure functions of a session and the time (session.go, token.go,
// fields.go). The flows that use them with a store and a sender are methods of Service:
// request.go and send.go for an SMS, submit.go for a code, account.go for an account's numbers.
package verify

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/history"
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
	// storeTimeout bounds one unit of work, also one that continues after its client has
	// disconnected.
	storeTimeout = 10 * time.Second

	// leaseMargin is how much longer a lease lasts than a send may take: for recording the
	// outcome, and for clocks that differ.
	leaseMargin = 5 * time.Second

	// A budget's lease lasts budgetLeases times as long as a claim's.
	budgetLeases = 3

	// expiredRetention is how long an expired session is kept, so that a late client gets
	// "expired" and not "unknown".
	expiredRetention = 24 * time.Hour

	// Expired rows are deleted in chunks that are small enough not to delay writers. After
	// each chunk the janitor pauses for as long as the chunk took, so that it writes at most
	// half of the time.
	sweepChunk    = 100
	minSweepPause = time.Millisecond
)

// Config configures a Service. Every field up to SweepInterval is required, except Observer;
// the zero values of the others mean none.
type Config struct {
	Store    store.Store
	Accounts store.Accounts
	Sender   sms.Sender // nil if there is a Delegate
	Logger   *slog.Logger

	Now    func() time.Time
	Random io.Reader

	// Observer receives the events of package observe; nil: there is none.
	Observer observe.Observer

	// StatisticsLifetime and JournalLifetime are how long each is kept, if Store is a
	// store.History; 0 or less: none.
	StatisticsLifetime, JournalLifetime time.Duration

	Brand string // the name in the SMS; may be empty

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

	// ServerKeys are part of every new token's key, in addition to the nonce.
	ServerKeys [][]byte

	// Delegate sends and checks the tokens in place of Sender, if it is not nil.
	Delegate delegate.Service
}

// Service runs the flows. Its methods are safe for concurrent use.
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
	history *history.Recorder
	events  *events
	units   store.Store // Store, whose units are observed

	early    early                    // receipts without an SMS
	receipts [receiptLocks]sync.Mutex // by message

	mu      sync.Mutex
	active  sync.WaitGroup  // requests in progress, and the janitor
	closing context.Context // done once Close was called, with the cause ErrClosed
	close   context.CancelCauseFunc
}

// New returns a Service. Nothing runs until Start.
func New(c Config) *Service {
	closing, cancel := context.WithCancelCause(context.Background())
	c.Guard = c.Guard.WithDefaults()
	counters, _ := c.Store.(store.Counters)
	node, now := nodeName(), func() int64 { return c.Now().UnixMilli() }
	watch := limit.NewWatch(c.Guard, counters, node, now)
	recorder := newRecorder(c, node)
	events, units := newEvents(c, recorder), c.Store
	if events.observer != nil {
		units = observedStore{c.Store, events}
	}
	return &Service{
		history: recorder, events: events, units: units,
		budgets: limit.NewBudgets(c.Limits, units, node, budgetLeases*(c.SendTimeout+leaseMargin), now),
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

func newRecorder(c Config, node string) *history.Recorder {
	kept, ok := c.Store.(store.History)
	if !ok {
		return nil
	}
	return history.New(history.Config{Store: kept, Node: node, Now: c.Now, Statistics: c.StatisticsLifetime, Journal: c.JournalLifetime})
}

// Start loads the guard's verdicts, and starts what runs until Close: the janitor, which
// deletes expired rows, the exchange of the guard's counts, the recording of the history, and the
// report of what is blocked.
func (s *Service) Start() {
	ctx, cancel := bounded(context.Background())
	defer cancel()
	if err := s.limiter.Watch.Load(ctx); err != nil {
		s.Logger.Error("threepid: the guard starts without the verdicts of other nodes, and reads them when the database works", "error", err)
	}
	for _, run := range []func(){s.sweepUntilClosed, s.flushUntilClosed, s.recordUntilClosed, s.reportBlocksUntilClosed} {
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

// Close refuses further requests and returns when those in progress have ended. A request
// that has not called the provider yet ends with ErrClosed. One that has continues until the
// SMS was sent, or timed out, and is recorded. It may be called twice.
//
// It takes little longer than SendTimeout at most. A store that does not respond adds up to 15
// seconds: storeTimeout for a claim, or recordTimeout twice for an outcome.
func (s *Service) Close() {
	s.mu.Lock()
	s.close(ErrClosed)
	s.mu.Unlock()
	s.active.Wait()
	_ = s.flush(true)
	s.recordLast()
	s.events.close()
}

// untilClosed returns a context for work that may be abandoned when Close is called.
func (s *Service) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	return until(ctx, s.closing)
}

// until returns ctx, which also ends when the other context ends, with the same cause.
func until(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// enter counts a request as in progress. The caller must call s.active.Done.
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

// detached returns a context for work that must be finished even if the client disconnects,
// such as a claim.
func detached(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// bounded returns a context for work that ends when the client disconnects. A store that does not
// respond must not delay requests, or Close, indefinitely.
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

// sweep deletes expired rows, chunk by chunk, until there are none or Close is called.
func (s *Service) sweep() {
	deleted, start := 0, time.Now() //nolint:forbidigo // how long the store really takes
	defer func() {
		if s.events.observer != nil {
			ctx := context.Background()
			s.events.emit(ctx, observe.Sweep{Meta: s.events.meta(ctx), Deleted: deleted, Duration: time.Since(start)})
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
	deleted += s.deleteExpired("sessions", func(ctx context.Context) (int, error) { return s.Store.DeleteExpired(ctx, before, sweepChunk) })
	deleted += s.deleteExpired("history", func(ctx context.Context) (int, error) { return s.history.DeleteExpired(ctx, sweepChunk) })
}

// deleteExpired calls once, which deletes up to sweepChunk rows, until there are none or Close is
// called. It returns how many it deleted.
func (s *Service) deleteExpired(what string, once func(context.Context) (int, error)) (deleted int) {
	for s.closing.Err() == nil {
		ctx, cancel := context.WithTimeout(s.closing, storeTimeout)
		began := time.Now() //nolint:forbidigo // how long the store really takes
		n, err := once(ctx)
		cancel()
		if s.closing.Err() != nil {
			break
		}
		if err != nil {
			s.Logger.Error("threepid: cannot delete expired "+what+"; trying again later", "error", err)
			break
		}
		if deleted += n; n < sweepChunk {
			break
		}
		select {
		case <-s.closing.Done():
		case <-time.After(max(minSweepPause, time.Since(began))):
		}
	}
	return deleted
}

// live reports whether a session exists and has not expired.
func (s *Service) live(sess store.Session) bool { return sess.SID != "" && !expired(sess, s.now()) }

// expectNames returns a [store.NamesError] if rows are not those of names, because names
// depend on a field that has changed since it was read.
func expectNames(rows *store.Rows, names store.Names) error {
	named := func(r store.Record, key store.Key) bool { return r.Key == key }
	if !slices.EqualFunc(rows.Records, names.Records, named) {
		return &store.NamesError{Names: names}
	}
	return nil
}

func byKey(key store.Key) store.SessionRef { return store.SessionRef{Key: key} }

func bySID(sid string) store.SessionRef { return store.SessionRef{SID: sid} }
