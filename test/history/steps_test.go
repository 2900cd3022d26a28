package history_test

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The translation of calls into steps. Time matters only here: the model knows only an order.

const (
	// lease is how long a node that died holds its claim: see README.md.
	lease = sendTimeout + 5*time.Second

	// recordTime is how long after its SMS a node may still be recording it: the rest of the lease.
	// A fault of the node in that time excuses a second SMS.
	recordTime = lease - sendTimeout
)

// partition is the calls of one number, ordered by their begin.
type partition struct {
	*history
	calls    []*call
	codes    map[string]int16
	releases int
	steps    []porcupine.Operation
}

// stepsOf returns the steps of one number's calls, for the checker.
func (h *history) stepsOf(calls []*call) []porcupine.Operation {
	p := &partition{history: h, calls: slices.Clone(calls), codes: map[string]int16{"": noCode}}
	slices.SortStableFunc(p.calls, func(a, b *call) int { return int(a.begin - b.begin) })
	for _, c := range p.calls {
		switch c.op {
		case requestToken:
			p.request(c)
		case sendSMS:
			p.sms(c)
		case submitToken:
			p.submit(c)
		case validated, redeem:
			p.lookUp(c)
		case addNumber:
			p.add(c)
		case removeNumber, release:
			p.release(c)
		case ownerOf:
			p.put(c, step{kind: stepOwner, user: int8(c.user)})
		}
	}
	return p.steps
}

// put adds a step that happens between the begin and the end of the call.
func (p *partition) put(c *call, s step) { p.putWithin(c, c.begin, c.end, s) }

// maybe adds a step that may happen at any time after the call's begin, or never.
func (p *partition) maybe(c *call, s step) {
	s.maybe = true
	p.putWithin(c, c.begin, never, s)
}

func (p *partition) putWithin(c *call, begin, end time.Duration, s step) {
	s.call, s.session, s.attempt = c, c.session, int8(c.attempt)
	p.steps = append(p.steps, porcupine.Operation{ClientId: len(p.steps), Input: s, Call: int64(begin), Return: int64(end)})
}

func (p *partition) code(code string) int16 {
	n, ok := p.codes[code]
	if !ok {
		n = int16(len(p.codes))
		p.codes[code] = n
	}
	return n
}

// any reports whether another call that satisfies like is in progress at the same time as c.
func (p *partition) any(c *call, like func(*call) bool) bool {
	return slices.ContainsFunc(p.calls, func(o *call) bool { return o != c && o.overlaps(c) && like(o) })
}

// unfinishedAdd reports whether, at the same time, an add is in progress that may put the number on
// an account and take it off again because its proof was voided.
func (p *partition) unfinishedAdd(c *call) bool {
	return p.any(c, func(o *call) bool { return o.op == addNumber && o.result != ok })
}

func (p *partition) request(c *call) {
	switch c.result {
	case ok:
		p.put(c, step{kind: stepSeen})
	case inUse:
		p.put(c, step{kind: stepOwned, soft: p.unfinishedAdd(c)})
	case notInUse:
		p.put(c, step{kind: stepUnowned, soft: p.unfinishedAdd(c)})
	case unknown, notSent:
		sent := func(o *call) bool {
			return o.op == sendSMS && o.session == c.session && o.node == c.node && o.begin >= c.begin
		}
		if slices.ContainsFunc(p.calls, sent) || !p.faulty(c.node, c.begin, c.end) {
			return // the claim is known, or there was none
		}
		p.maybe(c, step{kind: stepLostClaim})
	}
}

// sms adds the claim, which was made between the request and the call of the provider, and the SMS,
// if the provider accepted it.
func (p *partition) sms(c *call) {
	p.putWithin(c, p.asked(c), c.begin, step{kind: stepClaim, code: p.code(c.code)})
	if c.result == ok {
		p.put(c, step{kind: stepSMS, excused: p.excused(c)})
	}
}

// asked returns when the earliest request began that the SMS may belong to.
func (p *partition) asked(sms *call) time.Duration {
	for _, c := range p.calls {
		// A request continues after its client has given up.
		mayGoOn := c.begin <= sms.begin && (c.end >= sms.begin || c.result == unknown)
		if c.op == requestToken && c.node == sms.node && c.session == sms.session && c.attempt == sms.attempt && mayGoOn {
			return c.begin
		}
	}
	return 0
}

// excused reports whether the documents allow an SMS although the provider accepted one for this or
// a greater attempt before. They do in two cases, and only if no 200 acknowledged the attempt
// (which the model checks):
//
//   - The node does not know that the provider accepted: it received an error, or nothing
//     within SendTimeout (sms.ErrUncertain). The next try follows at once.
//   - The node could not record that the provider accepted, because of a fault: it was
//     killed or stopped, or cut off from the database. The next try follows when the lease
//     has ended by the clock of the node that makes it.
//
// Each SMS before must have such an excuse.
func (p *partition) excused(later *call) bool {
	found := false
	for _, c := range p.calls {
		if c.op != sendSMS || c.result != ok || c == later || c.session != later.session || c.attempt < later.attempt || c.begin > later.begin {
			continue
		}
		found = true
		told := c.lost && later.begin >= c.lostAt
		if !told && !p.notRecorded(c, later) {
			return false
		}
	}
	return found
}

