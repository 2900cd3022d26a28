package db_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

const msisdn = "447400123456"

// TestDuplicatesAreNoErrors is for PostgreSQL only. PostgreSQL logs each failed statement: the
// DETAIL contains the duplicate values and, with the simple protocol, the statement contains all
// values. Two units that create the same row are normal, and must not write a number to that log.
func TestDuplicatesAreNoErrors(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		if s.name != "PostgreSQL" {
			return
		}
		t.Run("Associate", func(t *testing.T) {
			t.Parallel()
			expectQuietDuplicate(t, s, "INSERT INTO threepid_associations",
				func(st *gormstore.Store) error {
					return st.Associate(t.Context(), store.Association{UserID: "alice", MSISDN: msisdn})
				},
				func(st *gormstore.Store) error {
					err := st.Associate(t.Context(), store.Association{UserID: "bob", MSISDN: msisdn})
					if !errors.Is(err, store.ErrInUse) {
						return errors.Join(errors.New("want ErrInUse"), err)
					}
					return nil
				})
		})
		t.Run("Session", func(t *testing.T) {
			t.Parallel()
			create := func(sid string) func(st *gormstore.Store) error {
				return func(st *gormstore.Store) error {
					key := store.SessionKey("s", "GB", msisdn)
					return st.Update(t.Context(), store.Names{Session: store.SessionRef{Key: key}}, func(rows *store.Rows) error {
						if rows.Session.SID == "" {
							rows.Session = store.Session{Key: key, SID: sid, MSISDN: msisdn}
						}
						rows.Session.Attempt++
						return nil
					})
				}
			}
			expectQuietDuplicate(t, s, "SELECT * FROM threepid_write", create("first"), create("second"))
		})
	})
}

// expectQuietDuplicate runs two units that create the same row. The first commits when the second
// has found the row absent and begins to insert it.
func expectQuietDuplicate(t *testing.T, s server, insert string, first, second func(*gormstore.Store) error) {
	t.Helper()
	config, err := pgx.ParseConfig(s.newDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	trace := &tracer{insert: insert, inserting: make(chan struct{}), resume: make(chan struct{})}
	other := migrated(t, newStore(t, connect(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}), connections), gormstore.Options{}))
	config.Tracer = trace
	st := newStore(t, connect(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}), connections), gormstore.Options{})

	done := make(chan error, 1)
	go func() { done <- second(st) }()
	<-trace.inserting
	if err := first(other); err != nil {
		t.Error(err)
	}
	close(trace.resume)
	if err := <-done; err != nil {
		t.Error(err)
	}
	trace.mu.Lock()
	defer trace.mu.Unlock()
	for _, failure := range trace.failures {
		t.Errorf("the server logs %s (%s): %s", failure.Message, failure.Code, failure.Detail)
	}
}

// tracer delays the first insert, and records the statements that the server refuses.
type tracer struct {
	insert            string
	inserting, resume chan struct{}
	once              sync.Once

	mu       sync.Mutex
	failures []*pgconn.PgError
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(strings.ReplaceAll(data.SQL, `"`, ""), tr.insert) {
		tr.once.Do(func() {
			close(tr.inserting)
			<-tr.resume
		})
	}
	return ctx
}

func (tr *tracer) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	var failure *pgconn.PgError
	if errors.As(data.Err, &failure) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.failures = append(tr.failures, failure)
	}
}
