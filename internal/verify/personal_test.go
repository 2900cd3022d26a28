package verify_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"example.com/threepid/internal/history"
	"example.com/threepid/internal/verify"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// TestExportIsComplete exports a number with many sessions and events. If there are more than fit,
// the export says so.
func TestExportIsComplete(t *testing.T) {
	t.Parallel()
	for n, incomplete := range map[int]bool{1500: false, 100_001: true} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			const msisdn = "447700900001"
			st := memstore.New()
			now := time.Now()
			entries := make([]store.Entry, n)
			for i := range entries {
				entries[i] = store.Entry{
					ID: fmt.Sprintf("%07d", i), Subject: history.NumberKey(msisdn), At: now.UnixMilli(), ExpiresAt: now.Add(time.Hour).UnixMilli(),
					Text: `{"t":"code","e":{"right":true}}`,
				}
			}
			if err := st.AddEntries(t.Context(), entries); err != nil {
				t.Fatal(err)
			}
			const sessions = 1200
			for i := range sessions {
				key := store.RecordKey(fmt.Sprint(i))
				err := st.Update(t.Context(), store.Names{Session: store.SessionRef{Key: key}}, func(rows *store.Rows) error {
					rows.Session = store.Session{Key: key, SID: fmt.Sprint("sid", i), MSISDN: msisdn, ExpiresAt: now.Add(time.Hour).UnixMilli()}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			c := config(st, st)
			c.JournalLifetime = time.Hour
			service := verify.New(c)
			defer service.Close()
			text, err := service.Export(t.Context(), "+"+msisdn)
			if err != nil {
				t.Fatal(err)
			}
			var x struct {
				Sessions, Journal []json.RawMessage
				Incomplete        bool
			}
			if err := json.Unmarshal(text, &x); err != nil {
				t.Fatal(err)
			}
			if x.Incomplete != incomplete || len(x.Sessions) != sessions || len(x.Journal) != min(n, 100_000) {
				t.Errorf("%d sessions and %d events are exported, incomplete: %v", len(x.Sessions), len(x.Journal), x.Incomplete)
			}
		})
	}
}
