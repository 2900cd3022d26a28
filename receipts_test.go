package threepid_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/sms/receipt"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// lines reads one receipt of the form "signature id status" per line. The right signature is
// "signed".
type lines struct{}

func (lines) Read(_ *http.Request, body []byte) (receipts []sms.Receipt, err error) {
	for line := range strings.Lines(string(body)) {
		var signature, id string
		var status sms.Delivery
		if _, err := fmt.Sscan(line, &signature, &id, &status); err != nil {
			return nil, receipt.ErrUnreadable
		}
		if signature != "signed" {
			return nil, fmt.Errorf("lines: %w", receipt.ErrForged)
		}
		receipts = append(receipts, sms.Receipt{Provider: "lines", MessageID: id, Status: status})
	}
	return receipts, nil
}

// flakyHistory fails while fails is set.
type flakyHistory struct {
	*memstore.Store

	fails atomic.Bool
}

func (f *flakyHistory) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	if f.fails.Load() {
		return nil, errors.New("disk on fire")
	}
	return f.Store.EntriesByRef(ctx, ref, limit)
}

func TestMountReceipts(t *testing.T) {
	t.Parallel()
	gin.SetMode(gin.TestMode)
	var log syncBuffer
	st := &flakyHistory{Store: memstore.New()}
	sender := smstest.New()
	router := gin.New()
	plugin, err := threepid.Register(router, st, sender, threepid.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plugin.Close() })
	if err := plugin.MountReceipts(router, "/receipts/lines", lines{}); err != nil {
		t.Fatal(err)
	}
	if _, err := plugin.RequestToken(t.Context(), threepid.TokenRequest{
		Purpose: threepid.PurposeAdd, ClientSecret: "secret", PhoneNumber: "+447700900001", SendAttempt: 1,
	}); err != nil {
		t.Fatal(err)
	}
	m, _ := sender.Last()
	post := func(body string) int {
		response := httptest.NewRecorder()
		router.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/receipts/lines", strings.NewReader(body)))
		return response.Code
	}
	for _, row := range []struct {
		body   string
		fails  bool
		status int
	}{
		{"signed " + m.ID + " delayed", true, http.StatusServiceUnavailable},
		{"signed " + m.ID + " delayed", false, http.StatusNoContent},
		{"signed " + m.ID + " delayed", false, http.StatusNoContent}, // again
		{"signed " + m.ID + " delivered\nsigned unknown delivered\n", false, http.StatusNoContent},
		{"forged " + m.ID + " failed", false, http.StatusForbidden},
		{"forged " + m.ID + " failed", false, http.StatusForbidden},
		{"nonsense", false, http.StatusBadRequest},
		{"", false, http.StatusNoContent}, // no receipt at all
		{strings.Repeat("x", 300<<10), false, http.StatusRequestEntityTooLarge},
	} {
		st.fails.Store(row.fails)
		if status := post(row.body); status != row.status {
			t.Errorf("%.40q: %d, want %d", row.body, status, row.status)
		}
	}
	x, err := plugin.Explain(t.Context(), "+447700900001")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range x.Events {
		if r, ok := e.(observe.Receipt); ok {
			got = append(got, r.Status)
		}
	}
	if strings.Join(got, " ") != "delivered delayed" {
		t.Errorf("receipts %q", got)
	}
	if text := log.String(); strings.Count(text, "delivery receipts are refused") != 1 || strings.Contains(text, "7700900001") {
		t.Errorf("log: %s", text)
	}
	_ = plugin.Close()
	if status := post("signed x delivered"); status != http.StatusServiceUnavailable {
		t.Errorf("of a closed plugin: %d", status)
	}
}

// syncBuffer is a buffer that several goroutines may write.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestMountReceiptsRefuses(t *testing.T) {
	t.Parallel()
	gin.SetMode(gin.TestMode)
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plugin.Close() })
	router.POST("/taken", func(*gin.Context) {})
	router.POST("/group/taken", func(*gin.Context) {})
	for name, err := range map[string]error{
		"no router":         plugin.MountReceipts(nil, "/receipts", lines{}),
		"no reader":         plugin.MountReceipts(router, "/receipts", nil),
		"no path":           plugin.MountReceipts(router, "", lines{}),
		"the root":          plugin.MountReceipts(router, "/", lines{}),
		"a wildcard":        plugin.MountReceipts(router, "/receipts/*x", lines{}),
		"taken":             plugin.MountReceipts(router, "/taken", lines{}),
		"taken in a group":  plugin.MountReceipts(router.Group("/group"), "/taken", lines{}),
		"a plugin's own":    plugin.MountReceipts(router, "/_api/client/v3/account/3pid/msisdn/requestToken", lines{}),
		"with a slash last": plugin.MountReceipts(router, "/receipts/", lines{}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestReceiptsAreBounded makes a client send a receipt slowly.
func TestReceiptsAreBounded(t *testing.T) {
	t.Parallel()
	gin.SetMode(gin.TestMode)
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{BodyTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plugin.Close() })
	if err := plugin.MountReceipts(router, "/receipts", lines{}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(router)
	defer server.Close()
	body := make(chan struct{})
	defer close(body)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/receipts", blocking(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", res.StatusCode)
	}
}

// blocking is a body that does not end.
type blocking chan struct{}

func (b blocking) Read([]byte) (int, error) {
	<-b
	return 0, errors.New("over")
}
