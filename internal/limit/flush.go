package limit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"example.com/threepid/store"
)

const (
	// networkFlush is the fraction of MinNumbers that must be unconfirmed in a network before its
	// counts are sent to other nodes: there are many networks, and most are honest.
	networkFlush = 4

	// readAgain is how far back verdicts are read again, because the clock of the node that made
	// one may be behind.
	readAgain = 2 * clockSlack

	// Every flushesPerSweep-th Flush looks at all networks, and forgets those without counts. The
	// others look only at networks that have changed.
	flushesPerSweep = 60

	// subjectsPerRead is how many subjects' sums are read with one call.
	subjectsPerRead = 500
)

// Flush exchanges counts and verdicts with the other nodes. If it fails, this node keeps what it
// has, and the next Flush catches up.
func (w *Watch) Flush(ctx context.Context) error {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	now := w.now()
	out := w.outgoing(now)
	if w.store == nil {
		w.written(out, false)
		return nil
	}
	err := w.write(ctx, out)
	w.written(out, err != nil)
	if err != nil {
		return err
	}
	if err := w.Load(ctx); err != nil {
		return err
	}
	var sums []store.Count
	for len(out.subjects) > 0 {
		n := min(len(out.subjects), subjectsPerRead)
		part, err := w.store.SumCounts(ctx, out.subjects[:n], now-max(w.Window, hoursKept*time.Hour).Milliseconds(), w.node)
		if err != nil {
			return fmt.Errorf("threepid: read the guard's counts: %w", err)
		}
		sums, out.subjects = append(sums, part...), out.subjects[n:]
	}
	w.merge(sums, out.keys, now)
	return nil
}

func (w *Watch) write(ctx context.Context, out outgoing) error {
	if len(out.counts) > 0 {
		if err := w.store.PutCounts(ctx, out.counts); err != nil {
			return fmt.Errorf("threepid: store the guard's counts: %w", err)
		}
	}
	if len(out.verdicts) > 0 {
		if err := w.store.PutVerdicts(ctx, out.verdicts); err != nil {
			return fmt.Errorf("threepid: store the guard's verdicts: %w", err)
		}
	}
	return nil
}

