package threepid

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/verify"
	"example.com/threepid/internal/wire"
	"example.com/threepid/store"
)

// IdentityOptions configure MountIdentity. At least one field must be set.
type IdentityOptions struct {
	// PrivateListener states that only homeservers can reach the router, for example because
	// the server listens on a loopback address. The v1 paths, which have no authentication
	// by design, are then mounted. Defaults to false.
	PrivateListener bool

	// SecretPath precedes every path. If it is set, the v1 paths are mounted too: anybody who
	// knows it may use them. It has at least 16 characters, such as "/gWbq2tJx0sVhRk4f". Configure the
	// homeserver with a URL that ends in it, and keep it out of access logs.
	// Defaults to none.
	SecretPath string

	// AccessTokens are the bearer tokens that the v2 paths accept. To rotate a token, add the
	// new one, configure the homeservers with it, and remove the old one. Defaults to
	// none: the v2 paths refuse every request with 401.
	AccessTokens []string
}

const (
	identityPath        = "/_matrix/identity"
	minSecretPathLength = 17 // with its slash
)

// MountIdentity mounts the phone number validation of the Matrix identity service API v1.19,
// to which homeservers such as Synapse delegate
// (https://spec.matrix.org/v1.19/identity-service-api/#phone-number-validation-1): requestToken,
// submitToken and getValidated3pid below /_matrix/identity/api/v1 and /_matrix/identity/v2. Mount
// it on a router that only homeservers reach.
//
// The node sends and checks the codes. The homeserver knows which numbers have an account, so
// the plugin does not look accounts up. A validation has the purpose [PurposeIdentity]: it
// cannot be used to add a number or to reset a password on this node. getValidated3pid returns
// the validation of any session of this node, and does not consume it.
//
// All requests come from the homeserver's address. Limits by client and network do not apply to
// them; limits by number and range do, and so do the guard and the policy. Without an
// Accept-Language header, the language of the SMS follows the number's country.
func (p *Plugin) MountIdentity(router gin.IRouter, o IdentityOptions) error {
	if isNil(router) {
		return errors.New("threepid: the router is nil; pass the *gin.Engine or a group of it")
	}
	if err := o.validate(); err != nil {
		return err
	}
	s := &identityService{handler: &handler{Plugin: p, path: o.SecretPath + identityPath}}
	for _, token := range o.AccessTokens {
		s.tokens = append(s.tokens, sha256.Sum256([]byte(token)))
	}
	s.open = o.PrivateListener || o.SecretPath != ""
	return s.mount(router)
}

func (o IdentityOptions) validate() error {
	if !o.PrivateListener && o.SecretPath == "" && len(o.AccessTokens) == 0 {
		return errors.New("threepid: set IdentityOptions.PrivateListener, SecretPath or AccessTokens: the v1 paths have no authentication")
	}
	if o.SecretPath != "" {
		if validateBasePath(o.SecretPath) != nil { // its error is not returned: it contains the secret path
			return errors.New("threepid: IdentityOptions.SecretPath must begin with a slash, not end with one, and contain no wildcards, query or escapes")
		}
		if len(o.SecretPath) < minSecretPathLength {
			return fmt.Errorf("threepid: IdentityOptions.SecretPath must have at least %d characters after its slash", minSecretPathLength-1)
		}
	}
	for i, token := range o.AccessTokens {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("threepid: IdentityOptions.AccessTokens[%d] must be printable ASCII without spaces", i)
		}
	}
	return nil
}

// identityService serves the identity service API.
type identityService struct {
	*handler

	open   bool // the v1 paths are served
	tokens [][sha256.Size]byte
	routes map[string]map[string]gin.HandlerFunc // by path below h.path, and method
}

// mount registers one catch-all route for each method, so that an unknown path gets 404
// M_UNRECOGNIZED, whatever the router's other routes are.
func (s *identityService) mount(router gin.IRouter) error {
	s.routes = s.served()
	s.known = func(path string) bool { return s.routes[path] != nil }
	path := s.path + "/*path"
	if engine, ok := router.(*gin.Engine); ok {
		for _, route := range engine.Routes() {
			if strings.HasPrefix(route.Path, s.path+"/") {
				return fmt.Errorf("threepid: the router already serves %s %s; mount the identity service on another router", route.Method, route.Path)
			}
		}
	}
	for _, method := range methods() {
		if err := s.handle(router, gin.RouteInfo{Method: method, Path: path, HandlerFunc: s.dispatch}); err != nil {
			return err
		}
	}
	return nil
}

func (s *identityService) served() map[string]map[string]gin.HandlerFunc {
	routes := map[string]map[string]gin.HandlerFunc{
		"/versions": {http.MethodGet: func(c *gin.Context) { writeJSON(c, http.StatusOK, gin.H{"versions": identityVersions()}) }},
	}
	ping := func(c *gin.Context) { writeJSON(c, http.StatusOK, struct{}{}) }
	for _, v := range []struct {
		path   string
		served bool
		with   func(gin.HandlerFunc) gin.HandlerFunc
	}{
		{"/api/v1", s.open, func(next gin.HandlerFunc) gin.HandlerFunc { return next }},
		{"/v2", true, s.authorized},
	} {
		if !v.served {
			continue
		}
		routes[v.path] = map[string]gin.HandlerFunc{http.MethodGet: ping}
		routes[v.path+"/validate/msisdn/requestToken"] = map[string]gin.HandlerFunc{http.MethodPost: v.with(s.requestToken)}
		routes[v.path+"/validate/msisdn/submitToken"] = map[string]gin.HandlerFunc{
			http.MethodPost: v.with(s.submitPost), http.MethodGet: v.with(s.submitGet),
		}
		routes[v.path+"/3pid/getValidated3pid"] = map[string]gin.HandlerFunc{http.MethodGet: v.with(s.getValidated)}
	}
	return routes
}

