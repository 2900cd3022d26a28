package gormstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"

	"example.com/threepid/store"
)

// page holds the rows of a batch.
type page struct {
	sessions, records map[store.Key]*row
	sids              map[string]*row // of the sessions that exist
	names             [3][]string     // to be loaded: sessions by key, sessions by sid, records
	begun             int64           // the value of recent.pages when it began
}

// row is a session or a record, as the batch sees it.
type row struct {
	session store.Session
	record  store.Record

	key       store.Key
	sid       string // in the database
	expiresAt int64  // in the database
	version   int64  // in the database; 0: absent
	next      int64  // the version that a write gives it
	recalled  bool   // it was not read for this batch: see recent
	kept      int64  // the value of recent.pages when it was remembered
	write     bool   // a unit that changed something has named it, so it is written
	lost      bool   // another transaction has changed or locked it
}

// placeholder is the prefix of the sid of a row for an absent session. A unit whose result depends
// on the absence writes such a row. Other sids do not contain it.
const placeholder = "~"

func newPage() *page {
	return &page{sessions: make(map[store.Key]*row), records: make(map[store.Key]*row), sids: make(map[string]*row)}
}

// want marks the named rows for loading.
func (p *page) want(names store.Names) {
	switch ref := names.Session; {
	case ref.None():
	case ref.SID == "":
		p.addRow(p.sessions, 0, ref.Key)
	case store.IsSID(ref.SID) && p.sids[ref.SID] == nil:
		p.sids[ref.SID] = &row{}
		p.names[1] = append(p.names[1], ref.SID)
	}
	for _, key := range names.Records {
		p.addRow(p.records, 2, key)
	}
}

func (p *page) addRow(rows map[store.Key]*row, kind int, key store.Key) {
	if rows[key] == nil {
		rows[key] = &row{key: key, record: store.Record{Key: key}}
		p.names[kind] = append(p.names[kind], key.String())
	}
}

// load reads the wanted rows with one statement, so as of one moment.
func (p *page) load(ctx context.Context, q querier, text string) error {
	if len(p.names[0])+len(p.names[1])+len(p.names[2]) == 0 {
		return nil // all of them are remembered
	}
	var args [3]any
	for i, names := range p.names {
		args[i] = "[]"
		if len(names) > 0 {
			list, err := json.Marshal(names)
			if err != nil {
				return err
			}
			args[i] = string(list)
		}
	}
	for _, sid := range p.names[1] {
		delete(p.sids, sid) // addSession sets those that exist
	}
	var kind int64
	var version, expiresAt int64
	var key, content []byte
	return each(ctx, q, func(rows *sql.Rows) error {
		if err := rows.Scan(&kind, &key, &version, &expiresAt, &content); err != nil {
			return err
		}
		r := row{version: version, expiresAt: expiresAt}
		if len(key) != len(r.key) {
			return fmt.Errorf("a key has %d bytes, not %d", len(key), len(r.key))
		}
		copy(r.key[:], key)
		if kind == 0 {
			return p.addSession(&r, content)
		}
		r.record = store.Record{Key: r.key, State: string(content), ExpiresAt: expiresAt}
		p.records[r.key] = &r
		return nil
	}, text, args[0], args[1], args[2])
}

func (p *page) addSession(r *row, content []byte) error {
	var err error
	if r.session, err = decodeSession(content); err != nil {
		return fmt.Errorf("read a session: %w", err)
	}
	if old := p.sessions[r.key]; old != nil && old.version != 0 {
		if !old.recalled || old.version == r.version { // named both by key and by sid
			if sid := old.session.SID; sid != "" {
				p.sids[sid] = old
			}
			return nil
		}
		delete(p.sids, old.session.SID) // the remembered session is stale
	}
	p.sessions[r.key] = r
	r.sid = r.session.SID
	if strings.HasPrefix(r.session.SID, placeholder) {
		r.session = store.Session{}
	} else {
		p.sids[r.session.SID] = r
	}
	return nil
}

// rows returns the named rows and where the page keeps them. The session of an absent sid is
// nowhere.
func (p *page) rows(names store.Names) (found store.Rows, where []*row) {
	session := p.sids[names.Session.SID]
	if names.Session.SID == "" {
		session = p.sessions[names.Session.Key]
	}
	if session != nil {
		found.Session = session.session
		where = append(where, session)
	}
	found.Records = make([]store.Record, len(names.Records))
	for i, key := range names.Records {
		r := p.records[key]
		found.Records[i] = r.record
		where = append(where, r)
	}
	return found, where
}

