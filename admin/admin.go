// Package admin provides web pages for operators, and the same data as JSON: how many SMS are sent and
// confirmed, what is blocked and why, and what happened to a number. The pages use no JavaScript. The
// host mounts the http.Handler behind its own authorization:
//
//	page, err := admin.New(plugin, admin.Options{
//		Prefix:    "/admin",
//		Authorize: func(r *http.Request) (string, admin.Access) { … },
//	})
//	router.Any("/admin/*path", gin.WrapH(page))
//
// The handler uses the plugin's calls Statistics, Explain, AllBlocks, Lift, Unblock, ReleaseNumber,
// Export, Erase and Actions.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"example.com/threepid"
	"example.com/threepid/observe"
)

// Access is what a request may do.
type Access int

// The levels of access.
const (
	None  Access = iota // no page: 403
	Read                // every page, but no action
	Write               // actions too
)

// Options configure the page.
type Options struct {
	// Prefix is the path below which the host serves the handler, such as "/admin". Defaults to
	// none: the page is at "/".
	Prefix string

	// Authorize returns what a request may do, and the name of the operator, for the audit
	// log. It is required unless ReadOnly is set. With ReadOnly, it defaults to a function that
	// returns Read for every request.
	Authorize func(*http.Request) (operator string, access Access)

	// ReadOnly hides and refuses all actions, whatever Authorize returns. Defaults to
	// false.
	ReadOnly bool

	// Logout is a path of the host to which a button in the footer posts, such as "/logout".
	// Defaults to none: there is no button.
	Logout string

	// Price returns what one segment of an SMS costs, in Currency. Defaults to nil: costs are
	// not shown.
	Price func(provider, country string) float64

	// Currency is the unit of Price, such as "EUR". Defaults to none.
	Currency string

	// Logger receives failures. Defaults to the plugin's.
	Logger *slog.Logger
}

const (
	// maxForm is in bytes.
	maxForm = 16 << 10

	// policy is the Content-Security-Policy. It allows one stylesheet, and forms that post to the
	// same origin.
	policy = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

// server serves the pages.
type server struct {
	Options

	plugin *threepid.Plugin
	pages  *pages
	now    func() time.Time
}

// New returns the handler, or an error if Authorize is missing or Prefix is invalid. The
// handler refuses requests of other sites that would change anything, so forms need no CSRF tokens.
func New(plugin *threepid.Plugin, o Options) (http.Handler, error) {
	switch {
	case plugin == nil:
		return nil, errors.New("admin: the plugin is nil")
	case o.Authorize == nil && !o.ReadOnly:
		return nil, errors.New("admin: set Options.Authorize, or ReadOnly")
	case o.Prefix != "" && (!strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/") || strings.ContainsAny(o.Prefix, "{}?#")):
		return nil, errors.New(`admin: Options.Prefix must be a path that begins with a slash and does not end with one, such as "/admin"`)
	}
	if o.Authorize == nil {
		o.Authorize = func(*http.Request) (string, Access) { return "", Read }
	}
	if o.Logger == nil {
		o.Logger = plugin.Options().Logger
	}
	parsed, err := parsePages()
	if err != nil {
		return nil, err
	}
	s := &server{Options: o, plugin: plugin, pages: parsed, now: plugin.Options().Now}
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusForbidden, "Another site sent this request, or the browser is too old to show which site did.")
	}))
	return s.headers(http.StripPrefix(o.Prefix, s.authorized(sameOrigin.Handler(s.routes())))), nil
}

// routes returns the handler for paths without the prefix.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	methods := make(map[string][]string) // by path
	handle := func(pattern string, h http.Handler) {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.TrimSuffix(path, "{$}")
		methods[path] = append(methods[path], method)
		mux.Handle(pattern, h)
	}
	read := func(pattern string, h http.HandlerFunc) { handle(pattern, s.needs(Read, h)) }
	write := func(pattern string, h http.HandlerFunc) { handle(pattern, s.needs(Write, h)) }
	read("GET /{$}", s.glance)
	read("GET /blocks", s.blocks)
	read("GET /limits", s.limits)
	read("GET /number", s.numberForm)
	read("POST /number", s.number)
	read("GET /audit", s.audit)
	mux.HandleFunc("GET /style.css", s.style) // without Authorize: the error page and the host's login form use it
	write("POST /blocks/lift", s.lift)
	write("POST /number/unblock", s.unblock)
	write("POST /number/release", s.release)
	write("POST /number/export", s.export)
	write("POST /number/erase", s.erase)
	s.routeAPI(read, write)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if allowed := methods[r.URL.Path]; allowed != nil {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			s.fail(w, r, http.StatusMethodNotAllowed, "This page takes "+strings.Join(allowed, " and ")+" requests only.")
			return
		}
		s.fail(w, r, http.StatusNotFound, "There is no such page.")
	})
	return mux
}

// headers sets the headers of every response.
func (*server) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		// With no-referrer, a browser sends "Origin: null" with the page's own forms. It sends no
		// Sec-Fetch-Site to a server without TLS, so nothing would show that a form is the page's own.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// visitor is the operator who sent a request, and what they may do.
type visitor struct {
	operator string
	access   Access
}

type visitorKey struct{}

// authorized calls Authorize once for each request.
func (s *server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v visitor
		v.operator, v.access = s.Authorize(r)
		if s.ReadOnly {
			v.access = min(v.access, Read)
		}
		ctx := observe.WithOperator(r.Context(), v.operator)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, visitorKey{}, v)))
	})
}

// visitorOf returns the visitor who sent a request.
func visitorOf(r *http.Request) visitor {
	v, _ := r.Context().Value(visitorKey{}).(visitor)
	return v
}

// needs refuses requests with less than the given access, and limits the size of bodies.
func (s *server) needs(access Access, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch has := visitorOf(r).access; {
		case has == None:
			s.fail(w, r, http.StatusForbidden, "You may not see this page.")
			return
		case has < access:
			s.fail(w, r, http.StatusForbidden, "This page is read-only for you.")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next(w, r)
	})
}
