// Package twilio sends text messages through Twilio's Messages API,
// https://www.twilio.com/docs/messaging/api/message-resource.
//
// The API knows no idempotency key: a request whose answer is lost may have been
// carried out, and is ErrUncertain.
package twilio

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"example.com/threepid/internal/twiliocode"
	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

const (
	defaultBaseURL = "https://api.twilio.com"
	maxValidity    = 36_000 // seconds
)

var _ sms.Sender = (*Sender)(nil)

// Options say whose account it is, and who texts are from.
type Options struct {
	// AccountSID begins with AC. Required.
	AccountSID string

	// AuthToken is the account's, or empty with an API key, which is the better
	// choice as it can be revoked alone.
	AuthToken string

	// APIKey begins with SK, and APISecret belongs to it.
	APIKey, APISecret string

	// From is a number in E.164, a short code or an alphanumeric sender.
	// MessagingServiceSID begins with MG; the service picks a sender. One of
	// the two is required.
	From, MessagingServiceSID string

	// BaseURL is for regions, such as https://api.dublin.ie1.twilio.com.
	// Default: https://api.twilio.com.
	BaseURL string

	// Client carries the requests. Default: one with a pool of its own.
	Client *http.Client
}

// Sender sends through one account.
type Sender struct {
	options        Options
	url            string
	user, password string
	client         *http.Client
}

// New checks the options. Errors hold no credential.
func New(o Options) (*Sender, error) {
	base, err := httpsend.BaseURL("twilio", o.BaseURL, defaultBaseURL)
	s := &Sender{options: o, user: o.AccountSID, password: o.AuthToken, client: httpsend.Client(o.Client)}
	missing := "AuthToken, or APIKey and APISecret,"
	if o.APIKey != "" || o.APISecret != "" {
		s.user, s.password, missing = o.APIKey, o.APISecret, "APISecret"
		err = errors.Join(err, httpsend.Require("twilio", "APIKey", o.APIKey))
	}
	err = errors.Join(err, httpsend.Require("twilio", "AccountSID", o.AccountSID, missing, s.password))
	if (o.From == "") == (o.MessagingServiceSID == "") {
		err = errors.Join(err, errors.New("twilio: one of From and MessagingServiceSID is required"))
	}
	s.url = base + "/2010-04-01/Accounts/" + url.PathEscape(o.AccountSID) + "/Messages.json"
	return s, err
}

// Send posts the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	form := url.Values{"To": {m.To}, "Body": {m.Text}}
	if validity := httpsend.Validity(m, time.Second, 1, maxValidity); validity > 0 {
		form.Set("ValidityPeriod", strconv.FormatInt(validity, 10))
	}
	switch {
	case m.From != "":
		form.Set("From", m.From)
	case s.options.From != "":
		form.Set("From", s.options.From)
	default:
		form.Set("MessagingServiceSid", s.options.MessagingServiceSID)
	}
	answer, err := httpsend.PostForm(ctx, s.client, "twilio", s.url, form, func(r *http.Request) { r.SetBasicAuth(s.user, s.password) })
	if err != nil {
		return err
	}
	return outcome(answer)
}

// outcome reads both of Twilio's shapes: an error has a code, a message that was
// made has an error_code, null unless it failed at once.
func outcome(answer httpsend.Response) error {
	var body struct {
		SID       string `json:"sid"`
		Code      int    `json:"code"`
		ErrorCode int    `json:"error_code"`
		Status    any    `json:"status"` // of a message a word, of an error a number
	}
	_ = json.Unmarshal(answer.Body, &body) // without a code, the status decides
	code := body.Code
	if code == 0 {
		code = body.ErrorCode
	}
	class, known := twiliocode.Classify(code)
	if !known {
		class = httpsend.ClassifyStatus(answer.Status)
		switch { // a message that was made and has failed is no success
		case class == httpsend.Accepted && body.Status == "failed":
			class = httpsend.Temporary
		case class == httpsend.Accepted && body.ErrorCode != 0:
			class = httpsend.Uncertain
		}
	}
	if class == httpsend.Accepted && body.SID == "" {
		class = httpsend.Uncertain // a success, but not of Twilio's
	}
	if code == 0 {
		return class.Error("twilio: HTTP %d", answer.Status)
	}
	return class.Error("twilio: HTTP %d, error %d: see https://www.twilio.com/docs/api/errors/%d", answer.Status, code, code)
}
