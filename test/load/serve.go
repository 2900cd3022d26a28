package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/store/sqlite"
)

// serve runs the plugin for -timing: over a SQLite file, with accounts concealed, without limits
// and log, and with a provider that accepts at once.
func serve(ctx context.Context, listen, db string) (err error) {
	const asTheExample = 400
	debug.SetGCPercent(asTheExample)
	st, err := sqlite.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	accept := sms.Func(func(context.Context, sms.Message) error { return nil })
	plugin, err := threepid.Register(router, st, accept, threepid.Options{
		PublicURL: "http://" + listen, Logger: slog.New(slog.DiscardHandler),
		ConcealAccounts: true, Limits: limits.Limits{Disabled: true}, Guard: limits.Guard{Disabled: true},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plugin.Close()) }()
	server := &http.Server{Addr: listen, Handler: router, ReadHeaderTimeout: time.Minute}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
