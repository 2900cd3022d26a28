package threepid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"example.com/threepid/internal/page"
	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// Plugin is a plugin that Register has mounted. Its methods are safe for concurrent use.
type Plugin struct {
	service *verify.Service
	opts    Options
	page    *page.Page
	texts   *texts.Catalog

	forwarded sync.Once // for the warning about a proxy that is not trusted

	mu      sync.Mutex
	mounted []*handler // one for each base path
}

// Register mounts the endpoints on router, which may be a *gin.Engine or one of its
// groups, and starts deleting expired sessions in the background. Middleware that the
// router already has runs before the endpoints. The sender may be nil if
// Options.Delegate is set.
//
// Register returns an error, and mounts nothing, if an argument is nil, an option is
// invalid, or the router already has one of the routes. The host keeps ownership of the
// store and the sender: close the store after the plugin.
func Register(router gin.IRouter, st store.Store, sender sms.Sender, opts Options) (*Plugin, error) {
	switch {
	case isNil(router):
		return nil, errors.New("threepid: the router is nil; pass the *gin.Engine or a group of it")
	case isNil(st):
		return nil, errors.New("threepid: the store is nil; open one with store/sqlite, or pass gormstore.New(db)")
	case isNil(sender) && isNil(opts.Delegate):
		return nil, errors.New("threepid: the sender is nil, and there is no Options.Delegate; " +
			"pass sms/console for development, or the sender of your provider")
	}
	opts, err := opts.complete(st)
	if err != nil {
		return nil, err
	}
	catalog, err := opts.catalog()
	if err != nil {
		return nil, err
	}
	human, err := page.New()
	if err != nil {
		return nil, err
	}
	p := &Plugin{opts: opts, page: human, texts: catalog, service: verify.New(opts.config(st, sender, catalog))}
	if err := p.Mount(router, opts.BasePath); err != nil {
		p.service.Close()
		return nil, err
	}
	opts.warn(router, catalog)
	p.service.Start()
	return p, nil
}

// Mount mounts the same endpoints below another base path, such as "/_matrix/client/r0" for
// old clients. All base paths share the sessions. Mount returns an error, and mounts
// nothing, if the router already has one of the routes. If router is a group, Mount does not
// know the routes of its engine, so routes that it mounted before a conflict remain.
func (p *Plugin) Mount(router gin.IRouter, basePath string) error {
	if isNil(router) {
		return errors.New("threepid: the router is nil; pass the *gin.Engine or a group of it")
	}
	if err := validateBasePath(basePath); err != nil {
		return err
	}
	prefix := ""
	if group, ok := router.(interface{ BasePath() string }); ok {
		prefix = strings.TrimRight(group.BasePath(), "/")
	}
	basePath = strings.TrimRight(basePath, "/") // "/" alone mounts at the root
	h := &handler{Plugin: p, path: prefix + basePath}
	if err := h.mount(router, basePath); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mounted = append(p.mounted, h)
	return nil
}

// NotFound is a handler for [gin.Engine.NoRoute]. For a path below the base paths that the
// router does not serve, it responds as the Matrix specification requires: 204 to a preflight
// request, and otherwise 404 M_UNRECOGNIZED in JSON. Both have CORS headers; without them, a
// browser would report a network error. NotFound ignores all other paths, so the next handler runs.
//
//	router.RedirectTrailingSlash = false // Gin's redirects have no CORS headers
//	router.NoRoute(plugin.NotFound)
func (p *Plugin) NotFound(c *gin.Context) {
	p.mu.Lock()
	mounted := p.mounted
	p.mu.Unlock()
	for _, h := range mounted {
		if path := c.Request.URL.Path; path == h.path || strings.HasPrefix(path, h.path+"/") {
			h.headers(c)
			h.notFound(c)
			c.Abort()
			return
		}
	}
}

// Validation is proof that a client holds a number.
type Validation struct {
	SID    string
	MSISDN string // E.164 without the plus sign

	// Country is the country that the client said the number was dialled from: two
	// letters, or empty if it named none.
	Country string

	// Purpose is what the code was requested for. A host that resets a password must
	// check that it is PurposePassword. Otherwise, a code that somebody gave away to add a
	// number could be used to reset a password.
	Purpose Purpose

	ValidatedAt time.Time // when the code was submitted, in UTC
}

// Validated looks up a validated session, for the host's own /register, /account/password or
// m.login.msisdn. The error is ErrNoSession, ErrNotValidated, ErrExpired or ErrClosed; any
// other error means that the store failed.
func (p *Plugin) Validated(ctx context.Context, sid, clientSecret string) (Validation, error) {
	v, err := p.service.Validated(ctx, sid, clientSecret)
	return Validation(v), err
}

// Redeem looks up a validated session and consumes its validation: of all calls for the
// session, on all nodes, one succeeds, and the others return ErrNoSession. Redeem cannot be
// undone, so call it as the last step before the account changes. Its other errors are those
// of Validated.
//
// Inside a transaction of the host on the same SQLite database, use RedeemTx: Redeem would
// wait for a lock that this transaction holds. Within a function passed to GORM's
// Transaction, Redeem fails after a second with an error that names RedeemTx. After db.Begin
// it cannot detect the transaction, and fails after the database's busy_timeout, which is
// about 10 seconds.
func (p *Plugin) Redeem(ctx context.Context, sid, clientSecret string) (Validation, error) {
	v, err := p.service.Redeem(ctx, sid, clientSecret)
	return Validation(v), err
}

// RedeemTx is Redeem within the host's transaction tx on the store's database. The
// validation is consumed when the host commits, and remains if the host rolls back, for
// example because it cannot insert the account. Until then, other calls for this session, and
// calls that release its number, wait. On SQLite all writers wait, so keep the transaction short.
//
// The errors are those of Redeem. After an error other than ErrNoSession, ErrNotValidated,
// ErrExpired or ErrClosed, roll the transaction back. The error wraps store.ErrUnsupported if the
// store is not of package gormstore or sqlite.
func (p *Plugin) RedeemTx(ctx context.Context, tx *gorm.DB, sid, clientSecret string) (Validation, error) {
	st, ok := p.service.Store.(interface {
		UpdateTx(ctx context.Context, tx *gorm.DB, names store.Names, change func(*store.Rows) error) error
	})
	if !ok {
		return Validation{}, fmt.Errorf("threepid: RedeemTx needs a store of package gormstore over the host's database: %w", store.ErrUnsupported)
	}
	update := func(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
		return st.UpdateTx(ctx, tx, names, change)
	}
	v, err := p.service.RedeemIn(ctx, update, sid, clientSecret)
	return Validation(v), err
}

// Options returns the options in force, with defaults in place of zero values, and without
// ServerKeys. Do not modify the slices and maps in them.
func (p *Plugin) Options() Options {
	o := p.opts
	o.ServerKeys = nil
	return o
}

// Ready returns nil if the plugin can serve: it is not closed, and the store responds. The
// error is ErrClosed; any other error means that the store failed. Use Ready for health checks.
func (p *Plugin) Ready(ctx context.Context) error { return p.service.Ready(ctx) }

// Close refuses further requests with 503, including those that wait for another request or
// have not called the provider yet. It returns when all others have ended, so no SMS is
// interrupted. Close takes at most slightly longer than Options.SendTimeout, and up to 15
// seconds more if the store does not respond. If the store failed to record an SMS, Close tries once
// more. Call it after the HTTP server's Shutdown and before closing the store. It always
// returns nil, and may be called again.
func (p *Plugin) Close() error {
	p.service.Close()
	return nil
}
