package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/threepid"
	"example.com/threepid/admin"
	"example.com/threepid/observe/prometheus"
)

// readyTimeout is how long /readyz waits for the store.
const readyTimeout = 2 * time.Second

// listenOps opens the listener of -ops-listen and returns a server for it. It serves the operator's
// page; /metrics for Prometheus; /healthz, which reports that the process runs; and /readyz, which
// reports whether it can serve requests, and fails once ctx is done. Without -ops-token, the page is
// read-only. With -ops-token, the page and /metrics require a token.
func listenOps(ctx context.Context, cfg config, plugin *threepid.Plugin, metrics *prometheus.Metrics, logger *slog.Logger) (endpoint, error) {
	listener, err := net.Listen("tcp", cfg.opsListen)
	if err != nil {
		return endpoint{}, fmt.Errorf("-ops-listen: %w", err)
	}
	if loopbackURL(listener.Addr()) == "" && len(cfg.opsTokens) == 0 {
		logger.Warn("-ops-listen is not a loopback address, and there is no -ops-token: anyone who can reach it can read the metrics and the operator's page",
			"address", listener.Addr())
	}
	registry := client.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	operators := newOperators(cfg.opsTokens, time.Now)
	page, err := admin.New(plugin, admin.Options{Authorize: operators.authorize, Logger: logger, Logout: operators.logoutPath()})
	if err != nil {
		return endpoint{}, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", operators.only(page))
	if len(cfg.opsTokens) > 0 {
		sameOrigin := http.NewCrossOriginProtection()
		mux.Handle("/login", sameOrigin.Handler(http.HandlerFunc(operators.login)))
		mux.Handle("POST /logout", sameOrigin.Handler(http.HandlerFunc(operators.logout)))
	}
	mux.Handle("GET /metrics", operators.only(promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(ctx.Done(), plugin, logger, w, r) })
	return endpoint{newServer(onlyHosts(mux)), listener, true}, nil
}

// ready reports whether the server can serve requests. It cannot if it is shutting down or if the
// database does not respond.
func ready(stopping <-chan struct{}, plugin *threepid.Plugin, logger *slog.Logger, w http.ResponseWriter, r *http.Request) {
	select {
	case <-stopping:
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	default:
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := plugin.Ready(ctx); err != nil {
		logger.Error("not ready: the database does not respond", "error", err)
		http.Error(w, "the database does not respond", http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// onlyHosts refuses requests whose Host is neither a loopback address nor the address that the client
// connected to. Otherwise, a website could read this listener through an operator's browser, by
// letting its own host name resolve to this machine (DNS rebinding).
func onlyHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var connected netip.AddrPort
		if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			connected, _ = netip.ParseAddrPort(addr.String())
		}
		host := r.Host
		if name, _, err := net.SplitHostPort(r.Host); err == nil {
			host = name
		}
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && (err != nil || !ip.Unmap().IsLoopback() && ip.Unmap() != connected.Addr().Unmap()) {
			http.Error(w, "this server does not serve this host name", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
