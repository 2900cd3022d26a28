// Package webhook posts text messages as JSON to a URL, for a gateway or
// provider that one writes, or scripts, oneself.
//
// Each message is one POST of
//
//	{"id":"…","to":"+447700900001","text":"…","country":"GB","attempt":2,"sent_before":1,"validity":600}
//
// "attempt" is the client's own number; "sent_before", absent for 0, is how many SMS
// were sent before, or may have been; "validity" is how many seconds the code
// remains valid.
//
// A status of 2xx says that the message was accepted; 401 to 405, 407 and
// redirects, which are not followed, that URL or secret are wrong
// (sms.ErrMisconfigured); 408, 425, 429 and 5xx that another try may work; every
// other 4xx, say 422, that this number will never be reached (sms.ErrRejected).
// When the request went out and no answer came it is sms.ErrUncertain.
//
// The id is the same for every try of one message, and also sent as
// Idempotency-Key. With a secret the request is signed by the Standard Webhooks
// scheme (https://www.standardwebhooks.com), in the headers webhook-id,
// webhook-timestamp and webhook-signature.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

const (
	// The body of an answer says nothing to us. It is read, within these
	// bounds, so that the connection can be used again.
	maxDrained = 64 << 10 // bytes
	drainTime  = 200 * time.Millisecond
)

var _ sms.Sender = (*Sender)(nil)

// Options adjust a Sender. The zero value works.
type Options struct {
	// Secret signs requests: "whsec_" and the base64 of 24 to 64 bytes, as
	// `echo whsec_$(openssl rand -base64 32)` makes one.
	// Default: requests are not signed.
	Secret string

	// Header is sent with each request, say an Authorization, which goes before
	// a user name in the URL. What the Sender or HTTP itself has to say, such as
	// Content-Type, Host and the signature, is left out of it. It is copied.
	// Default: none.
	Header http.Header

	// Client carries the requests. It is copied, and follows no redirects
	// whatever it says. Default: one with a pool for many sends at once; time
	// is limited by the context of each Send.
	Client *http.Client

	// Now is the clock for signatures. Default: time.Now.
	Now func() time.Time
}

// Sender posts messages to a URL.
type Sender struct {
	url    string
	host   string // for errors; the URL itself may hold a key
	secret []byte
	header http.Header
	client *http.Client
	now    func() time.Time
}

// New returns a Sender for an absolute http or https URL; http shows the codes to
// everybody on the way, so use it only on a network of your own. A user name and
// password in the URL are sent as basic authentication. Errors repeat neither the
// URL nor the secret nor a header's value.
func New(address string, o Options) (*Sender, error) {
	host, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	secret, err := parseSecret(o.Secret)
	if err != nil {
		return nil, err
	}
	header, err := parseHeader(o.Header)
	if err != nil {
		return nil, err
	}
	s := &Sender{url: address, host: host, secret: secret, header: header, now: o.Now}
	if s.now == nil {
		s.now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	s.client = httpsend.Client(o.Client)
	return s, nil
}

// payload is the body of a request.
type payload struct {
	ID      string `json:"id"`
	To      string `json:"to"`
	Text    string `json:"text"`
	Country string `json:"country"`
	From    string `json:"from,omitempty"`
	Attempt int64  `json:"attempt"`

	SentBefore int   `json:"sent_before,omitempty"`
	Validity   int64 `json:"validity,omitempty"`
}

// Send posts the message. Its errors name the host and the status, and nothing
// of the message or the rest of the URL.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	// Cancelled, at the latest, when the answer's body is not worth waiting for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := s.request(ctx, m)
	if err != nil {
		return err
	}
	res, err := httpsend.RoundTrip(s.client, req)
	if err != nil {
		return fmt.Errorf("webhook: %s: %w", s.host, err)
	}
	defer func() { _ = res.Body.Close() }()
	// What follows a 101 is no body but the bare connection, which would not
	// heed the context.
	if res.StatusCode >= http.StatusOK {
		stop := time.AfterFunc(drainTime, cancel)
		defer stop.Stop()
		_, _ = io.CopyN(io.Discard, res.Body, maxDrained)
	}
	return s.outcome(res.StatusCode)
}

func (s *Sender) request(ctx context.Context, m sms.Message) (*http.Request, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(payload{
		ID: m.ID, To: m.To, Text: m.Text, Country: m.Country, From: m.From, Attempt: m.Attempt,
		SentBefore: m.SentBefore, Validity: httpsend.Validity(m, time.Second, 1, math.MaxInt64),
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: encode: %w", err)
	}
	body.Truncate(body.Len() - 1) // the encoder's newline
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body.Bytes()))
	if err != nil {
		return nil, errURL
	}
	req.Header = s.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "threepid-webhook/1")
	req.Header.Set("Idempotency-Key", m.ID)
	if s.secret != nil {
		timestamp := strconv.FormatInt(s.now().Unix(), 10)
		req.Header.Set("Webhook-Id", m.ID)
		req.Header.Set("Webhook-Timestamp", timestamp)
		req.Header.Set("Webhook-Signature", s.sign(m.ID, timestamp, body.Bytes()))
	}
	return req, nil
}

// sign is the signature of the Standard Webhooks specification, version 1.
func (s *Sender) sign(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, s.secret)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// refusals are the statuses that speak of the caller or the URL and not of a
// number: nobody must be told that a number cannot be reached because of them.
func refusals() []int {
	return []int{
		http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
	}
}

// outcome says what a status means.
func (s *Sender) outcome(status int) error {
	switch {
	case status >= 200 && status <= 299:
		return nil
	case status >= 300 && status <= 399:
		return fmt.Errorf("webhook: %s answered %d; redirects are not followed: %w", s.host, status, sms.ErrMisconfigured)
	case slices.Contains(refusals(), status):
		return fmt.Errorf("webhook: %s answered %d: %w", s.host, status, sms.ErrMisconfigured)
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return fmt.Errorf("webhook: %s answered %d", s.host, status)
	case status >= 400 && status <= 499:
		return fmt.Errorf("webhook: %s answered %d: %w", s.host, status, sms.ErrRejected)
	default: // 5xx, or none of HTTP's: no reason to give the number up
		return fmt.Errorf("webhook: %s answered %d", s.host, status)
	}
}
