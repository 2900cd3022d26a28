// Package webhook posts messages as JSON to a URL, for a gateway of your own.
//
// Each message is one POST of
//
//	{"id":"…","to":"+447700900001","text":"…","country":"GB","attempt":2,"sent_before":1,"validity":600}
//
// "attempt" is the client's send_attempt. "sent_before", absent for 0, is how many SMS were
// sent before, or may have been. "validity" is how many seconds the code remains valid.
//
// A status of 2xx means that the message was accepted. 401 to 405, 407 and redirects, which
// are not followed, mean that the URL or the secret is wrong (sms.ErrMisconfigured). 408,
// 425, 429 and 5xx mean that another try may work. Every other 4xx, such as 422, means that
// no SMS reaches this number (sms.ErrRejected). If there is no response to a request that
// was sent, the error is sms.ErrUncertain.
//
// The id is the same for every try of one message, and also sent as Idempotency-Key. With a
// secret, the request is signed according to Standard Webhooks
// (https://www.standardwebhooks.com), in the headers webhook-id, webhook-timestamp and
// webhook-signature.
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
	// The body of a response has no meaning. It is read, within these bounds, so that the
	// connection can be used again.
	maxDrained = 64 << 10 // bytes
	drainTime  = 200 * time.Millisecond
)

var _ sms.Sender = (*Sender)(nil)

// Options configure a Sender. The zero value works.
type Options struct {
	// Secret signs the requests: "whsec_" and the base64 of 24 to 64 bytes, as
	// `echo whsec_$(openssl rand -base64 32)` generates. Defaults to none: requests are not
	// signed.
	Secret string

	// Header is sent with each request, such as an Authorization, which overrides a user
	// name in the URL. Headers that the Sender or HTTP itself sets, such as Content-Type,
	// Host and the signature, are ignored. It is copied.
	// Defaults to none.
	Header http.Header

	// Client sends the requests. It is copied, and the copy follows no redirects. Defaults
	// to a client with a connection pool of its own. The context of each Send limits its time.
	Client *http.Client

	// Now returns the time for signatures. Defaults to time.Now.
	Now func() time.Time
}

// Sender posts messages to a URL.
type Sender struct {
	url    string
	host   string // for errors; the URL itself may contain a key
	secret []byte
	header http.Header
	client *http.Client
	now    func() time.Time
}

// New returns a Sender for an absolute http or https URL. Use http only within a network of
// your own, because it exposes the codes. A user name and password in the URL are sent as
// basic authentication. Errors contain neither the URL nor the secret nor a header's value.
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

// Send sends the message. Its errors contain the host and the status, and nothing else of
// the URL or the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "webhook", MessageID: m.ID})
	// Cancelled, at the latest, when the response's body takes too long.
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
	// The body of a 101 is the bare connection, which ignores the context.
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

// sign returns the signature of the Standard Webhooks specification, version 1.
func (s *Sender) sign(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, s.secret)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// refusals are the statuses that concern the caller or the URL, not the number. They must
// not tell a client that its number cannot be reached.
func refusals() []int {
	return []int{
		http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
	}
}

// outcome returns the error for a status.
func (s *Sender) outcome(status int) error {
	switch {
	case status >= 200 && status <= 299:
		return nil
	case status >= 300 && status <= 399:
		return fmt.Errorf("webhook: %s returned HTTP %d; redirects are not followed: %w", s.host, status, sms.ErrMisconfigured)
	case slices.Contains(refusals(), status):
		return fmt.Errorf("webhook: %s returned HTTP %d: %w", s.host, status, sms.ErrMisconfigured)
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return fmt.Errorf("webhook: %s returned HTTP %d", s.host, status)
	case status >= 400 && status <= 499:
		return fmt.Errorf("webhook: %s returned HTTP %d: %w", s.host, status, sms.ErrRejected)
	default: // 5xx, or not a status of HTTP
		return fmt.Errorf("webhook: %s returned HTTP %d", s.host, status)
	}
}
