// Package infobip sends SMS through Infobip's SMS API, version 3,
// https://www.infobip.com/docs/api/channels/sms/outbound-sms/send-sms-messages.
//
// The message's ID is sent as messageId, which Infobip accepts once. Its documentation does
// not say whether it also remembers the ID of a message that it rejected. A duplicate is
// therefore sms.ErrUncertain: the try before may have sent the SMS.
package infobip

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

var _ sms.Sender = (*Sender)(nil)

// Options configure a Sender.
type Options struct {
	// BaseURL is the account's own, such as https://xxxxx.api.infobip.com. The scheme may
	// be omitted, as on Infobip's pages. Required.
	BaseURL string

	APIKey string // required
	From   string // a number or an alphanumeric sender ID; required

	// ReceiptURL is the public URL to which Infobip posts delivery reports, with the query
	// parameter token, see Receipts. Defaults to none: it posts them where the account's
	// settings say, if anywhere.
	ReceiptURL string

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
	if o.BaseURL != "" && !strings.Contains(o.BaseURL, "://") {
		o.BaseURL = "https://" + o.BaseURL
	}
	base, err := httpsend.BaseURL("infobip", o.BaseURL, "")
	err = errors.Join(err, httpsend.Require("infobip", "APIKey", o.APIKey))
	err = errors.Join(err, httpsend.ReceiptURL("infobip", o.ReceiptURL))
	if o.From == "" {
		err = errors.Join(err, errors.New("infobip: From is missing"))
	}
	return &Sender{options: o, url: base + "/sms/3/messages", client: httpsend.Client(o.Client)}, err
}

// request is the part of a request's body that we use.
type request struct {
	Messages [1]outgoing `json:"messages"`
}

type outgoing struct {
	Sender       string         `json:"sender"`
	Destinations [1]destination `json:"destinations"`
	Content      content        `json:"content"`
	Options      *options       `json:"options,omitempty"`
	Webhooks     *webhooks      `json:"webhooks,omitempty"`
}

type webhooks struct {
	Delivery deliveryHook `json:"delivery"`
}

type deliveryHook struct {
	URL string `json:"url"`
}

type destination struct {
	To        string `json:"to"`
	MessageID string `json:"messageId"`
}

type content struct {
	Text string `json:"text"`
}

type options struct {
	ValidityPeriod validityPeriod `json:"validityPeriod"`
}

type validityPeriod struct {
	Amount   int64  `json:"amount"`
	TimeUnit string `json:"timeUnit"`
}

const maxValidity = 48 * 3600 // seconds

// Send sends the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "infobip", MessageID: m.ID})
	body := request{[1]outgoing{{
		Sender:       cmp.Or(m.From, s.options.From),
		Destinations: [1]destination{{To: strings.TrimPrefix(m.To, "+"), MessageID: m.ID}},
		Content:      content{Text: m.Text},
	}}}
	if validity := httpsend.Validity(m, time.Second, 1, maxValidity); validity > 0 {
		body.Messages[0].Options = &options{validityPeriod{validity, "SECONDS"}}
	}
	if s.options.ReceiptURL != "" {
		body.Messages[0].Webhooks = &webhooks{deliveryHook{s.options.ReceiptURL}}
	}
	answer, err := httpsend.PostJSON(ctx, s.client, "infobip", s.url, body, func(r *http.Request) {
		r.Header.Set("Authorization", "App "+s.options.APIKey)
	})
	if err != nil {
		return err
	}
	return outcome(answer)
}

// status is the state of a message; failure is the reason, if Infobip gives one.
type status struct {
	GroupID int    `json:"groupId"`
	Name    string `json:"name"`
}

type failure struct {
	GroupID   int    `json:"groupId"`
	Name      string `json:"name"`
	Permanent bool   `json:"permanent"`
}

func outcome(answer httpsend.Response) error {
	var body struct {
		Messages []struct {
			Status status  `json:"status"`
			Error  failure `json:"error"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(answer.Body, &body); err != nil || len(body.Messages) == 0 || body.Messages[0].Status.GroupID == 0 {
		class := httpsend.ClassifyStatus(answer.Status)
		if class == httpsend.Accepted {
			class = httpsend.Uncertain
		}
		return class.Error("infobip: HTTP %d without a status", answer.Status)
	}
	first := body.Messages[0]
	return classOf(first.Status, first.Error).Error("infobip: HTTP %d, status %s, error %s", answer.Status,
		word(first.Status.Name), word(first.Error.Name))
}

// word returns a name that Infobip uses, and nothing else that a response may contain.
func word(name string) string {
	const most = 64
	foreign := func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') }
	if name == "" || len(name) > most || strings.ContainsFunc(name, foreign) {
		return "unknown"
	}
	return name
}
