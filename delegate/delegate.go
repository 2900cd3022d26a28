// Package delegate says what threepid asks of a service that makes, texts and
// checks the codes in its place, such as an identity server of one's own or
// Twilio Verify. Sessions, attempts, limits, associations and submitToken stay
// threepid's. It imports nothing but the standard library; each service is a
// package of its own below it.
package delegate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/store"
)

// What Check answers for a token that does not validate, matched with errors.Is.
var (
	// ErrIncorrect means that the token is not the one that was sent.
	ErrIncorrect = errors.New("delegate: the token is not right")

	// ErrOver means that no token can be right any more, since the verification
	// is too old, used up or unknown: the person has to ask for another text.
	ErrOver = errors.New("delegate: the verification is over")
)

// LimitError means that the service refuses for now to text that number, and has
// not texted it. The client hears M_LIMIT_EXCEEDED.
type LimitError struct {
	RetryAfter time.Duration // as the service says; zero if it does not: the client is told a minute
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("delegate: the service limits texts to this number, for %v", e.RetryAfter)
}

// Verification is what a text is asked for.
type Verification struct {
	// ID is the same for every try of one attempt and differs between any two
	// attempts otherwise. Printable ASCII, at most 64 bytes. It tells nothing.
	ID string

	// Secret is 64 hexadecimal digits that only this node can give: the same as
	// long as the same token is to be texted, and another one when the session needs a
	// new token. It is not the client's client_secret, and does not tell it.
	Secret string

	To      string // E.164 with the plus sign
	Country string // the number's; two letters, or empty
	Purpose store.Purpose
	Attempt int64 // the client's send_attempt, 0 or more
}

// Check is a token that was submitted.
type Check struct {
	// Handle is what Start returned, or empty when this was lost in a crash.
	Handle string

	Secret  string // as it was in the Verification
	To      string
	Purpose store.Purpose

	// Token is what the person typed, without spaces, hyphens and invisible marks
	// and with ASCII digits; 1 to 64 bytes. It belongs in no log or error.
	Token string
}

// Service texts and checks tokens. Its methods are called from many goroutines.
// ctx ends with the time a call may take; they must return soon after. Their
// errors are logged, so they must hold no credential, token or number.
type Service interface {
	// Start has a token texted. nil means that the service accepted that; handle,
	// at most 255 bytes of printable ASCII, is kept and given to Check. An error is
	// a *LimitError or what one of sms.Sender's Send would be: it wraps
	// sms.ErrRejected, sms.ErrMisconfigured or sms.ErrUncertain, or else means that nothing
	// was sent and another try may work.
	Start(ctx context.Context, v Verification) (handle string, err error)

	// Check compares. nil means that the token is the right one. ErrIncorrect and
	// ErrOver are answers; any other error means that the service did not tell. Of
	// those, one that wraps sms.ErrUncertain counts as a wrong try, as a panic does, since the
	// service may have compared; sms.ErrMisconfigured is logged as an error.
	//
	// The caller has counted the try before it asks.
	Check(ctx context.Context, c Check) error
}

// IdentityServer is a Service that clients may name in id_server.
type IdentityServer interface {
	Service

	// Answers reports whether a client's id_server, a host name with an optional
	// port, means this service. One that does not is refused: M_SERVER_NOT_TRUSTED.
	Answers(idServer string) bool
}
