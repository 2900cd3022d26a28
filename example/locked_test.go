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

// lockDatabase takes SQLite's write lock in this process, as a backup, a shell or
// a migration might, until release is called.
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

// TestLockedForAMoment makes all writers wait for another process.
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
		t.Errorf("%d texts left while nothing could be written, want none but the first", n)
	}
	if got := seen.request(s.url, 1); got.status != http.StatusOK || got.took > time.Second {
		t.Errorf("an attempt that was seen needs no writing: %v", got)
	}
	release()
	<-done
	if n := g.count(); n != 13 {
		t.Errorf("%d texts, want 13", n)
	}
	s.stop()
}

// TestLockedForLong makes the other process keep the lock for longer than any request waits. All
// requests fail in bounded time, also the one whose SMS was sent, which is sent only once.
// Afterwards everything works as before.
func TestLockedForLong(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "threepid.db")
	s := startSending(t, db)
	release := lockDatabase(t, db)
	s.accept()
	const most = 2*storeTimeout + quick // who comes second waits for who came first
	people := s.expectRefused(6, most)
	if got := <-s.outcome; got.status != http.StatusInternalServerError || got.took > most {
		t.Errorf("sent before the file was locked: %v", got)
	}
	if again := s.who.request(s.url, 1); again.status != http.StatusInternalServerError || again.took > most {
		t.Errorf("the same again, while the file is locked: %v", again)
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
	s.t.Errorf("the log does not say %q:\n%s", words, s.stderr)
}

// TestPostgresReadOnly turns a server into a standby for a while, as a failover
// does that went to the wrong one.
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
	for range 12 { // the first to use a connection that was closed may get an error instead
		got = who.request(s.url, 1)
		if got.status != http.StatusInternalServerError || got.errcode != "M_UNKNOWN" || got.took > quick {
			t.Errorf("while nothing can be written: %v", got)
		}
	}
	if messages := g.to(who.number()); len(messages) != 0 {
		t.Errorf("texted without a claim: %v", messages)
	}
	if got := seen.request(s.url, 1); got.status != http.StatusOK || got.sid != before.sid {
		t.Errorf("an attempt that was seen needs no writing: %v", got)
	}
	setReadOnly(t, db, "off")
	for try := 0; try < 24; try++ {
		if got = who.request(s.url, 1); got.status == http.StatusOK {
			break
		}
	}
	messages := g.to(who.number())
	if got.status != http.StatusOK || len(messages) != 1 {
		t.Fatalf("after it: %v, %d texts", got, len(messages))
	}
	if got := who.submit(s.url, got.sid, messages[0].code()); got.status != http.StatusOK {
		t.Errorf("submit: %v", got)
	}
	s.stop()
	g.expectDiscreet(t, s.stderr.String())
}

// setReadOnly sets what new connections may do and ends the others.
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
		"SET default_transaction_read_only = off", // for this very connection
		"ALTER DATABASE " + name + " SET default_transaction_read_only = " + value,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
	} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}
