package twilio_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/internal/twiliocode"
	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
	"example.com/threepid/sms/twilio"
)

func open(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	return openWith(tb, twilio.Options{AccountSID: "ACk3y", AuthToken: "token-k3y", From: "+15005550006", BaseURL: address})
}

func openWith(tb testing.TB, o twilio.Options) sms.Sender {
	tb.Helper()
	s, err := twilio.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Twilio", open, func(code string) (int, string) {
		return http.StatusBadRequest, fmt.Sprintf(
			`{"code":%s,"message":"The 'To' number +447400123456 is not valid","more_info":"https://www.twilio.com/docs/errors/%s","status":400}`, code, code)
	})
}

// TestCodesOfMessages returns messages that are created and fail at once.
func TestCodesOfMessages(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Twilio", open, func(code string) (int, string) {
		return http.StatusCreated, fmt.Sprintf(`{"sid":"SM1","status":"failed","error_code":%s,"to":"+447400123456","body":"123456"}`, code)
	})
}

func TestDocumented(t *testing.T) {
	t.Parallel()
	rows := make(map[string]bool)
	for _, row := range providertest.Rows(t, "Twilio") {
		rows[row.Code] = true
	}
	for code := range 100_000 {
		if _, known := twiliocode.Classify(code); known && !rows[strconv.Itoa(code)] {
			t.Errorf("docs/PROVIDERS.md does not have %d", code)
		}
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]httpsend.Class{
		201: httpsend.Uncertain, 401: httpsend.Misconfigured, 404: httpsend.Misconfigured, 429: httpsend.Temporary,
		500: httpsend.Temporary, 503: httpsend.Temporary, 502: httpsend.Uncertain, 504: httpsend.Uncertain, 302: httpsend.Misconfigured,
	} {
		for _, body := range []string{"", "<html>123456 k3y", `{"code":99999}`, `{"error_code":null}`} {
			err := open(t, providertest.Server(t, status, body)).Send(t.Context(), providertest.Message())
			if got := providertest.Class(err); got != want.String() {
				t.Errorf("%d %s: %s, want %v", status, body, got, want)
			}
			providertest.TellsNothing(t, err)
		}
	}
}

// TestUnknownFailures returns a message that is created and fails for a reason in no table. That is
// not a success.
func TestUnknownFailures(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"sid":"SM1","status":"failed","error_code":99999}`:      "temporary",
		`{"sid":"SM1","status":"failed","error_code":null}`:       "temporary",
		`{"sid":"SM1","status":"undelivered","error_code":99999}`: "uncertain",
		`{"sid":"SM1","status":"accepted","error_code":null}`:     "accepted",
	} {
		err := open(t, providertest.Server(t, http.StatusCreated, body)).Send(t.Context(), providertest.Message())
		if got := providertest.Class(err); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	providertest.Network(t, open)
}

func TestRequest(t *testing.T) {
	t.Parallel()
	m := providertest.Message()
	for name, c := range map[string]struct {
		options        twilio.Options
		from           string
		want           string
		user, password string
	}{
		"token": {
			twilio.Options{AccountSID: "AC1", AuthToken: "secret", From: "+1"},
			"", "Body=123456+is+your+Example+code.&From=%2B1&To=%2B447400123456&ValidityPeriod=599",
			"AC1", "secret",
		},
		"key": {
			twilio.Options{AccountSID: "AC1", APIKey: "SK1", APISecret: "s", MessagingServiceSID: "MG1"},
			"",
			"Body=123456+is+your+Example+code.&MessagingServiceSid=MG1&To=%2B447400123456&ValidityPeriod=599", "SK1", "s",
		},
		"identity": {
			twilio.Options{AccountSID: "AC1", AuthToken: "secret", MessagingServiceSID: "MG1"},
			"EXAMPLE",
			"Body=123456+is+your+Example+code.&From=EXAMPLE&To=%2B447400123456&ValidityPeriod=599", "AC1", "secret",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				providertest.Validity(t, "sms/twilio", string(body))
				user, password, _ := r.BasicAuth()
				if r.Method != http.MethodPost || r.URL.Path != "/2010-04-01/Accounts/AC1/Messages.json" || string(body) != c.want ||
					user != c.user || password != c.password || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
					t.Errorf("%s %s %s, %q %q", r.Method, r.URL, body, user, password)
				}
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, `{"sid":"SM1","status":"queued","error_code":null}`)
			}))
			defer server.Close()
			c.options.BaseURL = server.URL + "/"
			m := m
			m.From = c.from
			if err := openWith(t, c.options).Send(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	good := twilio.Options{AccountSID: "ACk3y", AuthToken: "k3y", From: "x"}
	for name, change := range map[string]func(*twilio.Options){
		"no account": func(o *twilio.Options) { o.AccountSID = "" },
		"no token":   func(o *twilio.Options) { o.AuthToken = "" },
		"newline":    func(o *twilio.Options) { o.AuthToken = "k3y\n" },
		"half a key": func(o *twilio.Options) { o.APIKey = "SKk3y" },
		"no sender":  func(o *twilio.Options) { o.From = "" },
		"two":        func(o *twilio.Options) { o.MessagingServiceSID = "MG" },
		"URL":        func(o *twilio.Options) { o.BaseURL = "https://me:k3y@api.twilio.com" },
	} {
		o := good
		change(&o)
		_, err := twilio.New(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		providertest.TellsNothing(t, err)
	}
}