// identityVersions returns the versions of the specification that define these paths.
func identityVersions() []string {
	versions := []string{"r0.1.0", "r0.2.0", "r0.2.1", "r0.3.0"}
	const first, latest = 1, 19
	for minor := first; minor <= latest; minor++ {
		versions = append(versions, fmt.Sprintf("v1.%d", minor))
	}
	return versions
}

func (s *identityService) dispatch(c *gin.Context) {
	serves := s.routes[c.Param("path")]
	handle := serves[c.Request.Method]
	switch {
	case serves == nil:
		s.notFound(c)
	case handle != nil:
		handle(c)
	case c.Request.Method == http.MethodOptions:
		preflight(allowed(serves))(c)
	default:
		notAllowed(allowed(serves))(c)
	}
}

// authorized serves requests with an access token in the Authorization header or, as the
// specification allows, in the query.
func (s *identityService) authorized(next gin.HandlerFunc) gin.HandlerFunc {
	return func(c *gin.Context) {
		scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			token = c.Query("access_token")
		}
		given, match := sha256.Sum256([]byte(strings.TrimSpace(token))), 0
		for _, known := range s.tokens {
			match |= subtle.ConstantTimeCompare(given[:], known[:])
		}
		if match == 0 {
			s.service.ObserveRefusal(c.Request.Context(), verify.Errorf(verify.UnknownToken, "unknown access token"), "", store.PurposeIdentity)
			writeJSON(c, http.StatusUnauthorized, errorBody{ErrCode: "M_UNAUTHORIZED", Error: "This server does not know the access token"})
			return
		}
		next(c)
	}
}

// identityTokenBody is the response of requestToken.
type identityTokenBody struct {
	SID           string `json:"sid"`
	Success       bool   `json:"success"`
	MSISDN        string `json:"msisdn"`
	International string `json:"intl_fmt"`
}

// requestToken serves POST …/validate/msisdn/requestToken. It sets no client key, because the
// address of the request is the homeserver's.
func (s *identityService) requestToken(c *gin.Context) {
	body, err := s.readBody(c)
	var request verify.Request
	if err == nil {
		request, err = wire.RequestToken(body, store.PurposeIdentity, true)
	}
	if err != nil {
		s.service.ObserveRefusal(c.Request.Context(), err, "", store.PurposeIdentity)
		s.refuse(c, err)
		return
	}
	request.Header, request.AcceptLanguage = c.Request.Header, c.GetHeader("Accept-Language")
	receipt, err := s.service.Request(c.Request.Context(), request)
	if err != nil {
		s.refuse(c, err)
		return
	}
	writeJSON(c, http.StatusOK, identityTokenBody{
		SID: receipt.SID, Success: true, MSISDN: receipt.Number.MSISDN, International: receipt.Number.International,
	})
}

// refuse responds with the errcodes of the identity service API.
func (s *identityService) refuse(c *gin.Context, err error) {
	status, body := s.answer(c, err)
	var refusal *verify.Error
	if errors.As(err, &refusal) && refusal.Code == verify.InvalidNumber {
		body.ErrCode = "M_INVALID_ADDRESS"
	}
	writeJSON(c, status, body)
}

func (s *identityService) submitPost(c *gin.Context) { s.submitPostFrom(c, "") }

func (s *identityService) submitGet(c *gin.Context) { s.submitGetFrom(c, "") }

// validatedBody is the response of getValidated3pid. ValidatedAt is in Unix milliseconds.
type validatedBody struct {
	Medium      string `json:"medium"`
	Address     string `json:"address"`
	ValidatedAt int64  `json:"validated_at"`
}

// getValidated serves GET …/3pid/getValidated3pid.
func (s *identityService) getValidated(c *gin.Context) {
	sid, clientSecret, err := wire.SessionQuery(c.Request.URL.RawQuery)
	if err != nil {
		s.service.ObserveRefusal(c.Request.Context(), err, "", store.PurposeIdentity)
		s.refuse(c, err)
		return
	}
	v, err := s.service.Validated(c.Request.Context(), sid, clientSecret)
	var errcode, message string
	status := http.StatusBadRequest
	switch {
	case err == nil:
		writeJSON(c, http.StatusOK, validatedBody{Medium: verify.MediumMSISDN, Address: v.MSISDN, ValidatedAt: v.ValidatedAt.UnixMilli()})
		return
	case errors.Is(err, ErrNoSession):
		status, errcode, message = http.StatusNotFound, "M_NO_VALID_SESSION", "No session has that sid and client_secret"
	case errors.Is(err, ErrNotValidated):
		errcode, message = "M_SESSION_NOT_VALIDATED", "The phone number is not confirmed yet"
	case errors.Is(err, ErrExpired):
		errcode, message = "M_SESSION_EXPIRED", "The confirmation of the phone number has expired"
	default:
		s.refuse(c, err)
		return
	}
	writeJSON(c, status, errorBody{ErrCode: errcode, Error: message})
}
