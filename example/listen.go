package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// drainTimeout is how long requests in progress may take after SIGTERM.
const drainTimeout = 30 * time.Second

// endpoint is a server with its listener.
type endpoint struct {
	*http.Server

	listener net.Listener
	last     bool // shuts down after the others, so that /readyz can report that they shut down
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute, // a request may wait for two SMS
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// serveUntil runs the servers until ctx is done or one of them fails, and then shuts all of them down
// after the requests in progress.
func serveUntil(ctx context.Context, logger *slog.Logger, endpoints ...endpoint) error {
	failed := make(chan error, len(endpoints))
	for _, e := range endpoints {
		go func() { failed <- e.Serve(e.listener) }()
	}
	var failure error
	select {
	case failure = <-failed:
	case <-ctx.Done():
		logger.Info("shutting down")
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	for _, last := range []bool{false, true} {
		failure = errors.Join(failure, shutDown(drain, endpoints, last))
	}
	return failure
}

// shutDown shuts down the endpoints whose field last has the given value, and waits until they have
// finished their requests or drain is done.
func shutDown(drain context.Context, endpoints []endpoint, last bool) (failure error) {
	stopped := make(chan error, len(endpoints))
	for _, e := range endpoints {
		if e.last != last {
			stopped <- nil
			continue
		}
		go func() { stopped <- e.Shutdown(drain) }()
	}
	for range endpoints {
		if err := <-stopped; err != nil && !errors.Is(err, http.ErrServerClosed) {
			failure = errors.Join(failure, fmt.Errorf("shut down: %w", err))
		}
	}
	return failure
}
