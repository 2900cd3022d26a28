package gormstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
)

const (
	// statementTimeout bounds a batch, independently of its callers' contexts.
	statementTimeout = 5 * time.Second

	// conflictTimeout bounds how long a unit is retried while others change or lock its rows.
	conflictTimeout = 10 * time.Second
)

// unit is one call of Update in progress.
//
// change runs on the goroutine of its caller, to which the batch passes the rows. A panic therefore
// reaches that caller.
type unit struct {
	ctx    context.Context // stored, because a unit lives as long as its call
	names  store.Names
	change func(*store.Rows) error

	rows    chan store.Rows // sent by the batch
	applied chan applied    // sent to the batch; capacity 1
	done    chan error      // the outcome; capacity 1
	state   atomic.Int32    // waiting, taken or left
	since   time.Time

	tries  int
	batch  int    // number of units in its latest batch
	runs   int    // number of batches that ran it
	where  []*row // its rows in the batch
	result error

	changed bool // whether it changed rows in its latest batch
}

// applied is the result of change.
type applied struct {
	after   store.Rows
	changed bool
	err     error
}

const (
	waiting int32 = iota
	taken         // a batch depends on it
	left          // its caller has returned
)

// errGone is the result of a unit whose change did not return.
var errGone = errors.New("gormstore: the unit panicked")

func newUnit(ctx context.Context, names store.Names, change func(*store.Rows) error) *unit {
	return &unit{
		ctx: ctx, names: names, change: change, since: time.Now(), //nolint:forbidigo // it bounds real waiting
		rows: make(chan store.Rows), applied: make(chan applied, 1), done: make(chan error, 1),
	}
}

// wait returns the outcome of the unit. If the context ends it returns at once, unless a batch
// already depends on the unit: then it waits for the database.
func (u *unit) wait() error {
	over := u.ctx.Done()
	for {
		select {
		case rows := <-u.rows:
			u.apply(rows)
		case err := <-u.done:
			store.Report(u.ctx, store.Run{Batch: u.batch, Retries: u.runs - 1})
			return err
		case <-over:
			if u.state.CompareAndSwap(waiting, left) {
				return u.ctx.Err()
			}
			over = nil
		}
	}
}

func (u *unit) apply(rows store.Rows) {
	a := applied{err: errGone}
	defer func() { u.applied <- a }() // also when change panics, or ends its goroutine
	after, changed, err := store.Apply(u.names, rows, u.change)
	a = applied{after, changed, err}
}

// run runs the unit on the rows of a page.
func (u *unit) run(p *page) {
	u.where, u.changed = nil, false
	if errors.Is(u.result, errGone) {
		return // its caller has returned
	}
	rows, where := p.rows(u.names)
	u.where = where
	if u.result = u.ctx.Err(); u.result != nil {
		return
	}
	u.rows <- rows
	a := <-u.applied
	if u.result = a.err; a.err == nil && a.changed {
		u.changed = true
		p.put(u.names, a.after)
	}
}

// recalled reports whether the unit ran with remembered rows.
func (u *unit) recalled() bool {
	return slices.ContainsFunc(u.where, func(r *row) bool { return r.recalled })
}

// unsure reports whether the unit must run again with rows that are read for it. It changed
// nothing, so no write has verified that its remembered rows were current. If its context has
// ended, it fails instead.
func (u *unit) unsure() bool {
	if u.changed || !u.recalled() || errors.Is(u.result, store.ErrNames) || errors.Is(u.result, errGone) { // after ErrNames another unit begins
		return false
	}
	if err := u.ctx.Err(); err != nil {
		u.result = err
		return false
	}
	return true
}

// over returns an error if the unit has run out of time.
func (u *unit) over() error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if time.Since(u.since) > conflictTimeout {
		return fmt.Errorf("gormstore: the unit was not stored within %v", conflictTimeout)
	}
	return nil
}

func (u *unit) hasLost() bool {
	return slices.ContainsFunc(u.where, func(r *row) bool { return r.lost })
}

// runUpdates runs a batch of new units.
func (s *Store) runUpdates(units []*unit) {
	s.work(slices.DeleteFunc(units, func(u *unit) bool { return !u.state.CompareAndSwap(waiting, taken) }))
}

