package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"example.com/threepid/sms"
	"example.com/threepid/sms/gateway"
)

var exampleMessage = sms.Message{ID: "msg_1", To: "+447700900001", Text: `123456 is your "Example" code.`, Attempt: 1}

// pretend is a gateway that prints the requests that it receives.
func pretend(status int, answer string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Println(strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL, " ", string(body))))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
}

// An app on a phone, here SMS Gateway for Android with its server in the local network:
// https://docs.sms-gate.app/integration/api.
func ExampleNew_phone() {
	phone := pretend(http.StatusAccepted, `{"id":"msg_1","state":"Pending"}`)
	defer phone.Close()
	sender, err := gateway.New(gateway.Options{
		URL:    phone.URL + "/message",
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   `{"id":"{{.ID}}","textMessage":{"text":"{{.Text}}"},"phoneNumbers":["{{.To}}"]}`,
		User:   "sms", Password: "secret",
		Accepted: gateway.Match{Body: `"state": ?"(Pending|Processed|Sent|Delivered)"`},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sender.Send(context.Background(), exampleMessage))
	// Output:
	// POST /message {"id":"msg_1","textMessage":{"text":"123456 is your \"Example\" code."},"phoneNumbers":["+447700900001"]}
	// <nil>
}

// A modem with Gammu behind a REST API, here smsgateway-gammu:
// https://pypi.org/project/smsgateway-gammu.
func ExampleNew_gammu() {
	front := pretend(http.StatusOK, "")
	defer front.Close()
	sender, err := gateway.New(gateway.Options{URL: front.URL + "/sms?number={{.To}}&message={{.Text}}"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sender.Send(context.Background(), exampleMessage))
	// Output:
	// GET /sms?number=%2B447700900001&message=123456%20is%20your%20%22Example%22%20code.
	// <nil>
}
