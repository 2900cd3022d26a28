package gormstore

import (
	"sync"
	"time"

	"example.com/threepid/store"
)

const (
	// recentTime is how long a row is remembered: at least this long, and less than twice as long.
	recentTime = time.Second

	// maxRecent bounds the rows that are remembered in this time.
	maxRecent = 20_000
)

// recent remembers the rows that this process has just read or written. Most units follow within
// milliseconds on a View of the same rows, or on another unit of the same request, so they need not
// read them again, which saves a round trip. If another process has changed a row since, the
// versions in the write do not match, nothing is stored, and the unit runs again with rows that it
// reads. A unit that writes nothing is not checked in this way, so it always uses rows that were
// read for it.
type recent struct {
	mu         sync.Mutex
	turned     time.Time
	young, old generation
	pages      int64 // how many pages were kept
}

// generation is the rows that were remembered in one period of recentTime.
type generation struct {
	sessions, records map[store.Key]row
	sids              map[string]store.Key
}

func newGeneration() generation {
	return generation{sessions: make(map[store.Key]row), records: make(map[store.Key]row), sids: make(map[string]store.Key)}
}

func newRecent() *recent { return &recent{young: newGeneration(), old: newGeneration()} }

// turn forgets the rows that are too old.
func (m *recent) turn() {
	now := time.Now() //nolint:forbidigo // how long the rows are really remembered
	switch age := now.Sub(m.turned); {
	case age < recentTime && len(m.young.sessions)+len(m.young.records) < maxRecent:
		return
	case age < 2*recentTime: //nolint:mnd // both generations are too old after twice that time
		m.old = m.young
	default:
		m.old = newGeneration()
	}
	m.young, m.turned = newGeneration(), now
}

// begin returns a new page. It must be called before any row of the page is read.
func (m *recent) begin() *page {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := newPage()
	p.begun = m.pages
	return p
}

// keep remembers the rows of a page as the database has them. A row that was remembered before and
// that no unit has written keeps its age.
func (m *recent) keep(p *page) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	m.pages++
	for key, r := range p.sessions {
		known, ok := m.session(key)
		if r.recalled && !r.write || ok && known.after(p, r) {
			continue
		}
		m.young.sessions[key] = r.clean(m.pages)
		if r.session.SID != "" {
			m.young.sids[r.session.SID] = key
		}
	}
	for key, r := range p.records {
		known, ok := m.record(key)
		if r.recalled && !r.write || ok && known.after(p, r) {
			continue
		}
		m.young.records[key] = r.clean(m.pages)
	}
}

// after reports whether a remembered row is later than a row of a page. Comparing versions is not
// enough: a row that was deleted and created again may have a lower version than before.
func (r row) after(p *page, other *row) bool { return r.kept > p.begun && r.version > other.version }

// clean returns a copy of a row without the state of its batch.
func (r *row) clean(kept int64) row {
	return row{session: r.session, record: r.record, key: r.key, sid: r.sid, expiresAt: r.expiresAt, version: r.version, kept: kept}
}

// forget forgets the rows of a page after a write whose result is unknown.
func (m *recent) forget(p *page) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range []generation{m.young, m.old} {
		for key := range p.sessions {
			delete(g.sessions, key)
		}
		for key := range p.records {
			delete(g.records, key)
		}
	}
}

func (m *recent) session(key store.Key) (row, bool) {
	r, ok := m.young.sessions[key]
	if !ok {
		r, ok = m.old.sessions[key]
	}
	return r, ok
}

func (m *recent) record(key store.Key) (row, bool) {
	r, ok := m.young.records[key]
	if !ok {
		r, ok = m.old.records[key]
	}
	return r, ok
}

func (m *recent) sid(sid string) (row, bool) {
	key, ok := m.young.sids[sid]
	if !ok {
		key, ok = m.old.sids[sid]
	}
	if !ok {
		return row{}, false
	}
	r, ok := m.session(key)
	return r, ok && r.session.SID == sid
}

// recall adds the remembered rows that a page wants, so that they need not be read.
func (m *recent) recall(p *page) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	var missing [3][]string
	for _, name := range p.names[0] {
		if r, ok := m.session(keyNamed(name)); ok {
			p.recallSession(r)
		} else {
			missing[0] = append(missing[0], name)
		}
	}
	for _, sid := range p.names[1] {
		if r, ok := m.sid(sid); ok {
			p.recallSession(r)
		} else {
			missing[1] = append(missing[1], sid)
		}
	}
	for _, name := range p.names[2] {
		if r, ok := m.record(keyNamed(name)); ok {
			r.recalled = true
			p.records[r.key] = &r
		} else {
			missing[2] = append(missing[2], name)
		}
	}
	p.names = missing
}

// recallSession adds a remembered session, once if it is named both by key and by sid.
func (p *page) recallSession(r row) {
	if old := p.sessions[r.key]; old == nil || !old.recalled {
		r.recalled = true
		p.sessions[r.key] = &r
	}
	if sid := r.session.SID; sid != "" {
		p.sids[sid] = p.sessions[r.key]
	}
}

func keyNamed(name string) (key store.Key) {
	_ = key.UnmarshalText([]byte(name)) // name is a key's text
	return key
}
