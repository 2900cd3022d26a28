package twilio_test

import (
	"log"
	"os"

	"example.com/threepid/sms/twilio"
)

func ExampleNew() {
	sender, err := twilio.New(twilio.Options{
		AccountSID: "AC00000000000000000000000000000000",
		APIKey:     os.Getenv("TWILIO_API_KEY"), APISecret: os.Getenv("TWILIO_API_SECRET"),
		MessagingServiceSID: "MG00000000000000000000000000000000",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = sender // pass it to threepid.Register
}
