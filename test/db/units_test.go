package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// one returns the nth session, and the names of a unit that changes it and a record.
func one(n int) (store.Session, store.Names) {
	key := store.SessionKey("secret", "GB", fmt.Sprint(n))
	session := store.Session{Key: key, SID: fmt.Sprintf("sid-%d", n), MSISDN: "447400123456"}
	return session, store.Names{Session: store.SessionRef{Key: key}, Records: []store.Key{store.RecordKey("number", fmt.Sprint(n))}}
}

// bump creates or changes the nth session and its record.
func bump(ctx context.Context, st *gormstore.Store, n int) error {
	session, names := one(n)
	return st.Update(ctx, names, func(rows *store.Rows) error {
		session.Attempt = rows.Session.Attempt + 1
		rows.Session = session
		rows.Records[0].State += "x"
		return nil
	})
}

// TestLockedRowsHoldUpNoOther keeps a host's transaction open after UpdateTx. Units that name none
// of its rows continue, even those that share a batch with one that does. That one waits, and
// succeeds when the transaction ends.
func TestLockedRowsHoldUpNoOther(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		const others, long = 31, 1500 * time.Millisecond
		db := connect(t, s.dialector(s.newDatabase(t)), connections)
		st := migrated(t, newStore(t, db, gormstore.Options{}))
		if err := bump(t.Context(), st, 0); err != nil {
			t.Fatal(err)
		}
		held, wait := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		var committed atomic.Bool
		err := db.Transaction(func(tx *gorm.DB) error {
			_, names := one(0)
			err := st.UpdateTx(t.Context(), tx, names, func(rows *store.Rows) error {
				rows.Session.Attempt += 10
				return nil
			})
			if err != nil {
				return err
			}
			close(held)
			wg.Go(func() {
				defer close(wait)
				if err := bump(t.Context(), st, 0); err != nil || !committed.Load() {
					t.Errorf("a unit on a locked row: error %v, and the transaction has ended: %v", err, committed.Load())
				}
			})
			expectOthersGoOn(t, st, others, long)
			committed.Store(true)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		_, names := one(0)
		rows, err := st.View(t.Context(), names)
		if err != nil || rows.Session.Attempt != 12 {
			t.Errorf("the session has %d, error %v; want 12", rows.Session.Attempt, err)
		}
	})
}

