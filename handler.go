package threepid

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/page"
	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/internal/wire"
	"example.com/threepid/store"
)

// maxBody is in bytes; the largest honest request has under 5,000.
const maxBody = 64 << 10

// handler serves the endpoints of one base path.
type handler struct {
	service *verify.Service
	opts    Options
	page    *page.Page
	texts   *texts.Catalog
	path    string // the whole path before an endpoint

	forwarded *sync.Once
}

// mount registers the routes of all endpoints below basePath, which is the end
// of h.path: what comes before it is the group's.
func (h *handler) mount(router gin.IRouter, basePath string) error {
	group := strings.TrimSuffix(h.path, basePath)
	var taken gin.RoutesInfo
	if engine, ok := router.(*gin.Engine); ok {
		taken = engine.Routes()
	}
	served, spare := h.routes(basePath)
	const remedy = "leave it out with Options.Omit, or choose another base path"
	for _, route := range served {
		if by, clash := clashing(taken, route.Method, group+route.Path); clash {
			return fmt.Errorf("threepid: the router already serves %s %s; %s", route.Method, by, remedy)
		}
	}
	for _, route := range served {
		if err := h.handle(router, route); err != nil {
			return fmt.Errorf("%w; %s", err, remedy)
		}
	}
	for _, route := range spare {
		// What the host serves itself on a path of ours, say the preflights of
		// all paths with one catch-all, stays the host's.
		if _, clash := clashing(taken, route.Method, group+route.Path); !clash {
			_ = h.handle(router, route)
		}
	}
	return nil
}

// routes are those that the endpoints serve, and to spare, on the same paths,
// OPTIONS and a 405 for every other method.
func (h *handler) routes(basePath string) (served, spare gin.RoutesInfo) {
	serves := map[Endpoint]map[string]gin.HandlerFunc{
		EndpointAdd:      {http.MethodPost: h.requestToken(store.PurposeAdd)},
		EndpointRegister: {http.MethodPost: h.requestToken(store.PurposeRegister)},
		EndpointPassword: {http.MethodPost: h.requestToken(store.PurposePassword)},
		EndpointSubmit:   {http.MethodPost: h.submitPost, http.MethodGet: h.submitGet},
	}
	if h.opts.Authenticate != nil {
		serves[EndpointAccount] = map[string]gin.HandlerFunc{http.MethodGet: h.forUser(h.listNumbers)}
		serves[EndpointAccountAdd] = map[string]gin.HandlerFunc{http.MethodPost: h.forUser(h.addNumber)}
		serves[EndpointAccountDelete] = map[string]gin.HandlerFunc{http.MethodPost: h.forUser(h.deleteNumber)}
	}
	for _, e := range endpoints() {
		if serves[e] == nil || slices.Contains(h.opts.Omit, e) {
			continue
		}
		allow := allowed(serves[e])
		for _, method := range methods() {
			route := gin.RouteInfo{Method: method, Path: basePath + string(e), HandlerFunc: serves[e][method]}
			switch {
			case route.HandlerFunc != nil:
				served = append(served, route)
				continue
			case method == http.MethodOptions:
				route.HandlerFunc = preflight(allow)
			default:
				route.HandlerFunc = notAllowed(allow)
			}
			spare = append(spare, route)
		}
	}
	return served, spare
}

// handle registers one route. Gin panics when it cannot.
func (h *handler) handle(router gin.IRouter, route gin.RouteInfo) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("threepid: cannot mount %s %s: %v", route.Method, route.Path, v)
		}
	}()
	router.Handle(route.Method, route.Path, h.headers, route.HandlerFunc)
	return nil
}

// clashing finds the route that keeps gin from taking method and path: the same
// one, or a catch-all above it.
func clashing(taken gin.RoutesInfo, method, path string) (string, bool) {
	for _, t := range taken {
		before, _, catchAll := strings.Cut(t.Path, "*")
		if t.Method == method && (t.Path == path || catchAll && strings.HasPrefix(path, before)) {
			return t.Path, true
		}
	}
	return "", false
}

func methods() []string {
	return []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace,
	}
}

// allowed is the Allow header of an endpoint.
func allowed(serves map[string]gin.HandlerFunc) string {
	var allow []string
	for _, method := range methods() {
		if serves[method] != nil || method == http.MethodOptions {
			allow = append(allow, method)
		}
	}
	return strings.Join(allow, ", ")
}

// headers sets what every answer has: nothing here may be cached, or tell
// another site a URL with a token in it. The CORS headers are those of the
// Matrix client-server API, "Web Browser Clients"; one that the host's own
// middleware has set is left as it is.
func (h *handler) headers(c *gin.Context) {
	header := c.Writer.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	if h.opts.DisableCORS {
		return
	}
	for _, cors := range [...][2]string{
		{"Access-Control-Allow-Origin", "*"},
		{"Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"},
		{"Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization"},
		{"Access-Control-Expose-Headers", "Retry-After"},
	} {
		if header.Get(cors[0]) == "" {
			header.Set(cors[0], cors[1])
		}
	}
}

