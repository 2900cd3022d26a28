package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms"
	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
)

// The stores that -compare compares.
const (
	ours     = "threepid"
	defaults = "defaults"
	byHand   = "by hand"
)

// concealing is ours, with accounts concealed and nothing limited, for -timing.
const concealing = "concealing"

type closingStore interface {
	store.Store
	store.Accounts
	Close() error
}

func openStore(ctx context.Context, kind, db string) (closingStore, error) {
	switch kind {
	case ours, concealing:
		return sqlite.Open(db)
	case defaults:
		return openDefaults(db)
	case byHand:
		return openByHand(context.WithoutCancel(ctx), db)
	default:
		return nil, fmt.Errorf("there is no store %q", kind)
	}
}

// serve runs the plugin over a store with a provider that accepts at once and
// no log: all the rest is the same for every store.
func serve(ctx context.Context, kind, listen, db string) (err error) {
	const asTheExample = 400
	debug.SetGCPercent(asTheExample)
	st, err := openStore(ctx, kind, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	accept := sms.Func(func(context.Context, sms.Message) error { return nil })
	plugin, err := threepid.Register(router, st, accept, threepid.Options{
		PublicURL: "http://" + listen, Logger: slog.New(slog.DiscardHandler),
		ConcealAccounts: kind == concealing, Limits: threepid.Limits{Off: true}, Guard: threepid.Guard{Off: true},
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