// expectOthersGoOn runs units on rows of their own for a while.
func expectOthersGoOn(t *testing.T, st *gormstore.Store, others int, long time.Duration) {
	t.Helper()
	var slowest, units atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(long)
	for i := range others {
		wg.Go(func() {
			for time.Now().Before(end) {
				begin := time.Now()
				if err := bump(t.Context(), st, i+1); err != nil {
					t.Error(err)
					return
				}
				units.Add(1)
				if took := int64(time.Since(begin)); took > slowest.Load() {
					slowest.Store(took)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d units, the slowest took %v", units.Load(), time.Duration(slowest.Load()))
	if slow := time.Duration(slowest.Load()); slow > time.Second {
		t.Errorf("a unit next to a locked row took %v", slow)
	}
}

// TestNoTransactionWaitsForAUnit inspects the server while a unit runs. There is no lock and no
// open transaction that a client which stops at this point would keep.
func TestNoTransactionWaitsForAUnit(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		dsn := s.newDatabase(t)
		st := migrated(t, newStore(t, connect(t, s.dialector(dsn), connections), gormstore.Options{}))
		admin := connect(t, s.dialector(dsn), 1)
		query := "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation" +
			" WHERE relname LIKE 'threepid%' AND relnamespace = current_schema()::regnamespace"
		if s.name == "MySQL" {
			query = "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist" +
				" ON id = trx_mysql_thread_id WHERE db = database() AND id <> connection_id()"
		}
		session, names := one(1)
		var n int
		err := st.Update(t.Context(), names, func(rows *store.Rows) error {
			rows.Session = session
			return admin.Raw(query).Scan(&n).Error
		})
		if err != nil || n != 0 {
			t.Errorf("while a unit runs %d are open, error %v", n, err)
		}
	})
}

// TestRoundTrips counts the statements of a unit on PostgreSQL: one that reads and one that writes.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		if s.name != "PostgreSQL" {
			return
		}
		config, err := pgx.ParseConfig(s.newDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		trace := &counter{}
		config.Tracer = trace
		db := connect(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}), 1)
		st := migrated(t, newStore(t, db, gormstore.Options{}))
		if err := bump(t.Context(), st, 0); err != nil { // prepares
			t.Fatal(err)
		}
		before := trace.n.Load()
		if err := bump(t.Context(), st, 1); err != nil {
			t.Fatal(err)
		}
		if n := trace.n.Load() - before; n != 2 {
			t.Errorf("a unit ran %d statements, want 2", n)
		}
		before = trace.n.Load()
		if err := bump(t.Context(), st, 1); err != nil {
			t.Fatal(err)
		}
		if n := trace.n.Load() - before; n != 1 {
			t.Errorf("a unit whose rows were just written ran %d statements, want 1", n)
		}
		before = trace.n.Load()
		names := store.Names{Records: []store.Key{store.RecordKey("round trips")}}
		_, viewErr := st.View(t.Context(), names)
		err = errors.Join(viewErr, st.Update(t.Context(), names, func(rows *store.Rows) error {
			rows.Records[0].State, rows.Records[0].ExpiresAt = "x", 1
			return nil
		}))
		if n := trace.n.Load() - before; err != nil || n != 2 {
			t.Errorf("a view and a unit of the same rows ran %d statements, error %v; want 2", n, err)
		}
	})
}

// TestRoundTripsOfAVerification counts the statements of requestToken and submitToken on
// PostgreSQL: see docs/SCALING.md.
func TestRoundTripsOfAVerification(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		if s.name != "PostgreSQL" {
			return
		}
		config, err := pgx.ParseConfig(s.newDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		trace := &counter{}
		config.Tracer = trace
		st := migrated(t, newStore(t, connect(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}), 1), gormstore.Options{}))
		gin.SetMode(gin.TestMode)
		sender := smstest.New()
		plugin, err := threepid.Register(gin.New(), st, sender, threepid.Options{
			Logger: slog.New(slog.DiscardHandler), StatisticsLifetime: -1, JournalLifetime: -1,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = plugin.Close() })
		verify := func(number string) int64 {
			before := trace.n.Load()
			response, err := plugin.RequestToken(t.Context(), threepid.TokenRequest{
				Purpose: threepid.PurposeAdd, ClientSecret: "secret", PhoneNumber: number, SendAttempt: 1, ClientKey: "203.0.113.1",
			})
			if err == nil {
				m, _ := sender.Last()
				_, err = plugin.SubmitToken(t.Context(), threepid.TokenSubmission{
					SID: response.SID, ClientSecret: "secret", Token: smstest.Token(m), ClientKey: "203.0.113.1",
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			return trace.n.Load() - before
		}
		verify("+447700900001") // prepares
		fewest := int64(1000)
		for i := range 10 { // the guard's statements, once a second, affect only some of these
			fewest = min(fewest, verify(fmt.Sprintf("+44770090%04d", 10+i)))
		}
		if fewest != 8 {
			t.Errorf("a verification ran %d statements, want 8", fewest)
		}
	})
}