func preflight(allow string) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Allow", allow)
		c.Status(http.StatusNoContent)
	}
}

func notAllowed(allow string) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Allow", allow)
		c.JSON(http.StatusMethodNotAllowed, errorBody{ErrCode: "M_UNRECOGNIZED", Error: "This path answers to " + allow})
	}
}

// requestTokenBody answers requestToken. The last three fields are what clients
// of the Element family read.
type requestTokenBody struct {
	SID           string `json:"sid"`
	SubmitURL     string `json:"submit_url"`
	Success       bool   `json:"success"`
	MSISDN        string `json:"msisdn"`
	International string `json:"intl_fmt"`
}

// requestToken serves POST …/msisdn/requestToken.
func (h *handler) requestToken(purpose store.Purpose) gin.HandlerFunc {
	return func(c *gin.Context) {
		submitURL, err := h.submitURL(c.Request)
		if err != nil {
			h.refuse(c, err)
			return
		}
		body, err := h.readBody(c)
		if err != nil {
			h.refuse(c, err)
			return
		}
		request, err := wire.RequestToken(body, purpose, h.opts.AllowLegacyClients)
		if err != nil {
			h.refuse(c, err)
			return
		}
		request.Client, request.Header = h.client(c), c.Request.Header
		request.AcceptLanguage = c.GetHeader("Accept-Language")
		receipt, err := h.service.Request(c.Request.Context(), request)
		if err != nil {
			h.refuse(c, err)
			return
		}
		c.JSON(http.StatusOK, requestTokenBody{
			SID: receipt.SID, SubmitURL: submitURL, Success: true,
			MSISDN: receipt.Number.MSISDN, International: receipt.Number.International,
		})
	}
}

// submitURL is where the client brings the token. Without a public URL it is
// taken from the Host header, and from no X-Forwarded one: those are anybody's.
func (h *handler) submitURL(r *http.Request) (string, error) {
	base := h.opts.PublicURL
	if base == "" {
		if !verify.ValidHost(r.Host) {
			return "", verify.Errorf(verify.InvalidParam, "The Host header is not a host name")
		}
		base = "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
	}
	return base + h.path + string(EndpointSubmit), nil
}

// submitPost serves POST …/submitToken, from JSON or a form.
func (h *handler) submitPost(c *gin.Context) {
	body, err := h.readBody(c)
	if err != nil {
		h.refuseSubmit(c, err)
		return
	}
	kind, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	read := wire.Submission
	// curl calls everything a form that it is not told about; no form of ours
	// begins with a brace.
	if kind == "application/x-www-form-urlencoded" && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		read = wire.SubmissionForm
	}
	submission, err := read(body)
	if err != nil {
		h.refuseSubmit(c, err)
		return
	}
	submission.Client = h.client(c)
	if _, err := h.service.Submit(c.Request.Context(), submission); err != nil {
		h.refuseSubmit(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"success": true})
}

// submitGet serves GET …/submitToken, which a person opens from a link.
func (h *handler) submitGet(c *gin.Context) {
	submission, err := wire.SubmissionForm([]byte(c.Request.URL.RawQuery))
	if err != nil {
		h.show(c, err)
		return
	}
	submission.Client = h.client(c)
	nextLink, err := h.service.Submit(c.Request.Context(), submission)
	if err != nil || nextLink == "" {
		h.show(c, err)
		return
	}
	c.Redirect(http.StatusFound, nextLink)
}

// show answers with a page for a person, in a language of theirs.
func (h *handler) show(c *gin.Context, err error) {
	status, _ := h.answer(c, err)
	words := h.words(c)
	c.Header("Content-Security-Policy", h.page.Policy())
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Header("Content-Language", words.Language)
	c.Writer.Header().Add("Vary", "Accept-Language")
	c.Status(status)
	if err := h.page.Render(c.Writer, words, err == nil, sentence(words, err)); err != nil {
		h.opts.Logger.Warn("threepid: cannot send a page", "error", err)
	}
}

// client is whom a request counts against.
func (h *handler) client(c *gin.Context) string {
	if h.opts.Client != nil {
		return h.opts.Client(c)
	}
	client := c.ClientIP()
	// A client on the proxy's own machine has the proxy's address, and rightly so.
	first, _, _ := strings.Cut(c.GetHeader("X-Forwarded-For"), ",")
	if client == "" || first != "" && client == c.RemoteIP() && strings.TrimSpace(first) != client {
		h.forwarded.Do(func() {
			h.opts.Logger.Warn("threepid: a request has come through a proxy that the router was not told of (SetTrustedProxies), "+
				"or pretends to: all clients behind that proxy share one's limits", "proxy", c.Request.RemoteAddr)
		})
	}
	return client
}

