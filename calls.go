package threepid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// The Go calls do what the endpoints do, without HTTP: for hosts that have their own
// endpoints, render pages on the server, or also keep email addresses. Like a request, each
// call has an ID in its events and log records: the ID in the context (see observe.WithID),
// or a new one.

// Purpose is what a code is for.
type Purpose = store.Purpose

// The purposes. For PurposeAdd and PurposeRegister, no account may have the number; for
// PurposePassword, an account must have it.
const (
	PurposeAdd      = store.PurposeAdd
	PurposeRegister = store.PurposeRegister
	PurposePassword = store.PurposePassword

	// PurposeIdentity is the purpose of the codes that homeservers request: see MountIdentity.
	PurposeIdentity = store.PurposeIdentity
)

// TokenRequest asks for a code to be sent to a phone number.
type TokenRequest struct {
	Purpose Purpose

	// ClientSecret has 1 to 255 of the characters 0-9, a-z, A-Z and ".=_-". Generate a
	// new one for each flow, for example with [crypto/rand.Text].
	ClientSecret string

	// PhoneNumber is the number as a person writes it, and Country the two letters
	// of the country whose dialling rules apply to it. Country may be empty when the
	// number begins with a plus sign.
	PhoneNumber, Country string

	// SendAttempt counts the SMS that the person asks for. To send another SMS, set it to
	// more than in the latest TokenRequest with the same ClientSecret, PhoneNumber and
	// Country. A TokenRequest with the same SendAttempt is a retry: it sends nothing if
	// the SMS was sent.
	SendAttempt int64

	// NextLink is the URL to which a link to submitToken redirects. Defaults to none.
	NextLink string

	// ClientKey is the key used for rate limiting: the client's IP address, or what
	// Options.ClientKey returns. Defaults to none: limits by client do not apply.
	ClientKey string

	// AcceptLanguage selects the language of the SMS, like the Accept-Language header.
	// Defaults to Options.Messages.Language.
	AcceptLanguage string

	// Header is passed to Policy.Approve. Defaults to none.
	Header http.Header
}

// TokenResponse is what RequestToken returns about the number and its session.
type TokenResponse struct {
	SID           string // the session's ID
	MSISDN        string // E.164 without the plus sign, such as 447700900001
	International string // for a person, such as +44 7700 900001
}

// RequestToken does what the requestToken endpoints do. It returns no error if the provider
// has accepted the SMS, now or in an earlier call with the same SendAttempt. The error is an
// *Error or ErrClosed; any other error means that something failed on the server.
func (p *Plugin) RequestToken(ctx context.Context, r TokenRequest) (TokenResponse, error) {
	if !slices.Contains([]Purpose{PurposeAdd, PurposeRegister, PurposePassword}, r.Purpose) {
		return TokenResponse{}, fmt.Errorf("threepid: TokenRequest.Purpose is %q; use PurposeAdd, PurposeRegister or PurposePassword", r.Purpose)
	}
	receipt, err := p.service.Request(observe.NewID(ctx), verify.Request{
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

// SubmitToken does what the submitToken endpoint does. If it returns no error, the session is
// validated, and nextLink is that of the TokenRequest. The errors are those of RequestToken.
func (p *Plugin) SubmitToken(ctx context.Context, s TokenSubmission) (nextLink string, err error) {
	ctx = observe.NewID(ctx)
	if s.Token == "" {
		// As at the endpoint, an empty code is not counted as a wrong one.
		err = verify.Errorf(verify.MissingParam, "Missing: token")
		p.service.ObserveRefusal(ctx, err, "", "")
		return "", asError(err)
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

// Numbers returns the numbers of an account, in the order in which they were added. The error
// wraps store.ErrUnsupported if Options.Accounts only looks numbers up.
func (p *Plugin) Numbers(ctx context.Context, userID string) ([]Number, error) {
	list, err := p.service.Numbers(ctx, userID)
	numbers := make([]Number, 0, len(list))
	for _, a := range list {
		numbers = append(numbers, Number{MSISDN: a.MSISDN, ValidatedAt: time.UnixMilli(a.ValidatedAt).UTC(), AddedAt: time.UnixMilli(a.AddedAt).UTC()})
	}
	return numbers, err
}

// AddNumber adds the number of a validated session to an account, as POST /account/3pid/add
// does. The session's purpose must be PurposeAdd. AddNumber never moves a number from another
// account. The error is an *Error whose ErrCode is M_THREEPID_AUTH_FAILED (also if there is
// no such session) or M_THREEPID_IN_USE. Other errors are those of Numbers.
func (p *Plugin) AddNumber(ctx context.Context, userID, sid, clientSecret string) error {
	if err := checkUserID(userID); err != nil {
		return fmt.Errorf("threepid: %w", err)
	}
	ctx = observe.NewID(ctx)
	err := p.service.Add(ctx, userID, verify.Addition{SID: sid, ClientSecret: clientSecret})
	p.service.ObserveRefusal(ctx, err, "", "")
	return asError(err)
}

// RemoveNumber removes a number, in E.164 with or without the plus sign, from an account. It
// is not an error if the account does not have the number. The error is ErrInvalidNumber or
// one of those of Numbers.
func (p *Plugin) RemoveNumber(ctx context.Context, userID, number string) error {
	ctx = observe.NewID(ctx)
	err := p.service.Remove(ctx, userID, verify.Removal{Medium: verify.MediumMSISDN, Address: strings.TrimPrefix(number, "+")})
	p.service.ObserveRefusal(ctx, err, "", "")
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

// ReleaseNumber removes a number, in E.164 with or without the plus sign, from the account
// that has it, so that the number can be added or registered again. An operator calls it when
// a carrier has assigned the number to another person.
//
// ReleaseNumber also invalidates all codes and validations of the number whose SMS was sent
// before the call, for every purpose: the code is refused, and Validated, Redeem and the
// account endpoints do not accept the session. It does so even if it returns ErrNoAccount,
// because no account has the number, or an error that wraps store.ErrUnsupported, because
// Options.Accounts only looks numbers up. In the latter case, the host removes the number
// from its own table first and then calls ReleaseNumber. Other errors are those of Unblock.
func (p *Plugin) ReleaseNumber(ctx context.Context, number string) error {
	return p.service.Release(observe.NewID(ctx), number)
}

// Blocks returns what blocks a number, in E.164 with or without the plus sign: its limits on
// SMS and wrong codes, and the guard's blocks of its range and country. It changes nothing. A
// client that has not requested a code for the number recently may still get one, from
// Limits.Reserve. Blocks does not report the limits on clients, or the Policy. The errors are
// those of Unblock.
func (p *Plugin) Blocks(ctx context.Context, number string) ([]limits.Block, error) {
	return p.service.Blocks(ctx, number)
}

// Unblock resets the counts of a number, in E.164 with or without the plus sign: its SMS and
// wrong codes, and what the guard has counted for its range. An operator calls it when a
// person asks for help. It returns what still blocks the number: nothing, or a block of its
// country or of all numbers, which ends by itself. Unblock does not reset the limits on
// clients. The error is ErrInvalidNumber or ErrClosed; any other error means that the store
// failed.
func (p *Plugin) Unblock(ctx context.Context, number string) ([]limits.Block, error) {
	return p.service.Unblock(observe.NewID(ctx), number)
}