type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestPlansDoNotDependOnStatistics plans the statements while the tables are empty and were never
// analyzed, or while they are tiny and were vacuumed. Then the tables grow: neither units nor the
// deletion of expired rows reads a complete table. Other statements are planned again when
// autovacuum analyzes their tables.
func TestPlansDoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		if s.name != "PostgreSQL" {
			return // elsewhere, the statements name their indexes
		}
		for _, vacuumed := range []bool{false, true} {
			t.Run(fmt.Sprint("vacuumed ", vacuumed), func(t *testing.T) {
				t.Parallel()
				dsn := s.newDatabase(t)
				db := connect(t, s.dialector(dsn), 1) // one connection, which caches the plans
				st := migrated(t, newStore(t, db, gormstore.Options{}))
				admin, err := connect(t, s.dialector(dsn), 1).DB()
				if err != nil {
					t.Fatal(err)
				}
				expectNoSequentialScans(t, db, admin, st, vacuumed)
			})
		}
	})
}

func expectNoSequentialScans(t *testing.T, db *gorm.DB, admin *sql.DB, st *gormstore.Store, vacuumed bool) {
	t.Helper()
	use := func() {
		for i := range 12 { // after some executions, PostgreSQL keeps a plan
			ctx := t.Context()
			_, err := st.DeleteExpired(ctx, time.UnixMilli(-1), 1000)
			_, historyErr := st.DeleteExpiredHistory(ctx, time.UnixMilli(-1), 1000)
			_, viewErr := st.View(ctx, store.Names{Session: store.SessionRef{SID: "sid-1"}})
			if err := errors.Join(err, historyErr, viewErr, bump(ctx, st, i%3), st.DeleteExpiredCounts(ctx, time.UnixMilli(-1))); err != nil {
				t.Fatal(err)
			}
		}
	}
	use()
	statements := []string{
		"INSERT INTO threepid_records SELECT sha256(i::text::bytea), 'x', i, 1 FROM generate_series(1, 100000) AS i",
		"INSERT INTO threepid_sessions (sid, session_key, msisdn, country, purpose, next_link, attempt, claim_id, claim_attempt, lease_until," +
			" outcome, token_expires_at, wrong_tries, validated_at, redeemed_at, created_at, expires_at, version)" +
			" SELECT 'x' || i, sha256(i::text::bytea), '1', '', '', '', 0, '', 0, 0, '', 0, 0, 0, 0, 0, i, 1 FROM generate_series(1, 100000) AS i",
		"INSERT INTO threepid_totals SELECT i, 'sms', 'node', 1, 1, 1, i FROM generate_series(1, 100000) AS i",
		"INSERT INTO threepid_entries (id, subject, happened_at, content, expires_at) SELECT i, sha256(i::text::bytea), i, 'x', i FROM generate_series(1, 100000) AS i",
		"INSERT INTO threepid_counts SELECT 'network ' || i, i, 'node', 1, 1, i FROM generate_series(1, 100000) AS i",
		"INSERT INTO threepid_verdicts SELECT 'network ' || i, i, 'x', i FROM generate_series(1, 100000) AS i",
	}
	if vacuumed {
		const use = ""
		vacuum := []string{
			"VACUUM threepid_records", "VACUUM threepid_sessions", "VACUUM threepid_totals", "VACUUM threepid_entries",
			"VACUUM threepid_counts", "VACUUM threepid_verdicts", use,
		}
		statements = slices.Concat(vacuum, statements)
	}
	for _, statement := range statements {
		if statement == "" {
			use() // plan for the vacuumed tables
			continue
		}
		if _, err := admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	count := func() map[string]int64 {
		// The server would publish the counts of db's connection after ten seconds.
		if err := db.Exec("SELECT pg_stat_force_next_flush()").Error; err != nil {
			t.Fatal(err)
		}
		read := make(map[string]int64)
		rows, err := admin.QueryContext(t.Context(), "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = current_schema()")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var table string
			var n int64
			err = errors.Join(err, rows.Scan(&table, &n))
			read[table] = n
		}
		if err := errors.Join(err, rows.Err()); err != nil {
			t.Fatal(err)
		}
		return read
	}
	before := count()
	use()
	for table, n := range count() {
		if n -= before[table]; n > 1000 {
			t.Errorf("%d rows of %s were read by sequential scans", n, table)
		}
	}
}
