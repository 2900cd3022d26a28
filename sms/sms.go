// Package sms defines how SMS are sent.
// It imports nothing but the standard library; each provider is a package of
// its own below it.
package sms

import (
	"context"
	"errors"
	"time"
)

// What an error of Send wraps to say more than that another try may work. An
// error that wraps none of these means that no text has left.
var (
	// ErrRejected says that the provider will never deliver to this number or
	// country, so that trying again is pointless. The client hears
	// M_DESTINATION_REJECTED.
	ErrRejected = errors.New("sms: the provider cannot reach this number")

	// ErrMisconfigured says that the operator has to do something: wrong
	// credentials, no credit, a sender's name that is not allowed. It is logged
	// as an error, and the number is not blamed: the client hears M_SEND_ERROR.
	ErrMisconfigured = errors.New("sms: the provider refuses the account or its settings")

	// ErrUncertain says that the text may have left: the connection broke, or the time was
	// over, when the request was out and its answer was not in. So does
	// context.DeadlineExceeded. Such a text is counted, and another try of it
	// costs nothing.
	ErrUncertain = errors.New("sms: the provider may have sent it")
)

// Message is one text message.
type Message struct {
	// ID is the same for every try of one attempt and differs between any two
	// texts otherwise, so that a provider which knows idempotency keys sends
	// it once. Printable ASCII, at most 64 bytes. It tells nothing.
	ID string

	// To is the number in E.164 with the plus sign, such as +447700900001.
	To string

	// Text is UTF-8. It holds the token: it belongs in no log.
	Text string

	// Country is the region the number belongs to, two uppercase letters,
	// else the one that the client dialled from; it may be empty when the
	// number tells none.
	Country string

	// From is who the text is from, in the provider's terms, for this message
	// alone: see compose.Identify. Empty: the provider's own setting.
	From string

	// Attempt is the client's send_attempt, 0 or more. The client chooses it: use
	// SentBefore to choose a provider.
	Attempt int64

	// SentBefore is the number of SMS that were sent, or may have been, for the same
	// number and client_secret before this one, and brought no validation. Above 0, the
	// one before probably did not arrive. It is the same for every try of one attempt.
	SentBefore int

	// Validity is how long the code in Text remains valid, to the second. A provider
	// that has not delivered the SMS by then should give up. 0 means not known.
	Validity time.Duration
}

// Sender hands messages to a provider. Send is called from many goroutines.
//
// nil means that the provider accepted the message. An error wraps ErrRejected,
// ErrMisconfigured or ErrUncertain as the case may be; any other means that
// another try may work. When it is not known whether the provider accepted, the
// answer is an error: the try that follows carries the same ID. It carries the
// same Text too if its request is the same; but the language and the purpose are the
// request's, so that a client which asks in another one, or of another endpoint,
// gets the same token in other words. So it is when a node has another configuration by then.
//
// ctx ends with the time a send may take; Send must return soon after. Errors are
// logged, so they must hold no credential; the number and the token
// are removed from them in any case.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// Func makes a Sender of a function.
type Func func(ctx context.Context, m Message) error

var _ Sender = Func(nil)

// Send calls f.
func (f Func) Send(ctx context.Context, m Message) error { return f(ctx, m) }
