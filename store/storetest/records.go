package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/threepid/store"
)

// recordChecks check records, alone and together with a session.
func recordChecks() []storeCheck {
	return []storeCheck{
		{"RecordsRoundTrip", checkRecords},
		{"RecordsAreInTheOrderOfTheNames", checkRecordOrder},
		{"RecordsReplace", checkRecordsReplace},
		{"RecordsExpire", checkRecordsExpire},
	}
}

// recordKeys returns the keys of n records, in no particular order.
func recordKeys(n int) []store.Key {
	keys := make([]store.Key, n)
	for i := range keys {
		keys[i] = store.RecordKey("scope", fmt.Sprint(i), "subject")
	}
	return keys
}

// record returns a record with a state that identifies it.
func record(key store.Key, says string) store.Record {
	return store.Record{Key: key, State: fmt.Sprintf(`{"says":%q}`, says), ExpiresAt: 1_700_000_000_000}
}

// putRecords creates or replaces records.
func putRecords(ctx context.Context, s store.Store, records ...store.Record) error {
	err := s.Update(ctx, namesOf(records), func(rows *store.Rows) error {
		copy(rows.Records, records)
		return nil
	})
	if err != nil {
		return fmt.Errorf("put records: %w", err)
	}
	return nil
}

func namesOf(records []store.Record) store.Names {
	keys := make([]store.Key, len(records))
	for i := range records {
		keys[i] = records[i].Key
	}
	return store.Names{Records: keys}
}

// expectRecords checks that both View and Update find the records.
func expectRecords(ctx context.Context, s store.Store, want ...store.Record) error {
	rows, err := s.View(ctx, namesOf(want))
	if err != nil {
		return fmt.Errorf("view records: %w", err)
	}
	if err := compareRecords("View", rows.Records, want); err != nil {
		return err
	}
	return s.Update(ctx, namesOf(want), func(rows *store.Rows) error { return compareRecords("Update", rows.Records, want) })
}

func compareRecords(method string, got, want []store.Record) error {
	if len(got) != len(want) {
		return fmt.Errorf("%s: %d records were named and %d returned", method, len(want), len(got))
	}
	var errs []error
	for i := range want {
		if got[i] != want[i] {
			errs = append(errs, fmt.Errorf("%s: of %d records, number %d is %.120v, want %.120v", method, len(want), i, got[i], want[i]))
		}
	}
	return errors.Join(errs...)
}

func checkRecords(ctx context.Context, s store.Store) error {
	keys := recordKeys(3)
	longest := record(keys[0], "")
	longest.State = "{\"'\\\x01é中;--%_?<&\u2028"
	longest.State += strings.Repeat("🙂", (2000-len(longest.State))/4)
	absent := store.Record{Key: keys[1]}
	negative := store.Record{Key: keys[2], State: "", ExpiresAt: -1}
	if err := expectRecords(ctx, s, absent); err != nil {
		return fmt.Errorf("one that is absent: %w", err)
	}
	if err := putRecords(ctx, s, negative, longest); err != nil {
		return err
	}
	if err := putRecords(ctx, s); err != nil {
		return fmt.Errorf("none: %w", err)
	}
	if err := expectRecords(ctx, s, longest, absent, negative); err != nil {
		return err
	}
	// A record that was only named, or that was emptied, is absent afterwards.
	emptied := store.Record{Key: keys[0]}
	if err := putRecords(ctx, s, emptied, absent, record(keys[2], "full")); err != nil {
		return err
	}
	return expectRecords(ctx, s, absent, record(keys[2], "full"), emptied)
}

func checkRecordOrder(ctx context.Context, s store.Store) error {
	const n = 20
	records := make([]store.Record, n)
	for i, key := range recordKeys(n) {
		records[i] = record(key, fmt.Sprint("record", i))
	}
	if err := putRecords(ctx, s, records...); err != nil {
		return err
	}
	if err := expectRecords(ctx, s, records...); err != nil {
		return err
	}
	slices.Reverse(records)
	return expectRecords(ctx, s, records[:n/2]...)
}

func checkRecordsReplace(ctx context.Context, s store.Store) error {
	keys := recordKeys(2)
	if err := putRecords(ctx, s, record(keys[0], "old0"), record(keys[1], "old1")); err != nil {
		return err
	}
	changed := store.Record{Key: keys[0], State: "new", ExpiresAt: 5}
	if err := putRecords(ctx, s, changed); err != nil {
		return err
	}
	return expectRecords(ctx, s, changed, record(keys[1], "old1"))
}

func checkRecordsExpire(ctx context.Context, s store.Store) error {
	const now = 1_700_000_000_000
	keys := recordKeys(4)
	due, kept := store.Record{Key: keys[0], State: "due", ExpiresAt: now}, store.Record{Key: keys[1], State: "kept", ExpiresAt: now + 1}
	prolonged := store.Record{Key: keys[2], State: "prolonged", ExpiresAt: now}
	if err := putRecords(ctx, s, due, kept, prolonged); err != nil {
		return err
	}
	prolonged.ExpiresAt = now + 5
	if err := putRecords(ctx, s, prolonged); err != nil {
		return err
	}
	session := sample(1)
	session.ExpiresAt = now
	if err := put(ctx, s, session); err != nil {
		return err
	}
	for call, want := range []int{1, 1, 0} { // the session and the record, in either order
		n, err := s.DeleteExpired(ctx, time.UnixMilli(now), 1)
		if err != nil || n != want {
			return fmt.Errorf("DeleteExpired, limit 1, call %d: %d, error %w; want %d", call+1, n, orNone(err), want)
		}
	}
	err := errors.Join(expectNone(ctx, s, session), expectRecords(ctx, s, store.Record{Key: keys[0]}, kept, prolonged))
	if err != nil {
		return err
	}
	// The same key again: nothing of the deleted record remains.
	again := record(keys[0], "again")
	if err := putRecords(ctx, s, again); err != nil {
		return err
	}
	return expectRecords(ctx, s, again)
}
