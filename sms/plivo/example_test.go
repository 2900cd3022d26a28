package plivo_test

import (
	"log"
	"os"

	"example.com/threepid/sms/plivo"
)

func ExampleNew() {
	sender, err := plivo.New(plivo.Options{
		AuthID: os.Getenv("PLIVO_AUTH_ID"), AuthToken: os.Getenv("PLIVO_AUTH_TOKEN"),
		From: "+14155550100",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = sender // pass it to threepid.Register
}
