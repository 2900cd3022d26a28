package verify

import (
	"context"
	"sync"
)

// lookUpsHalf is how many clients each half of lookUps holds: some megabytes in all.
const lookUpsHalf = 32768

// lookUps are the levels of the limits on looking accounts up, by client. They are
// in memory and for this node alone, since a flood must not cost a write. Clients
// that have not come for long are forgotten.
type lookUps struct {
	mu         sync.Mutex
	young, old map[string][]int64 // when the young are enough, they replace the old
}

// take takes one look-up of a client, or returns how many milliseconds it must wait.
func (l *lookUps) take(limits []Limit, client string, now int64) (wait int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	levels, ok := l.young[client]
	if !ok {
		levels = l.old[client]
	}
	levels, wait = takeAll(limits, levels, now)
	if !ok && (l.young == nil || len(l.young) >= lookUpsHalf) {
		l.old, l.young = l.young, make(map[string][]int64)
	}
	l.young[client] = levels
	return wait
}

// limitLookUps refuses a client that has accounts looked up too often: otherwise one
// whose SMS are used up could still find out who has an account, by the different
// refusals. It also bounds the sessions that a client makes for a test number, which
// cost no SMS. A retry of an attempt that was seen is never refused.
func (s *Service) limitLookUps(ctx context.Context, d delivery) error {
	who := s.subject(d.number, d.Client) // d.who is empty for a test number
	if who.client == "" || len(s.Limits.LookUps) == 0 {
		return nil
	}
	wait := s.lookUps.take(s.Limits.LookUps, who.client, s.now())
	if wait == 0 {
		return nil
	}
	st, err := s.loadState(ctx, d, false)
	if err != nil || st.standing == seen {
		return err
	}
	return s.refused(refusal{scope: "look-ups", wait: wait}, who)
}
