package plivo_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/plivo"
)

func open(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	s, err := plivo.New(plivo.Options{AuthID: "MAk3y", AuthToken: "k3y", From: "+1415", BaseURL: address})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Plivo", open, func(code string) (int, string) {
		return http.StatusBadRequest, fmt.Sprintf(`{"api_id":"a","error":"k3y 123456","error_code":%s}`, code)
	})
}

func TestDocumented(t *testing.T) {
	t.Parallel()
	rows := make(map[string]bool)
	for _, row := range providertest.Rows(t, "Plivo") {
		rows[row.Code] = true
	}
	for code := range 10_000 {
		if _, known := plivo.ClassOf(code); known && !rows[strconv.Itoa(code)] {
			t.Errorf("docs/PROVIDERS.md does not have %d", code)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{202, `{"message":"message(s) queued","message_uuid":["u"],"api_id":"a"}`, "accepted"},
		{202, `{"message_uuid":[],"invalid_number":["+447400123456"]}`, "rejected"},
		{400, `{"api_id":"a","error":"dst parameter +447400123456 is not valid"}`, "rejected"},
		{400, `{"api_id":"a","error":"src is not valid"}`, "misconfigured"},
		{400, `{"api_id":"a","error":"Insufficient credit"}`, "misconfigured"},
		{400, `{"api_id":"a","error":"k3y","error_code":"50"}`, "rejected"},
		{400, `{"api_id":"a","error":"k3y","error_code":12345}`, "misconfigured"},
		{202, `{"message_uuid":["u"],"error_code":"12345"}`, "uncertain"},
		{202, `{"message_uuid":["u"],"error_code":"000"}`, "accepted"},
		{202, `<html>`, "uncertain"},
		{200, ``, "uncertain"},
		{401, `Could not verify your access level`, "misconfigured"},
		{404, ``, "misconfigured"},
		{429, ``, "temporary"},
		{500, `{"error":"Internal Server Error"}`, "temporary"},
	} {
		err := open(t, providertest.Server(t, c.status, c.body)).Send(t.Context(), providertest.Message())
		if got := providertest.Class(err); got != c.want {
			t.Errorf("%d %s: %s, want %s", c.status, c.body, got, c.want)
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
	for _, c := range []struct {
		options plivo.Options
		want    string
	}{
		{plivo.Options{From: "+1415"}, `{"dst":"+447400123456","message_expiry":599,"src":"+1415","text":"123456 is your Example code.","type":"sms"}`},
		{plivo.Options{PowerpackUUID: "u"}, `{"dst":"+447400123456","message_expiry":599,"powerpack_uuid":"u","text":"123456 is your Example code.","type":"sms"}`},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			providertest.Validity(t, "sms/plivo", string(body))
			user, password, _ := r.BasicAuth()
			if r.Method != http.MethodPost || r.URL.Path != "/v1/Account/MA1/Message/" || string(body) != c.want || user != "MA1" || password != "s" {
				t.Errorf("%s %s %s", r.Method, r.URL, body)
			}
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"message_uuid":["u"]}`)
		}))
		c.options.AuthID, c.options.AuthToken, c.options.BaseURL = "MA1", "s", server.URL
		s, err := plivo.New(c.options)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), providertest.Message()); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []plivo.Options{{}, {AuthID: "k3y", AuthToken: "k3y"}, {AuthID: "k3y", From: "x"}, {AuthID: "a", AuthToken: "k3y", From: "x", PowerpackUUID: "y"}} {
		_, err := plivo.New(o)
		if err == nil {
			t.Errorf("%+v: accepted", o)
		}
		providertest.TellsNothing(t, err)
	}
}
