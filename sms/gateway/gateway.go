// Package gateway sends text messages with an HTTP call that one describes, for
// gateways that have no package of their own: Kannel and Jasmin, which Options
// are ready for, Gammu behind a REST front, or an app on a telephone.
//
// The URL and the body are templates (text/template) over a Call. Every value is
// escaped for where it stands, so that no text, and no sender's name, can say
// more than itself:
//
//	https://phone.lan:8080/message?to={{.To}}
//	{"textMessage":{"text":"{{.Text}}"},"phoneNumbers":["{{.To}}"]}
package gateway

import (
	"bytes"
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

	"example.com/threepid/internal/httpcall"
	"example.com/threepid/sms"
)

var _ sms.Sender = (*Sender)(nil)

// Call is what templates speak of. {{utf16hex .Text}} is UTF-16BE in hexadecimal,
// for gateways that want UCS-2 so.
type Call struct {
	ID      string // the same for each try of one message
	To      string // E.164, with the plus sign
	Digits  string // without it
	Text    string // UTF-8
	From    string // Options.From, or the message's own
	Country string
	Attempt int64
	Unicode bool // whether the text needs UCS-2

	SentBefore int // sms.Message.SentBefore

	// The message's validity, rounded down, but at least 1; 0 when it has none.
	ValiditySeconds, ValidityMinutes int64
}

// Match recognises answers: a status among these, if there are any, and a body
// in which the pattern (package regexp) is found, if there is one. The zero Match
// recognises nothing.
type Match struct {
	Status []int
	Body   string
}

// Options describe a gateway.
type Options struct {
	Method string // default: POST with a body, else GET

	// URL is a template that begins with the scheme and the host. Required.
	URL string

	// Header is sent with each call. With a body its Content-Type is required,
	// and says how values are escaped: JSON within strings ("{{.Text}}"),
	// application/x-www-form-urlencoded, XML; text/plain as they are.
	Header http.Header
	Body   string // template; default: none

	// User and Password are sent as basic authentication. Default: none.
	User, Password string

	From string // what .From is in the templates

	// What an answer means, tried in this order. What nothing recognises goes by
	// its status: 2xx is accepted if Accepted is the zero Match, and else
	// uncertain, as 502 and 504 are; 408, 425, 429 and other 5xx are temporary,
	// 3xx and other 4xx misconfigured.
	Rejected, Misconfigured, Temporary, Accepted Match

	// Client carries the requests. Default: one with a pool of its own.
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
	class  httpcall.Class
	status []int
	body   *regexp.Regexp
}

// New checks the options, and the templates by filling them in. Errors hold
// neither the URL nor credentials.
func New(o Options) (*Sender, error) {
	s := &Sender{options: o, client: httpcall.Client(o.Client)}
	s.options.Header = o.Header.Clone()
	if s.options.Method == "" {
		s.options.Method = http.MethodGet
		if o.Body != "" {
			s.options.Method = http.MethodPost
		}
	}
	for _, step := range []func() error{s.checkHeader, s.parse, s.compile, s.rehearse} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parse reads the templates.
func (s *Sender) parse() error {
	if !beginsWithHost(s.options.URL) {
		return errors.New("gateway: Options.URL must begin with https:// or http:// and a host, and have user and password in their own options")
	}
	var err error
	if s.url, err = parse(s.options.URL, percent); err != nil {
		return errors.New("gateway: Options.URL is no template that can be parsed")
	}
	if s.options.Body == "" {
		return nil
	}
	escape, err := escaperOf(s.options.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if s.body, err = parse(s.options.Body, escape); err != nil {
		return errors.New("gateway: Options.Body is no template that can be parsed")
	}
	return nil
}

// compile makes rules of what answers mean.
func (s *Sender) compile() error {
	for _, m := range []struct {
		class httpcall.Class
		match Match
	}{
		{httpcall.Rejected, s.options.Rejected},
		{httpcall.Misconfigured, s.options.Misconfigured},
		{httpcall.Temporary, s.options.Temporary},
		{httpcall.Accepted, s.options.Accepted},
	} {
		pattern, err := regexp.Compile(m.match.Body)
		if err != nil {
			return fmt.Errorf("gateway: the pattern for %v cannot be parsed", m.class)
		}
		if len(m.match.Status) > 0 || m.match.Body != "" {
			s.rules = append(s.rules, rule{m.class, slices.Clone(m.match.Status), pattern})
		}
	}
	return nil
}

// rehearse fills the templates in, once in each alphabet: better to hear at start
// that a field is misspelt than with the first person's text.
func (s *Sender) rehearse() error {
	for _, text := range []string{"000000 is your code.", "000000 \u043a\u043e\u0434"} {
		m := sms.Message{ID: "msg_1", To: "+447400000000", Text: text, Country: "GB", Attempt: 1, Validity: time.Minute}
		if _, err := s.request(context.Background(), m); err != nil {
			return err
		}
		if body := s.fill(s.body, m); isJSON(s.options.Header.Get("Content-Type")) && s.options.Body != "" && !json.Valid(body) {
			return errors.New(`gateway: Options.Body is no JSON once it is filled in: a string's quotes belong in the template, "{{.Text}}"`)
		}
	}
	return nil
}

// Send calls the gateway.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	req, err := s.request(ctx, m)
	if err != nil {
		return fmt.Errorf("%w: %w", err, sms.ErrMisconfigured)
	}
	answer, err := httpcall.Do(s.client, "gateway: "+req.URL.Host, req)
	if err != nil {
		return err
	}
	return s.classOf(answer).Error("gateway: %s answered %d", req.URL.Host, answer.Status)
}

// fill is nil when the template speaks of what there is not.
func (s *Sender) fill(t *template.Template, m sms.Message) []byte {
	if t == nil {
		return []byte{}
	}
	_, unicode := sms.Segments(m.Text)
	text := bytes.NewBuffer([]byte{}) // nothing at all is no error
	err := t.Execute(text, Call{
		ID: m.ID, To: m.To, Digits: strings.TrimPrefix(m.To, "+"), Text: m.Text, From: httpcall.Or(m.From, s.options.From),
		Country: m.Country, Attempt: m.Attempt, Unicode: unicode, SentBefore: m.SentBefore,
		ValiditySeconds: httpcall.Validity(m, time.Second, 1, math.MaxInt64),
		ValidityMinutes: httpcall.Validity(m, time.Minute, 1, math.MaxInt64),
	})
	if err != nil {
		return nil
	}
	return text.Bytes()
}

func (s *Sender) request(ctx context.Context, m sms.Message) (*http.Request, error) {
	address, body := s.fill(s.url, m), s.fill(s.body, m)
	if address == nil || body == nil {
		return nil, errors.New("gateway: Options.URL or Body speaks of a field that there is not")
	}
	req, err := http.NewRequestWithContext(ctx, s.options.Method, string(address), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("gateway: Options.Method or URL is none")
	}
	if s.options.Header != nil {
		req.Header = s.options.Header.Clone()
	}
	if s.options.User != "" {
		req.SetBasicAuth(s.options.User, s.options.Password)
	}
	return req, nil
}

func (s *Sender) classOf(answer httpcall.Answer) httpcall.Class {
	for _, r := range s.rules {
		if (len(r.status) == 0 || slices.Contains(r.status, answer.Status)) && r.body.Match(answer.Body) {
			return r.class
		}
	}
	class := httpcall.OfStatus(answer.Status)
	if class == httpcall.Accepted && (len(s.options.Accepted.Status) > 0 || s.options.Accepted.Body != "") {
		return httpcall.Uncertain // a success that is not the one we know
	}
	return class
}
