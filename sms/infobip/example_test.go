package infobip_test

import (
	"log"
	"os"

	"example.com/threepid/sms/infobip"
)

func ExampleNew() {
	sender, err := infobip.New(infobip.Options{
		BaseURL: "xxxxx.api.infobip.com",
		APIKey:  os.Getenv("INFOBIP_API_KEY"),
		From:    "Example",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = sender // pass it to threepid.Register
}
