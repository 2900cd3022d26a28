// Package identityserver delegates to a Matrix identity server, or to another threepid, over
// the Matrix identity service API, "Phone number validation":
// https://spec.matrix.org/v1.19/identity-service-api/#phone-number-validation-1.
//
// The node has an access token of its own there. The id_access_token of clients is not used.
// Their id_server must name this server.
package identityserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/sms/httpsend"
)

const (
	v2 = "/_matrix/identity/v2/validate/msisdn/"
	v1 = "/_matrix/identity/api/v1/validate/msisdn/"

	maxAttempt = 1<<53 - 1 // the greatest integer that canonical JSON allows
	maxErrCode = 64        // bytes
	maxWait    = 24 * time.Hour
)

var _ delegate.IdentityServer = (*Service)(nil)

// Options configure a Service.
type Options struct {
	// BaseURL is where the server is, such as https://id.example.org. Required.
	BaseURL string

	// AccessToken is the node's own, from the server's POST /account/register or, if the
	// server is another threepid, one of its IdentityOptions.AccessTokens. Required unless V1
	// is set.
	AccessToken string

	// V1 uses the paths of version 1, which take no token. Only a server that nobody else
	// reaches should serve them. Defaults to false.
	V1 bool

	// Names are the values of id_server that clients may use for the server, without
	// scheme. Defaults to the host of BaseURL, with its port if it has one.
	Names []string

	// Client sends the requests. Defaults to a client with a connection pool of its own.
	Client *http.Client
}

// Service is one identity server.
type Service struct {
	url    string
	token  string
	names  []string
	client *http.Client
}

// New validates the options. Its errors contain no credential.
func New(o Options) (*Service, error) {
	base, err := httpsend.BaseURL("identityserver", o.BaseURL, "")
	prefix := v1
	if !o.V1 {
		prefix = v2
		err = errors.Join(err, httpsend.Require("identityserver", "AccessToken", o.AccessToken))
	}
	if err != nil {
		return nil, err
	}
	s := &Service{url: base + prefix, token: o.AccessToken, client: httpsend.Client(o.Client)}
	for _, name := range o.Names {
		s.names = append(s.names, strings.ToLower(name))
	}
	if len(s.names) == 0 {
		u, err := url.Parse(base)
		if err != nil {
			return nil, errors.New("identityserver: the base URL has no host")
		}
		s.names = []string{strings.ToLower(u.Host)}
	}
	return s, nil
}

// MatchesServer implements delegate.IdentityServer. Names are compared without case.
func (s *Service) MatchesServer(idServer string) bool {
	return slices.Contains(s.names, strings.ToLower(idServer))
}

// Start asks for a token: POST /_matrix/identity/v2/validate/msisdn/requestToken.
func (s *Service) Start(ctx context.Context, v delegate.StartRequest) (handle string, err error) {
	answer, err := s.call(ctx, "requestToken", map[string]any{
		"client_secret": v.Secret,
		"country":       v.Country,
		"phone_number":  v.To,
		// To a server, an attempt of 0 is not greater than none.
		"send_attempt": min(v.Attempt+1, maxAttempt),
	})
	if err != nil {
		return "", err
	}
	if answer.Status == http.StatusOK && answer.SID != "" {
		return answer.SID, nil
	}
	if answer.ErrCode == "M_LIMIT_EXCEEDED" || answer.Status == http.StatusTooManyRequests {
		wait := min(max(answer.RetryAfterMS, 0), maxWait.Milliseconds())
		return "", &delegate.LimitError{RetryAfter: time.Duration(wait) * time.Millisecond}
	}
	return "", answer.class().Error("identityserver: requestToken returned HTTP %d %s", answer.Status, word(answer.ErrCode))
}

// Check checks a token: POST /_matrix/identity/v2/validate/msisdn/submitToken.
func (s *Service) Check(ctx context.Context, c delegate.CheckRequest) error {
	if c.Handle == "" {
		return delegate.ErrExpired
	}
	answer, err := s.call(ctx, "submitToken", map[string]any{
		"sid": c.Handle, "client_secret": c.Secret, "token": c.Token,
	})
	switch {
	case err != nil:
		return err
	case answer.Status == http.StatusOK && answer.Success != nil && *answer.Success:
		return nil
	case answer.Status == http.StatusOK && answer.Success != nil:
		return delegate.ErrIncorrect
	}
	switch answer.ErrCode {
	case "M_TOKEN_INCORRECT",
		"M_NO_VALID_SESSION": // what Sydent says of a wrong token
		return delegate.ErrIncorrect
	case "M_SESSION_EXPIRED", "M_NOT_FOUND", "M_INVALID_PARAM":
		return delegate.ErrExpired
	}
	return answer.class().Error("identityserver: submitToken returned HTTP %d %s", answer.Status, word(answer.ErrCode))
}

// answer is the part of a response that we read.
type answer struct {
	Status int `json:"-"`

	SID          string `json:"sid"`
	Success      *bool  `json:"success"`
	ErrCode      string `json:"errcode"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

// class returns what an errcode means for an SMS: identity service API, "Common error
// codes", and those that Sydent adds.
func (a answer) class() httpsend.Class {
	switch a.ErrCode {
	case "M_INVALID_ADDRESS", "M_INVALID_PHONE_NUMBER", "M_DESTINATION_REJECTED", "M_THREEPID_DENIED":
		return httpsend.Rejected
	case "M_SEND_ERROR", "M_LIMIT_EXCEEDED", "M_UNKNOWN":
		return httpsend.Temporary
	case "M_UNAUTHORIZED", "M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_FORBIDDEN", "M_TERMS_NOT_SIGNED", "M_UNRECOGNIZED", "M_NOT_FOUND",
		"M_MISSING_PARAMS", "M_MISSING_PARAM", "M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_JSON":
		return httpsend.Misconfigured
	}
	class := httpsend.ClassifyStatus(a.Status)
	if class == httpsend.Accepted {
		return httpsend.Uncertain // an unknown kind of success
	}
	return class
}

func (s *Service) call(ctx context.Context, endpoint string, body map[string]any) (answer, error) {
	res, err := httpsend.PostJSON(ctx, s.client, "identityserver", s.url+endpoint, body, func(r *http.Request) {
		if s.token != "" {
			r.Header.Set("Authorization", "Bearer "+s.token)
		}
	})
	if err != nil {
		return answer{}, err
	}
	a := answer{}
	if json.Unmarshal(res.Body, &a) != nil {
		a = answer{} // if it is not JSON, the status decides
	}
	a.Status = res.Status
	return a, nil
}

// word returns an errcode of the form that servers use, and nothing else that a response may
// contain.
func word(errcode string) string {
	foreign := func(r rune) bool { return r != '_' && r != '.' && (r < 'A' || r > 'Z') }
	if errcode == "" || len(errcode) > maxErrCode || strings.ContainsFunc(errcode, foreign) {
		return "without an errcode"
	}
	return errcode
}
