package gormstore

import (
	"errors"

	"example.com/threepid/store"
)

var errReadOnly = errors.New("gormstore: put: the unit is read-only")

// tx is what a unit of work sees of its transaction.
type tx struct {
	unit         *unit
	byKey, bySID query
	readOnly     bool
	inHostTx     bool
	known        map[store.Key]known // the sessions that this unit has read or put
	buckets      map[store.Key]bool  // the buckets that it has read: whether they are there
}

// known is what a unit remembers of a session: what the database's indexes have
// of it, beside its key, and its version.
type known struct {
	sid       string
	expiresAt int64
	version   int64
}

// SessionByKey implements [store.Tx].
func (t *tx) SessionByKey(key store.Key) (store.Session, error) {
	return t.session(t.byKey, key[:], func(s *store.Session) bool { return s.Key == key })
}

// SessionBySID implements [store.Tx].
func (t *tx) SessionBySID(sid string) (store.Session, error) {
	return t.session(t.bySID, sid, func(s *store.Session) bool { return s.SID == sid })
}

// session reads the session that is the right one: findBySID finds another when
// there is none, and a collation may take one case for the other.
func (t *tx) session(q query, arg any, right func(*store.Session) bool) (s store.Session, err error) {
	if t.inHostTx {
		if err := t.findBeforeLocking(q, arg, right); err != nil {
			return store.Session{}, err
		}
	}
	found, version := false, int64(0)
	err = t.unit.each("read session", func(row scanner) (err error) {
		found = true
		s, version, err = scanSession(row)
		return err
	}, q, arg)
	if err != nil {
		return store.Session{}, err
	}
	if !found || !right(&s) {
		return store.Session{}, store.ErrNotFound
	}
	t.know(&s, version)
	return s, nil
}

// PutSession implements [store.Tx].
//
// A session that this unit has not seen is inserted. If another unit was
// quicker, that fails as a duplicate and all of the unit is run again: then it
// reads what the other has put. A duplicate is an error here and not "do
// nothing", since MySQL's count of rows does not tell nothing from something
// under every setting.
func (t *tx) PutSession(s store.Session) error {
	if t.readOnly {
		return errReadOnly
	}
	old, isKnown := t.known[s.Key]
	version := old.version + 1
	values := sessionValues(&s, version)
	var err error
	switch {
	case !isKnown:
		err = t.unit.exec("put session", insertSession, values...)
	case old.sid == s.SID && old.expiresAt == s.ExpiresAt:
		err = t.unit.exec("put session", updateSession, append(values[:unindexedColumns], old.sid, old.version)...)
	default:
		err = t.unit.exec("put session", moveSession, append(values[:changeableColumns], old.sid, old.version)...)
	}
	if err == nil {
		t.know(&s, version)
	}
	return err
}

func (t *tx) know(s *store.Session, version int64) {
	if t.readOnly {
		return
	}
	if t.known == nil {
		t.known = make(map[store.Key]known, 1)
	}
	t.known[s.Key] = known{sid: s.SID, expiresAt: s.ExpiresAt, version: version}
}
