package threepid

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/observe"
	"example.com/threepid/sms/receipt"
)

const (
	// maxReceiptBody is in bytes. Infobip puts up to a hundred receipts into one request.
	maxReceiptBody = 256 << 10

	// forgeryInterval is how often forged receipts are logged: every client can send many.
	forgeryInterval = time.Minute
)

// MountReceipts mounts an endpoint for a provider's delivery receipts at a path of the router, such as
// "/receipts/twilio", for GET and POST. Each provider's package has a Reader. Configure the provider
// with the endpoint's URL: see the ReceiptURL of its Options.
//
// The response is 204 if the receipts were recorded, or repeat earlier ones; 403 if the signature
// is missing, wrong or too old; 400 if the request cannot be read; 413 if it is too long; and 503
// if the store failed or the plugin is closed, so that the provider repeats the request.
// MountReceipts returns an error, and mounts nothing, if an argument is nil, or if the path is
// invalid or the router already serves it.
func (p *Plugin) MountReceipts(router gin.IRouter, path string, reader receipt.Reader) error {
	switch {
	case isNil(router):
		return errors.New("threepid: the router is nil; pass the *gin.Engine or a group of it")
	case isNil(reader):
		return errors.New("threepid: the reader is nil; pass the reader of the provider's package, such as twilio.NewReceipts")
	}
	if err := validateBasePath(path); err != nil || path == "/" {
		return fmt.Errorf("threepid: the path of the receipts must begin with a slash and not be the slash alone, such as %q", "/receipts/twilio")
	}
	h := &receiptHandler{handler: &handler{Plugin: p, path: path}, reader: reader}
	routes := []gin.RouteInfo{
		{Method: http.MethodPost, Path: path, HandlerFunc: h.serve},
		{Method: http.MethodGet, Path: path, HandlerFunc: h.serve},
	}
	if engine, ok := router.(*gin.Engine); ok {
		for _, route := range routes {
			if by, clash := clashing(engine.Routes(), route.Method, path); clash {
				return fmt.Errorf("threepid: the router already serves %s %s; choose another path for the receipts", route.Method, by)
			}
		}
	}
	for _, route := range routes {
		if err := h.handle(router, route); err != nil {
			return err
		}
	}
	return nil
}

// receiptHandler serves the receipts of one provider.
type receiptHandler struct {
	*handler

	reader receipt.Reader

	mu     sync.Mutex
	forged int       // forged receipts since the latest log record
	logged time.Time // the time of that log record
}

// handle registers a route. Clients do not use these endpoints, so their responses have no CORS
// headers, and their requests are not reported to the Observer.
func (*receiptHandler) handle(router gin.IRouter, route gin.RouteInfo) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("threepid: cannot mount %s %s: %v", route.Method, route.Path, v)
		}
	}()
	router.Handle(route.Method, route.Path, route.HandlerFunc)
	return nil
}

func (h *receiptHandler) serve(c *gin.Context) {
	body, err := h.readUpTo(c, maxReceiptBody)
	if err != nil {
		c.String(http.StatusRequestEntityTooLarge, "the request is too long, or ended too early")
		return
	}
	receipts, err := h.reader.Read(c.Request, body)
	switch {
	case errors.Is(err, receipt.ErrForged):
		h.logForgery()
		c.String(http.StatusForbidden, "the signature is missing, wrong or too old")
		return
	case err != nil:
		c.String(http.StatusBadRequest, "the request is not a delivery receipt")
		return
	}
	ctx := observe.NewID(c.Request.Context())
	for _, r := range receipts {
		if err := h.RecordReceipt(ctx, r); err != nil {
			h.opts.Logger.Error("threepid: a delivery receipt cannot be recorded; the provider is asked to repeat it",
				"provider", r.Provider, "error", err)
			c.String(http.StatusServiceUnavailable, "try again later")
			return
		}
	}
	c.Status(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
}

// logForgery logs how many forged receipts there were, at most once a minute.
func (h *receiptHandler) logForgery() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forged++
	now := h.opts.Now()
	if now.Sub(h.logged) < forgeryInterval {
		return
	}
	h.opts.Logger.Warn("threepid: delivery receipts are refused: the signature is missing, wrong or too old; if the provider sent them, check secret, URL and clock",
		"path", strings.TrimSuffix(h.path, "/"), "count", h.forged)
	h.forged, h.logged = 0, now
}