// work runs units in one batch until each has its outcome or is left to a later batch. It never
// waits for a row lock.
func (s *Store) work(units []*unit) {
	for len(units) > 0 {
		shared, tries := len(units) > 1, 0
		for _, u := range units {
			u.tries++
			u.runs++
			u.batch = len(units)
			tries = max(tries, u.tries)
		}
		unsure, err := s.attempt(units)
		var failed *failure
		switch {
		case err == nil:
			finish(slices.DeleteFunc(units, func(u *unit) bool { return slices.Contains(unsure, u) }), nil)
			units = unsure // read from the database on the next run
		case errors.Is(err, errLost): // store the other units without these
			lost := slices.DeleteFunc(slices.Clone(units), func(u *unit) bool { return !u.hasLost() })
			units = slices.DeleteFunc(units, (*unit).hasLost)
			if lost = s.retryStale(lost); len(lost) > 0 {
				go s.again(lost, err)
			}
		case !errors.As(err, &failed), failed.final, !shared && (failed.conflict == conflictNone || tries >= maxTries):
			finish(units, err)
			return
		case shared && failed.writing && (failed.conflict == conflictNone || tries >= sharedTries):
			go s.alone(units) // one of them causes the failure
			return
		default:
			go s.again(units, err)
			return
		}
	}
}

// alone runs each unit in a batch of its own, in order.
func (s *Store) alone(units []*unit) {
	for _, u := range units {
		u.tries = 0
		if over := u.over(); over != nil {
			finish([]*unit{u}, over)
		} else {
			s.work([]*unit{u})
		}
	}
}

// again retries units after a pause, except those that have run out of time. They do not rejoin the
// batches of new units, because a row that stays locked would delay each of those batches.
func (s *Store) again(units []*unit, err error) {
	_ = pause(context.Background(), units[0].tries)
	for _, u := range units {
		if errors.Is(err, errLost) {
			u.tries = min(u.tries, maxTries/2) // another transaction has made progress
		}
		if over := u.over(); over != nil {
			finish([]*unit{u}, errors.Join(over, err))
			continue
		}
		s.retries.add(u)
	}
}

// finish reports the outcome of units: err or, if err is nil, each unit's own result.
func finish(units []*unit, err error) {
	for _, u := range units {
		if err != nil {
			u.done <- err
		} else {
			u.done <- u.result
		}
	}
}

// errLost means that nothing was stored, because another transaction has changed or locked the rows
// that are marked as lost.
var errLost = errors.New("gormstore: another transaction has changed or locked a row of the unit")

// failure is an error of the database.
type failure struct {
	error

	conflict conflict
	writing  bool // what one of the units wrote may be the cause
	final    bool // the batch may have been stored
}

func (f *failure) Unwrap() error { return f.error }

// fail wraps an error of the database in a failure. It omits the driver's message about a
// duplicate, because MySQL's contains the value, which may be a phone number.
func (s *Store) fail(doing string, err error, writing bool) error {
	if err == nil {
		return nil
	}
	f := &failure{conflict: s.classify(err), writing: writing}
	if f.conflict == conflictDuplicate {
		err = errTaken
	}
	f.error = fmt.Errorf("gormstore: %s: %w", doing, explained(err))
	return f
}

// retryStale retries at once the units that lost rows because their remembered rows were stale. It
// returns the others.
func (s *Store) retryStale(lost []*unit) (others []*unit) {
	for _, u := range lost {
		if u.recalled() && u.ctx.Err() == nil {
			s.retries.add(u)
		} else {
			others = append(others, u)
		}
	}
	return others
}

// attempt runs units once and stores all of their changes or none. It returns the units that must
// run again: see unit.unsure.
func (s *Store) attempt(units []*unit) (unsure []*unit, err error) {
	ctx, cancel := s.background()
	defer cancel()
	d, err := s.prepare(ctx, s.writer)
	if err != nil {
		return nil, s.fail("prepare", err, false)
	}
	if d.write == "" && d.block == nil {
		return nil, s.attemptInTx(ctx, d, units)
	}
	p := s.recent.begin()
	for _, u := range units {
		p.want(u.names)
	}
	if !slices.ContainsFunc(units, func(u *unit) bool { return u.tries > 1 }) {
		s.recent.recall(p)
	}
	if err := s.change(ctx, d, s.writer.in(nil), p, units); err != nil {
		return nil, err
	}
	for _, u := range units {
		if u.unsure() {
			unsure = append(unsure, u)
			u.runs-- // this was not a conflict
		}
	}
	inTime := ctx.Err() == nil
	err = s.store(ctx, d, s.writer.in(nil), p, false)
	if err != nil {
		s.recent.forget(p)
	} else {
		p.stored()
		s.recent.keep(p)
	}
	var failed *failure
	if errors.As(err, &failed) && (failed.conflict == conflictLost || inTime && ctx.Err() != nil) {
		failed.final = true // the statement may still commit after its callers have returned
	}
	return unsure, err
}

