// Package observe defines the events that a plugin reports to Options.Observer, for an
// operator's metrics, dashboards and alerts. It imports only the standard library; package
// observe/prometheus, a separate module, turns the events into metrics.
//
// As JSON, durations are in nanoseconds.
//
// No event contains a code, a client_secret or an unmasked phone number. All events of one
// request have the same ID, which is the attribute "request" of the request's log records. [ID]
// returns the ID from the context that a Sender or Policy.Approve receives.
package observe

import (
	"context"
	"crypto/rand"
	"reflect"
	"strings"
	"time"
)

// Observer receives events. The plugin calls it from one goroutine, in the order in which the
// events happened on this node. A slow Observer delays no request: up to 4,096 events wait for
// it, and further ones are dropped and counted in a [Dropped]. Panics are logged, at most once a
// minute, and the next event is reported as usual.
type Observer interface {
	// Observe receives an event. ctx has the values of the request's context, such as the
	// host's trace, and is never done.
	Observe(ctx context.Context, e Event)
}

// Starter is an optional interface for an Observer that follows requests while they run, for
// example to trace them.
type Starter interface {
	// Start is called when a request to an endpoint begins. The request continues with the
	// context that Start returns: the contexts of its events, of the store and of the sender
	// have the values of that context. The last event of the request is a [Request], unless
	// that event is dropped. Start delays the request, so it must be fast. A panic is logged,
	// and the request continues.
	Start(ctx context.Context) context.Context
}

// Func is an Observer that calls a function.
type Func func(context.Context, Event)

// Observe calls f.
func (f Func) Observe(ctx context.Context, e Event) { f(ctx, e) }

// All returns an Observer that passes each event to all of the observers, in order. It is also
// a Starter, and calls Start of each observer that is one.
func All(observers ...Observer) Observer { return all(observers) }

type all []Observer

// Observe implements Observer.
func (a all) Observe(ctx context.Context, e Event) {
	for _, o := range a {
		o.Observe(ctx, e)
	}
}

// Start implements Starter.
func (a all) Start(ctx context.Context) context.Context {
	for _, o := range a {
		if s, ok := o.(Starter); ok {
			ctx = s.Start(ctx)
		}
	}
	return ctx
}

// Event is one of the types of this package. New types may be added, so ignore unknown
// types.
type Event interface{ meta() Meta }

// Meta says when an event happened, and in which request.
type Meta struct {
	ID string    `json:"id,omitempty"` // the same for all events of one request; empty outside of requests
	At time.Time `json:"at"`           // by the clock of the plugin
}

func (m Meta) meta() Meta { return m }

// MetaOf returns the Meta of an event.
func MetaOf(e Event) Meta { return e.meta() }

// Typed is an event with the name of its type, for JSON.
type Typed struct {
	Type  string `json:"type"`
	Event Event  `json:"event"`
}

// TypedOf returns events with the names of their types.
func TypedOf(events []Event) []Typed {
	typed := make([]Typed, 0, len(events))
	for _, e := range events {
		typed = append(typed, Typed{Name(e), e})
	}
	return typed
}

// Name returns the name of an event's type in lower case, such as "sms" or "validation".
func Name(e Event) string {
	return strings.ToLower(strings.TrimPrefix(reflect.TypeOf(e).String(), "observe."))
}

// Outcome is the result of passing an SMS to the provider.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "accepted" // by the provider
	Rejected Outcome = "rejected" // no SMS can reach this number
	Failed   Outcome = "failed"   // nothing was sent
	Unknown  Outcome = "unknown"  // it may have been sent
)

// Request is a request to an endpoint. It is reported after the response.
type Request struct {
	Meta

	Endpoint string        `json:"endpoint,omitempty"` // the path below the base path, such as "/account/3pid/msisdn/requestToken"
	Method   string        `json:"method,omitempty"`
	Status   int           `json:"status,omitempty"`   // the HTTP status
	ErrCode  string        `json:"err_code,omitempty"` // such as "M_LIMIT_EXCEEDED"; empty without an error
	Duration time.Duration `json:"duration"`
}

// Refusal is a request, or a Go call, that was refused before an SMS was sent or a code was
// compared, or before an account's numbers were changed.
type Refusal struct {
	Meta

	// Reason is one of:
	//   - "bad input"
	//   - "policy", or "host" if Policy.Approve refused
	//   - "limit: " and the limit's scope, or "guard: " and "range", "country" or "network"
	//   - "in use" or "not found": the number has an account, or has none
	//   - "another purpose", "unknown session" or "code expired"
	//   - "not validated": there is no validation with which to add the number
	//   - "not authorized": the access token is missing or unknown
	//   - "server not trusted": the client named an identity server
	Reason  string `json:"reason,omitempty"`
	Country string `json:"country,omitempty"` // of the number: two letters, "001", or empty if it is not known
	Purpose string `json:"purpose,omitempty"` // add, register, password or identity; empty for submitToken
}

