package threepid_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// More recipes of docs/RECIPES.md, compiled and run.

const askToAdd = `{"client_secret":"s3cret","country":"GB","phone_number":"07700900001","send_attempt":1}`

// ExampleRegister_loggedInOnly sends SMS for logged-in users only: in the specification,
// requestToken has no access token, but a host may require one.
func ExampleRegister_loggedInOnly() {
	sessions := map[string]string{"Bearer alices-token": "alice"} // yours
	router := gin.New()
	group := router.Group("", func(c *gin.Context) {
		needsLogin := strings.HasSuffix(c.FullPath(), string(threepid.EndpointRequestTokenAdd))
		if needsLogin && c.Request.Method == http.MethodPost && sessions[c.GetHeader("Authorization")] == "" {
			c.Header("Content-Type", "application/json") // exactly this: libQuotient compares the whole header
			c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{"errcode": "M_MISSING_TOKEN", "error": "Log in first"})
		}
	})
	plugin, err := threepid.Register(group, memstore.New(), smstest.New(), threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	for _, token := range []string{"", "Bearer alices-token"} {
		r := httptest.NewRequest(http.MethodPost, "/_api/client/v3/account/3pid/msisdn/requestToken", strings.NewReader(askToAdd))
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}

// ExampleRegister_withoutGin mounts on net/http. With chi the last line is
// r.Mount("/_api/client/v3", router).
func ExampleRegister_withoutGin() {
	router := gin.New() // serves the plugin alone
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()
	mux := http.NewServeMux() // the server you have
	mux.Handle("/_api/client/v3/", router)

	fmt.Println(postJSON(mux, "/_api/client/v3/account/3pid/msisdn/requestToken", askToAdd)["msisdn"])
	// Output: 447700900001
}

// ExampleRegister_logger logs requests without their queries: GET submitToken has the
// client_secret and the code in its query, and gin.Default() logs queries.
func ExampleRegister_logger() {
	var log strings.Builder
	router := gin.New() // not gin.Default()
	router.Use(gin.LoggerWithConfig(gin.LoggerConfig{Output: &log, SkipQueryString: true}), gin.Recovery())
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{
		PublicURL: "https://example.org", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet,
		"/_api/client/v3/account/3pid/msisdn/submitToken?sid=a&client_secret=s3cret&token=123456", http.NoBody))
	fmt.Println(strings.Contains(log.String(), "submitToken"), strings.Contains(log.String(), "123456"))
	// Output: true false
}

// ExamplePlugin_Close stops the HTTP server before the plugin, and the plugin before the store.
func ExamplePlugin_Close() {
	st := memstore.New()
	router := gin.New()
	plugin, err := threepid.Register(router, st, smstest.New(), threepid.Options{PublicURL: "https://example.org", Logger: slogDiscard()})
	if err != nil {
		fmt.Println(err)
		return
	}
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	server := &http.Server{Addr: "127.0.0.1:0", Handler: router, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			fmt.Println(err)
		}
	}()
	cancel() // the example does not wait for a signal
	<-stop.Done()
	ctx, cancelShutdown := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancelShutdown()
	fmt.Println(errors.Join(server.Shutdown(ctx), plugin.Close()))
	// Output: <nil>
}

// ExamplePlugin_ReleaseNumber deletes an account of a host with its own table: the host removes
// the number from the table, and then ReleaseNumber invalidates its codes and validations.
func ExamplePlugin_ReleaseNumber() {
	table := users{"alice": {phone: "447700900001"}}
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
		Accounts: store.OwnerFunc(func(_ context.Context, msisdn string) (string, error) { return table.byPhone(msisdn) }),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	number := table["alice"].phone
	delete(table, "alice")
	err = plugin.ReleaseNumber(context.Background(), number)
	if errors.Is(err, store.ErrUnsupported) || errors.Is(err, threepid.ErrNoAccount) {
		err = nil // the table is yours: there was nothing for the plugin to remove
	}
	fmt.Println(err)
	fmt.Println(postJSON(router, "/_api/client/v3/register/msisdn/requestToken", askToAdd)["msisdn"])
	// Output:
	// <nil>
	// 447700900001
}
