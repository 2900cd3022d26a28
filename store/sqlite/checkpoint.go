package sqlite

import (
	"context"
	"database/sql"
	"time"
)

const (
	// autoCheckpointPages is how many pages of 4 KiB the WAL holds before a
	// commit writes them back into the file, and its caller waits for that:
	// 33 MB, where SQLite's own 1,000 pages make the tail of the latencies.
	autoCheckpointPages = 8000

	// The checkpointer comes round this often while there is writing, and that
	// often while there is none.
	checkpointPause = 100 * time.Millisecond
	checkpointIdle  = time.Second
)

// checkpointer writes the WAL back into the file while others read and write, so that commits
// rarely have to.
type checkpointer struct {
	db   *sql.DB
	stop func()
	done chan struct{}
}

// startCheckpointer starts a checkpointer with exclusive use of db.
func startCheckpointer(db *sql.DB) *checkpointer {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpointer{db: db, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.run(ctx)
	}()
	return c
}

func (c *checkpointer) Close() error {
	c.stop()
	<-c.done
	return c.db.Close()
}

func (c *checkpointer) run(ctx context.Context) {
	timer := time.NewTimer(checkpointPause)
	defer timer.Stop()
	var before walState
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now, err := checkpoint(ctx, c.db)
		// Errors are not reported here: what makes a checkpoint fail makes commits fail too, and
		// these have a caller to report to.
		if err != nil || now == before {
			timer.Reset(checkpointIdle)
		} else {
			timer.Reset(checkpointPause)
		}
		before = now
	}
}

// walState is the number of pages in the WAL, and how many of them are in the file.
type walState struct{ pages, taken int }

// checkpoint writes back as much as it can without waiting for anyone.
func checkpoint(ctx context.Context, db *sql.DB) (s walState, err error) {
	var busy int
	row := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
	return s, row.Scan(&busy, &s.pages, &s.taken)
}
