package memstore_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// A unit of work names its rows and changes plain data. A concurrent unit that changes one of them
// runs before or after it.
func ExampleStore() {
	ctx, st := context.Background(), memstore.New()
	names := store.Names{Records: []store.Key{store.RecordKey("example", "counter")}}
	for range 2 {
		err := st.Update(ctx, names, func(rows *store.Rows) error {
			rows.Records[0].State += "x"
			return nil
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	err := st.Update(ctx, names, func(rows *store.Rows) error {
		rows.Records[0].State = "lost"
		return errors.New("an error stores nothing")
	})
	rows, _ := st.View(ctx, names)
	fmt.Println(rows.Records[0].State, err)
	// Output: xx an error stores nothing
}
