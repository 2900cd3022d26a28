// Package gateway sends text messages with an HTTP call that one describes, for
// gateways that have no package of their own: Kannel and Jasmin, which Options
// are ready for, Gammu behind a REST front, or an app on a telephone.
//
// The URL and the body are templates (text/template) over a Call:
//
//	https://phone.lan:8080/message
//	{"textMessage":{"text":{{json .Text}}},"phoneNumbers":[{{json .To}}]}
package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode/utf16"

	"example.com/threepid/sms"
	"example.com/threepid/internal/httpcall"
)

var _ sms.Sender = (*Sender)(nil)

// Call is what templates speak of. {{query .Text}} is right within a query,
// {{json .Text}} within JSON, {{utf16hex .Text}} is UTF-16BE in hexadecimal.
type Call struct {
	ID      string // the same for each try of one message
	To      string // E.164, with the plus sign
	Digits  string // without it
	Text    string // UTF-8
	From    string // Options.From, or the message's own
	Country string
	Attempt int64
	Unicode bool // whether the text needs UCS-2
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
	URL    string // template; required

	Header http.Header // sent with each call
	Body   string      // template; default: none

	// User and Password are sent as basic authentication. Default: none.
	User, Password string

	From string // what .From is in the templates

	// What an answer means, tried in this order. What nothing recognises goes by
	// its status: 2xx is accepted if Accepted is empty; 401, 403 and other 4xx
	// are misconfigured, 408, 425, 429 and 5xx temporary.
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
	funcs := template.FuncMap{"query": url.QueryEscape, "json": toJSON, "utf16hex": utf16hex}
	var err error
	if s.url, err = template.New("").Funcs(funcs).Option("missingkey=error").Parse(o.URL); err != nil {
		return nil, errors.New("gateway: Options.URL is no template that can be parsed")
	}
	if s.body, err = template.New("").Funcs(funcs).Parse(o.Body); err != nil {
		return nil, errors.New("gateway: Options.Body is no template that can be parsed")
	}
	for class, match := range map[httpcall.Class]Match{
		httpcall.Rejected: o.Rejected, httpcall.Misconfigured: o.Misconfigured,
		httpcall.Temporary: o.Temporary, httpcall.Accepted: o.Accepted,
	} {
		pattern, err := regexp.Compile(match.Body)
		if err != nil {
			return nil, fmt.Errorf("gateway: the pattern for %v cannot be parsed", class)
		}
		if len(match.Status) > 0 || match.Body != "" {
			s.rules = append(s.rules, rule{class, slices.Clone(match.Status), pattern})
		}
	}
	order := []httpcall.Class{httpcall.Rejected, httpcall.Misconfigured, httpcall.Temporary, httpcall.Accepted}
	slices.SortFunc(s.rules, func(a, b rule) int { return slices.Index(order, a.class) - slices.Index(order, b.class) })
	_, err = s.request(context.Background(), sms.Message{
		ID: "msg_1", To: "+447400000000", Text: "000000 is your code.", Country: "GB", Attempt: 1,
	})
	return s, err
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

func (s *Sender) request(ctx context.Context, m sms.Message) (*http.Request, error) {
	_, unicode := sms.Segments(m.Text)
	call := Call{
		ID: m.ID, To: m.To, Digits: strings.TrimPrefix(m.To, "+"), Text: m.Text, From: httpcall.Or(m.From, s.options.From),
		Country: m.Country, Attempt: m.Attempt, Unicode: unicode,
	}
	var address strings.Builder
	var body bytes.Buffer
	if s.url.Execute(&address, call) != nil {
		return nil, errors.New("gateway: Options.URL has a field or function that there is not")
	}
	if s.body.Execute(&body, call) != nil {
		return nil, errors.New("gateway: Options.Body has a field or function that there is not")
	}
	req, err := http.NewRequestWithContext(ctx, s.options.Method, address.String(), bytes.NewReader(body.Bytes()))
	if err != nil || req.URL.Hostname() == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return nil, errors.New("gateway: Options.Method or URL is none: the URL must begin with https:// or http:// and have a host")
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

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

func utf16hex(text string) string {
	var hex strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		_, _ = fmt.Fprintf(&hex, "%04X", unit)
	}
	return hex.String()
}