// SMS is an SMS that was passed to the sender or the delegate.
type SMS struct {
	Meta

	Provider  string        `json:"provider,omitempty"` // as the sender reports it: see sms.Report
	Country   string        `json:"country,omitempty"`
	Purpose   string        `json:"purpose,omitempty"`
	Number    string        `json:"number,omitempty"`     // masked, such as +44770090****
	MessageID string        `json:"message_id,omitempty"` // of the provider, if the sender reports it
	Outcome   Outcome       `json:"outcome"`
	Latency   time.Duration `json:"latency"`
	Segments  int           `json:"segments,omitempty"` // how many SMS it is billed as; 0 for a delegate's
}

// Receipt is a delivery receipt.
type Receipt struct {
	Meta

	Provider  string `json:"provider,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	Country   string `json:"country,omitempty"` // if it is known
	Status    string `json:"status,omitempty"`  // delivered, failed, delayed or unknown
	Reason    string `json:"reason,omitempty"`  // the provider's code for the status; may be empty
}

// Code is a code that was compared.
type Code struct {
	Meta

	Right   bool   `json:"right"`
	Country string `json:"country,omitempty"`
	Purpose string `json:"purpose,omitempty"`
}

// Validation is a number that was validated for the first time in its session.
type Validation struct {
	Meta

	Country        string        `json:"country,omitempty"`
	Purpose        string        `json:"purpose,omitempty"`
	Provider       string        `json:"provider,omitempty"` // of the latest SMS
	TimeToValidate time.Duration `json:"time_to_validate"`   // since the latest SMS
}

// Block is a range, country or network that the guard has blocked.
type Block struct {
	Meta

	Kind    string    `json:"kind,omitempty"`    // range, country or network
	Subject string    `json:"subject,omitempty"` // such as +447700900****, GB or 203.0.113.0/24
	Reason  string    `json:"reason,omitempty"`
	Count   int       `json:"count,omitempty"` // how many times it has been blocked
	Until   time.Time `json:"until"`
	DryRun  bool      `json:"dry_run,omitempty"` // nothing was blocked
}

// Unblock is a number, range, country or network that an operator has unblocked. A number is
// unblocked together with its range.
type Unblock struct {
	Meta

	Kind    string `json:"kind,omitempty"`    // number, range, country or network
	Subject string `json:"subject,omitempty"` // as in a Block; a number is masked like its range
}

// Action is what an operator did, through a Go call or the page of package admin.
type Action struct {
	Meta

	Operator string `json:"operator,omitempty"` // see WithOperator; may be empty
	Action   string `json:"action,omitempty"`   // explain, unblock, lift, release, export or erase
	Subject  string `json:"subject,omitempty"`  // a masked number, or a block's range, country or network
}

// Number is a change of an account's numbers.
type Number struct {
	Meta

	Change  string `json:"change,omitempty"` // added, removed or released
	Country string `json:"country,omitempty"`
}

// Unit is a unit of work of the store.
type Unit struct {
	Meta

	Op       string        `json:"op,omitempty"` // view or update
	Duration time.Duration `json:"duration"`
	Failed   bool          `json:"failed,omitempty"`  // the store failed
	Batch    int           `json:"batch,omitempty"`   // how many units shared the statement or transaction; 0 if the store reports none
	Retries  int           `json:"retries,omitempty"` // how often the store ran the unit again, if the store reports that
}

// Blocks counts what the guard of all nodes blocks. Every ten seconds, each node reports the same
// counts. Ranges are not counted if the store does not implement store.History.
type Blocks struct {
	Meta

	Ranges    int `json:"ranges"`
	Countries int `json:"countries"`
	Networks  int `json:"networks"`
}

// Sweep is a run of the background task that deletes expired rows.
type Sweep struct {
	Meta

	Deleted  int           `json:"deleted,omitempty"` // rows
	Duration time.Duration `json:"duration"`
}

// Dropped counts the events that were dropped because the Observer was too slow.
type Dropped struct {
	Meta

	Count int `json:"count,omitempty"`
}

type operatorKey struct{}

// WithOperator returns a context with the name of an operator, such as the user of the host's
// admin interface. The Actions that are reported with it have that name.
func WithOperator(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, operatorKey{}, name)
}

// Operator returns the operator that ctx names, or an empty string.
func Operator(ctx context.Context) string {
	name, _ := ctx.Value(operatorKey{}).(string)
	return name
}

type idKey struct{}

// WithID returns a context with an ID for events and log records, for a host that already
// assigns an ID to each request.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// NewID returns ctx with a new random ID, or ctx itself if it already has an ID.
func NewID(ctx context.Context) context.Context {
	if ID(ctx) != "" {
		return ctx
	}
	const length = 12
	return WithID(ctx, rand.Text()[:length])
}

// ID returns the ID of the request that ctx belongs to, or an empty string.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}
