// Package delegate defines services that generate, send and check the codes in place of
// threepid, such as a Matrix identity server or Twilio Verify; each has a package below
// this one. Sessions, attempts, limits, associations and submitToken remain with threepid.
// Set Options.Delegate to use one.
package delegate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/store"
)

// The errors that Check returns for a token that does not validate, matched with errors.Is.
var (
	// ErrIncorrect means that the token is wrong.
	ErrIncorrect = errors.New("delegate: the token is wrong")

	// ErrExpired means that no token can be right any more, because the verification is
	// too old, used up or unknown. The person must request another SMS.
	ErrExpired = errors.New("delegate: the verification has expired")
)

// LimitError means that the service has sent nothing, because it limits the SMS to this
// number. The client gets 429 M_LIMIT_EXCEEDED.
type LimitError struct {
	RetryAfter time.Duration // zero means a minute
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("delegate: the service limits SMS to this number; retry in %v", e.RetryAfter)
}

// StartRequest asks a service to send a token.
type StartRequest struct {
	// ID is an idempotency key: the same for every try of one attempt, and unique
	// otherwise. It has at most 64 bytes of printable ASCII and reveals nothing.
	ID string

	// Secret is 64 hexadecimal digits that only this plugin can compute. It stays the same
	// while the same token is to be sent, and changes when the session needs a new one. It
	// does not reveal the client's client_secret.
	Secret string

	To      string // E.164 with the plus sign
	Country string // of the number: two letters, or empty
	Purpose store.Purpose
	Attempt int64 // the client's send_attempt, 0 or more
}

// CheckRequest asks a service whether a token is right.
type CheckRequest struct {
	// Handle is the handle that Start returned, or empty if it was lost in a crash.
	Handle string

	Secret  string // as in the StartRequest
	To      string
	Purpose store.Purpose

	// Token is what the person typed, without spaces, hyphens and invisible marks, and
	// with ASCII digits: 1 to 64 bytes. It must not be logged.
	Token string
}

// Service sends and checks tokens. Its methods must be safe for concurrent use, and return
// soon after ctx ends. Their errors are logged, so they must contain no credential, token or
// number.
type Service interface {
	// Start sends a token. A nil error means that the service accepted the request. The
	// handle, at most 255 bytes of printable ASCII, is stored and passed to Check. An error is
	// a *LimitError, or as for sms.Sender: it wraps sms.ErrRejected, sms.ErrMisconfigured or
	// sms.ErrUncertain, or it means that nothing was sent and that another try may work.
	Start(ctx context.Context, r StartRequest) (handle string, err error)

	// Check compares a token, whose try is already counted. A nil error means that it is
	// right. ErrIncorrect and ErrExpired mean that it is not; any other error, that the
	// service did not answer. One that wraps sms.ErrUncertain counts as a wrong try, because
	// the service may have compared the token; so does a panic. One that wraps
	// sms.ErrMisconfigured is logged as an error.
	Check(ctx context.Context, r CheckRequest) error
}

// IdentityServer is a Service that clients may name in id_server.
type IdentityServer interface {
	Service

	// MatchesServer reports whether a client's id_server, a host name with an optional
	// port, is this service. A request with any other gets 400 M_SERVER_NOT_TRUSTED.
	MatchesServer(idServer string) bool
}
