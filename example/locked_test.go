package main_test

import (
	"context"
	"database/sql"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lockDatabase holds SQLite's write lock in this process until release is called, as a backup,
// a shell or a migration might.
func lockDatabase(t *testing.T, file string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err = conn.ExecContext(context.Background(), "BEGIN EXCLUSIVE")
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	return func() {
		if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}
}

// TestLockedForAMoment makes all writers wait for another process for two seconds.
func TestLockedForAMoment(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "threepid.db")
	g := newGateway(t, accept)
	s := start(t, "-db", db, "-sms", "webhook:"+g.url)
	seen := newPerson()
	seen.request(s.url, 1)
	release := lockDatabase(t, db)
	done := make(chan struct{})
	go func() {
		defer close(done)
		together(12, func(int) {
			if got := newPerson().request(s.url, 1); got.status != http.StatusOK {
				t.Errorf("%v", got)
			}
		})
	}()
	time.Sleep(2 * time.Second)
	if n := g.count(); n != 1 {
		t.Errorf("%d SMS, want only the one that was sent before the lock", n)
	}
	if got := seen.request(s.url, 1); got.status != http.StatusOK || got.took > time.Second {
		t.Errorf("repeating an attempt that was sent, while nothing can be written: %v", got)
	}
	release()
	<-done
	if n := g.count(); n != 13 {
		t.Errorf("%d SMS, want 13", n)
	}
	s.stop()
}

// TestLockedForLong keeps the lock for longer than any request waits. All requests must fail within a
// time limit, also one whose SMS was sent before. Afterwards, all of them must succeed when repeated,
// with one SMS each.
func TestLockedForLong(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "threepid.db")
	s := startSending(t, db)
	release := lockDatabase(t, db)
	s.accept()
	const limit = 2*storeTimeout + quick // a request may wait for another that times out
	people := s.expectRefused(6, limit)
	if got := <-s.outcome; got.status != http.StatusInternalServerError || got.took > limit {
		t.Errorf("the request whose SMS was sent before the lock: %v", got)
	}
	if again := s.who.request(s.url, 1); again.status != http.StatusInternalServerError || again.took > limit {
		t.Errorf("the same request again, while the file is locked: %v", again)
	}
	release()
	s.waitForLog("is recorded now")
	s.expectServed(people)
	s.stop()
	s.gateway.expectDiscreet(t, s.stderr.String())
}

func (s *server) waitForLog(words string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(s.stderr.String(), words) {
			return
		}
	}
	s.t.Errorf("the log does not contain %q:\n%s", words, s.stderr)
}

// TestPostgresReadOnly makes the database read-only for a while, as if a failover had connected the
// example to a standby.
func TestPostgresReadOnly(t *testing.T) {
	t.Parallel()
	db := freshDatabase(t, postgresURL, 20)
	g := newGateway(t, accept)
	s := start(t, "-db", db, "-sms", "webhook:"+g.url)
	seen := newPerson()
	before := seen.request(s.url, 1)
	setReadOnly(t, db, "on")
	who := newPerson()
	var got outcome
	for range 12 { // several, because the first request on a closed connection may get another error
		got = who.request(s.url, 1)
		if got.status != http.StatusInternalServerError || got.errcode != "M_UNKNOWN" || got.took > quick {
			t.Errorf("a new request, while nothing can be written: %v", got)
		}
	}
	if messages := g.to(who.number()); len(messages) != 0 {
		t.Errorf("SMS were sent although the attempt could not be recorded: %v", messages)
	}
	if got := seen.request(s.url, 1); got.status != http.StatusOK || got.sid != before.sid {
		t.Errorf("repeating an attempt that was sent, while nothing can be written: %v", got)
	}
	setReadOnly(t, db, "off")
	for try := 0; try < 24; try++ {
		if got = who.request(s.url, 1); got.status == http.StatusOK {
			break
		}
	}
	messages := g.to(who.number())
	if got.status != http.StatusOK || len(messages) != 1 {
		t.Fatalf("after the database accepts writes again: %v, %d SMS, want 1", got, len(messages))
	}
	if got := who.submit(s.url, got.sid, messages[0].code()); got.status != http.StatusOK {
		t.Errorf("submit: %v", got)
	}
	s.stop()
	g.expectDiscreet(t, s.stderr.String())
}

// setReadOnly makes new connections read-only, or not, and closes all existing ones.
func setReadOnly(t *testing.T, db, value string) {
	t.Helper()
	name := strings.TrimPrefix(parseURL(t, db).Path, "/")
	admin := openDatabase(t, db)
	defer func() { _ = admin.Close() }()
	conn, err := admin.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range []string{
		"SET default_transaction_read_only = off", // for this connection
		"ALTER DATABASE " + name + " SET default_transaction_read_only = " + value,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
	} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}
