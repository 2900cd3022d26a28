package threepid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// The Go calls of hosts that have endpoints of their own, render pages on the server,
// or that also keep email addresses: what the endpoints do, without HTTP.

// Purpose is what a code is for.
type Purpose = store.Purpose

// The purposes. The number must not be associated with an account to be added or
// registered, and must be to reset a password.
const (
	PurposeAdd      = store.PurposeAdd
	PurposeRegister = store.PurposeRegister
	PurposePassword = store.PurposePassword
)

// TokenRequest asks for a code to be sent to a phone number.
type TokenRequest struct {
	Purpose Purpose

	// ClientSecret is 1 to 255 characters out of 0-9, a-z, A-Z and ".=_-". Generate
	// a new one for each flow, such as with [crypto/rand.Text].
	ClientSecret string

	// PhoneNumber is the number as a person writes it, and Country the two letters
	// of the country whose dialling rules apply to it. Country may be empty when the
	// number begins with a plus sign.
	PhoneNumber, Country string

	// SendAttempt is greater than that of the latest TokenRequest with the same
	// ClientSecret, PhoneNumber and Country to have another SMS sent. A TokenRequest
	// with the same one is a retry: it sends nothing if the SMS was sent.
	SendAttempt int64

	// NextLink is where a link to submitToken redirects to. Default: none.
	NextLink string

	// ClientKey is the key used for rate limiting: the client's IP address, or what
	// Options.ClientKey returns for it. Default: limits by client do not apply.
	ClientKey string

	// AcceptLanguage selects the language of the SMS, as the header of that name.
	// Default: Options.Messages.Language.
	AcceptLanguage string

	// Header is passed to Policy.Approve. Default: none.
	Header http.Header
}

// TokenResponse is what RequestToken returns about the number and its session.
type TokenResponse struct {
	SID           string // the session's ID
	MSISDN        string // E.164 without the plus sign, such as 447700900001
	International string // for a person, such as +44 7700 900001
}

// RequestToken does what the requestToken endpoints do: it returns once the SMS with
// the code was accepted by the provider, or was for this attempt before. The error is
// an *Error, ErrClosed, or says that something failed on the server's side.
func (p *Plugin) RequestToken(ctx context.Context, r TokenRequest) (TokenResponse, error) {
	switch r.Purpose {
	case PurposeAdd, PurposeRegister, PurposePassword:
	default:
		return TokenResponse{}, fmt.Errorf("threepid: TokenRequest.Purpose is %q; use a Purpose constant", r.Purpose)
	}
	receipt, err := p.service.Request(ctx, verify.Request{
		Purpose: r.Purpose, ClientSecret: r.ClientSecret, Country: r.Country, PhoneNumber: r.PhoneNumber, Attempt: r.SendAttempt,
		NextLink: r.NextLink, HasNextLink: r.NextLink != "", Client: r.ClientKey, Header: r.Header, AcceptLanguage: r.AcceptLanguage,
	})
	if err != nil {
		return TokenResponse{}, asError(err)
	}
	return TokenResponse{SID: receipt.SID, MSISDN: receipt.Number.MSISDN, International: receipt.Number.International}, nil
}

// TokenSubmission submits a code.
type TokenSubmission struct {
	SID          string
	ClientSecret string
	Token        string // the code, as the person typed it
	ClientKey    string // as in a TokenRequest
}

// SubmitToken does what the submitToken endpoint does: without an error the session
// is validated, and nextLink is the TokenRequest's. The error is as in RequestToken.
func (p *Plugin) SubmitToken(ctx context.Context, s TokenSubmission) (nextLink string, err error) {
	if s.Token == "" {
		// As at the endpoint, a form submitted too early costs no try.
		return "", asError(verify.Errorf(verify.MissingParam, "Missing: token"))
	}
	nextLink, err = p.service.Submit(ctx, verify.Submission{SID: s.SID, ClientSecret: s.ClientSecret, Token: s.Token, Client: s.ClientKey})
	return nextLink, asError(err)
}

