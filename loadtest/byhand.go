package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/threepid/store"
)

// byHandStore is what can be had from SQLite through database/sql with SQL
// written by hand: one goroutine writes, on a connection of its own with
// statements prepared on it, and commits up to byHandBatch units together, each
// commit durable. It knows one driver and what the plugin does, and a panic in a
// unit is the end of it: the measure for a store that may not be so careless.
type byHandStore struct {
	store.OwnerFunc
	write *sql.DB
	read  *sql.DB
	check *sql.DB

	byKey, bySID, ownerOf *sql.Stmt // for reading

	units    chan *byHandUnit
	stopping chan struct{}
	stopped  sync.WaitGroup
}

const (
	byHandBatch   = 256
	byHandReaders = 4
	byHandPause   = 100 * time.Millisecond
)

type byHandUnit struct {
	fn   func(store.Tx) error
	err  error
	done chan struct{}
}

func openByHand(ctx context.Context, path string) (s *byHandStore, err error) {
	s = &byHandStore{units: make(chan *byHandUnit, byHandBatch), stopping: make(chan struct{})}
	s.OwnerFunc = s.owner
	for _, pool := range []struct {
		db    **sql.DB
		conns int
	}{{&s.write, 1}, {&s.read, byHandReaders}, {&s.check, 1}} {
		if *pool.db, err = sql.Open("sqlite3", "file:"+url.PathEscape(path)+byHandParams); err != nil {
			return nil, err
		}
		(*pool.db).SetMaxOpenConns(pool.conns)
		(*pool.db).SetMaxIdleConns(pool.conns)
	}
	for _, statement := range []string{
		"CREATE TABLE sessions (" + strings.ReplaceAll(columns, "sid,", "sid TEXT PRIMARY KEY,") + ")",
		"CREATE UNIQUE INDEX sessions_key ON sessions (key)",
		"CREATE INDEX sessions_expires_at ON sessions (expires_at)",
		"CREATE TABLE associations (msisdn TEXT PRIMARY KEY, user_id TEXT)",
		"PRAGMA wal_autocheckpoint = 8000",
	} {
		if _, err := s.write.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	writer, err := s.newWriter(ctx)
	if err != nil {
		return nil, err
	}
	s.stopped.Go(func() { s.writeUnits(ctx, writer) })
	s.stopped.Go(s.checkpoint)
	return s, nil
}

func (s *byHandStore) prepare(ctx context.Context) (err error) {
	for _, statement := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&s.byKey, "SELECT " + columns + " FROM sessions WHERE key = ?"},
		{&s.bySID, "SELECT " + columns + " FROM sessions WHERE sid = ?"},
		{&s.ownerOf, "SELECT user_id FROM associations WHERE msisdn = ?"},
	} {
		if *statement.to, err = s.read.PrepareContext(ctx, statement.text); err != nil { //nolint:sqlclosecheck // closed with its database
			return err
		}
	}
	return nil
}

// Close waits for the units that are under way.
func (s *byHandStore) Close() error {
	close(s.stopping)
	s.stopped.Wait()
	return errors.Join(s.check.Close(), s.read.Close(), s.write.Close())
}

func (s *byHandStore) owner(ctx context.Context, msisdn string) (userID string, err error) {
	err = s.ownerOf.QueryRowContext(context.WithoutCancel(ctx), msisdn).Scan(&userID)
	return userID, noRow(err)
}

// View reads without a transaction: it is consistent for one read, and the
// plugin's have no second one.
func (s *byHandStore) View(_ context.Context, fn func(store.Tx) error) error {
	return fn(&byHandTx{ctx: context.Background(), byKey: s.byKey, bySID: s.bySID})
}

func (s *byHandStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &byHandUnit{fn: fn, done: make(chan struct{})}
	s.units <- u
	<-u.done
	return u.err
}

func (s *byHandStore) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	done, err := s.check.ExecContext(ctx,
		"DELETE FROM sessions WHERE sid IN (SELECT sid FROM sessions WHERE expires_at <= ? LIMIT ?)", now.UnixMilli(), limit)
	if err != nil {
		return 0, err
	}
	n, err := done.RowsAffected()
	return int(n), err
}

func (s *byHandStore) checkpoint() {
	for {
		select {
		case <-s.stopping:
			return
		case <-time.After(byHandPause):
		}
		_, _ = s.check.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
	}
}

// byHandWriter is the connection that writes.
type byHandWriter struct {
	conn     *sql.Conn
	prepared []*sql.Stmt // all there are, to be closed
	tx       byHandTx

	begin, commit, rollback *sql.Stmt
}

