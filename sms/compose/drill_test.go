package compose_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/compose"
	"example.com/threepid/sms/twilio"
	"example.com/threepid/sms/vonage"
	"example.com/threepid/store/memstore"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	m.Run()
}

// drillTimeout is Options.SendTimeout in the drill. The default is 10 s.
const drillTimeout = time.Second

// provider is a server with a provider's API, or one that does not respond.
type provider struct {
	url    string
	mu     sync.Mutex
	bodies []string
}

func (p *provider) texts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.bodies)
}

func startProvider(tb testing.TB, answer http.HandlerFunc) *provider {
	tb.Helper()
	p := &provider{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.bodies = append(p.bodies, string(body))
		p.mu.Unlock()
		answer(w, r)
	}))
	tb.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// TestWholeDrill makes the first of two providers fail in various ways, and checks which providers
// were called, and what the caller and the operator see. It prints the table of docs/PROVIDERS.md
// with the times of this run.
func TestWholeDrill(t *testing.T) {
	t.Parallel()
	const accepted, no = true, false
	rows := []struct {
		first          string
		answer         http.HandlerFunc
		afterUncertain bool
		second         bool // whether the second provider sends the first attempt
		status         int
		loud           string // the expected log record
		resent         int    // status of the next attempt, which begins with the second provider if the first may have sent the SMS
	}{
		{"well", says(201, `{"sid":"SM1"}`), false, no, 200, "accepted", 200},
		{"hanging", hangs, false, no, 502, "level=WARN", 200},
		{"hanging, ContinueOnUncertain", hangs, true, accepted, 200, "level=WARN", 200},
		{"failing", says(500, `{"code":20500}`), false, accepted, 200, "level=WARN", 200},
		{"garbage", says(200, `<html>`), false, no, 502, "level=WARN", 200},
		{"gone", nil, false, accepted, 200, "level=WARN", 200},
		{"refusing the number", says(400, `{"code":21614}`), false, no, 400, "level=WARN", 400},
		{"credentials withdrawn", says(401, `{"code":20003}`), false, accepted, 200, "level=ERROR", 200},
		{"account suspended, no credit", says(400, `{"code":30002}`), false, accepted, 200, "level=ERROR", 200},
	}
	var mu sync.Mutex
	lines := make([]string, len(rows))
	t.Cleanup(func() {
		t.Log("\n| first provider | texted by | after | the caller saw | log |\n| --- | --- | ---: | --- | --- |\n" + strings.Join(lines, "\n"))
	})
	for i, row := range rows {
		t.Run(row.first, func(t *testing.T) {
			t.Parallel()
			first := &provider{url: "http://127.0.0.1:1"}
			if row.answer != nil {
				first = startProvider(t, row.answer)
			}
			second := startProvider(t, says(200, `{"messages":[{"status":"0"}]}`))
			var log bytes.Buffer
			request := host(t, first, second, row.afterUncertain, &log)

			begin := time.Now()
			status, body := request(1)
			took := time.Since(begin)
			if status != row.status || (second.texts() == 1) != row.second {
				t.Errorf("%d %s, the second provider texted %d; want %d, %v", status, body, second.texts(), row.status, row.second)
			}
			if took > drillTimeout+time.Second/2 {
				t.Errorf("took %v", took)
			}
			if !strings.Contains(log.String(), row.loud) || strings.Contains(log.String(), "44740012345") {
				t.Errorf("the log is %s", log.String())
			}
			who := "nobody"
			switch {
			case second.texts() > 0:
				who = "the second"
			case status == http.StatusOK:
				who = "the first"
			case row.first == "hanging", row.first == "garbage":
				who = "the first, perhaps"
			}
			mu.Lock()
			lines[i] = fmt.Sprintf("| %s | %s | %d ms | %d %s | %s |", row.first, who, took.Milliseconds(), status, body, row.loud)
			mu.Unlock()

			// The person did not receive the SMS and requests another one.
			texts := second.texts()
			want := texts
			if row.resent == http.StatusOK {
				want++
			}
			if status, body := request(2); status != row.resent || second.texts() != want {
				t.Errorf("another attempt: %d %s, the second provider texted %d times", status, body, second.texts()-texts)
			}
		})
	}
}

// host is a server with two providers. request requests an SMS and returns the status and the
// errcode.
func host(t *testing.T, first, second *provider, afterUncertain bool, log *bytes.Buffer) (request func(attempt int) (int, string)) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(log, nil))
	one, err := twilio.New(twilio.Options{AccountSID: "AC1", AuthToken: "secret", From: "+15005550006", BaseURL: first.url})
	if err != nil {
		t.Fatal(err)
	}
	two, err := vonage.New(vonage.Options{APIKey: "key", APISecret: "secret", From: "Example", BaseURL: second.url})
	if err != nil {
		t.Fatal(err)
	}
	sender, err := compose.NewFailover(compose.FailoverOptions{ContinueOnUncertain: afterUncertain, Logger: logger},
		compose.Provider{Name: "twilio", Sender: one}, compose.Provider{Name: "vonage", Sender: two})
	if err != nil {
		t.Fatal(err)
	}
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), sender, threepid.Options{Logger: logger, SendTimeout: drillTimeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plugin.Close() })
	return func(attempt int) (int, string) {
		body := fmt.Sprintf(`{"client_secret":"s","country":"GB","phone_number":"07400123456","send_attempt":%d}`, attempt)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/_api/client/v3"+string(threepid.EndpointRequestTokenAdd), strings.NewReader(body)))
		_, errcode, _ := strings.Cut(w.Body.String(), `"errcode":"`)
		errcode, _, _ = strings.Cut(errcode, `"`)
		return w.Code, errcode
	}
}