// Load reads the verdicts of other nodes. A new node calls it before it serves requests.
func (w *Watch) Load(ctx context.Context) error {
	if w.store == nil {
		return nil
	}
	now := w.now()
	w.mu.Lock()
	since := w.read
	w.mu.Unlock()
	verdicts, err := w.store.Verdicts(ctx, since)
	if err != nil {
		return fmt.Errorf("threepid: read the guard's verdicts: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range verdicts {
		w.adopt(v, now)
	}
	w.read = now - readAgain.Milliseconds()
	return nil
}

// verdict is the JSON in the State of a store.Verdict.
type verdict struct {
	Name          string `json:"n,omitempty"`
	Blocked       int64  `json:"c,omitempty"`
	Until         int64  `json:"u,omitempty"`
	Count         int    `json:"k,omitempty"`
	BlockedForAll bool   `json:"x,omitempty"`
	Reason        string `json:"r,omitempty"`
}

// adopt replaces this node's verdict with another node's, if that is newer.
func (w *Watch) adopt(v store.Verdict, now int64) {
	var decided verdict
	if json.Unmarshal([]byte(v.State), &decided) != nil || v.ExpiresAt <= now {
		return // of another release, or expired
	}
	s := w.subjects[v.Subject]
	if s == nil {
		s = &watched{area: areaNetwork}
		if strings.HasPrefix(v.Subject, "country ") {
			s.area = areaCountry
		}
		w.subjects[v.Subject] = s
	}
	if v.Version <= s.version {
		return
	}
	if s.Blocked != decided.Blocked { // earlier counts no longer apply
		s.state, s.others = state{}, nil
	}
	s.name, s.reason, s.version, s.unsaved = decided.Name, decided.Reason, v.Version, false
	s.Blocked, s.Until, s.Count, s.BlockedForAll = decided.Blocked, decided.Until, decided.Count, decided.BlockedForAll
}

// outgoing is what a Flush writes and reads.
type outgoing struct {
	counts   []store.Count
	verdicts []store.Verdict
	subjects []string          // keys of counters
	keys     map[string]string // the watched subject of each
}

// outgoing returns what has changed since the last Flush. It forgets subjects without counts or a
// block.
func (w *Watch) outgoing(now int64) outgoing {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := outgoing{keys: make(map[string]string)}
	all := w.flushes%flushesPerSweep == 0
	w.flushes++
	for key, s := range w.subjects {
		if s.area == areaNetwork && len(s.dirty) == 0 && !s.unsaved && !s.shared && !all {
			continue
		}
		first := w.slot(now) - slotsPerWindow
		maps.DeleteFunc(s.dirty, func(at int64, _ bool) bool { return at < first }) // no node reads these slots any more
		s.state = w.current(s.state, now)
		if s.unsaved {
			out.verdicts = append(out.verdicts, s.verdict(key, w.rules))
		}
		if s.empty() && !s.unsaved {
			delete(w.subjects, key)
			continue
		}
		if s.shared = s.isShared(w.rules, now); !s.shared {
			continue
		}
		phase, hours := s.phase(key, now), key+hoursMark
		out.keys[phase], out.keys[hours] = key, key
		out.subjects = append(out.subjects, phase)
		out.counts = append(out.counts, rows(phase, w.node, *s.counting(now), s.dirty, w.slotSpan())...)
		if s.area != areaNetwork {
			out.subjects = append(out.subjects, hours)
			out.counts = append(out.counts, rows(hours, w.node, s.hours, s.dirtyHours, hourSpan)...)
		}
	}
	return out
}

func (s *watched) empty() bool {
	return len(s.Slots)+len(s.WhileBlocked)+len(s.hours) == 0 && s.Until == 0
}

func (s *watched) verdict(key string, g rules) store.Verdict {
	text, _ := json.Marshal(verdict{s.name, s.Blocked, s.Until, s.Count, s.BlockedForAll, s.reason})
	return store.Verdict{Subject: key, Version: s.version, State: string(text), ExpiresAt: max(g.forgottenAt(&s.state), s.version+g.MaxBlock.Milliseconds())}
}

const hoursMark = " hours"

// phase returns the key under which a subject's numbers are counted at present. It changes with
// each block, because earlier counts no longer apply.
func (s *watched) phase(key string, now int64) string {
	if s.blockedFor(now) > 0 {
		return fmt.Sprintf("%s blocked %d", key, s.Blocked)
	}
	return fmt.Sprintf("%s since %d", key, s.Blocked)
}

// isShared reports whether a subject's counts are sent to other nodes.
func (s *watched) isShared(g rules, now int64) bool {
	if s.area != areaNetwork {
		return true
	}
	waiting := int64(0)
	for _, part := range *s.counting(now) {
		if part[1] < 0 {
			return true // it corrects what another node counted
		}
		waiting += part[1] - part[2]
	}
	return waiting >= int64(g.MinNumbers/networkFlush)
}

// rows returns the slots that have changed as counts, and marks them as unchanged.
func rows(subject, node string, list counts, dirty map[int64]bool, span int64) []store.Count {
	var all []store.Count
	for _, part := range list {
		if dirty[part[0]] {
			all = append(all, store.Count{
				Subject: subject, At: part[0] * span, Node: node, Sent: part[1], Validated: part[2],
				ExpiresAt: (part[0] + slotsPerWindow + 1) * span,
			})
		}
	}
	clear(dirty)
	return all
}

// written marks counts that could not be written as changed again.
func (w *Watch) written(out outgoing, failed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range out.verdicts {
		if s := w.subjects[v.Subject]; s != nil && s.version == v.Version {
			s.unsaved = failed
		}
	}
	for _, c := range out.counts {
		if s := w.subjects[out.keys[c.Subject]]; s != nil && failed {
			s.touch(c.At/w.spanOf(c.Subject), strings.HasSuffix(c.Subject, hoursMark))
		}
	}
}

// touch marks a slot as changed, so that the next Flush writes it.
func (s *watched) touch(at int64, hour bool) {
	dirty := &s.dirty
	if hour {
		dirty = &s.dirtyHours
	}
	if *dirty == nil {
		*dirty = make(map[int64]bool)
	}
	(*dirty)[at] = true
}

// spanOf returns the length of a slot in the counts of a key, in milliseconds.
func (w *Watch) spanOf(subject string) int64 {
	if strings.HasSuffix(subject, hoursMark) {
		return hourSpan
	}
	return w.slotSpan()
}

// merge sets the counts of other nodes for the subjects with these keys.
func (w *Watch) merge(sums []store.Count, keys map[string]string, now int64) {
	bySubject := make(map[string]counts)
	for _, c := range sums {
		bySubject[c.Subject] = append(bySubject[c.Subject], slot{c.At / w.spanOf(c.Subject), c.Sent, c.Validated})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for subject, key := range keys {
		s := w.subjects[key]
		switch {
		case s == nil:
		case strings.HasSuffix(subject, hoursMark):
			s.before = bySubject[subject]
		case subject == s.phase(key, now):
			s.others, s.othersIn = bySubject[subject], subject
		}
	}
}
