package vonage_test

import (
	"log"
	"os"

	"example.com/threepid/sms/vonage"
)

func ExampleNew() {
	sender, err := vonage.New(vonage.Options{
		APIKey: os.Getenv("VONAGE_API_KEY"), APISecret: os.Getenv("VONAGE_API_SECRET"),
		From: "Example",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = sender // pass it to threepid.Register
}
