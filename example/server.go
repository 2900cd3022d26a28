package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/example/web"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/observe/prometheus"
	"example.com/threepid/sms"
	"example.com/threepid/sms/compose"
	"example.com/threepid/sms/receipt"
	"example.com/threepid/store"
)

// serve mounts the plugin on a Gin server and runs it until ctx is done.
func serve(ctx context.Context, listener net.Listener, cfg config, st store.Store, open senders,
	logger *slog.Logger, stdout io.Writer,
) error {
	defer func() { _ = listener.Close() }() // for errors below; a server that ran has closed it
	gin.SetMode(gin.ReleaseMode)
	router, err := newRouter(cfg.trustedProxies, logger)
	if err != nil {
		return fmt.Errorf("-trusted-proxies: %w", err)
	}
	if cfg.publicURL == "" {
		cfg.publicURL = loopbackURL(listener.Addr())
	}
	site, sender, closePhone := page(cfg, listener.Addr(), open.Sender)
	opts, metrics := options(cfg, logger), prometheus.New()
	opts.Observer = observer(cfg, metrics, open.health)
	closeAccounts, err := useAccounts(&opts, cfg.accounts, site)
	if err != nil {
		return err
	}
	defer closeAccounts()
	plugin, err := threepid.Register(router, st, sender, opts)
	if err != nil {
		return err
	}
	defer func() { _ = plugin.Close() }()
	if err := mount(router, plugin, site, cfg, open.receipts); err != nil {
		return err
	}
	public := endpoint{newServer(router), listener, false}
	public.RegisterOnShutdown(closePhone) // otherwise Shutdown waits for its streams, which never end
	private, err := listenPrivate(ctx, cfg, plugin, metrics, logger, stdout)
	if err != nil {
		return err
	}
	greet(stdout, openable(listener.Addr()), cfg)
	return serveUntil(ctx, logger, append(private, public)...)
}

// observer returns the receiver of the plugin's events, or nil if nothing needs them.
func observer(cfg config, metrics *prometheus.Metrics, health *compose.Health) observe.Observer {
	var all []observe.Observer
	if cfg.opsListen != "" {
		all = append(all, metrics)
	}
	if health != nil {
		all = append(all, health)
	}
	if len(all) == 0 {
		return nil
	}
	return observe.All(all...)
}

// newRouter returns a router that logs requests and trusts only the given proxies.
func newRouter(trustedProxies []string, logger *slog.Logger) (*gin.Engine, error) {
	router := gin.New()
	router.RedirectTrailingSlash = false // Gin's redirects have no CORS headers: a browser would report a network error
	router.Use(accessLog(logger), gin.Recovery())
	err := router.SetTrustedProxies(trustedProxies)
	return router, err
}

// useAccounts sets where accounts and their numbers are: by default, the guests of the page, with
// numbers in the plugin's store. With -accounts, the endpoints for an account's numbers are not
// mounted, because the server that has the accounts serves them.
func useAccounts(opts *threepid.Options, name string, site *web.Site) (closeAll func(), err error) {
	if name == "" {
		opts.Authenticate = site.Authenticate
		return func() {}, nil
	}
	opts.Accounts, closeAll, err = openAccounts(name)
	return closeAll, err
}

// mount mounts everything that Register does not: other base paths, delivery receipts, the page, and
// the 404 response for all other paths.
func mount(router *gin.Engine, plugin *threepid.Plugin, site *web.Site, cfg config, receipts map[string]receipt.Reader) error {
	for path, reader := range receipts {
		if err := plugin.MountReceipts(router, path, reader); err != nil {
			return err
		}
	}
	for _, basePath := range cfg.basePaths[1:] {
		if err := plugin.Mount(router, basePath); err != nil {
			return err
		}
	}
	router.NoRoute(plugin.NotFound)
	if cfg.accounts != "" {
		return nil
	}
	return site.Mount(router)
}

