package threepid

import (
	"bytes"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/verify"
	"example.com/threepid/internal/wire"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// maxBody is in bytes. The largest valid request has less than 5,000.
const maxBody = 64 << 10

// handler serves the endpoints of one base path.
type handler struct {
	*Plugin
	path string // the whole path before an endpoint

	known func(path string) bool // reports whether the catch-all route serves path; nil if there is no catch-all
}

// requestTokenBody is the response of requestToken. Element's clients read the last three
// fields.
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
		var body []byte
		if err == nil {
			body, err = h.readBody(c)
		}
		var request verify.Request
		if err == nil {
			request, err = wire.RequestToken(body, purpose, h.opts.AllowLegacyClients)
		}
		if err != nil {
			h.service.ObserveRefusal(c.Request.Context(), err, "", purpose)
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
		writeJSON(c, http.StatusOK, requestTokenBody{
			SID: receipt.SID, SubmitURL: submitURL, Success: true,
			MSISDN: receipt.Number.MSISDN, International: receipt.Number.International,
		})
	}
}

// submitURL returns the URL to which the client submits the token. Without a public URL it
// uses the Host header, but no X-Forwarded header, which any client can set.
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
	return base + h.path + string(EndpointSubmitToken), nil
}

// submitPost serves POST …/submitToken, from JSON or a form.
func (h *handler) submitPost(c *gin.Context) { h.submitPostFrom(c, h.client(c)) }

func (h *handler) submitPostFrom(c *gin.Context, client string) {
	body, err := h.readBody(c)
	if err != nil {
		h.service.ObserveRefusal(c.Request.Context(), err, "", "")
		h.refuseSubmit(c, err)
		return
	}
	kind, _, _ := mime.ParseMediaType(c.GetHeader("Content-Type"))
	read := wire.Submission
	// By default, curl sends every body with the type of a form. No valid form begins with
	// a brace.
	if kind == "application/x-www-form-urlencoded" && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		read = wire.SubmissionForm
	}
	submission, err := read(body)
	if err != nil {
		h.service.ObserveRefusal(c.Request.Context(), err, "", "")
		h.refuseSubmit(c, err)
		return
	}
	submission.Client = client
	if _, err := h.service.Submit(c.Request.Context(), submission); err != nil {
		h.refuseSubmit(c, err)
		return
	}
	writeJSON(c, http.StatusOK, gin.H{"success": true})
}

// submitGet serves GET …/submitToken, which a person opens from a link.
func (h *handler) submitGet(c *gin.Context) { h.submitGetFrom(c, h.client(c)) }

func (h *handler) submitGetFrom(c *gin.Context, client string) {
	submission, err := wire.SubmissionForm([]byte(c.Request.URL.RawQuery))
	if err != nil {
		h.service.ObserveRefusal(c.Request.Context(), err, "", "")
		h.show(c, err)
		return
	}
	submission.Client = client
	nextLink, err := h.service.Submit(c.Request.Context(), submission)
	if err != nil || nextLink == "" {
		h.show(c, err)
		return
	}
	c.Redirect(http.StatusFound, nextLink)
}

// show responds with a page for a person, in a language that they accept.
func (h *handler) show(c *gin.Context, err error) {
	status, body := h.answer(c, err)
	c.Set(errCodeKey, body.ErrCode)
	words := h.texts.Page(c.GetHeader("Accept-Language"))
	c.Header("Content-Security-Policy", h.page.Policy())
	c.Header("Content-Type", "text/html; charset=utf-8")
	c.Header("Content-Language", words.Language)
	c.Writer.Header().Add("Vary", "Accept-Language")
	c.Status(status)
	if err := h.page.Render(c.Writer, words, err == nil, sentence(words, err)); err != nil {
		h.opts.Logger.Warn("threepid: cannot send a page", "request", observe.ID(c.Request.Context()), "error", err)
	}
}