func (s *Store) attemptInTx(ctx context.Context, d *dialect, units []*unit) error {
	tx, err := s.writer.db.BeginTx(ctx, &s.writer.options)
	if err != nil {
		return s.fail("begin", err, false)
	}
	// After Commit this has no effect. Before that, the error that led here is the one to return.
	defer func() { _ = tx.Rollback() }()
	q := s.writer.in(tx)
	if d.begin != "" {
		if _, err := q.ExecContext(ctx, d.begin); err != nil {
			return s.fail("take the write lock (inside a transaction of the host's, call Plugin.RedeemTx)", err, false)
		}
	}
	p := newPage()
	for _, u := range units {
		p.want(u.names)
	}
	if err := s.change(ctx, d, q, p, units); err != nil {
		return err
	}
	if err := s.store(ctx, d, q, p, false); err != nil {
		return err
	}
	if err := s.fail("commit", tx.Commit(), true); err != nil {
		failed, _ := err.(*failure) //nolint:errorlint // it is one
		failed.final = failed.conflict == conflictLost
		return err
	}
	return nil
}

// change loads the rows that units name and calls each unit's change, in order.
func (s *Store) change(ctx context.Context, d *dialect, q querier, p *page, units []*unit) error {
	if err := s.fail("read rows", p.load(ctx, q, d.read), false); err != nil {
		return err
	}
	for _, u := range units {
		u.run(p)
	}
	return nil
}

// store writes the changed rows of a page.
func (s *Store) store(ctx context.Context, d *dialect, q querier, p *page, waiting bool) error {
	docs := p.written()
	switch {
	case len(docs[0])+len(docs[1]) == 0:
		return nil
	case d.begin != "":
		return s.storeOneByOne(ctx, d, q, docs)
	}
	var rows [2]string
	for i, list := range docs {
		text, err := json.Marshal(append([]any{}, list...))
		if err != nil {
			return fmt.Errorf("gormstore: %w", err)
		}
		rows[i] = string(text)
	}
	if d.write == "" && (d.block == nil || waiting) {
		return s.storeByParts(ctx, d, q, p, rows, waiting)
	}
	text, args := d.write, []any{rows[0], rows[1]}
	switch {
	case d.write == "":
		text, args = d.block(rows), nil
	case waiting:
		text = d.writeWaiting
	}
	var lost [2]sql.NullString
	err := each(ctx, q, func(result *sql.Rows) error { return result.Scan(&lost[0], &lost[1]) }, text, args...)
	if err == nil && p.lose(lost) {
		return errLost
	}
	return s.fail("write rows", err, true)
}

// storeByParts writes with one statement for each table, in a transaction.
func (s *Store) storeByParts(ctx context.Context, d *dialect, q querier, p *page, rows [2]string, waiting bool) error {
	tables := tables()
	var lost [2]sql.NullString
	for i, t := range tables {
		scan := func(result *sql.Rows) error { return result.Scan(&lost[i]) }
		if err := s.fail("lock rows", each(ctx, q, scan, d.lock(t, "?", "", waiting), rows[i]), true); err != nil {
			return err
		}
	}
	if p.lose(lost) {
		return errLost
	}
	for i, t := range tables {
		for _, put := range d.put(t, "?") {
			if _, err := q.ExecContext(ctx, put, rows[i]); err != nil {
				return s.fail("write rows", err, true)
			}
		}
	}
	return nil
}

// storeOneByOne writes with one statement for each row. It is for databases where a statement costs
// no round trip.
func (s *Store) storeOneByOne(ctx context.Context, d *dialect, q querier, docs [2][]any) error {
	for i := range docs {
		for _, doc := range docs[i] {
			text := d.putOne[i]
			if doc.(interface{ keepsIndexes() bool }).keepsIndexes() {
				text = d.updateOne[i]
			}
			if _, err := q.ExecContext(ctx, text, d.fields[i].values(doc)...); err != nil {
				return s.fail("write rows", err, true)
			}
		}
	}
	return nil
}