// notRecorded reports whether a fault may have kept the node from recording the SMS, and whether
// its lease had ended when the later one was sent: by the clock of the node that sent it, or of one
// that had taken over the claim before, for another attempt.
func (p *partition) notRecorded(sms, later *call) bool {
	until := p.asked(sms) + p.offsets(sms.node) + lease
	return p.faulty(sms.node, sms.begin, sms.end+recordTime) && slices.ContainsFunc(p.calls, func(o *call) bool {
		return o.op == sendSMS && o.session == sms.session && o.begin <= later.begin && o.begin+p.offsets(o.node) >= until
	})
}

// faulty reports whether a node had a fault between begin and end.
func (p *partition) faulty(node int, begin, end time.Duration) bool {
	return slices.ContainsFunc(p.faults, func(f fault) bool {
		return f.node == node && f.begin <= end && f.end >= begin
	})
}

func (p *partition) submit(c *call) {
	s := step{code: p.code(c.code)}
	switch c.result {
	case ok:
		s.kind = stepRight
	case wrongCode:
		s.kind = stepWrong
	case expired:
		s.kind = stepExpired
		for _, o := range p.calls {
			if o != c && o.op == submitToken && o.session == c.session && o.overlaps(c) {
				s.slack++
			}
		}
	case noSession:
		s.kind = stepGone
	case unknown:
		p.maybe(c, step{kind: stepMaybeTry, code: s.code})
		if slices.ContainsFunc(p.calls, func(o *call) bool { return o.op == sendSMS && o.code == c.code }) {
			p.maybe(c, step{kind: stepMaybeRight, code: s.code})
		}
		return
	default:
		return
	}
	p.put(c, s)
}

func (p *partition) lookUp(c *call) {
	switch c.result {
	case ok:
		kind := stepValidated
		if c.op == redeem {
			kind = stepRedeem
		}
		p.put(c, step{kind: kind})
	case notValidated:
		p.put(c, step{kind: stepNotValidated})
	case noSession:
		p.put(c, step{kind: stepConsumed})
	case unknown:
		if c.op == redeem {
			p.maybe(c, step{kind: stepMaybeRedeem})
		}
	}
}

// add may consume the proof some time before it returns, visibly for others, and then fail: because
// of a release, or because the number was given to another account.
func (p *partition) add(c *call) {
	user := int8(c.user)
	// It consumes the proof before it puts the number on the account, and others can observe that.
	if c.result == ok || c.result == inUse || c.result != unknown && p.any(c, changesOwner) {
		p.put(c, step{kind: stepMaybeTake, user: user, maybe: true})
	}
	switch c.result {
	case ok:
		p.put(c, step{kind: stepAdd, user: user})
	case inUse:
		p.put(c, step{kind: stepAddInUse, user: user, soft: p.unfinishedAdd(c)})
	case refused:
		p.put(c, step{kind: stepAddRefused, user: user})
	case unknown:
		p.maybe(c, step{kind: stepMaybeTake, user: user})
		p.maybe(c, step{kind: stepMaybeAssociate, user: user})
	}
}

func (p *partition) release(c *call) {
	if c.op == removeNumber && !slices.ContainsFunc(p.calls, func(o *call) bool {
		// An add that fails may have had the number for a moment.
		return o.op == addNumber && o.user == c.user && o.begin <= c.end && (o.result == ok || o.result == unknown || o.overlaps(c))
	}) {
		return // the user never had the number
	}
	// The user may have had the number when the removal read it, and not afterwards.
	brief := func(o *call) bool {
		return o.op == removeNumber || o.op == release || o.op == addNumber && o.user == c.user && o.result != ok
	}
	voids := step{kind: stepVoid, release: p.releases, user: int8(c.user), soft: c.op == removeNumber && p.any(c, brief)}
	frees := step{kind: stepFree, release: p.releases, user: int8(c.user), soft: p.unfinishedAdd(c)}
	switch c.result {
	case ok:
		if c.op == release {
			frees.owned = true
		}
	case noAccount:
		frees.unowned = true
	case unknown:
		p.releases++
		p.maybe(c, voids)
		p.maybe(c, frees)
		return
	default:
		return
	}
	p.releases++
	p.put(c, voids)
	p.put(c, frees)
	if p.any(c, changesOwner) {
		// It starts again if the account has changed before it could remove the number.
		p.put(c, step{kind: stepVoidAgain, maybe: true})
	}
}

func changesOwner(c *call) bool {
	return c.op == addNumber || c.op == removeNumber || c.op == release
}
