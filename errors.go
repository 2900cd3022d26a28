package threepid

import (
	"errors"
	"net/http"
	"time"

	"example.com/threepid/internal/phone"
	"example.com/threepid/internal/verify"
)

// Errors of the Go calls, matched with errors.Is.
var (
	// ErrNoSession means that there is no session with that sid and client_secret, or that
	// its validation was consumed: redeemed, or used to add the number to an account.
	ErrNoSession = verify.ErrNoSession

	// ErrNotValidated means that the code has not been submitted yet, or that the number
	// was released or removed from an account since the code was first sent.
	ErrNotValidated = verify.ErrNotValidated

	// ErrExpired means that the session, or its validation, is too old.
	ErrExpired = verify.ErrExpired

	// ErrNoAccount means that no account has the number.
	ErrNoAccount = verify.ErrNoAccount

	// ErrNotBlocked means that the block passed to Lift has ended already, or never existed.
	ErrNotBlocked = verify.ErrNotBlocked

	// ErrInvalidNumber means that the argument is not a phone number in E.164, with or
	// without the plus sign.
	ErrInvalidNumber = phone.ErrInvalid

	// ErrClosed means that the plugin was closed.
	ErrClosed = verify.ErrClosed
)

// Error says why an endpoint, or one of the Go calls RequestToken, SubmitToken and AddNumber,
// refused a request. Any other error of these calls means that something failed on the
// server; do not show it to the client.
type Error struct {
	Status     int           // the HTTP status of the endpoint's response, such as 429
	ErrCode    string        // its errcode, such as "M_LIMIT_EXCEEDED"; docs/openapi.yaml lists them
	Message    string        // one sentence for the person who made the request, in English
	RetryAfter time.Duration // with M_LIMIT_EXCEEDED: how long to wait
	TriesLeft  int           // with M_TOKEN_INCORRECT: how many wrong codes the session still allows
}

func (e *Error) Error() string { return "threepid: " + e.ErrCode + ": " + e.Message }

// asError converts an error of the domain to the public type.
func asError(err error) error {
	var refusal *verify.Error
	if !errors.As(err, &refusal) {
		return err
	}
	status, errcode := statusOf(refusal.Code)
	return &Error{
		Status: status, ErrCode: errcode, Message: refusal.Message,
		RetryAfter: refusal.RetryAfter, TriesLeft: refusal.TriesLeft,
	}
}

// statusOf returns the status and errcode of a domain error.
func statusOf(code verify.Code) (int, string) {
	switch code {
	case verify.TooLarge:
		return http.StatusRequestEntityTooLarge, "M_TOO_LARGE"
	case verify.NotJSON:
		return http.StatusBadRequest, "M_NOT_JSON"
	case verify.BadJSON:
		return http.StatusBadRequest, "M_BAD_JSON"
	case verify.MissingParam:
		return http.StatusBadRequest, "M_MISSING_PARAM"
	case verify.InvalidParam, verify.InvalidNumber:
		return http.StatusBadRequest, "M_INVALID_PARAM"
	case verify.Denied:
		return http.StatusForbidden, "M_THREEPID_DENIED"
	case verify.Limited:
		return http.StatusTooManyRequests, "M_LIMIT_EXCEEDED"
	case verify.InUse:
		return http.StatusBadRequest, "M_THREEPID_IN_USE"
	case verify.NotAssociated:
		return http.StatusBadRequest, "M_THREEPID_NOT_FOUND"
	case verify.DestinationRejected:
		return http.StatusBadRequest, "M_DESTINATION_REJECTED"
	case verify.SendFailed:
		return http.StatusBadGateway, "M_SEND_ERROR"
	case verify.TokenIncorrect:
		return http.StatusBadRequest, "M_TOKEN_INCORRECT"
	case verify.SessionExpired:
		return http.StatusBadRequest, "M_SESSION_EXPIRED"
	case verify.ServerNotTrusted:
		return http.StatusBadRequest, "M_SERVER_NOT_TRUSTED"
	case verify.CheckFailed:
		return http.StatusBadGateway, "M_UNKNOWN"
	case verify.MissingToken:
		return http.StatusUnauthorized, "M_MISSING_TOKEN"
	case verify.UnknownToken:
		return http.StatusUnauthorized, "M_UNKNOWN_TOKEN"
	case verify.AuthFailed:
		return http.StatusBadRequest, "M_THREEPID_AUTH_FAILED"
	case verify.AuthFailedLegacy:
		return http.StatusForbidden, "M_THREEPID_AUTH_FAILED"
	}
	return http.StatusInternalServerError, "M_UNKNOWN"
}
