// Package gateway sends SMS with an HTTP request that templates describe, for gateways
// without a package of their own: Kannel and Jasmin, for which it has ready-made Options,
// Gammu behind a REST API, or an app on a telephone.
//
// The URL and the body are templates of package text/template over [TemplateData]. Every
// value is escaped for its context, so that no text or sender ID can change the request:
//
//	https://phone.lan:8080/message?to={{.To}}
//	{"textMessage":{"text":"{{.Text}}"},"phoneNumbers":["{{.To}}"]}
package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

var _ sms.Sender = (*Sender)(nil)

// TemplateData is the data of the templates. {{utf16hex .Text}} is UTF-16BE in hexadecimal,
// for gateways that expect UCS-2 in that form.
type TemplateData struct {
	ID      string // the same for each try of one message
	To      string // E.164, with the plus sign
	Digits  string // To without the plus sign
	Text    string // UTF-8
	From    string // the message's, or Options.From
	Country string
	Attempt int64
	Unicode bool // whether the text needs UCS-2

	SentBefore int // sms.Message.SentBefore

	// ReceiptToken is a token of this message, made of Options.ReceiptSecret, for the URL of its
	// delivery receipt. ReceiptURL is that URL: Options.ReceiptURL with the parameters id and
	// token, see KannelReceipts. Both are empty without Options.ReceiptSecret.
	ReceiptToken, ReceiptURL string

	// The message's validity, rounded down, but at least 1; 0 when it has none.
	ValiditySeconds, ValidityMinutes int64
}

// Match matches responses by status and body: a status in the list, if it is not empty, and
// a body that contains the regular expression, if there is one. The zero Match matches
// nothing.
type Match struct {
	Status []int
	Body   string
}

// Options describe a gateway.
type Options struct {
	Method string // Defaults to POST with a body, and to GET without

	// URL is a template that begins with the scheme and the host. Required.
	URL string

	// Header is sent with each request. A body requires a Content-Type, which determines
	// how values are escaped: JSON (within quotes: "{{.Text}}"),
	// application/x-www-form-urlencoded, XML, or text/plain, which escapes nothing.
	Header http.Header
	Body   string // a template. Defaults to none

	// User and Password are sent as basic authentication. Defaults to none.
	User, Password string

	From string // the sender ID. Defaults to none

	// ReceiptURL is the public URL of the delivery receipts, without a query: see
	// KannelReceipts and TemplateData.ReceiptURL. Defaults to none.
	ReceiptURL string

	// ReceiptSecret makes TemplateData.ReceiptToken. At least 16 bytes. With it, the message's ID
	// is reported as the provider's, because receipts have it. Defaults to none.
	ReceiptSecret string

	// The meaning of a response, in this order. If none matches, the status decides: 2xx
	// is accepted if Accepted is the zero Match, and otherwise uncertain, as are 502 and
	// 504; 408, 425, 429 and other 5xx are temporary; 3xx and other 4xx misconfigured.
	Rejected, Misconfigured, Temporary, Accepted Match

	// Client sends the requests. Defaults to a client with a connection pool of its own.
	Client *http.Client
}

// Sender calls one gateway.
type Sender struct {
	options   Options
	url, body *template.Template
	rules     []rule
	client    *http.Client
}

type rule struct {
	class  httpsend.Class
	status []int
	body   *regexp.Regexp
}

