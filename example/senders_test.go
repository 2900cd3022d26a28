package main_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	example "example.com/threepid/example"
	"example.com/threepid/sms"
)

// secret is the value of each credential, so that tests can find a leak of any of them.
const secret = "hunter2"

// providerCase is a provider with its settings.
type providerCase struct {
	name    string            // in -sms
	env     map[string]string // BASE is replaced by the provider's URL
	accepts string            // the response body that accepts an SMS
	path    string            // of the request
	request []string          // strings that show that the request uses the settings
}

func providerCases() []providerCase {
	return []providerCase{
		{
			"twilio",
			map[string]string{"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": secret, "TWILIO_FROM": "+15550001", "TWILIO_BASE_URL": "BASE"},
			`{"sid":"SM1"}`, "/2010-04-01/Accounts/AC1/Messages.json",
			[]string{"From=%2B15550001", "Basic QUMxOmh1bnRlcjI="},
		},
		{
			"twilio",
			map[string]string{
				"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": secret,
				"TWILIO_MESSAGING_SERVICE_SID": "MG1", "TWILIO_BASE_URL": "BASE",
			},
			`{"sid":"SM1"}`, "/2010-04-01/Accounts/AC1/Messages.json",
			[]string{"MessagingServiceSid=MG1", "Basic U0sxOmh1bnRlcjI="},
		},
		{
			"vonage",
			map[string]string{"VONAGE_API_KEY": "key1", "VONAGE_API_SECRET": secret, "VONAGE_FROM": "Shop", "VONAGE_BASE_URL": "BASE"},
			`{"messages":[{"status":"0"}]}`, "/sms/json",
			[]string{"api_key=key1", "api_secret=" + secret, "from=Shop"},
		},
		{
			"infobip",
			map[string]string{"INFOBIP_BASE_URL": "BASE", "INFOBIP_API_KEY": secret, "INFOBIP_FROM": "Shop"},
			`{"messages":[{"status":{"groupId":1,"name":"PENDING_ACCEPTED"}}]}`, "/sms/3/messages",
			[]string{"App " + secret, `"Shop"`},
		},
		{
			"sns",
			map[string]string{
				"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SNS_FROM": "Shop",
				"AWS_ENDPOINT_URL_SNS": "BASE",
			},
			`<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`, "/",
			[]string{"Shop", "AKIA1", "eu-west-1"},
		},
		{
			"plivo",
			map[string]string{"PLIVO_AUTH_ID": "MA1", "PLIVO_AUTH_TOKEN": secret, "PLIVO_FROM": "+15550001", "PLIVO_BASE_URL": "BASE"},
			`{"message_uuid":["1"]}`, "/v1/Account/MA1/Message/",
			[]string{"Basic TUExOmh1bnRlcjI=", `"src":"+15550001"`},
		},
		{
			"gateway:BASE/send?a=1,2&to={{.To}}",
			map[string]string{
				"THREEPID_GATEWAY_BODY": `{"text":"{{.Text}}","from":"{{.From}}"}`, "THREEPID_GATEWAY_FROM": "Shop",
				"THREEPID_GATEWAY_USER": "me", "THREEPID_GATEWAY_PASSWORD": secret,
			},
			"", "/send",
			[]string{"application/json", "a=1,2&to=%2B447700900001", `"from":"Shop"`, "Basic bWU6aHVudGVyMg=="},
		},
		{"webhook:BASE/texts?a=1,2", nil, "", "/texts", []string{"a=1,2", `"to":"+447700900001"`}},
	}
}

func (a providerCase) open(base string) (sms.Sender, error) {
	env := func(name string) string { return strings.ReplaceAll(a.env[name], "BASE", base) }
	return example.OpenSender(strings.ReplaceAll(a.name, "BASE", base), "", env, io.Discard, slog.New(slog.DiscardHandler))
}

// sendOne sends an SMS.
func sendOne(t *testing.T, sender sms.Sender, attempt int64) error {
	t.Helper()
	return sender.Send(t.Context(), sms.Message{ID: "m1", To: "+447700900001", Text: "123456 is your code.", Country: "GB", Attempt: attempt})
}