// client returns the key used for rate limiting.
func (h *handler) client(c *gin.Context) string {
	if h.opts.ClientKey != nil {
		return h.opts.ClientKey(c)
	}
	client := c.ClientIP()
	// A client on the proxy's own machine has the same address as the proxy: no warning.
	first, _, _ := strings.Cut(c.GetHeader("X-Forwarded-For"), ",")
	if client == "" || first != "" && client == c.RemoteIP() && strings.TrimSpace(first) != client {
		h.forwarded.Do(func() {
			h.opts.Logger.Warn("threepid: a request came through a proxy that the router does not trust, so all clients behind it share one client's limits: "+
				"call SetTrustedProxies (a client can also pretend to be behind a proxy)", "proxy", c.Request.RemoteAddr)
		})
	}
	return client
}

// readBody reads a body of limited size within a limited time. Beyond these limits it closes
// the connection, because the server would otherwise read the rest of the body.
func (h *handler) readBody(c *gin.Context) ([]byte, error) { return h.readUpTo(c, maxBody) }

// readUpTo reads a body of limited size, within Options.BodyTimeout.
func (h *handler) readUpTo(c *gin.Context, most int64) ([]byte, error) {
	// A client may send byte by byte, and not every host sets a ReadTimeout. At the end of
	// the body net/http removes the deadline, so it does not limit the response. The error is
	// ignored because the ResponseWriters of some tests have no deadlines.
	_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(h.opts.BodyTimeout)) //nolint:forbidigo // the network's clock
	tooLarge := func() error {
		c.Header("Connection", "close")
		return verify.Errorf(verify.TooLarge, "The body must have at most %d bytes", most)
	}
	if c.Request.ContentLength > most {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, most+1))
	var hostsLimit *http.MaxBytesError
	switch {
	case int64(len(body)) > most || errors.As(err, &hostsLimit):
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

// writeJSON sends a JSON response whose Content-Type has no charset. Gin would add one, and
// libQuotient, which compares the whole header, would then read neither errcode nor
// retry_after_ms: its version 0.9 immediately repeats a request that got 429, forever.
func writeJSON(c *gin.Context, status int, body any) {
	if e, ok := body.(errorBody); ok {
		c.Set(errCodeKey, e.ErrCode)
	}
	c.Header("Content-Type", "application/json")
	c.JSON(status, body)
}

func (h *handler) refuse(c *gin.Context, err error) {
	status, body := h.answer(c, err)
	writeJSON(c, status, body)
}

func (h *handler) refuseSubmit(c *gin.Context, err error) {
	status, body := h.answer(c, err)
	body.Success = new(bool)
	writeJSON(c, status, body)
}

// answer maps an error to a status and a body for the client. A server error is logged, and
// the client does not see its cause.
func (h *handler) answer(c *gin.Context, err error) (int, errorBody) {
	var refusal *Error
	switch {
	case err == nil:
		return http.StatusOK, errorBody{}
	case errors.As(asError(err), &refusal):
		if refusal.RetryAfter > 0 {
			c.Header("Retry-After", strconv.FormatInt(int64(math.Ceil(refusal.RetryAfter.Seconds())), 10))
		}
		return refusal.Status, errorBody{ErrCode: refusal.ErrCode, Error: refusal.Message, RetryAfterMS: refusal.RetryAfter.Milliseconds()}
	case errors.Is(err, verify.ErrClosed):
		return http.StatusServiceUnavailable, errorBody{ErrCode: "M_UNKNOWN", Error: "The server is shutting down. Try again."}
	case c.Request.Context().Err() != nil:
		// The client disconnected, or the host's own deadline passed.
		status, errcode := statusOf(verify.SendFailed)
		return status, errorBody{ErrCode: errcode, Error: "The request took too long. Try again."}
	}
	// Do not log the whole path: it may contain IdentityOptions.SecretPath.
	h.opts.Logger.Error("threepid: request failed", "request", observe.ID(c.Request.Context()), "endpoint", h.endpoint(c), "error", err)
	return http.StatusInternalServerError, errorBody{ErrCode: "M_UNKNOWN", Error: "Internal server error"}
}
