package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid/store"
)

// HistoryStore is a store that implements store.History.
type HistoryStore interface {
	store.Store
	store.History
}

// RunHistory runs the checks of a [store.History] as parallel subtests of t. open returns a new,
// empty one, and closes it in a Cleanup if necessary.
func RunHistory(t *testing.T, open func(testing.TB) HistoryStore) {
	t.Helper()
	for _, c := range historyChecks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			if err := c.run(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// historyCheck is one requirement of a store.History.
type historyCheck struct {
	name string
	run  func(context.Context, HistoryStore) error
}

func historyChecks() []historyCheck {
	return []historyCheck{
		{"TotalsOfAllNodes", checkTotals},
		{"TotalsAreReplaced", checkTotalsAreReplaced},
		{"ManyTotals", checkManyTotals},
		{"EntriesLatestFirst", checkEntries},
		{"EntriesAreAddedOnce", checkEntriesOnce},
		{"ManyEntries", checkManyEntries},
		{"LongEntry", checkLongEntry},
		{"EntriesAreDeleted", checkEntriesDeleted},
		{"HistoryExpires", checkHistoryExpires},
		{"SessionsOfANumber", checkSessionsOf},
	}
}

func totalOf(at int64, name, node string, count int64) store.Total {
	return store.Total{At: at, Name: name, Node: node, Count: count, Millis: 10 * count, Units: 100 * count, ExpiresAt: at + 1000}
}

func sumOf(at int64, name string, count int64) store.Total {
	return store.Total{At: at, Name: name, Count: count, Millis: 10 * count, Units: 100 * count}
}

// expectTotals compares totals, in any order.
func expectTotals(ctx context.Context, h store.History, from, to int64, want ...store.Total) error {
	got, err := h.Totals(ctx, from, to)
	if err != nil {
		return err
	}
	order := func(a, b store.Total) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.Name, b.Name)) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		return fmt.Errorf("Totals(%d, %d) = %+v, want %+v", from, to, got, want)
	}
	return nil
}

func checkTotals(ctx context.Context, h HistoryStore) error {
	err := h.PutTotals(ctx, []store.Total{
		totalOf(100, "sms|GB", "a", 1), totalOf(100, "sms|GB", "b", 2), totalOf(100, "sms|gb", "a", 4),
		totalOf(200, "sms|GB", "b", 8), totalOf(300, "sms|GB", "a", 16),
	})
	if err != nil {
		return err
	}
	return errors.Join(
		expectTotals(ctx, h, 100, 300, sumOf(100, "sms|GB", 3), sumOf(100, "sms|gb", 4), sumOf(200, "sms|GB", 8)),
		expectTotals(ctx, h, 101, 301, sumOf(200, "sms|GB", 8), sumOf(300, "sms|GB", 16)),
		expectTotals(ctx, h, 301, 1000),
	)
}

func checkTotalsAreReplaced(ctx context.Context, h HistoryStore) error {
	for _, n := range []int64{3, 5, 4} {
		if err := h.PutTotals(ctx, []store.Total{totalOf(1, "sms", "a", n)}); err != nil {
			return err
		}
	}
	if err := h.PutTotals(ctx, nil); err != nil {
		return fmt.Errorf("PutTotals of nothing: %w", err)
	}
	return expectTotals(ctx, h, 0, 2, sumOf(1, "sms", 4))
}

func checkManyTotals(ctx context.Context, h HistoryStore) error {
	const many = 1100
	var totals []store.Total
	for i := range many {
		totals = append(totals, totalOf(1, fmt.Sprintf("%0160d", i), strings.Repeat("n", 32), 1))
	}
	for range 2 {
		if err := h.PutTotals(ctx, totals); err != nil {
			return err
		}
	}
	got, err := h.Totals(ctx, 0, 2)
	if err == nil && len(got) != many {
		err = fmt.Errorf("%d totals of %d", len(got), many)
	}
	return err
}

func entryOf(id string, subject, at int64) store.Entry {
	return store.Entry{
		ID: id, Subject: store.RecordKey("subject", fmt.Sprint(subject)), At: at, Text: `{"of":"` + id + ` 😀"}`, ExpiresAt: at + 1000,
	}
}

func expectEntries(doing string, got []store.Entry, err error, want ...store.Entry) error {
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("%s = %+v, want %+v", doing, got, want)
	}
	return err
}

