package threepid

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// mount registers the routes of all endpoints below basePath. h.path is the path of
// the router's group followed by basePath.
func (h *handler) mount(router gin.IRouter, basePath string) error {
	group := strings.TrimSuffix(h.path, basePath)
	var taken gin.RoutesInfo
	if engine, ok := router.(*gin.Engine); ok {
		taken = engine.Routes()
	}
	served, spare := h.routes(basePath)
	const remedy = "omit it with Options.OmitEndpoints, or choose another base path"
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
		// The host may serve other methods on the plugin's paths itself, such as all
		// preflights with one catch-all.
		if _, clash := clashing(taken, route.Method, group+route.Path); !clash {
			_ = h.handle(router, route)
		}
	}
	return nil
}

// routes returns the routes that the endpoints serve, and spare ones for every other method on
// the same paths, which respond to OPTIONS as a preflight and otherwise with 405.
func (h *handler) routes(basePath string) (served, spare gin.RoutesInfo) {
	serves := map[Endpoint]map[string]gin.HandlerFunc{
		EndpointRequestTokenAdd:      {http.MethodPost: h.requestToken(store.PurposeAdd)},
		EndpointRequestTokenRegister: {http.MethodPost: h.requestToken(store.PurposeRegister)},
		EndpointRequestTokenPassword: {http.MethodPost: h.requestToken(store.PurposePassword)},
		EndpointSubmitToken:          {http.MethodPost: h.submitPost, http.MethodGet: h.submitGet},
	}
	if h.opts.Authenticate != nil {
		serves[EndpointListNumbers] = map[string]gin.HandlerFunc{http.MethodGet: h.forUser(h.listNumbers)}
		if h.opts.AllowLegacyClients && !slices.Contains(h.opts.OmitEndpoints, EndpointAddNumber) {
			serves[EndpointListNumbers][http.MethodPost] = h.forUser(h.addNumberLegacy)
		}
		serves[EndpointAddNumber] = map[string]gin.HandlerFunc{http.MethodPost: h.forUser(h.addNumber)}
		serves[EndpointDeleteNumber] = map[string]gin.HandlerFunc{http.MethodPost: h.forUser(h.deleteNumber)}
	}
	for _, e := range endpoints() {
		if serves[e] == nil || slices.Contains(h.opts.OmitEndpoints, e) {
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

// handle registers one route. If Gin cannot, it panics, and handle returns an error.
func (h *handler) handle(router gin.IRouter, route gin.RouteInfo) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("threepid: cannot mount %s %s: %v", route.Method, route.Path, v)
		}
	}()
	router.Handle(route.Method, route.Path, h.observe, h.headers, route.HandlerFunc)
	return nil
}

// errCodeKey is the key of the Gin context under which observe finds the errcode of a response.
const errCodeKey = "threepid.errcode"

// observe assigns an ID to a request, and reports the request after the response.
func (h *handler) observe(c *gin.Context) {
	ctx := observe.NewID(h.service.StartRequest(c.Request.Context()))
	c.Request = c.Request.WithContext(ctx)
	if h.opts.Observer == nil {
		return
	}
	began := time.Now() //nolint:forbidigo // how long the request really takes
	c.Next()
	h.service.Observe(ctx, func(m observe.Meta) observe.Event {
		return observe.Request{
			Meta: m, Endpoint: h.endpoint(c), Method: c.Request.Method, Status: c.Writer.Status(),
			ErrCode: c.GetString(errCodeKey), Duration: time.Since(began),
		}
	})
}

// endpoint returns the path of a request below the base path. It has few values, because it is
// the path of the route, with names of the host's parameters instead of their values, and because
// all paths that a catch-all does not serve are "unknown".
func (h *handler) endpoint(c *gin.Context) string {
	if h.known == nil {
		return strings.TrimPrefix(c.FullPath(), h.path)
	}
	path := c.Param("path")
	if !h.known(path) {
		return "unknown"
	}
	return path
}

// clashing returns the route that conflicts with method and path in Gin: the same one, or a
// catch-all above it.
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

// allowed returns the Allow header of an endpoint.
func allowed(serves map[string]gin.HandlerFunc) string {
	var allow []string
	for _, method := range methods() {
		if serves[method] != nil || method == http.MethodOptions {
			allow = append(allow, method)
		}
	}
	return strings.Join(allow, ", ")
}

// headers sets the headers of every response. No response may be cached, or reveal a URL
// with a token to another site. The CORS headers are those of the Matrix client-server API, "Web
// Browser Clients". A header that the host's middleware has set is not changed.
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
		writeJSON(c, http.StatusMethodNotAllowed, errorBody{ErrCode: "M_UNRECOGNIZED", Error: "This path supports only " + allow})
	}
}

// notFound responds to a path that nothing serves. A preflight succeeds, so that the browser
// sends the request and its script sees the 404.
func (h *handler) notFound(c *gin.Context) {
	if c.Request.Method == http.MethodOptions {
		c.Status(http.StatusNoContent)
		return
	}
	writeJSON(c, http.StatusNotFound, errorBody{ErrCode: "M_UNRECOGNIZED", Error: "This server does not serve this path"})
}
