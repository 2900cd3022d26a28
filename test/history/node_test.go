package history_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
)

const (
	// asNode is set, to the settings in JSON, for processes that run as a node and not as the test.
	asNode = "THREEPID_TEST_HISTORY_NODE"

	sendTimeout = time.Second
	userHeader  = "X-User"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	if settings := os.Getenv(asNode); settings != "" {
		if err := runNode(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped with -short: these tests start nodes and stop them, which takes a quarter of a minute")
		return
	}
	// The tests mostly wait.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	m.Run()
}

// nodeSettings configure a node.
type nodeSettings struct {
	ID       int
	Database database
	Offset   time.Duration // of its clock
	Provider string        // URL
}

// runNode runs a node in a process of its own until it is killed.
func runNode(settings string) error {
	var s nodeSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	st, closeStore, err := s.Database.open(context.Background())
	if err != nil {
		return err
	}
	defer closeStore()
	handler, closePlugin, err := newNode(st, s)
	if err != nil {
		return err
	}
	defer closePlugin()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		// The test ended, however it did.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Printf("http://%s\n", listener.Addr())
	return http.Serve(listener, handler)
}

// newNode returns a host with the plugin. Go calls of the host have paths here, so that nodes in
// this process and in others look the same.
func newNode(st bothStores, s nodeSettings) (handler http.Handler, closePlugin func(), err error) {
	router := gin.New()
	plugin, err := threepid.Register(router, st, senderTo(s.Provider, s.ID), threepid.Options{
		Limits: limits.Limits{Disabled: true}, Guard: limits.Guard{Disabled: true},
		Logger:      slog.New(slog.DiscardHandler),
		SendTimeout: sendTimeout,
		Now:         func() time.Time { return time.Now().Add(s.Offset) },
		Authenticate: func(c *gin.Context) (string, error) {
			return c.GetHeader(userHeader), nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	router.POST("/host/:call", func(c *gin.Context) {
		var args hostCall
		if err := c.BindJSON(&args); err != nil {
			return
		}
		c.JSON(http.StatusOK, gin.H{"result": args.call(c.Request.Context(), plugin, c.Param("call"))})
	})
	return router, func() { _ = plugin.Close() }, nil
}

// hostCall is a Go call of a host.
type hostCall struct {
	SID     string `json:"sid"`
	Secret  string `json:"client_secret"`
	Number  string `json:"number"`
	Purpose string `json:"purpose"`
}

func (h hostCall) call(ctx context.Context, plugin *threepid.Plugin, name string) result {
	var err error
	v := threepid.Validation{}
	switch name {
	case string(release):
		err = plugin.ReleaseNumber(ctx, h.Number)
	case string(redeem):
		v, err = plugin.Redeem(ctx, h.SID, h.Secret)
	default:
		v, err = plugin.Validated(ctx, h.SID, h.Secret)
	}
	switch {
	case err == nil && string(v.Purpose) != h.Purpose:
		return result(fmt.Sprintf("purpose %q", v.Purpose))
	case err == nil:
		return ok
	case errors.Is(err, threepid.ErrNoAccount):
		return noAccount
	case errors.Is(err, threepid.ErrNoSession):
		return noSession
	case errors.Is(err, threepid.ErrNotValidated), errors.Is(err, threepid.ErrExpired):
		return notValidated
	default:
		return unknown
	}
}
