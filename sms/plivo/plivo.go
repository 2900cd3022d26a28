// Package plivo sends SMS through Plivo's Message API,
// https://www.plivo.com/docs/messaging/api/message/send-a-message.
//
// The API has no idempotency key. If a response is lost, the SMS may have been sent, and
// Send returns sms.ErrUncertain.
package plivo

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
	defaultBaseURL = "https://api.plivo.com"

	minExpiry, maxExpiry = 5, 10_799 // seconds
)

var _ sms.Sender = (*Sender)(nil)

// Options configure a Sender.
type Options struct {
	AuthID, AuthToken string // required

	// From is a number or an alphanumeric sender ID. PowerpackUUID names a pool of numbers.
	// One of the two is required.
	From, PowerpackUUID string

	// ReceiptURL is the public URL to which Plivo posts delivery receipts, see Receipts. Defaults to
	// none: it posts them where the account's settings say, if anywhere.
	ReceiptURL string

	// BaseURL. Defaults to https://api.plivo.com.
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
	base, err := httpsend.BaseURL("plivo", o.BaseURL, defaultBaseURL)
	err = errors.Join(err, httpsend.Require("plivo", "AuthID", o.AuthID, "AuthToken", o.AuthToken))
	err = errors.Join(err, httpsend.ReceiptURL("plivo", o.ReceiptURL))
	if (o.From == "") == (o.PowerpackUUID == "") {
		err = errors.Join(err, errors.New("plivo: one of From and PowerpackUUID is required"))
	}
	return &Sender{options: o, url: base + "/v1/Account/" + url.PathEscape(o.AuthID) + "/Message/", client: httpsend.Client(o.Client)}, err
}

// Send sends the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "plivo"})
	fields := map[string]any{"dst": m.To, "text": m.Text, "type": "sms"}
	if expiry := httpsend.Validity(m, time.Second, minExpiry, maxExpiry); expiry > 0 {
		fields["message_expiry"] = expiry
	}
	if s.options.ReceiptURL != "" {
		fields["url"], fields["method"] = s.options.ReceiptURL, http.MethodPost
	}
	if from := cmp.Or(m.From, s.options.From); from != "" {
		fields["src"] = from
	} else {
		fields["powerpack_uuid"] = s.options.PowerpackUUID
	}
	answer, err := httpsend.PostJSON(ctx, s.client, "plivo", s.url, fields, func(r *http.Request) {
		r.SetBasicAuth(s.options.AuthID, s.options.AuthToken)
	})
	if err != nil {
		return err
	}
	id, err := outcome(answer)
	sms.Report(ctx, sms.Result{MessageID: id})
	return err
}

// outcome uses the error code, the text about the number, and the status, in this order.
func outcome(answer httpsend.Response) (messageID string, err error) {
	var body struct {
		Code    json.Number `json:"error_code"`
		Error   string      `json:"error"`
		UUIDs   []string    `json:"message_uuid"`
		Invalid []string    `json:"invalid_number"`
	}
	_ = json.Unmarshal(answer.Body, &body) // if it is not JSON, the status decides
	if len(body.UUIDs) > 0 {
		messageID = body.UUIDs[0]
	}
	status := httpsend.ClassifyStatus(answer.Status)
	if code, err := strconv.Atoi(body.Code.String()); err == nil {
		class, known := classOf(code)
		if !known {
			class = status
		}
		if !known && code != 0 && class == httpsend.Accepted {
			class = httpsend.Uncertain
		}
		return messageID, class.Error("plivo: HTTP %d, error %d: see https://www.plivo.com/docs/messaging/troubleshooting/error-codes",
			answer.Status, code)
	}
	words := strings.ToLower(body.Error)
	aboutNumber := strings.Contains(words, "dst") || strings.Contains(words, "destination number")
	switch {
	case len(body.Invalid) > 0 && len(body.UUIDs) == 0:
		return "", httpsend.Rejected.Error("plivo: HTTP %d, invalid_number", answer.Status)
	case answer.Status == http.StatusBadRequest && aboutNumber:
		return "", httpsend.Rejected.Error("plivo: HTTP 400, the destination number")
	case strings.Contains(words, "insufficient credit"):
		return "", httpsend.Misconfigured.Error("plivo: HTTP %d, insufficient credit", answer.Status)
	case status == httpsend.Accepted && messageID == "":
		return "", httpsend.Uncertain.Error("plivo: HTTP %d without a message", answer.Status)
	}
	return messageID, status.Error("plivo: HTTP %d", answer.Status)
}
