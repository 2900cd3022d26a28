// Package infobip sends text messages through Infobip's SMS API, version 3,
// https://www.infobip.com/docs/api/channels/sms/outbound-sms/send-sms-messages.
//
// The message's ID is sent as messageId, which Infobip accepts once. It does not
// document whether it also remembers the ID of a message that it rejected, so a
// duplicate is uncertain: the SMS may have been sent by the try before.
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

// Options say whose account it is, and who texts are from.
type Options struct {
	// BaseURL is the account's own, such as https://xxxxx.api.infobip.com; the
	// scheme may be left out, as Infobip's pages do. Required.
	BaseURL string

	APIKey string // required
	From   string // a number or an alphanumeric sender; required

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
	if o.BaseURL != "" && !strings.Contains(o.BaseURL, "://") {
		o.BaseURL = "https://" + o.BaseURL
	}
	base, err := httpsend.BaseURL("infobip", o.BaseURL, "")
	err = errors.Join(err, httpsend.Require("infobip", "APIKey", o.APIKey))
	if o.From == "" {
		err = errors.Join(err, errors.New("infobip: From is missing"))
	}
	return &Sender{options: o, url: base + "/sms/3/messages", client: httpsend.Client(o.Client)}, err
}

// request is the body of a request, as far as we use it.
type request struct {
	Messages [1]outgoing `json:"messages"`
}

type outgoing struct {
	Sender       string         `json:"sender"`
	Destinations [1]destination `json:"destinations"`
	Content      content        `json:"content"`
	Options      *options       `json:"options,omitempty"`
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

// Send posts the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	body := request{[1]outgoing{{
		Sender:       cmp.Or(m.From, s.options.From),
		Destinations: [1]destination{{To: strings.TrimPrefix(m.To, "+"), MessageID: m.ID}},
		Content:      content{Text: m.Text},
	}}}
	if validity := httpsend.Validity(m, time.Second, 1, maxValidity); validity > 0 {
		body.Messages[0].Options = &options{validityPeriod{validity, "SECONDS"}}
	}
	answer, err := httpsend.PostJSON(ctx, s.client, "infobip", s.url, body, func(r *http.Request) {
		r.Header.Set("Authorization", "App "+s.options.APIKey)
	})
	if err != nil {
		return err
	}
	return outcome(answer)
}

// status is what Infobip says of a message; failure is why, where it knows.
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

// word is a name as Infobip writes them, and nothing else that an answer may hold.
func word(name string) string {
	const most = 64
	foreign := func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') }
	if name == "" || len(name) > most || strings.ContainsFunc(name, foreign) {
		return "unknown"
	}
	return name
}
