package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
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
	"example.com/threepid/observe/prometheus"
)

// readyTimeout is how long the store may take to show that it works.
const readyTimeout = 2 * time.Second

// listenOps opens the listener of -ops-listen, and returns a server for it: /metrics for
// Prometheus, /healthz, which says that the process runs, and /readyz, which says that it can
// serve until ctx is done. With -ops-token, /metrics needs the token.
func listenOps(ctx context.Context, cfg config, plugin *threepid.Plugin, metrics *prometheus.Metrics, logger *slog.Logger) (endpoint, error) {
	listener, err := net.Listen("tcp", cfg.opsListen)
	if err != nil {
		return endpoint{}, fmt.Errorf("-ops-listen: %w", err)
	}
	if loopbackURL(listener.Addr()) == "" && len(cfg.opsTokens) == 0 {
		logger.Warn("-ops-listen is not a loopback address, and there is no -ops-token: anybody who reaches it can read the metrics",
			"address", listener.Addr())
	}
	registry := client.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", needsToken(cfg.opsTokens, promhttp.HandlerFor(registry, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(ctx.Done(), plugin, logger, w, r) })
	return endpoint{newServer(onlyHosts(mux)), listener, true}, nil
}

// ready says whether the server can serve: not when it is stopping, or without the database.
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

// needsToken serves requests with one of the tokens in the Authorization header, or all
// requests if there is none.
func needsToken(tokens []string, next http.Handler) http.Handler {
	if len(tokens) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		given, match := sha256.Sum256([]byte(token)), 0
		for _, known := range tokens {
			sum := sha256.Sum256([]byte(known))
			match |= subtle.ConstantTimeCompare(given[:], sum[:])
		}
		if !bearer || match == 0 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a token is needed: Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onlyHosts refuses requests whose Host is neither a loopback address nor the one that was
// connected to: a site that a browser visits could otherwise read this listener, by having
// its own name resolve to this machine (DNS rebinding).
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
			http.Error(w, "this host name is not served", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
