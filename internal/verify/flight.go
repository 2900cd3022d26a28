package verify

import (
	"sync"

	"example.com/threepid/store"
)

const (
	// maxWaiting is how many requests may wait on this node for another request of the same
	// session, and maxWaitingInAll how many for all sessions.
	maxWaiting      = 256
	maxWaitingInAll = 4096
)

// flights holds, by session key, the requests of this node that are being handled. Other
// requests for the same session wait in memory, and share the outcome if they are identical.
// The store decides between nodes. flights only prevent the requests of one node from asking
// the store, the host's hook and the provider for the same thing.
//
// It also holds the claims whose SMS was accepted while the store failed to record it.
type flights struct {
	mu         sync.Mutex
	byKey      map[store.Key]*flight
	waiting    int
	unrecorded map[store.Key]claim
}

// flight is one request that others may wait for.
type flight struct {
	attempt int64
	purpose store.Purpose
	waiting int

	// done is closed when the request has ended. The outcome is valid after that,
	// and if shared is set it is also that of every identical request.
	done    chan struct{}
	receipt Receipt
	err     error
	shared  bool
}

func (f *flight) identical(d delivery) bool { return f.attempt == d.Attempt && f.purpose == d.Purpose }

// join returns the flight of the delivery's session. If there is none it starts one, which
// the caller leads and must finish.
func (f *flights) join(d delivery) (fl *flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.byKey[d.key]; ok {
		return fl, false
	}
	if f.byKey == nil {
		f.byKey = make(map[store.Key]*flight)
	}
	fl = &flight{attempt: d.Attempt, purpose: d.Purpose, done: make(chan struct{})}
	f.byKey[d.key] = fl
	return fl, true
}

// finish ends a flight and wakes the requests that wait for it.
func (f *flights) finish(key store.Key, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byKey, key)
	close(fl.done)
}

// startWaiting reports whether one more request may wait for fl. If so, the caller
// must call stopWaiting.
func (f *flights) startWaiting(fl *flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting >= maxWaiting || f.waiting >= maxWaitingInAll {
		return false
	}
	fl.waiting++
	f.waiting++
	return true
}

func (f *flights) stopWaiting(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiting--
	f.waiting--
}

// keepUnrecorded remembers a claim whose SMS was accepted, until forget.
func (f *flights) keepUnrecorded(c claim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unrecorded == nil {
		f.unrecorded = make(map[store.Key]claim)
	}
	f.unrecorded[c.sess.Key] = c
}

// findUnrecorded returns the claim of the session whose SMS was accepted and is not
// recorded.
func (f *flights) findUnrecorded(key store.Key) (c claim, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok = f.unrecorded[key]
	return c, ok
}

// forget removes a claim that is recorded, and reports whether it was there.
func (f *flights) forget(c claim) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, ok := f.unrecorded[c.sess.Key]
	if !ok || kept.sess.ClaimID != c.sess.ClaimID {
		return false
	}
	delete(f.unrecorded, c.sess.Key)
	return true
}
