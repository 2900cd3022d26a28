// Package twilio sends SMS through Twilio's Messages API,
// https://www.twilio.com/docs/messaging/api/message-resource.
//
// The API has no idempotency key. If a response is lost, the SMS may have been sent, and
// Send returns sms.ErrUncertain.
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

// Options configure a Sender.
type Options struct {
	// AccountSID begins with AC. Required.
	AccountSID string

	// AuthToken is the account's token, or empty with an API key. Prefer an API key: it can
	// be revoked alone.
	AuthToken string

	// APIKey begins with SK; APISecret is its secret.
	APIKey, APISecret string

	// From is a number in E.164, a short code or an alphanumeric sender ID.
	// MessagingServiceSID begins with MG; that service selects the sender ID. One of the two
	// is required.
	From, MessagingServiceSID string

	// ReceiptURL is the public URL to which Twilio posts delivery receipts, see Receipts. Defaults to
	// none: it posts them where the account's settings say, if anywhere.
	ReceiptURL string

	// BaseURL is for regions, such as https://api.dublin.ie1.twilio.com.
	// Defaults to https://api.twilio.com.
	BaseURL string

	// Client sends the requests. Defaults to a client with a connection pool of its own.
	Client *http.Client
}

// Sender sends SMS through one account.
type Sender struct {
	options        Options
	url            string
	user, password string
	client         *http.Client
}

// New validates the options. Its errors contain no credential.
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
	err = errors.Join(err, httpsend.ReceiptURL("twilio", o.ReceiptURL))
	s.url = base + "/2010-04-01/Accounts/" + url.PathEscape(o.AccountSID) + "/Messages.json"
	return s, err
}

// Send sends the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "twilio"})
	form := url.Values{"To": {m.To}, "Body": {m.Text}}
	if validity := httpsend.Validity(m, time.Second, 1, maxValidity); validity > 0 {
		form.Set("ValidityPeriod", strconv.FormatInt(validity, 10))
	}
	if s.options.ReceiptURL != "" {
		form.Set("StatusCallback", s.options.ReceiptURL)
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
	id, err := outcome(answer)
	sms.Report(ctx, sms.Result{MessageID: id})
	return err
}

// outcome reads both kinds of response: an error has a code; a message that was created has
// an error_code, which is null unless it failed at once.
func outcome(answer httpsend.Response) (messageID string, err error) {
	var body struct {
		SID       string `json:"sid"`
		Code      int    `json:"code"`
		ErrorCode int    `json:"error_code"`
		Status    any    `json:"status"` // a word for a message, a number for an error
	}
	_ = json.Unmarshal(answer.Body, &body) // without a code, the status decides
	code := body.Code
	if code == 0 {
		code = body.ErrorCode
	}
	class, known := twiliocode.Classify(code)
	if !known {
		class = httpsend.ClassifyStatus(answer.Status)
		switch { // a message can be created and fail at once
		case class == httpsend.Accepted && body.Status == "failed":
			class = httpsend.Temporary
		case class == httpsend.Accepted && body.ErrorCode != 0:
			class = httpsend.Uncertain
		}
	}
	if class == httpsend.Accepted && body.SID == "" {
		class = httpsend.Uncertain // a success, but without a message
	}
	if code == 0 {
		return body.SID, class.Error("twilio: HTTP %d", answer.Status)
	}
	return body.SID, class.Error("twilio: HTTP %d, error %d: see https://www.twilio.com/docs/api/errors/%d", answer.Status, code, code)
}
