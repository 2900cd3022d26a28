// Package sms defines how SMS are sent: a [Sender] sends a [Message]. Each provider has a
// package below this one; package compose combines several, and package httpsend helps to write
// another one over HTTP.
package sms

import (
	"context"
	"errors"
	"time"
)

// The classes of errors that Send returns. An error that wraps none of these means that
// nothing was sent and that another try may work.
var (
	// ErrRejected means that the provider will never deliver to this number or country.
	// The client gets 400 M_DESTINATION_REJECTED.
	ErrRejected = errors.New("sms: the provider cannot reach this number")

	// ErrMisconfigured means that the operator must act: the credentials are wrong, the
	// account has no credit, or its sender ID is not allowed. It is logged as an error.
	// The client gets 502 M_SEND_ERROR.
	ErrMisconfigured = errors.New("sms: the provider refuses the account or its settings")

	// ErrUncertain means that the SMS may have been sent: the connection broke, or the
	// time was over, after the request was sent and before the response was received.
	// context.DeadlineExceeded means the same. Such an SMS counts in the limits, and
	// another try of it costs nothing.
	ErrUncertain = errors.New("sms: the provider may have sent it")
)

// Message is one text message.
type Message struct {
	// ID is an idempotency key: the same for every try of one attempt, and unique
	// otherwise. It has at most 64 bytes of printable ASCII and reveals nothing.
	ID string

	// To is the number in E.164 with the plus sign, such as +447700900001.
	To string

	// Text is UTF-8. It contains the code, so it must not be logged.
	Text string

	// Code, Purpose, Language and Brand are for providers that send templates of their own
	// instead of Text, such as WhatsApp. Code is the code in Text, and must not be logged. It
	// is empty in a message without a code, which such a Sender must send as Text or refuse.
	// Purpose is add, register, password or identity. Language is the language chosen for
	// the client, as a BCP 47 tag. Brand is Options.Messages.Brand.
	Code, Purpose, Language, Brand string

	// Country is the number's country, as two uppercase letters. For a number of no
	// country it is the one that the client named, or empty.
	Country string

	// From is the sender ID for this message, in the provider's terms: see
	// compose.WithSenderIDs. If it is empty, the provider's setting applies.
	From string

	// Attempt is the client's send_attempt, 0 or more. The client chooses it: use
	// SentBefore to choose a provider.
	Attempt int64

	// SentBefore is how many SMS were sent, or may have been, for the same number and
	// client_secret before this one without a validation. If it is greater than 0, the
	// latest of them probably did not arrive. It is the same for every try of one attempt.
	SentBefore int

	// Validity is how long the code in Text remains valid, to the second. A provider
	// that has not delivered the SMS by then should give up. 0 means not known.
	Validity time.Duration
}

// Sender sends messages through a provider. Its method must be safe for concurrent use.
type Sender interface {
	// Send returns nil if the provider accepted the message. An error wraps ErrRejected,
	// ErrMisconfigured or ErrUncertain; any other means that nothing was sent and that
	// another try may work. If it is not known whether the provider accepted the message,
	// Send must return ErrUncertain.
	//
	// Another try has the same ID. It has the same Text if the client's request has the
	// same language and purpose, and the node the same configuration.
	//
	// Send must return soon after ctx ends. Its errors are logged, so they must contain no
	// credential. The number and the code are removed from them in any case.
	Send(ctx context.Context, m Message) error
}

// Func is a Sender that calls a function.
type Func func(ctx context.Context, m Message) error

var _ Sender = Func(nil)

// Send calls f.
func (f Func) Send(ctx context.Context, m Message) error { return f(ctx, m) }
