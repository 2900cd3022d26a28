package verify

import (
	"errors"
	"fmt"
	"time"
)

// Code says what is wrong with a request. The HTTP layer gives each one status
// and one errcode.
type Code int

// The codes, in the order in which a request meets them.
const (
	TooLarge            Code = iota + 1 // the body is over the limit
	NotJSON                             // the body is no JSON text, or more than one
	BadJSON                             // JSON, but not an object as wanted here
	MissingParam                        // a required field is absent, null or empty
	InvalidParam                        // a field breaks its rule
	InvalidNumber                       // the phone number is not one, or not one of the country
	Denied                              // the host's policy is against this number
	InUse                               // the number is associated with an account
	NotAssociated                       // the number is associated with no account
	Limited                             // a limit is reached; see RetryAfter
	DestinationRejected                 // the provider will never reach this number
	SendFailed                          // no SMS left; another try may work
	TokenIncorrect                      // the token is not the one texted
	SessionExpired                      // too late, or too many wrong tokens
	ServerNotTrusted                    // the client names an identity server that is not ours
	CheckFailed                         // the service that checks tokens did not tell
	MissingToken                        // nobody is logged in
	UnknownToken                        // the user is no longer logged in
	AuthFailed                          // no validation allows to add the number
	AuthFailedLegacy                    // AuthFailed, on the deprecated endpoint
)

// Error is what a request is refused with. Message is a sentence for a person
// and goes to the client as it is: it holds nothing that the client did not
// know. Every other error type means that something failed on our side.
type Error struct {
	Code    Code
	Message string

	// RetryAfter is when the same request may do better, if Limited.
	RetryAfter time.Duration

	// TriesLeft is how many more wrong tokens the session allows, if TokenIncorrect.
	TriesLeft int

	// Reason is more specific than Code, for the operator: see observe.Refusal. The client
	// does not learn it. It may be empty.
	Reason string
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Errors of Validated, Redeem and Release, matched with errors.Is.
var (
	// ErrNoSession means that there is no session with that sid and
	// client_secret, or that it was redeemed. Which of these is not told.
	ErrNoSession = errors.New("threepid: no such validation session")

	// ErrNotValidated means that the token has not been submitted yet.
	ErrNotValidated = errors.New("threepid: the number is not validated yet")

	// ErrExpired means that the session or its validation is too old.
	ErrExpired = errors.New("threepid: the validation session has expired")

	// ErrNoAccount means that no account has the number.
	ErrNoAccount = errors.New("threepid: no account has this number")

	// ErrClosed means that the plugin was closed.
	ErrClosed = errors.New("threepid: closed")
)

// plural returns n with the name of the things: "1 try", "2 tries".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