// Number is one of an account's phone numbers.
type Number struct {
	MSISDN      string // E.164 without the plus sign
	ValidatedAt time.Time
	AddedAt     time.Time
}

// Numbers returns the numbers of an account, in the order in which they were added.
// The error wraps store.ErrUnsupported when Options.Accounts only looks numbers up.
func (p *Plugin) Numbers(ctx context.Context, userID string) ([]Number, error) {
	list, err := p.service.Numbers(ctx, userID)
	numbers := make([]Number, 0, len(list))
	for _, a := range list {
		numbers = append(numbers, Number{MSISDN: a.MSISDN, ValidatedAt: time.UnixMilli(a.ValidatedAt).UTC(), AddedAt: time.UnixMilli(a.AddedAt).UTC()})
	}
	return numbers, err
}

// AddNumber puts the number of a validated session on an account, as POST
// /account/3pid/add does: the session's purpose must be PurposeAdd, and a number on
// another account is not reassigned. The error is an *Error with the ErrCode
// M_THREEPID_AUTH_FAILED, also when there is no such session, or
// M_THREEPID_IN_USE; any other is as in Numbers.
func (p *Plugin) AddNumber(ctx context.Context, userID, sid, clientSecret string) error {
	if err := checkUserID(userID); err != nil {
		return fmt.Errorf("threepid: %w", err)
	}
	return asError(p.service.Add(ctx, userID, verify.Addition{SID: sid, ClientSecret: clientSecret}))
}

// RemoveNumber takes a number, in E.164 with or without the plus sign, from an account.
// That the account does not have it is not an error. The error is ErrInvalidNumber,
// or as in Numbers.
func (p *Plugin) RemoveNumber(ctx context.Context, userID, number string) error {
	err := p.service.Remove(ctx, userID, verify.Removal{Medium: verify.MediumMSISDN, Address: strings.TrimPrefix(number, "+")})
	var refusal *verify.Error
	if errors.As(err, &refusal) {
		return ErrInvalidNumber
	}
	return err
}

func checkUserID(userID string) error {
	if userID == "" || len(userID) > verify.MaxUserIDLength {
		return fmt.Errorf("the user ID must have 1 to %d bytes, not %d", verify.MaxUserIDLength, len(userID))
	}
	return nil
}

// ReleaseNumber takes a number, in E.164 with or without the plus sign, from the
// account that has it, so that it can be added or registered again: for an operator
// who learns that a carrier has assigned the number to another person.
//
// Whatever was proved with an SMS sent before the call is void from then on, for
// every purpose: its code is refused, and Validated, Redeem and the account
// endpoints do not accept its session. That holds also when ReleaseNumber returns
// ErrNoAccount, because no account has the number, or an error that wraps
// store.ErrUnsupported, because Options.Accounts only looks numbers up: such a host
// takes the number from its own account first and then calls ReleaseNumber. Any other
// error is as in Unblock.
func (p *Plugin) ReleaseNumber(ctx context.Context, number string) error {
	return p.service.Release(ctx, number)
}

// Blocks returns what blocks a number, in E.164 with or without the plus sign: its
// limits on SMS and wrong codes, and what the guard holds against its range and
// country. It changes nothing. A client that has not asked for the number lately may
// be served nonetheless (Limits.Reserve), limits of single clients are not the number's, and
// Policy does not count as a block. Errors are as in Unblock.
func (p *Plugin) Blocks(ctx context.Context, number string) ([]limits.Block, error) {
	return p.service.Blocks(ctx, number)
}

// Unblock forgets the SMS and wrong codes counted for a number, in E.164 with or without
// the plus sign, and what the guard has counted for its range. An operator calls it
// when a person asks for help. It returns what still blocks the number: nothing, or the
// block of a country or of all numbers, which ends by itself. Limits of single clients
// stay. The error is ErrInvalidNumber or ErrClosed; any other says that the
// store failed.
func (p *Plugin) Unblock(ctx context.Context, number string) ([]limits.Block, error) {
	return p.service.Unblock(ctx, number)
}
