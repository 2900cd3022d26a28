package infobip_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/infobip"
)

func open(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	s, err := infobip.New(infobip.Options{BaseURL: address, APIKey: "k3y", From: "Example"})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// group returns the group of a status, by the prefix of its name.
func group(name string) int {
	for i, prefix := range []string{"PENDING", "UNDELIVERABLE", "DELIVERED", "EXPIRED"} {
		if strings.HasPrefix(name, prefix) {
			return i + 1
		}
	}
	return 5
}

func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Infobip", open, func(name string) (int, string) {
		return http.StatusOK, fmt.Sprintf(`{"bulkId":"b","messages":[{"messageId":"m","destination":"447400123456",
			"status":{"groupId":%d,"groupName":"G","id":1,"name":"%s","description":"123456"}}]}`, group(name), name)
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{200, `{"messages":[{"status":{"groupId":5,"name":"NEW"}}]}`, "temporary"},
		{200, `{"messages":[{"status":{"groupId":1,"name":"NEW"}}]}`, "accepted"},
		{200, `{"messages":[{"status":{"groupId":5,"name":"NEW"},"error":{"groupId":1,"name":"EC_UNKNOWN_SUBSCRIBER","permanent":true}}]}`, "rejected"},
		{200, `{"messages":[{"status":{"groupId":2,"name":"UNDELIVERABLE_NOT_DELIVERED"},"error":{"groupId":1,"permanent":true}}]}`, "rejected"},
		{200, `{"messages":[{"status":{"groupId":2,"name":"UNDELIVERABLE_NOT_DELIVERED"},"error":{"groupId":1,"permanent":false}}]}`, "temporary"},
		{200, `{"messages":[{"status":{"groupId":5,"name":"NEW"},"error":{"groupId":2,"permanent":true}}]}`, "misconfigured"},
		{200, `{"messages":[{"status":{"groupId":5,"name":"k3y"},"error":{"groupId":2,"name":"123456"}}]}`, "temporary"},
		{200, `{"messages":[]}`, "uncertain"},
		{200, `<html>`, "uncertain"},
		{401, `{"requestError":{"serviceException":{"messageId":"UNAUTHORIZED","text":"Invalid login details k3y"}}}`, "misconfigured"},
		{400, `{"errorCode":"E400","description":"123456"}`, "misconfigured"},
		{429, ``, "temporary"},
		{500, ``, "temporary"},
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
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		providertest.Validity(t, "sms/infobip", string(body))
		const want = `{"messages":[{"sender":"Example","destinations":[{"to":"447400123456","messageId":"msg_0123456789abcdef"}],` +
			`"content":{"text":"123456 is your Example code."},"options":{"validityPeriod":{"amount":599,"timeUnit":"SECONDS"}}}]}`
		if r.Method != http.MethodPost || r.URL.Path != "/sms/3/messages" || string(body) != want || r.Header.Get("Authorization") != "App k3y" {
			t.Errorf("%s %s %s %v", r.Method, r.URL, body, r.Header)
		}
		_, _ = io.WriteString(w, `{"messages":[{"status":{"groupId":1,"name":"PENDING_ACCEPTED"}}]}`)
	}))
	defer server.Close()
	if err := open(t, server.URL).Send(t.Context(), providertest.Message()); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := infobip.New(infobip.Options{BaseURL: "abc.api.infobip.com", APIKey: "k", From: "x"}); err != nil {
		t.Error(err)
	}
	for _, o := range []infobip.Options{{}, {BaseURL: "x.com", From: "x"}, {BaseURL: "x.com", APIKey: "k3y"}, {APIKey: "k3y", From: "x"}} {
		_, err := infobip.New(o)
		if err == nil {
			t.Errorf("%+v: accepted", o)
		}
		providertest.TellsNothing(t, err)
	}
}
