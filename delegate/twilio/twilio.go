// Package twilio delegates to Twilio Verify: https://www.twilio.com/docs/verify/api.
//
// Verify has one verification at a time for a number, whichever client requests it. While it
// is pending, for ten minutes, every request for the number sends the same code again. A code
// that was sent to add a number therefore also resets a password, unless password resets
// have a Verify service of their own: see Options.PasswordServiceSID.
package twilio

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/twiliocode"
	"example.com/threepid/sms/httpsend"
	"example.com/threepid/store"
)

const (
	defaultBaseURL = "https://verify.twilio.com"

	// pendingFor is how long a verification and its limits last, unless the account has
	// another setting.
	pendingFor = 10 * time.Minute

	codeNotFound     = 20404 // of a check: approved, expired, or too many checks
	codeInvalidParam = 60200 // of a check: not four to ten digits
	codeChecksUsedUp = 60202
	codeSendsUsedUp  = 60203
	codeTooManySends = 60212
	codeTooManyCalls = 20429
)

var _ delegate.Service = (*Service)(nil)

// Options configure a Service.
type Options struct {
	// AccountSID begins with AC. AuthToken is the account's token, or empty with an API
	// key: APIKey begins with SK, and APISecret is its secret.
	AccountSID, AuthToken string
	APIKey, APISecret     string

	// ServiceSID begins with VA. Required.
	ServiceSID string

	// PasswordServiceSID is a second service, for password resets, so that a code which
	// somebody gave away to add a number does not reset a password. Defaults to ServiceSID,
	// without that protection.
	PasswordServiceSID string

	// BaseURL. Defaults to https://verify.twilio.com.
	BaseURL string

	// Client sends the requests. Defaults to a client with a connection pool of its own.
	Client *http.Client
}

// Service sends and checks codes with one account.
type Service struct {
	options        Options
	base           string
	user, password string
	client         *http.Client
}

// New validates the options. Its errors contain no credential.
func New(o Options) (*Service, error) {
	base, err := httpsend.BaseURL("twilio verify", o.BaseURL, defaultBaseURL)
	s := &Service{base: base, user: o.AccountSID, password: o.AuthToken, client: httpsend.Client(o.Client)}
	missing := [2]string{"AccountSID", "AuthToken, or APIKey and APISecret,"}
	if o.APIKey != "" || o.APISecret != "" {
		s.user, s.password, missing = o.APIKey, o.APISecret, [2]string{"APIKey", "APISecret"}
	}
	err = errors.Join(err, httpsend.Require("twilio verify", missing[0], s.user, missing[1], s.password, "ServiceSID", o.ServiceSID))
	if o.PasswordServiceSID == "" {
		o.PasswordServiceSID = o.ServiceSID
	}
	s.options = o
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Start creates a verification: POST /v2/Services/{ServiceSid}/Verifications.
func (s *Service) Start(ctx context.Context, v delegate.StartRequest) (handle string, err error) {
	a, err := s.call(ctx, v.Purpose, "Verifications", url.Values{"To": {v.To}, "Channel": {"sms"}})
	switch {
	case err != nil:
		return "", err
	case a.Status == http.StatusCreated && a.SID != "":
		return a.SID, nil
	case a.Code == codeSendsUsedUp, a.Code == codeTooManySends:
		return "", &delegate.LimitError{RetryAfter: pendingFor}
	case a.Code == codeTooManyCalls:
		return "", &delegate.LimitError{}
	}
	return "", a.fail()
}

// Check checks a code: POST /v2/Services/{ServiceSid}/VerificationCheck.
func (s *Service) Check(ctx context.Context, c delegate.CheckRequest) error {
	if c.Handle == "" {
		return delegate.ErrExpired
	}
	a, err := s.call(ctx, c.Purpose, "VerificationCheck", url.Values{"VerificationSid": {c.Handle}, "Code": {c.Token}})
	if err != nil {
		return err
	}
	if a.Code != 0 {
		switch a.Code {
		case codeNotFound, codeChecksUsedUp:
			return delegate.ErrExpired
		case codeInvalidParam:
			return delegate.ErrIncorrect
		}
		return a.fail()
	}
	switch a.State {
	case "approved":
		return nil
	case "pending":
		return delegate.ErrIncorrect
	case "canceled", "max_attempts_reached", "deleted", "failed", "expired":
		return delegate.ErrExpired
	}
	return a.fail()
}

// answer is the part of a response that we read.
type answer struct {
	Status int
	SID    string
	State  string
	Code   int // of an error
}

// fail returns the error for an unexpected response.
func (a answer) fail() error {
	class, known := twiliocode.Classify(a.Code)
	if !known {
		class = httpsend.ClassifyStatus(a.Status)
	}
	if class == httpsend.Accepted {
		class = httpsend.Uncertain // an unknown kind of success
	}
	return class.Error("twilio verify: HTTP %d, error %d: see https://www.twilio.com/docs/api/errors/%d", a.Status, a.Code, a.Code)
}

func (s *Service) call(ctx context.Context, purpose store.Purpose, resource string, form url.Values) (answer, error) {
	service := s.options.ServiceSID
	if purpose == store.PurposePassword {
		service = s.options.PasswordServiceSID
	}
	address := s.base + "/v2/Services/" + url.PathEscape(service) + "/" + resource
	res, err := httpsend.PostForm(ctx, s.client, "twilio verify", address, form, func(r *http.Request) {
		r.SetBasicAuth(s.user, s.password)
	})
	if err != nil {
		return answer{}, err
	}
	return read(res), nil
}

// read reads both kinds of response: status is a number in an error, and a word in a
// verification.
func read(res httpsend.Response) answer {
	a := answer{Status: res.Status}
	var body struct {
		SID    string `json:"sid"`
		Status any    `json:"status"`
		Code   int    `json:"code"`
	}
	if json.Unmarshal(res.Body, &body) == nil {
		a.SID, a.Code = body.SID, body.Code
		a.State, _ = body.Status.(string)
	}
	return a
}
