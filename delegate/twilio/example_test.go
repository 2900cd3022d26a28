package twilio_test

import (
	"log"
	"os"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/delegate/twilio"
	"example.com/threepid/store/memstore"
)

func ExampleNew() {
	service, err := twilio.New(twilio.Options{
		APIKey: os.Getenv("TWILIO_API_KEY"), APISecret: os.Getenv("TWILIO_API_SECRET"),
		ServiceSID:         "VA00000000000000000000000000000001",
		PasswordServiceSID: "VA00000000000000000000000000000002",
	})
	if err != nil {
		log.Fatal(err)
	}
	// Twilio sends the codes, so there is no sender.
	plugin, err := threepid.Register(gin.New(), memstore.New(), nil, threepid.Options{Delegate: service})
	if err != nil {
		log.Fatal(err)
	}
	_ = plugin // close it after the HTTP server
}
