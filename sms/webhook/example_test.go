package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"example.com/threepid/sms"
	"example.com/threepid/sms/webhook"
)

func Example() {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Printf("%s\n", body)
		w.WriteHeader(http.StatusUnprocessableEntity) // such as a landline
	}))
	defer gateway.Close()

	sender, err := webhook.New(gateway.URL+"/texts", webhook.Options{
		Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", // from your secret store
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = sender.Send(context.Background(), sms.Message{
		ID: "msg_1", To: "+442079460000", Text: "123456 is your Example code.", Country: "GB", Attempt: 1,
	})
	fmt.Println("give the number up:", errors.Is(err, sms.ErrRejected))
	// Output:
	// {"id":"msg_1","to":"+442079460000","text":"123456 is your Example code.","country":"GB","attempt":1}
	// give the number up: true
}
