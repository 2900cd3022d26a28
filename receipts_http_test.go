package threepid_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/observe"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/sms/webhook"
	"example.com/threepid/store/memstore"
)

// gatewayTest is a plugin whose gateway posts signed receipts over HTTP.
type gatewayTest struct {
	t      *testing.T
	plugin *threepid.Plugin
	sender *smstest.Recorder
	url    string

	mu       sync.Mutex
	now      time.Time
	observed []string // the statuses of all receipts, including those of unknown messages
}

const receiptKey = "0123456789abcdef01234567"

func newGatewayTest(t *testing.T) *gatewayTest {
	t.Helper()
	gin.SetMode(gin.TestMode)
	g := &gatewayTest{t: t, sender: smstest.New(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	router := gin.New()
	var err error
	g.plugin, err = threepid.Register(router, memstore.New(), g.sender, threepid.Options{
		Now: g.clock, Logger: slog.New(slog.DiscardHandler), Observer: observe.Func(g.observe),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.plugin.Close() })
	reader, err := webhook.NewReceipts("whsec_"+base64.StdEncoding.EncodeToString([]byte(receiptKey)), g.clock)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.plugin.MountReceipts(router, "/receipts/webhook", reader); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	g.url = server.URL + "/receipts/webhook"
	return g
}

func (g *gatewayTest) observe(_ context.Context, e observe.Event) {
	if r, ok := e.(observe.Receipt); ok {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.observed = append(g.observed, r.Status)
	}
}

func (g *gatewayTest) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gatewayTest) advance(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

// request asks for an SMS.
func (g *gatewayTest) request() error {
	_, err := g.plugin.RequestToken(g.t.Context(), threepid.TokenRequest{
		Purpose: threepid.PurposeAdd, ClientSecret: "secret", PhoneNumber: "+447700900001", SendAttempt: 1,
	})
	return err
}

// signed returns a receipt that is signed at the current time.
func (g *gatewayTest) signed(id, status string) (http.Header, string) {
	body := `{"id":"` + id + `","status":"` + status + `","reason":"30005"}`
	at := fmt.Sprint(g.clock().Unix())
	mac := hmac.New(sha256.New, []byte(receiptKey))
	_, _ = mac.Write([]byte("m-1." + at + "." + body))
	return http.Header{
		"Webhook-Id": {"m-1"}, "Webhook-Timestamp": {at},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}, body
}

// post returns the status of the response, or 0.
func (g *gatewayTest) post(header http.Header, body string) int {
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.url, strings.NewReader(body))
	if err != nil {
		g.t.Error(err)
		return 0
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Error(err)
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func (g *gatewayTest) expect(what string, status, want int) {
	g.t.Helper()
	if status != want {
		g.t.Errorf("%s: %d, want %d", what, status, want)
	}
}

// receipts returns the statuses in the journal of the number, the oldest first.
func (g *gatewayTest) receipts() (statuses []string) {
	g.t.Helper()
	x, err := g.plugin.Explain(g.t.Context(), "+447700900001")
	if err != nil {
		g.t.Fatal(err)
	}
	for _, e := range slices.Backward(x.Events) {
		if r, ok := e.(observe.Receipt); ok {
			statuses = append(statuses, r.Status)
		}
	}
	return statuses
}

// await waits until the journal of the number has these receipts.
func (g *gatewayTest) await(want ...string) {
	g.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !slices.Equal(g.receipts(), want) {
		if time.Now().After(deadline) {
			g.t.Fatalf("receipts %q, want %q", g.receipts(), want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestReceiptsThatRepeat posts many copies of one receipt at once, and more later.
func TestReceiptsThatRepeat(t *testing.T) {
	t.Parallel()
	g := newGatewayTest(t)
	if err := g.request(); err != nil {
		t.Fatal(err)
	}
	m, _ := g.sender.Last()
	header, body := g.signed(m.ID, "delayed")
	const copies = 40
	var storm sync.WaitGroup
	for range copies {
		storm.Go(func() { g.expect("of a storm", g.post(header.Clone(), body), http.StatusNoContent) })
	}
	storm.Wait()
	g.await("delayed")

	g.advance(4 * time.Minute)
	g.expect("repeated in time", g.post(header.Clone(), body), http.StatusNoContent)
	g.advance(2 * time.Minute)
	g.expect("repeated too late", g.post(header.Clone(), body), http.StatusForbidden)
	g.expect("changed", g.post(header.Clone(), strings.Replace(body, "delayed", "failed", 1)), http.StatusForbidden)
	g.await("delayed")

	g.advance(6 * 24 * time.Hour)
	header, body = g.signed(m.ID, "failed")
	g.expect("days later", g.post(header, body), http.StatusNoContent)
	header, body = g.signed("of-another-system", "delivered")
	g.expect("of an unknown message", g.post(header, body), http.StatusNoContent)
	g.await("delayed", "failed")

	// The journal merges equal entries of the same time, so it does not show whether a copy was
	// counted twice.
	if err := g.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.observed, []string{"delayed", "failed", "delivered"}) {
		t.Errorf("observed %q", g.observed)
	}
}

// TestReceiptThatOvertakes posts a receipt before the gateway has returned to the sender.
func TestReceiptThatOvertakes(t *testing.T) {
	t.Parallel()
	g := newGatewayTest(t)
	release := g.sender.Hold()
	defer release()
	done := make(chan error, 1)
	go func() { done <- g.request() }()
	deadline := time.Now().Add(10 * time.Second)
	for len(g.sender.Calls()) == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if len(g.sender.Calls()) == 0 {
		t.Fatal("the sender is not called")
	}
	header, body := g.signed(g.sender.Calls()[0].ID, "delivered")
	g.expect("before Send returns", g.post(header, body), http.StatusNoContent)
	g.await()
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	g.await("delivered")
}
