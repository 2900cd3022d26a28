// Package plivo sends text messages through Plivo's Message API,
// https://www.plivo.com/docs/messaging/api/message/send-a-message.
//
// The API knows no idempotency key: a request whose answer is lost may have been
// carried out, and is ErrUncertain.
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

// Options say whose account it is, and who texts are from.
type Options struct {
	AuthID, AuthToken string // required

	// From is a number or an alphanumeric sender; PowerpackUUID names a pool of
	// numbers. One of the two is required.
	From, PowerpackUUID string

	// BaseURL. Default: https://api.plivo.com.
	BaseURL string

	// Client carries the requests. Default: one with a pool of its own.
	Client *http.Client
}

// Sender sends through one account.
type Sender struct {
	options Options
	url     string
	client  *http.Client
}

// New checks the options. Errors hold no credential.
func New(o Options) (*Sender, error) {
	base, err := httpsend.BaseURL("plivo", o.BaseURL, defaultBaseURL)
	err = errors.Join(err, httpsend.Require("plivo", "AuthID", o.AuthID, "AuthToken", o.AuthToken))
	if (o.From == "") == (o.PowerpackUUID == "") {
		err = errors.Join(err, errors.New("plivo: one of From and PowerpackUUID is required"))
	}
	return &Sender{options: o, url: base + "/v1/Account/" + url.PathEscape(o.AuthID) + "/Message/", client: httpsend.Client(o.Client)}, err
}

// Send posts the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	fields := map[string]any{"dst": m.To, "text": m.Text, "type": "sms"}
	if expiry := httpsend.Validity(m, time.Second, minExpiry, maxExpiry); expiry > 0 {
		fields["message_expiry"] = expiry
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
	return outcome(answer)
}

// outcome goes by the code, the words about the number, and the status, in this order.
func outcome(answer httpsend.Response) error {
	var body struct {
		Code    json.Number `json:"error_code"`
		Error   string      `json:"error"`
		UUIDs   []string    `json:"message_uuid"`
		Invalid []string    `json:"invalid_number"`
	}
	_ = json.Unmarshal(answer.Body, &body) // without it, the status decides
	status := httpsend.ClassifyStatus(answer.Status)
	if code, err := strconv.Atoi(body.Code.String()); err == nil {
		class, known := classOf(code)
		if !known {
			class = status
		}
		if !known && code != 0 && class == httpsend.Accepted {
			class = httpsend.Uncertain
		}
		return class.Error("plivo: HTTP %d, error %d: see https://www.plivo.com/docs/messaging/troubleshooting/error-codes",
			answer.Status, code)
	}
	words := strings.ToLower(body.Error)
	aboutNumber := strings.Contains(words, "dst") || strings.Contains(words, "destination number")
	switch {
	case len(body.Invalid) > 0 && len(body.UUIDs) == 0:
		return httpsend.Rejected.Error("plivo: HTTP %d, invalid_number", answer.Status)
	case answer.Status == http.StatusBadRequest && aboutNumber:
		return httpsend.Rejected.Error("plivo: HTTP 400, the destination number")
	case strings.Contains(words, "insufficient credit"):
		return httpsend.Misconfigured.Error("plivo: HTTP %d, insufficient credit", answer.Status)
	}
	return status.Error("plivo: HTTP %d", answer.Status)
}
