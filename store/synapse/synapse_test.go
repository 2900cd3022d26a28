package synapse_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/synapse"
)

// The table as Synapse creates it.
const table = `CREATE TABLE user_threepids (
	user_id TEXT NOT NULL, medium TEXT NOT NULL, address TEXT NOT NULL, validated_at BIGINT NOT NULL, added_at BIGINT NOT NULL
)`

func open(t *testing.T, statements ...string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector(filepath.Join(t.TempDir(), "homeserver.db")), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
	})
	return db
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	db := open(t, table, "CREATE UNIQUE INDEX medium_address ON user_threepids (medium, address)",
		"INSERT INTO user_threepids VALUES ('@alice:example.org', 'msisdn', '447700900001', 1, 1)",
		"INSERT INTO user_threepids VALUES ('@bob:example.org', 'email', '447700900002', 1, 1)")
	accounts := synapse.Accounts(db)
	for number, want := range map[string]string{"447700900001": "@alice:example.org", "447700900002": "", "44770090000": ""} {
		owner, err := accounts.Owner(t.Context(), number)
		if want == "" && !errors.Is(err, store.ErrNotFound) || want != "" && err != nil || owner != want {
			t.Errorf("%s: %q, %v", number, owner, err)
		}
	}
	if err := accounts.Associate(t.Context(), store.Association{}); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("Associate: %v", err)
	}
}

func TestAnotherDatabase(t *testing.T) {
	t.Parallel()
	_, err := synapse.Accounts(open(t)).Owner(t.Context(), "447700900001")
	if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "user_threepids") {
		t.Errorf("without the table: %v", err)
	}
}
