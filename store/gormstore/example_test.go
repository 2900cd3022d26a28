package gormstore_test

import (
	"context"
	"log"

	"gorm.io/gorm"

	"example.com/threepid/store/gormstore"
)

// Several nodes share a database through the host's *gorm.DB.
func ExampleNew() {
	var db *gorm.DB // from gorm.Open
	st, err := gormstore.New(db, gormstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := st.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
}