// TestProviders checks that each provider receives an SMS at the right path and with the settings from
// the environment.
func TestProviders(t *testing.T) {
	t.Parallel()
	for _, a := range providerCases() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			var got atomic.Value
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got.Store(strings.Join([]string{r.URL.Path, r.URL.RawQuery, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body)}, " "))
				_, _ = io.WriteString(w, a.accepts)
			}))
			defer fake.Close()
			sender, err := a.open(fake.URL)
			if err != nil {
				t.Fatal(err)
			}
			if err := sendOne(t, sender, 1); err != nil {
				t.Errorf("send: %v", err)
			}
			request, _ := got.Load().(string)
			for _, want := range append([]string{a.path + " ", "123456"}, a.request...) {
				if !strings.Contains(request, want) {
					t.Errorf("the request does not contain %q: %s", want, request)
				}
			}
		})
	}
}

// TestMissingVariables removes one required variable at a time. The error must name the variable,
// and contain no secret value.
func TestMissingVariables(t *testing.T) {
	t.Parallel()
	for _, a := range providerCases() {
		for name := range a.env {
			optional := strings.HasPrefix(name, "THREEPID_") || name == "AWS_SNS_FROM" || name == "AWS_ENDPOINT_URL_SNS"
			if optional || strings.HasSuffix(name, "_BASE_URL") && a.name != "infobip" {
				continue // optional
			}
			less := providerCase{name: a.name, env: map[string]string{}}
			for other, value := range a.env {
				if other != name {
					less.env[other] = value
				}
			}
			_, err := less.open("http://127.0.0.1:1")
			if err == nil || !strings.Contains(err.Error(), name) || !strings.HasPrefix(err.Error(), "-sms: ") || strings.Contains(err.Error(), secret) {
				t.Errorf("%s without %s: %v", a.name, name, err)
			}
		}
	}
}

// TestBadProviders checks that the error names the mistake in -sms, without values that may be secret.
func TestBadProviders(t *testing.T) {
	t.Parallel()
	for list, says := range map[string]string{
		"":                                      "unknown provider",
		"pigeon":                                "pigeon",
		"console,pigeon":                        "pigeon",
		"console,":                              "unknown provider",
		"webhook":                               "webhook:URL",
		"console:x":                             "unknown provider",
		"twilio,vonage":                         "VONAGE_API_KEY",
		"sns:" + secret:                         "sns",
		"gateway:http://" + secret + "/{{.No}}": "gateway",
		"webhook:ftp://" + secret:               "webhook",
	} {
		sender, err := example.OpenSender(list, "", func(string) string { return "" }, io.Discard, slog.New(slog.DiscardHandler))
		if sender.Sender != nil || err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// TestFailoverOrder checks that the first provider is tried first, that the second one is tried after
// it fails, and that the second one is tried first if an SMS was sent before.
func TestFailoverOrder(t *testing.T) {
	t.Parallel()
	var called strings.Builder
	fake := func(name string, status *int) *httptest.Server {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			called.WriteString(name)
			w.WriteHeader(*status)
		}))
		t.Cleanup(server.Close)
		return server
	}
	status, fine := http.StatusOK, http.StatusOK
	a, b := fake("a", &status), fake("b", &fine)
	sender, err := example.OpenSender("webhook:"+a.URL+"/?x=1,2, gateway:"+b.URL+"/{{.To}}", "",
		func(string) string { return "" }, io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		status int
		before int
		want   string
	}{
		{http.StatusOK, 0, "a"},
		{http.StatusServiceUnavailable, 0, "ab"},
		{http.StatusOK, 1, "b"},
	} {
		called.Reset()
		status = row.status
		err := sender.Send(t.Context(), sms.Message{ID: "m1", To: "+447700900001", Text: "123456 is your code.", SentBefore: row.before})
		if err != nil || called.String() != row.want {
			t.Errorf("with %d earlier SMS, and status %d from provider a: called %q, want %q; error %v", row.before, row.status, called.String(), row.want, err)
		}
	}
}
