package gormstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
)

// errTaken replaces a driver's error about a duplicate: another unit has created the row.
var errTaken = errors.New("another row has the same key")

// conflict is the cause of a database error after which a retry may succeed.
type conflict int

const (
	conflictNone      conflict = iota
	conflictBusy               // a deadlock, a serialisation failure, or a lock timeout
	conflictDuplicate          // another unit has inserted a row that was absent before
	conflictLost               // the connection is broken; a COMMIT may have succeeded
)

// conflictsOf returns a function that classifies the errors of a database. It uses SQLSTATE codes,
// GORM's errors and messages, because importing the drivers for their error types would make every
// host link all of them.
func conflictsOf(d gorm.Dialector) func(error) conflict {
	translator, _ := d.(gorm.ErrorTranslator)
	return func(err error) conflict {
		if busy(err) {
			return conflictBusy
		}
		if errors.Is(err, errTaken) || errors.Is(err, gorm.ErrDuplicatedKey) ||
			translator != nil && errors.Is(translator.Translate(err), gorm.ErrDuplicatedKey) {
			return conflictDuplicate
		}
		if lost(err) {
			return conflictLost
		}
		return conflictNone
	}
}

func busy(err error) bool {
	if state, ok := sqlState(err); ok {
		// serialization_failure, deadlock_detected, lock_not_available
		return state == "40001" || state == "40P01" || state == "55P03"
	}
	return says(err,
		"database is locked", "database table is locked", // SQLITE_BUSY, SQLITE_LOCKED
		"Error 1213", "Error 1205", "Error 1020", // MySQL: deadlock, lock wait, row changed since read
		"Error 1047", // Galera: the node is not ready
	)
}

// lost reports whether the connection is broken, or the server is starting or shutting down.
func lost(err error) bool {
	if state, ok := sqlState(err); ok {
		// connection exceptions; shutdown, crash, starting up; too many connections
		return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P0") || state == "53300"
	}
	var network *net.OpError
	if errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	return says(err,
		"invalid connection", "conn closed", // MySQL's driver, pgx
		"Error 1040", "Error 1053", "Error 1927", // MySQL: too many connections, shutting down, killed
	)
}

// missing reports whether a table or a column is missing.
func missing(err error) bool {
	if state, ok := sqlState(err); ok {
		return state == "42P01" || state == "42703" || state == "42883" // undefined_table, _column, _function
	}
	return says(err,
		"no such table", "no such column", "has no column named", // SQLite
		"Error 1146", "Error 1054", // MySQL
	)
}

// explained adds to an error about a missing table what an operator can do.
func explained(err error) error {
	if missing(err) {
		return fmt.Errorf("the tables are not as Migrate leaves them; did it run, or did somebody drop one? %w", err)
	}
	return err
}

// sqlState returns the SQLSTATE of an error, which drivers for PostgreSQL provide.
func sqlState(err error) (state string, ok bool) {
	var standard interface{ SQLState() string }
	if !errors.As(err, &standard) {
		return "", false
	}
	return standard.SQLState(), true
}

// says reports whether the message of err contains one of the signs.
func says(err error, signs ...string) bool {
	text := err.Error()
	return slices.ContainsFunc(signs, func(sign string) bool { return strings.Contains(text, sign) })
}

const (
	// maxTries is how many times a unit is run. A unit that conflicts with others usually succeeds
	// after two or three tries and rarely needs ten. A unit that cannot succeed, such as one with a
	// duplicate sid, fails after at most a second.
	maxTries = 20

	// sharedTries is how many times a batch is run before its units run alone.
	sharedTries = 3

	firstPause = time.Millisecond
	maxPause   = 64 * time.Millisecond
)

// pause waits before another try. If ctx ends first, it returns its error. Half of the pause is
// random, so that the same units do not conflict again.
func pause(ctx context.Context, try int) error {
	const doublings = 6 // to maxPause
	longest := min(firstPause<<min(max(0, try-1), doublings), maxPause)
	timer := time.NewTimer(longest/2 + rand.N(longest/2)) //nolint:gosec // nothing secret hangs on the length of a pause
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
