package verify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"example.com/threepid/internal/history"
	"example.com/threepid/observe"
)

const (
	// eventQueue is how many events wait for a slow Observer.
	eventQueue = 4096

	// drainTimeout is how long Close waits for the Observer to receive them.
	drainTimeout = time.Second

	// panicInterval is how often a panic of the Observer is logged.
	panicInterval = time.Minute
)

// events passes events to the recorder of the history, and to the host's Observer. The Observer is
// called in a goroutine of its own: its code must not delay a request, and its panic must not end
// one.
type events struct {
	recorder *history.Recorder // nil: there is none
	observer observe.Observer  // nil: there is none, and nothing runs
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

func newEvents(c Config, recorder *history.Recorder) *events {
	e := &events{recorder: recorder, observer: c.Observer, logger: c.Logger, now: c.Now}
	if e.observer != nil {
		e.queue, e.ended = make(chan queued, eventQueue), make(chan struct{})
		go e.pass()
	}
	return e
}

// wanted reports whether anybody wants the events that the history has.
func (e *events) wanted() bool { return e.observer != nil || e.recorder != nil }

// record is emit of an event that the history may have.
func (e *events) record(ctx context.Context, event observe.Event, about history.About) {
	e.recorder.Record(event, about)
	e.emit(ctx, event)
}

// meta is the Meta of an event that happens now.
func (e *events) meta(ctx context.Context) observe.Meta {
	return observe.Meta{ID: observe.ID(ctx), At: e.now()}
}

// emit queues an event. If the queue is full it drops the event, and counts it.
func (e *events) emit(ctx context.Context, event observe.Event) {
	if e.observer == nil {
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
	if e.observer == nil {
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
	if s.events.observer != nil {
		s.events.emit(ctx, event(s.events.meta(ctx)))
	}
}
