package sqlite_test

import (
	"log"

	"example.com/threepid/store/sqlite"
)

func ExampleOpen() {
	st, err := sqlite.Open("threepid.db")
	if err != nil {
		log.Fatal(err)
	}
	_ = st // pass it to threepid.Register, and close it after the plugin
}