func checkEntries(ctx context.Context, h HistoryStore) error {
	a, b, c, other := entryOf("a", 1, 100), entryOf("b", 1, 200), entryOf("c", 1, 200), entryOf("d", 2, 150)
	b.Ref, other.Ref = store.RecordKey("ref"), store.RecordKey("ref")
	if err := errors.Join(h.AddEntries(ctx, []store.Entry{c, a}), h.AddEntries(ctx, []store.Entry{other, b}), h.AddEntries(ctx, nil)); err != nil {
		return err
	}
	expect := func(subject store.Key, since int64, limit int, want ...store.Entry) error {
		got, err := h.Entries(ctx, subject, since, limit)
		return expectEntries(fmt.Sprintf("Entries(since %d, limit %d)", since, limit), got, err, want...)
	}
	byRef := func(ref store.Key, limit int, want ...store.Entry) error {
		got, err := h.EntriesByRef(ctx, ref, limit)
		return expectEntries(fmt.Sprintf("EntriesByRef(limit %d)", limit), got, err, want...)
	}
	return errors.Join(
		expect(a.Subject, 0, 10, c, b, a),
		expect(a.Subject, 101, 10, c, b),
		expect(a.Subject, 200, 10, c, b),
		expect(a.Subject, 201, 10),
		expect(a.Subject, 0, 2, c, b),
		expect(other.Subject, 0, 10, other),
		expect(store.RecordKey("nothing"), 0, 10),
		byRef(b.Ref, 10, b, other),
		byRef(b.Ref, 1, b),
		byRef(store.RecordKey("nothing"), 10),
	)
}

func checkEntriesOnce(ctx context.Context, h HistoryStore) error {
	first, second := entryOf("a", 1, 100), entryOf("a", 1, 200)
	fresh := entryOf("b", 1, 300)
	if err := errors.Join(h.AddEntries(ctx, []store.Entry{first}), h.AddEntries(ctx, []store.Entry{second, fresh})); err != nil {
		return err
	}
	got, err := h.Entries(ctx, first.Subject, 0, 10)
	return expectEntries("Entries after one ID was added twice", got, err, fresh, first)
}

func checkManyEntries(ctx context.Context, h HistoryStore) error {
	const many = 2500
	var entries []store.Entry
	for i := range int64(many) {
		entries = append(entries, entryOf(fmt.Sprintf("%064d", i), 1, i))
	}
	if err := h.AddEntries(ctx, entries); err != nil {
		return err
	}
	got, err := h.Entries(ctx, entries[0].Subject, 0, many+1)
	if err == nil && (len(got) != many || got[0] != entries[many-1]) {
		err = fmt.Errorf("%d entries of %d, or not the latest first", len(got), many)
	}
	return err
}

func checkLongEntry(ctx context.Context, h HistoryStore) error {
	long := entryOf("long", 1, 1)
	long.Text = strings.Repeat("x", 3996) + "😀"
	if err := h.AddEntries(ctx, []store.Entry{long}); err != nil {
		return err
	}
	got, err := h.Entries(ctx, long.Subject, 0, 10)
	return expectEntries("Entries", got, err, long)
}

func checkEntriesDeleted(ctx context.Context, h HistoryStore) error {
	mine, other := entryOf("a", 1, 100), entryOf("b", 2, 100)
	err := errors.Join(
		h.AddEntries(ctx, []store.Entry{mine, other}),
		h.DeleteEntries(ctx, mine.Subject), h.DeleteEntries(ctx, mine.Subject),
	)
	if err != nil {
		return err
	}
	gone, err := h.Entries(ctx, mine.Subject, 0, 10)
	kept, keptErr := h.Entries(ctx, other.Subject, 0, 10)
	return errors.Join(expectEntries("Entries of what was deleted", gone, err), expectEntries("Entries of another", kept, keptErr, other))
}

func checkHistoryExpires(ctx context.Context, h HistoryStore) error {
	err := errors.Join(
		h.PutTotals(ctx, []store.Total{totalOf(1, "sms", "a", 1), totalOf(2, "sms", "a", 1), totalOf(3, "sms", "a", 1)}),
		h.AddEntries(ctx, []store.Entry{entryOf("a", 1, 1), entryOf("b", 1, 2), entryOf("c", 1, 3)}),
	)
	if err != nil {
		return err
	}
	for i, want := range []int{3, 1, 0} { // of two totals and two entries
		n, err := h.DeleteExpiredHistory(ctx, time.UnixMilli(1002), 3)
		if err != nil || n != want {
			return fmt.Errorf("DeleteExpiredHistory, call %d: %d, error %w; want %d", i+1, n, orNone(err), want)
		}
	}
	left := entryOf("c", 1, 3)
	got, err := h.Entries(ctx, left.Subject, 0, 10)
	return errors.Join(expectEntries("Entries that are left", got, err, left), expectTotals(ctx, h, 0, 10, sumOf(3, "sms", 1)))
}

func checkSessionsOf(ctx context.Context, h HistoryStore) error {
	mine, also, other := sample(1), sample(2), sample(3)
	other.MSISDN = "447400123457"
	if err := put(ctx, h, mine, also, other); err != nil {
		return err
	}
	got, err := h.SessionsOf(ctx, mine.MSISDN, 10)
	slices.SortFunc(got, func(a, b store.Session) int { return strings.Compare(a.SID, b.SID) })
	if err != nil || len(got) != 2 || !got[0].Equal(&mine) || !got[1].Equal(&also) {
		return fmt.Errorf("SessionsOf = %+v, error %w; want %+v and %+v", got, orNone(err), mine, also)
	}
	one, err := h.SessionsOf(ctx, mine.MSISDN, 1)
	if err != nil || len(one) != 1 {
		return fmt.Errorf("SessionsOf with limit 1: %d sessions, error %w", len(one), orNone(err))
	}
	return nil
}