// listenPrivate opens the listeners of -identity-listen and -ops-listen, and prints their addresses.
func listenPrivate(ctx context.Context, cfg config, plugin *threepid.Plugin, metrics *prometheus.Metrics, logger *slog.Logger, stdout io.Writer) ([]endpoint, error) {
	var endpoints []endpoint
	if cfg.identityListen != "" {
		identity, err := listenIdentity(cfg, plugin, logger)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, identity)
		_, _ = fmt.Fprintf(stdout, "The identity service for homeservers: http://%s\n", openable(identity.listener.Addr()))
	}
	if cfg.opsListen != "" {
		ops, err := listenOps(ctx, cfg, plugin, metrics, logger)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, ops)
		_, _ = fmt.Fprintf(stdout, "Page, metrics and health for operators: http://%s\n", openable(ops.listener.Addr()))
	}
	return endpoints, nil
}

// page returns the site at /, the sender to use, and a function that closes the phone. The phone is a
// drawing that shows the SMS. The site has it only if it reveals no code to people who cannot read
// the console: SMS go to the console, and only this machine can reach the server, without a proxy.
func page(cfg config, addr net.Addr, sender sms.Sender) (*web.Site, sms.Sender, func()) {
	if cfg.sms != "console" || loopbackURL(addr) == "" || cfg.publicURL != loopbackURL(addr) || len(cfg.trustedProxies) > 0 {
		return web.New(cfg.basePaths[0], nil), sender, func() {}
	}
	phone := web.NewPhone()
	return web.New(cfg.basePaths[0], phone), phone.Sender(sender), phone.Close
}

// options returns the plugin's options for the values of the flags.
func options(cfg config, logger *slog.Logger) threepid.Options {
	off := cfg.limits == "off"
	return threepid.Options{
		BasePath:        cfg.basePaths[0],
		PublicURL:       cfg.publicURL,
		Logger:          logger,
		Limits:          limits.Limits{Disabled: off},
		Guard:           limits.Guard{Disabled: off || cfg.guard == "off", DryRun: cfg.guard == "observe"},
		Policy:          limits.Policy{AllowCountries: cfg.countries, TestNumbers: cfg.testNumbers},
		ConcealAccounts: cfg.conceal,
		Messages:        threepid.Messages{Brand: cfg.brand},
		ServerKeys:      keys(cfg.serverKeys),

		StatisticsLifetime: orNone(cfg.statistics),
		JournalLifetime:    orNone(cfg.journal),
	}
}

// orNone converts a lifetime from a flag, where 0 means none, to one for Options, where 0 means the
// default and a negative value means none.
func orNone(lifetime time.Duration) time.Duration {
	if lifetime == 0 {
		return -1
	}
	return lifetime
}

func keys(list []string) [][]byte {
	var keys [][]byte
	for _, key := range list {
		keys = append(keys, []byte(key))
	}
	return keys
}

// accessLog logs each request without its query, because that of submitToken contains a
// client_secret and a code. Gin's own logger needs SkipQueryString for that.
func accessLog(logger *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		start := time.Now()
		c.Next()
		logger.Info("request", "method", c.Request.Method, "path", c.Request.URL.Path,
			"status", c.Writer.Status(), "client", c.ClientIP(), "took", time.Since(start).Round(time.Microsecond))
	}
}

// loopbackURL returns the URL of a server that only this machine can reach. For any other server it
// returns an empty string; without -public-url, submit_url then contains each request's Host header.
func loopbackURL(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return "http://" + tcp.String()
	}
	return ""
}

// openable returns an address that a browser can open: it replaces an unspecified IP address, such
// as 0.0.0.0, by localhost.
func openable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
}

// greet prints where the server listens and what to try.
func greet(w io.Writer, addr string, cfg config) {
	base := "http://" + addr + cfg.basePaths[0]
	_, _ = fmt.Fprintf(w, "Listening on http://%s/\n", addr)
	if cfg.accounts == "" {
		_, _ = fmt.Fprintln(w, "Open it in a browser to try it.")
	}
	_, _ = fmt.Fprintf(w, `
Or request a code by hand (numbers such as 07700 900001 are reserved for use in fiction):

  curl %s/account/3pid/msisdn/requestToken -d '{"client_secret":"my-secret","country":"GB","phone_number":"07700900001","send_attempt":1}'

and submit it, with the sid from the response and the code from the SMS:

  curl %s/account/3pid/msisdn/submitToken -d '{"client_secret":"my-secret","sid":"SID","token":"CODE"}'

`, base, base)
}
