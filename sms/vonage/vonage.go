// Package vonage sends SMS through Vonage's (Nexmo's) SMS API,
// https://developer.vonage.com/en/api/sms.
//
// The API has no idempotency key. The message's ID is sent as client-ref, which Vonage's
// reports contain.
package vonage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

const (
	defaultBaseURL = "https://rest.nexmo.com"
	maxClientRef   = 100 // characters

	minTTL, maxTTL = 20_000, 604_800_000 // milliseconds
)

var _ sms.Sender = (*Sender)(nil)

// Options configure a Sender.
type Options struct {
	APIKey, APISecret string // required
	From              string // a number or an alphanumeric sender ID; required

	// ReceiptURL is the public URL to which Vonage posts delivery receipts, see Receipts. Defaults to
	// none: it posts them where the account's settings say, if anywhere.
	ReceiptURL string

	// BaseURL. Defaults to https://rest.nexmo.com.
	BaseURL string

	// Client sends the requests. Defaults to a client with a connection pool of its own.
	Client *http.Client
}

// Sender sends SMS through one account.
type Sender struct {
	options Options
	url     string
	client  *http.Client
}

// New validates the options. Its errors contain no credential.
func New(o Options) (*Sender, error) {
	base, err := httpsend.BaseURL("vonage", o.BaseURL, defaultBaseURL)
	err = errors.Join(err, httpsend.Require("vonage", "APIKey", o.APIKey, "APISecret", o.APISecret))
	err = errors.Join(err, httpsend.ReceiptURL("vonage", o.ReceiptURL))
	if o.From == "" {
		err = errors.Join(err, errors.New("vonage: From is missing"))
	}
	return &Sender{options: o, url: base + "/sms/json", client: httpsend.Client(o.Client)}, err
}

// Send sends the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "vonage"})
	form := url.Values{
		"api_key": {s.options.APIKey}, "api_secret": {s.options.APISecret},
		"from": {cmp.Or(m.From, s.options.From)}, "to": {strings.TrimPrefix(m.To, "+")}, "text": {m.Text},
		"client-ref": {m.ID[:min(len(m.ID), maxClientRef)]},
	}
	if ttl := httpsend.Validity(m, time.Millisecond, minTTL, maxTTL); ttl > 0 {
		form.Set("ttl", strconv.FormatInt(ttl, 10))
	}
	if s.options.ReceiptURL != "" {
		form.Set("callback", s.options.ReceiptURL)
		form.Set("status-report-req", "1")
	}
	if _, unicode := sms.Segments(m.Text); unicode {
		form.Set("type", "unicode")
	}
	answer, err := httpsend.PostForm(ctx, s.client, "vonage", s.url, form, nil)
	if err != nil {
		return err
	}
	id, err := outcome(answer)
	sms.Report(ctx, sms.Result{MessageID: id})
	return err
}

// outcome reads the status of each part of the message. The HTTP status is always 200.
func outcome(answer httpsend.Response) (messageID string, err error) {
	var body struct {
		Messages []struct {
			Status string `json:"status"`
			ID     string `json:"message-id"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(answer.Body, &body); err != nil || len(body.Messages) == 0 {
		class := httpsend.ClassifyStatus(answer.Status)
		if class == httpsend.Accepted {
			class = httpsend.Uncertain
		}
		return "", class.Error("vonage: HTTP %d without a status", answer.Status)
	}
	var accepted int
	var failed error
	for _, part := range body.Messages {
		status, err := strconv.Atoi(part.Status)
		if err == nil && status == 0 {
			accepted++
			continue
		}
		if failed == nil {
			class, known := classOf(status)
			if err != nil || !known {
				class = httpsend.Temporary
			}
			failed = class.Error("vonage: status %d: see https://developer.vonage.com/en/api-errors/sms", status)
		}
	}
	if failed != nil && accepted > 0 {
		return body.Messages[0].ID, httpsend.Uncertain.Error("vonage: %d of %d parts were accepted", accepted, len(body.Messages))
	}
	return body.Messages[0].ID, failed
}
