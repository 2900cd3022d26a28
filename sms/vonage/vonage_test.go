package vonage_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/vonage"
)

func open(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	s, err := vonage.New(vonage.Options{APIKey: "k3y", APISecret: "secret-k3y", From: "Example", BaseURL: address})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Vonage", open, func(code string) (int, string) {
		return http.StatusOK, fmt.Sprintf(`{"message-count":"1","messages":[{"to":"447400123456","status":%q,"error-text":"k3y 123456"}]}`, code)
	})
}

func TestDocumented(t *testing.T) {
	t.Parallel()
	rows := make(map[string]bool)
	for _, row := range providertest.Rows(t, "Vonage") {
		rows[row.Code] = true
	}
	for code := range 1_000 {
		if _, known := vonage.ClassOf(code); known && !rows[strconv.Itoa(code)] {
			t.Errorf("docs/PROVIDERS.md does not have %d", code)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"messages":[{"status":"0"},{"status":"0"}]}`: "accepted",
		`{"messages":[{"status":"0"},{"status":"9"}]}`: "uncertain",
		`{"messages":[{"status":"7"},{"status":"7"}]}`: "rejected",
		`{"messages":[{"status":"999"}]}`:              "temporary",
		`{"messages":[{"status":"k3y"}]}`:              "temporary",
		`{"messages":[]}`:                              "uncertain",
		`<html>123456`:                                 "uncertain",
	} {
		err := open(t, providertest.Server(t, http.StatusOK, body)).Send(t.Context(), providertest.Message())
		if got := providertest.Class(err); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
		providertest.TellsNothing(t, err)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	providertest.Network(t, open)
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"123456 is it.": "api_key=k3y&api_secret=secret-k3y&client-ref=msg_0123456789abcdef&from=Example&text=123456+is+it.&to=447400123456&ttl=599000",
		"123456 ф":      "api_key=k3y&api_secret=secret-k3y&client-ref=msg_0123456789abcdef&from=Example&text=123456+%D1%84&to=447400123456&ttl=599000&type=unicode",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			providertest.Validity(t, "sms/vonage", string(body))
			if r.Method != http.MethodPost || r.URL.Path != "/sms/json" || string(body) != want {
				t.Errorf("%s %s %s", r.Method, r.URL, body)
			}
			_, _ = io.WriteString(w, `{"message-count":"1","messages":[{"status":"0"}]}`)
		}))
		m := providertest.Message()
		m.Text = text
		if err := open(t, server.URL).Send(t.Context(), m); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []vonage.Options{{}, {APIKey: "k3y", APISecret: "k3y"}, {APIKey: "k3y", From: "x"}, {APIKey: "k3y\r", APISecret: "a", From: "x"}} {
		_, err := vonage.New(o)
		if err == nil {
			t.Errorf("%+v: accepted", o)
		}
		providertest.TellsNothing(t, err)
	}
}