// put replaces the rows of a unit, and marks all rows that it named as to be written.
func (p *page) put(names store.Names, after store.Rows) {
	_, where := p.rows(names)
	for _, r := range where {
		r.write = true
	}
	if sid := after.Session.SID; sid != "" {
		session := where[0]
		delete(p.sids, session.session.SID)
		session.session = after.Session
		p.sids[sid] = session
	}
	for _, record := range after.Records {
		p.records[record.Key].record = record
	}
}

// written returns the sessions and the records to be written, each ordered by key. Transactions
// that insert the same rows then wait for each other and do not deadlock.
func (p *page) written() (docs [2][]any) {
	for _, r := range sorted(p.sessions) {
		r.next = nextVersion(r.version)
		docs[0] = append(docs[0], encodeSession(r))
	}
	for _, r := range sorted(p.records) {
		r.next = nextVersion(r.version)
		docs[1] = append(docs[1], recordDoc{Record: r.record, Was: r.version, Version: r.next, wasExpiresAt: r.expiresAt})
	}
	return docs
}

// stored updates the rows after they were written.
func (p *page) stored() {
	for _, r := range p.sessions {
		if r.write {
			r.version, r.sid, r.expiresAt = r.next, r.session.SID, r.session.ExpiresAt
			if r.sid == "" {
				r.sid = placeholder + r.key.String()
			}
		}
	}
	for _, r := range p.records {
		if r.write {
			r.version, r.expiresAt = r.next, r.record.ExpiresAt
		}
	}
}

func sorted(rows map[store.Key]*row) []*row {
	list := slices.DeleteFunc(slices.Collect(maps.Values(rows)), func(r *row) bool { return !r.write })
	slices.SortFunc(list, func(a, b *row) int { return bytes.Compare(a.key[:], b.key[:]) })
	return list
}

// fields are the indexes of the struct fields that hold a table's columns.
type fields [][]int

func fieldsOf[doc any](t table) fields {
	var f fields
	for _, c := range t.columns {
		field, _ := reflect.TypeFor[doc]().FieldByName(c.field)
		f = append(f, field.Index)
	}
	return f
}

// values returns the values of a row, in the order of its table's columns.
func (f fields) values(doc any) []any {
	row := reflect.ValueOf(doc)
	list := make([]any, len(f))
	for i, index := range f {
		switch value := row.FieldByIndex(index).Interface().(type) {
		case store.Key:
			list[i] = value[:]
		case hexBytes:
			list[i] = []byte(value)
		case store.Purpose:
			list[i] = string(value)
		case store.Outcome:
			list[i] = string(value)
		default:
			list[i] = value
		}
	}
	return list
}

// nextVersion starts at a random number: a row that was deleted and created again must not have a
// version that it had before.
func nextVersion(version int64) int64 {
	if version == 0 {
		return 1 + rand.Int64N(1<<62) //nolint:gosec // it must differ, not be secret
	}
	return version + 1
}

// lose marks the sessions and records with these keys as lost, and reports whether there are any.
func (p *page) lose(lost [2]sql.NullString) bool {
	for i, rows := range []map[store.Key]*row{p.sessions, p.records} {
		for name := range strings.SplitSeq(lost[i].String, ",") {
			var key store.Key
			if key.UnmarshalText([]byte(name)) == nil && rows[key] != nil {
				rows[key].lost = true
			}
		}
	}
	return lost[0].Valid || lost[1].Valid
}

// sessionDoc is a session as JSON. Its fields have the names in sessionTable.
type sessionDoc struct {
	store.Session

	Nonce        hexBytes
	Decoy        int64 // 1: it is one
	Was, Version int64
	WasSID       string
	wasExpiresAt int64
}

// keepsIndexes reports whether the row exists and its indexed columns do not change.
func (d sessionDoc) keepsIndexes() bool {
	return d.Was != 0 && d.SID == d.WasSID && d.ExpiresAt == d.wasExpiresAt
}

type recordDoc struct {
	store.Record

	Was, Version int64
	wasExpiresAt int64
}

func (d recordDoc) keepsIndexes() bool { return d.Was != 0 && d.ExpiresAt == d.wasExpiresAt }

func encodeSession(r *row) sessionDoc {
	d := sessionDoc{Session: r.session, Nonce: hexBytes(r.session.Nonce), Was: r.version, WasSID: r.sid, Version: r.next, wasExpiresAt: r.expiresAt}
	if r.session.Decoy {
		d.Decoy = 1
	}
	if r.session.SID == "" {
		d.Key, d.SID = r.key, placeholder+r.key.String()
	}
	return d
}

func decodeSession(content []byte) (store.Session, error) {
	var d sessionDoc
	if err := json.Unmarshal(content, &d); err != nil {
		return store.Session{}, err
	}
	d.Session.Nonce, d.Session.Decoy = d.Nonce, d.Decoy != 0
	return d.Session, nil
}

type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode(nil, text)
	return err
}
