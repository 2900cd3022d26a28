package verify

import "sync"

// flights are the claims of this process whose SMS is under way, by claim ID.
// They are only a short cut: whoever waits for a claim of this process is
// woken when it ends and hears how, instead of asking the store again and again.
// What is true stands in the store, but for one thing: that the provider has
// accepted an SMS while the store could not be brought to record it. Such a
// flight stays here until the store can.
type flights struct {
	mu   sync.Mutex
	byID map[string]*flight
}

type flight struct {
	landed chan struct{}
	err    error // how the send ended; read it after landed is closed

	unrecorded bool
}

// open announces a claim, before anybody can read of it in the store.
func (f *flights) open(claimID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byID == nil {
		f.byID = make(map[string]*flight)
	}
	f.byID[claimID] = &flight{landed: make(chan struct{})}
}

// find returns the flight of a claim, or nil when it is not of this process.
func (f *flights) find(claimID string) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byID[claimID]
}

// under tells whether a claim of this process is on its way, whatever the clock
// says of its lease.
func (f *flights) under(claimID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl, ok := f.byID[claimID]
	return ok && !fl.unrecorded
}

// land ends a flight and wakes all who wait for it. It does nothing when that
// flight has ended.
func (f *flights) land(claimID string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.byID[claimID]; ok && !fl.unrecorded {
		fl.err = err
		close(fl.landed)
		delete(f.byID, claimID)
	}
}

// landUnrecorded ends a flight whose SMS was accepted, and keeps it until
// forget.
func (f *flights) landUnrecorded(claimID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.byID[claimID]
	fl.unrecorded = true
	close(fl.landed)
}

// unrecorded tells whether the claim's SMS was accepted and the store does not
// know it.
func (f *flights) unrecorded(claimID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl, ok := f.byID[claimID]
	return ok && fl.unrecorded
}

// forget drops a flight.
func (f *flights) forget(claimID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byID, claimID)
}
