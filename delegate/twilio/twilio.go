// Package twilio has Twilio Verify text and check codes:
// https://www.twilio.com/docs/verify/api.
//
// Verify has one verification at a time for a number and all clients: while it is
// pending, for ten minutes, all who ask for the number have the same code texted
// again. So a code that was sent to add a number also works for a password reset, as
// well, unless that has a Verify service of its own: see Options.
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

	// pendingFor is how long a verification lasts, unless Twilio was asked to
	// change that, and so how long its limits on one hold.
	pendingFor = 10 * time.Minute

	codeNotFound     = 20404 // of a check: approved, expired, or too many checks
	codeInvalidParam = 60200 // of a check: not four to ten digits
	codeChecksUsedUp = 60202
	codeSendsUsedUp  = 60203
	codeTooManySends = 60212
	codeTooManyCalls = 20429
)

var _ delegate.Service = (*Service)(nil)

// Options say whose account it is, and which Verify service.
type Options struct {
	// AccountSID begins with AC; AuthToken is the account's, or empty with an API
	// key: APIKey begins with SK, and APISecret belongs to it.
	AccountSID, AuthToken string
	APIKey, APISecret     string

	// ServiceSID begins with VA. Required.
	ServiceSID string

	// PasswordServiceSID is a second service, for password resets, so that a code
	// which somebody gave away to add a number is no good for that.
	// Default: ServiceSID, without that protection.
	PasswordServiceSID string

	// BaseURL. Default: https://verify.twilio.com.
	BaseURL string

	// Client carries the requests. Default: one with a pool of its own.
	Client *http.Client
}

// Service is one account's Verify.
type Service struct {
	options        Options
	base           string
	user, password string
	client         *http.Client
}

// New checks the options. Errors hold no credential.
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

// Check brings a code: POST /v2/Services/{ServiceSid}/VerificationCheck.
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

// answer is what Twilio says, as far as we read it.
type answer struct {
	Status int
	SID    string
	State  string
	Code   int // of an error
}

// fail is the error of an answer that is none of those expected.
func (a answer) fail() error {
	class, known := twiliocode.Classify(a.Code)
	if !known {
		class = httpsend.ClassifyStatus(a.Status)
	}
	if class == httpsend.Accepted {
		class = httpsend.Uncertain // a success that is not the one we know
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

// read reads both of Twilio's shapes: in an error, status is HTTP's number; in a
// verification it is a word.
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
