package limit

import (
	"sync"

	"example.com/threepid/limits"
)

// lookUpsHalf is how many clients each of the two maps of LookUps holds: a few megabytes in total.
const lookUpsHalf = 32768

// LookUps holds the levels of the limits on account look-ups, by client. They are in this node's
// memory, because a flood must not cause writes. Clients without recent requests are forgotten. The
// zero value is empty.
type LookUps struct {
	mu         sync.Mutex
	young, old map[string][]int64 // when young is full, it replaces old
}

// Take takes one look-up from a client's limits, or returns how long the client must wait.
func (l *LookUps) Take(list []limits.Limit, client string, now int64) Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	levels, ok := l.young[client]
	if !ok {
		levels = l.old[client]
	}
	levels, wait := takeAll(list, levels, now)
	if !ok && (l.young == nil || len(l.young) >= lookUpsHalf) {
		l.old, l.young = l.young, make(map[string][]int64)
	}
	l.young[client] = levels
	return Refusal{Scope: "look-ups", Wait: wait}
}