// New validates the options, and executes the templates once. Its errors contain neither
// the URL nor credentials.
func New(o Options) (*Sender, error) {
	s := &Sender{options: o, client: httpsend.Client(o.Client)}
	s.options.Header = o.Header.Clone()
	if s.options.Method == "" {
		s.options.Method = http.MethodGet
		if o.Body != "" {
			s.options.Method = http.MethodPost
		}
	}
	for _, step := range []func() error{s.checkReceipts, s.checkHeader, s.parse, s.compile, s.validateTemplates} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parse reads the templates.
func (s *Sender) parse() error {
	if !beginsWithHost(s.options.URL) {
		return errors.New("gateway: Options.URL must begin with https:// or http:// and a host; set user and password in Options.User and Options.Password")
	}
	var err error
	if s.url, err = parse(s.options.URL, percent); err != nil {
		return errors.New("gateway: Options.URL is not a valid template")
	}
	if s.options.Body == "" {
		return nil
	}
	escape, err := escaperOf(s.options.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if s.body, err = parse(s.options.Body, escape); err != nil {
		return errors.New("gateway: Options.Body is not a valid template")
	}
	return nil
}

// compile compiles the patterns.
func (s *Sender) compile() error {
	for _, m := range []struct {
		class httpsend.Class
		match Match
	}{
		{httpsend.Rejected, s.options.Rejected},
		{httpsend.Misconfigured, s.options.Misconfigured},
		{httpsend.Temporary, s.options.Temporary},
		{httpsend.Accepted, s.options.Accepted},
	} {
		pattern, err := regexp.Compile(m.match.Body)
		if err != nil {
			return fmt.Errorf("gateway: the pattern for %v is not a valid regular expression", m.class)
		}
		if len(m.match.Status) > 0 || m.match.Body != "" {
			s.rules = append(s.rules, rule{m.class, slices.Clone(m.match.Status), pattern})
		}
	}
	return nil
}

// validateTemplates executes the templates once in each alphabet, so that a misspelt field
// is an error at start and not with the first SMS.
func (s *Sender) validateTemplates() error {
	for _, text := range []string{"000000 is your code.", "000000 \u043a\u043e\u0434"} {
		m := sms.Message{ID: "msg_1", To: "+447400000000", Text: text, Country: "GB", Attempt: 1, Validity: time.Minute}
		if _, err := s.request(context.Background(), m); err != nil {
			return err
		}
		if body := s.fill(s.body, m); isJSON(s.options.Header.Get("Content-Type")) && s.options.Body != "" && !json.Valid(body) {
			return errors.New(`gateway: Options.Body does not give valid JSON: write the quotes of a string in the template, "{{.Text}}"`)
		}
	}
	return nil
}

// Send sends the message through the gateway.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "gateway"})
	if s.options.ReceiptSecret != "" {
		sms.Report(ctx, sms.Result{MessageID: m.ID})
	}
	req, err := s.request(ctx, m)
	if err != nil {
		return fmt.Errorf("%w: %w", err, sms.ErrMisconfigured)
	}
	answer, err := httpsend.Do(s.client, "gateway: "+req.URL.Host, req)
	if err != nil {
		return err
	}
	return s.classOf(answer).Error("gateway: %s returned HTTP %d", req.URL.Host, answer.Status)
}

// fill executes a template. It returns nil if the template uses an unknown field.
func (s *Sender) fill(t *template.Template, m sms.Message) []byte {
	if t == nil {
		return []byte{}
	}
	_, unicode := sms.Segments(m.Text)
	text := bytes.NewBuffer([]byte{}) // nothing at all is no error
	token, receipts := s.receiptOf(m.ID)
	err := t.Execute(text, TemplateData{
		ReceiptToken: token, ReceiptURL: receipts,
		ID: m.ID, To: m.To, Digits: strings.TrimPrefix(m.To, "+"), Text: m.Text, From: cmp.Or(m.From, s.options.From),
		Country: m.Country, Attempt: m.Attempt, Unicode: unicode, SentBefore: m.SentBefore,
		ValiditySeconds: httpsend.Validity(m, time.Second, 1, math.MaxInt64),
		ValidityMinutes: httpsend.Validity(m, time.Minute, 1, math.MaxInt64),
	})
	if err != nil {
		return nil
	}
	return text.Bytes()
}

func (s *Sender) request(ctx context.Context, m sms.Message) (*http.Request, error) {
	address, body := s.fill(s.url, m), s.fill(s.body, m)
	if address == nil || body == nil {
		return nil, errors.New("gateway: Options.URL or Options.Body uses a field that TemplateData does not have")
	}
	req, err := http.NewRequestWithContext(ctx, s.options.Method, string(address), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("gateway: Options.Method or Options.URL is invalid")
	}
	if s.options.Header != nil {
		req.Header = s.options.Header.Clone()
	}
	if s.options.User != "" {
		req.SetBasicAuth(s.options.User, s.options.Password)
	}
	return req, nil
}

func (s *Sender) classOf(answer httpsend.Response) httpsend.Class {
	for _, r := range s.rules {
		if (len(r.status) == 0 || slices.Contains(r.status, answer.Status)) && r.body.Match(answer.Body) {
			return r.class
		}
	}
	class := httpsend.ClassifyStatus(answer.Status)
	if class == httpsend.Accepted && (len(s.options.Accepted.Status) > 0 || s.options.Accepted.Body != "") {
		return httpsend.Uncertain // an unknown kind of success
	}
	return class
}