// readBody reads a body up to its limit, in size and in time. Past that the
// connection is closed, or the server would read on to find the next request.
func (h *handler) readBody(c *gin.Context) ([]byte, error) {
	// A client may send byte by byte, and not all hosts set a ReadTimeout. At the
	// end of the body net/http lifts the deadline by itself, so that a text may
	// take longer. Some writers, of tests, know no deadlines.
	_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(h.opts.BodyTimeout)) //nolint:forbidigo // the network's clock
	tooLarge := func() error {
		c.Header("Connection", "close")
		return verify.Errorf(verify.TooLarge, "The body must have at most %d bytes", maxBody)
	}
	if c.Request.ContentLength > maxBody {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, maxBody+1))
	var hostsLimit *http.MaxBytesError
	switch {
	case len(body) > maxBody || errors.As(err, &hostsLimit):
		return nil, tooLarge()
	case err != nil:
		c.Header("Connection", "close")
		return nil, verify.Errorf(verify.NotJSON, "The body ended too early")
	}
	return body, nil
}

// errorBody is the Matrix standard error response.
type errorBody struct {
	ErrCode string `json:"errcode,omitempty"`
	Error   string `json:"error,omitempty"`
	Success *bool  `json:"success,omitempty"` // false on submitToken

	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
}

func (h *handler) refuse(c *gin.Context, err error) {
	c.JSON(h.answer(c, err))
}

func (h *handler) refuseSubmit(c *gin.Context, err error) {
	status, body := h.answer(c, err)
	body.Success = new(bool)
	c.JSON(status, body)
}

// answer maps an error to a status and what the client may know of it. What
// failed on our side is logged and not told.
func (h *handler) answer(c *gin.Context, err error) (int, errorBody) {
	var refusal *verify.Error
	switch {
	case err == nil:
		return http.StatusOK, errorBody{}
	case errors.As(err, &refusal):
		status, errcode := statusOf(refusal.Code)
		if refusal.RetryAfter > 0 {
			c.Header("Retry-After", strconv.FormatInt(int64(math.Ceil(refusal.RetryAfter.Seconds())), 10))
		}
		return status, errorBody{ErrCode: errcode, Error: refusal.Message, RetryAfterMS: refusal.RetryAfter.Milliseconds()}
	case errors.Is(err, verify.ErrClosed):
		return http.StatusServiceUnavailable, errorBody{ErrCode: "M_UNKNOWN", Error: "The server is shutting down. Try again."}
	case c.Request.Context().Err() != nil:
		// The caller has gone, or the host's own deadline has passed.
		status, errcode := statusOf(verify.SendFailed)
		return status, errorBody{ErrCode: errcode, Error: "The request took too long. Try again."}
	}
	h.opts.Logger.Error("threepid: request failed", "path", c.FullPath(), "error", err)
	return http.StatusInternalServerError, errorBody{ErrCode: "M_UNKNOWN", Error: "Internal server error"}
}

// statusOf is the one place that gives a domain error its status and errcode.
func statusOf(code verify.Code) (int, string) {
	switch code {
	case verify.TooLarge:
		return http.StatusRequestEntityTooLarge, "M_TOO_LARGE"
	case verify.NotJSON:
		return http.StatusBadRequest, "M_NOT_JSON"
	case verify.BadJSON:
		return http.StatusBadRequest, "M_BAD_JSON"
	case verify.MissingParam:
		return http.StatusBadRequest, "M_MISSING_PARAM"
	case verify.InvalidParam:
		return http.StatusBadRequest, "M_INVALID_PARAM"
	case verify.Denied:
		return http.StatusForbidden, "M_THREEPID_DENIED"
	case verify.Limited:
		return http.StatusTooManyRequests, "M_LIMIT_EXCEEDED"
	case verify.InUse:
		return http.StatusBadRequest, "M_THREEPID_IN_USE"
	case verify.NotAssociated:
		return http.StatusBadRequest, "M_THREEPID_NOT_FOUND"
	case verify.DestinationRejected:
		return http.StatusBadRequest, "M_DESTINATION_REJECTED"
	case verify.SendFailed:
		return http.StatusBadGateway, "M_SEND_ERROR"
	case verify.TokenIncorrect:
		return http.StatusBadRequest, "M_TOKEN_INCORRECT"
	case verify.SessionExpired:
		return http.StatusBadRequest, "M_SESSION_EXPIRED"
	case verify.ServerNotTrusted:
		return http.StatusBadRequest, "M_SERVER_NOT_TRUSTED"
	case verify.CheckFailed:
		return http.StatusBadGateway, "M_UNKNOWN"
	case verify.MissingToken:
		return http.StatusUnauthorized, "M_MISSING_TOKEN"
	case verify.UnknownToken:
		return http.StatusUnauthorized, "M_UNKNOWN_TOKEN"
	case verify.AuthFailed:
		return http.StatusBadRequest, "M_THREEPID_AUTH_FAILED"
	}
	return http.StatusInternalServerError, "M_UNKNOWN"
}
