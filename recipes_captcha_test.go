package threepid_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
)

// captcha checks the responses of Cloudflare Turnstile, or of hCaptcha, which has the
// same API.
type captcha struct {
	url, secret string // https://challenges.cloudflare.com/turnstile/v0/siteverify or https://api.hcaptcha.com/siteverify
	http        *http.Client
}

// approve requires a solved CAPTCHA if the guard blocks the SMS, and trusts a request that has one.
func (c captcha) approve(ctx context.Context, r limits.ApprovalRequest) (limits.Approval, error) {
	response := r.Header.Get("X-Captcha-Response")
	switch {
	case len(r.Blocks) == 0:
		return limits.Approved, nil
	case response == "":
		return limits.Approved, fmt.Errorf("no CAPTCHA: %w", limits.ErrDenied)
	}
	form := url.Values{"secret": {c.secret}, "response": {response}, "remoteip": {r.Client}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(form.Encode()))
	if err != nil {
		return limits.Approved, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		return limits.Approved, err
	}
	defer func() { _ = resp.Body.Close() }()
	var result struct {
		Success bool     `json:"success"`
		Errors  []string `json:"error-codes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&result); err != nil {
		return limits.Approved, err
	}
	if !result.Success {
		return limits.Approved, fmt.Errorf("CAPTCHA %v: %w", result.Errors, limits.ErrDenied)
	}
	return limits.Trusted, nil
}

// siteverify simulates the service as its documentation describes it: a response is valid
// for one check.
func siteverify(t *testing.T) *httptest.Server {
	t.Helper()
	used := make(map[string]bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		result := map[string]any{"success": false, "error-codes": []string{}}
		switch response := r.PostFormValue("response"); {
		case r.Method != http.MethodPost || r.PostFormValue("secret") != "the secret key":
			result["error-codes"] = []string{"invalid-input-secret"}
		case used[response]:
			result["error-codes"] = []string{"timeout-or-duplicate"}
		case !strings.HasPrefix(response, "solved"):
			result["error-codes"] = []string{"invalid-input-response"}
		default:
			used[response] = true
			result["success"], result["hostname"], result["challenge_ts"] = true, "example.org", time.Now().Format(time.RFC3339)
		}
		_ = json.NewEncoder(w).Encode(result)
	}))
	t.Cleanup(server.Close)
	return server
}

// TestRecipeCaptcha blocks a range, and serves a person with a solved CAPTCHA.
func TestRecipeCaptcha(t *testing.T) {
	t.Parallel()
	server := siteverify(t)
	c := captcha{url: server.URL, secret: "the secret key", http: server.Client()}
	router, sent := gin.New(), smstest.New()
	plugin, err := threepid.Register(router, memstore.New(), sent, threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
		ClientKey: func(c *gin.Context) string { return c.GetHeader("X-Client") },
		Policy:    limits.Policy{Approve: c.approve},
		Limits:    limits.Limits{PerRange: []limits.Limit{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plugin.Close() }()
	ask := func(i int, response string) int {
		body := fmt.Sprintf(`{"client_secret":"secret%d","country":"GB","phone_number":"+44740012%04d","send_attempt":1}`, i, i)
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/_api/client/v3/account/3pid/msisdn/requestToken", strings.NewReader(body))
		req.Header.Set("X-Client", fmt.Sprintf("10.0.%d.7", i%250))
		req.Header.Set("X-Captcha-Response", response)
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, req)
		return recorder.Code
	}
	pumped := 0
	for ask(pumped, "") == http.StatusOK && pumped < 100 {
		pumped++
	}
	for _, row := range []struct {
		response string
		status   int
	}{
		{"", http.StatusForbidden},
		{"invented", http.StatusForbidden},
		{"solved 1", http.StatusOK},
		{"solved 1", http.StatusForbidden},
		{"solved 2", http.StatusOK},
	} {
		pumped++
		if got := ask(pumped, row.response); got != row.status {
			t.Errorf("with response %q: status %d, want %d", row.response, got, row.status)
		}
	}
}
