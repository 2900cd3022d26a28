package verify

import "sync"

// recentNumbersHalf is how many numbers each half of recentNumbers holds: some
// hundred kilobytes in all.
const recentNumbersHalf = 2048

// recentNumbers remembers the numbers that were read last. Retries and resends
// bring the same spelling again, and to read it takes longer than the store
// takes to say that the attempt was seen.
type recentNumbers struct {
	mu         sync.Mutex
	young, old map[spelling]Number // when the young are enough, they replace the old
}

// spelling is a number as a client writes it, unformatted.
type spelling struct{ phoneNumber, country string }

// parse is ParseNumber, of numbers in any range.
func (r *recentNumbers) parse(phoneNumber, country string) (Number, error) {
	key := spelling{unformatted(phoneNumber), country}
	if n, ok := r.find(key); ok {
		return n, nil
	}
	n, err := ParseNumber(phoneNumber, country, false)
	if err == nil {
		r.keep(key, n)
	}
	return n, err
}

func (r *recentNumbers) find(key spelling) (Number, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.young[key]
	if !ok {
		n, ok = r.old[key]
	}
	return n, ok
}

func (r *recentNumbers) keep(key spelling, n Number) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= recentNumbersHalf {
		r.old, r.young = r.young, make(map[spelling]Number)
	}
	r.young[key] = n
}
