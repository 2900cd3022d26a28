package verify

import (
	"errors"
	"fmt"
	"time"
)

// Code is the reason for a refusal. The HTTP layer maps each to one status and errcode.
type Code int

// The codes, in the order in which a request meets them.
const (
	TooLarge            Code = iota + 1 // the body is over the limit
	NotJSON                             // the body is not JSON, or has trailing data
	BadJSON                             // JSON, but not the expected object
	MissingParam                        // a required field is absent, null or empty
	InvalidParam                        // a field breaks its rule
	InvalidNumber                       // the phone number is invalid, or cannot be dialled from the country
	Denied                              // the policy refuses this number
	InUse                               // the number is associated with an account
	NotAssociated                       // the number is associated with no account
	Limited                             // a limit is reached; see RetryAfter
	DestinationRejected                 // the provider will never reach this number
	SendFailed                          // nothing was sent; another try may work
	TokenIncorrect                      // the token is wrong
	SessionExpired                      // too late, or too many wrong tokens
	ServerNotTrusted                    // the client names another identity server
	CheckFailed                         // the delegate did not answer
	MissingToken                        // nobody is logged in
	UnknownToken                        // the user is no longer logged in
	AuthFailed                          // there is no validation with which to add the number
	AuthFailedLegacy                    // AuthFailed, on the deprecated endpoint
)

// Error is the refusal of a request. Message is a sentence for a person and is sent to the
// client, so it contains nothing that the client did not know. An error of any other type
// means that something failed on the server.
type Error struct {
	Code    Code
	Message string

	// RetryAfter is how long to wait, if Limited.
	RetryAfter time.Duration

	// TriesLeft is how many more wrong tokens the session allows, if TokenIncorrect.
	TriesLeft int

	// Reason is more specific than Code, for the operator: see observe.Refusal. The client
	// does not learn it. It may be empty.
	Reason string
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Errors of Validated, Redeem, Release and Lift, matched with errors.Is.
var (
	// ErrNoSession means that there is no session with that sid and client_secret, or that
	// it was redeemed.
	ErrNoSession = errors.New("threepid: no such validation session")

	// ErrNotValidated means that the token has not been submitted yet.
	ErrNotValidated = errors.New("threepid: the number is not validated yet")

	// ErrExpired means that the session or its validation is too old.
	ErrExpired = errors.New("threepid: the validation session has expired")

	// ErrNoAccount means that no account has the number.
	ErrNoAccount = errors.New("threepid: no account has this number")

	// ErrNotBlocked means that what is to be lifted is not blocked.
	ErrNotBlocked = errors.New("threepid: nothing of that name is blocked")

	// ErrClosed means that the plugin was closed.
	ErrClosed = errors.New("threepid: closed")
)

// plural returns a number with its noun: "1 try", "2 tries".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