func (s *byHandStore) newWriter(ctx context.Context) (*byHandWriter, error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &byHandWriter{conn: conn, tx: byHandTx{ctx: ctx}}
	marks := strings.Repeat(", ?", strings.Count(columns, ",")+1)[2:]
	set := func(columns string) string {
		return "UPDATE sessions SET " + strings.ReplaceAll(columns, ",", " = ?,") + " = ? WHERE sid = ?"
	}
	for _, statement := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.rollback, "ROLLBACK"},
		{&w.tx.byKey, "SELECT " + columns + " FROM sessions WHERE key = ?"},
		{&w.tx.bySID, "SELECT " + columns + " FROM sessions WHERE sid = ?"},
		{&w.tx.insert, "INSERT INTO sessions (" + columns + ") VALUES (" + marks + ")"},
		{&w.tx.update, set(strings.TrimPrefix(columns, "key, sid, expires_at, "))},
		{&w.tx.move, set(strings.TrimPrefix(columns, "key, sid, "))},
	} {
		if *statement.to, err = conn.PrepareContext(ctx, statement.text); err != nil { //nolint:sqlclosecheck // closed by close
			return nil, fmt.Errorf("%s: %w", statement.text, err)
		}
		w.prepared = append(w.prepared, *statement.to)
	}
	return w, nil
}

func (s *byHandStore) writeUnits(ctx context.Context, w *byHandWriter) {
	defer w.close()
	batch := make([]*byHandUnit, 0, byHandBatch)
	for {
		select {
		case <-s.stopping:
			return
		case first := <-s.units:
			batch = append(batch[:0], first)
		}
		for len(batch) < byHandBatch && len(s.units) > 0 {
			batch = append(batch, <-s.units)
		}
		w.run(ctx, batch)
	}
}

// close closes the statements too: database/sql keeps no account of those that
// were prepared on one connection, and a driver may refuse to close while there
// are some.
func (w *byHandWriter) close() {
	for _, stmt := range w.prepared {
		_ = stmt.Close()
	}
	_ = w.conn.Close()
}

// run commits the units together. When one fails, they are tried one by one.
func (w *byHandWriter) run(ctx context.Context, batch []*byHandUnit) {
	err := w.transaction(ctx, batch)
	for _, u := range batch {
		u.err = err
		if err != nil && len(batch) > 1 {
			u.err = w.transaction(ctx, []*byHandUnit{u})
		}
		close(u.done)
	}
}

func (w *byHandWriter) transaction(ctx context.Context, batch []*byHandUnit) error {
	if _, err := w.begin.ExecContext(ctx); err != nil {
		return err
	}
	for _, u := range batch {
		w.tx.known = w.tx.known[:0]
		if err := u.fn(&w.tx); err != nil {
			_, rollbackErr := w.rollback.ExecContext(ctx)
			return errors.Join(err, rollbackErr)
		}
	}
	_, err := w.commit.ExecContext(ctx)
	return err
}

type byHandTx struct {
	ctx                  context.Context // of the connection
	byKey, bySID         *sql.Stmt
	insert, update, move *sql.Stmt // nil for reading

	known []store.Session // what the unit has read
}

func (t *byHandTx) SessionByKey(key store.Key) (store.Session, error) { return t.find(t.byKey, key[:]) }

func (t *byHandTx) SessionBySID(sid string) (store.Session, error) { return t.find(t.bySID, sid) }

func (t *byHandTx) find(stmt *sql.Stmt, arg any) (store.Session, error) {
	var row session
	if err := stmt.QueryRowContext(t.ctx, arg).Scan(row.fields()...); err != nil {
		return store.Session{}, noRow(err)
	}
	found := row.session()
	if t.insert != nil {
		t.known = append(t.known, found)
	}
	return found, nil
}

func (t *byHandTx) PutSession(s store.Session) (err error) {
	row := rowOf(&s)
	values := row.values()
	old := slices.IndexFunc(t.known, func(k store.Session) bool { return k.Key == s.Key })
	switch {
	case t.insert == nil:
		return errors.New("by hand: this unit only reads")
	case old < 0:
		_, err = t.insert.ExecContext(t.ctx, values...)
	case t.known[old].SID != s.SID:
		return errors.New("by hand: a session keeps its sid")
	case t.known[old].ExpiresAt == s.ExpiresAt:
		_, err = t.update.ExecContext(t.ctx, append(values[3:], s.SID)...)
	default:
		_, err = t.move.ExecContext(t.ctx, append(values[2:], s.SID)...)
	}
	if old < 0 {
		t.known = append(t.known, s)
	} else {
		t.known[old] = s
	}
	return err
}

func noRow(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	return err
}
