package history_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// This is the model of one number: its account and its sessions. Sessions of one number are checked
// together, because a release affects all of them. Different numbers are independent, so each is a
// partition. The model is strict about what is accepted, because the guarantees are about that. It
// is also strict about refusals (a lost validation is an error), unless the comment of a step says
// otherwise.

const (
	maxSessions = 4
	maxTries    = 5 // wrong codes until a code is used up

	// The consumer of a validation; users count from 1.
	nobody  = 0
	theHost = -1

	noCode     = 0  // before the first claim
	unseenCode = -1 // for a claim whose SMS never reached the provider
)

// state is the model's state of a number. Epochs need no number: a code or a validation either
// belongs to the current epoch or not.
type state struct {
	owner    int8
	began    uint64 // releases that have voided the proofs but not yet freed the number
	skipped  uint64 // those of them that found the number on another account
	sessions [maxSessions]session
}

type session struct {
	sent      int8  // greatest attempt that the provider accepted
	acked     int8  // greatest attempt that a 200 acknowledged
	code      int16 // of the latest claim
	current   bool  // code is of the number's epoch
	tries     int8  // wrong codes compared with code
	validated bool  // in the number's epoch
	consumed  int8  // its consumer: nobody, theHost or a user
	taken     int8  // a bit for each user whose add has consumed a proof but not yet used it
}

// kind is what a step does.
type kind int

const (
	stepClaim     kind = iota // a claim, with the code that the provider received
	stepLostClaim             // perhaps a claim whose SMS never reached the provider
	stepSMS                   // the provider accepts an SMS
	stepSeen                  // a 200 of requestToken
	stepOwned                 // a call finds that the number is on an account
	stepUnowned               // a call finds that it is on none
	stepOwner                 // the owner is read

	stepRight      // a code is right
	stepWrong      // a code is compared, and wrong
	stepExpired    // a code is not compared: it is used up or void
	stepGone       // submitToken knows no such session
	stepMaybeTry   // perhaps a code is counted
	stepMaybeRight // perhaps a code is right

	stepValidated    // a look-up succeeds
	stepNotValidated // a look-up or redeem finds no validation
	stepConsumed     // or finds one that was consumed
	stepRedeem
	stepMaybeRedeem

	stepAdd
	stepAddInUse
	stepAddRefused
	stepMaybeTake      // perhaps an add consumes the validation
	stepMaybeAssociate // perhaps an add puts the number on the account

	stepVoid // a release or removal voids all proofs of the number
	stepFree // a release or removal takes the number from its account

	stepVoidAgain // perhaps a release voids all proofs again, because the account has changed
)

// step is something that happens at one instant within its interval.
type step struct {
	kind    kind
	session int
	attempt int8
	code    int16
	user    int8 // the user who adds or removes; for stepOwner, the owner
	release int  // the release or removal that this is a part of
	maybe   bool // it may not have happened: the call has no result

	owned   bool // the release returned that it took the number from an account
	unowned bool // the release returned that it found no account
	excused bool // the documents allow this SMS although an earlier one was accepted
	slack   int8 // number of codes that were submitted at the same time
	soft    bool // a concurrent add that failed may have had the number for a moment

	call *call // the recorded call
}

func model() porcupine.Model {
	nondeterministic := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(current, input, _ any) []any {
			var next []any
			for _, s := range current.(state).after(input.(step)) {
				next = append(next, s)
			}
			return next
		},
		DescribeOperation: func(input, _ any) string { return input.(step).String() },
		DescribeState:     func(s any) string { return s.(state).String() },
	}
	return nondeterministic.ToModel()
}

// after returns the states to which the step may lead. There are none if the step is illegal.
func (s state) after(p step) []state {
	switch p.kind {
	case stepOwned:
		return s.when(s.owner != nobody || p.soft)
	case stepUnowned:
		return s.when(s.owner == nobody || p.soft)
	case stepOwner:
		return s.when(s.owner == p.user)
	case stepVoid:
		return s.void(p)
	case stepFree:
		return s.free(p)
	case stepVoidAgain:
		return []state{s, s.voided()}
	case stepAdd, stepAddInUse, stepAddRefused, stepMaybeTake, stepMaybeAssociate:
		return s.add(p)
	default:
		var next []state
		for _, changed := range s.sessions[p.session].after(p) {
			next = append(next, s.with(p.session, changed))
		}
		return next
	}
}

func (s state) when(legal bool) []state {
	if !legal {
		return nil
	}
	return []state{s}
}

func (s state) with(i int, changed session) state {
	s.sessions[i] = changed
	return s
}

// void begins a release or removal. A removal does nothing if the number is on another account.
func (s state) void(p step) []state {
	bit := uint64(1) << p.release
	var next []state
	if p.user == nobody || s.owner == p.user || p.soft {
		voided := s.voided()
		voided.began |= bit
		next = append(next, voided)
	}
	if p.user != nobody && (s.owner != p.user || p.soft) {
		s.began, s.skipped = s.began|bit, s.skipped|bit
		next = append(next, s)
	}
	return next
}

// voided returns the state after all proofs of the number were voided.
func (s state) voided() state {
	for i := range s.sessions {
		s.sessions[i].current, s.sessions[i].validated, s.sessions[i].taken = false, false, 0
	}
	return s
}

// free ends a release or removal. The two are not one step: between them, another user may prove
// the number, and even add it if it is on no account.
func (s state) free(p step) []state {
	bit := uint64(1) << p.release
	if s.began&bit == 0 {
		return nil
	}
	had, skipped := s.owner, s.skipped&bit != 0
	s.began, s.skipped = s.began&^bit, s.skipped&^bit
	switch {
	case skipped, p.user != nobody && had != p.user:
		return []state{s}
	case p.unowned && had != nobody && p.soft:
		freed := s // by the add that failed
		freed.owner = nobody
		return []state{s, freed}
	case p.unowned:
		return s.when(had == nobody)
	case p.owned && had == nobody:
		return s.when(p.soft)
	}
	s.owner = nobody
	return []state{s}
}

// add first consumes the proof for a user and then puts the number on the account. In between, a
// release may void the proof. The add must then not put the number on the account, whatever it read
// before.
func (s state) add(p step) []state {
	v := s.sessions[p.session]
	bit := int8(1) << p.user
	taken := v
	taken.consumed, taken.taken = p.user, v.taken|bit
	vacant := v.validated && v.consumed == nobody
	mine := v.consumed == p.user && v.validated
	used := taken
	used.taken &^= bit
	if v.taken&bit != 0 && v.consumed != p.user {
		// Another code was sent and submitted in the meantime. Its proof remains.
		mine, used.consumed = true, v.consumed
	}
	put := s.with(p.session, used)
	put.owner = p.user
	unchanged := []state{s}
	switch p.kind {
	case stepAdd:
		switch {
		case v.consumed != nobody && s.owner == p.user:
			return unchanged // again
		case (vacant || mine) && (s.owner == nobody || s.owner == p.user):
			return []state{put}
		}
		return nil
	case stepAddInUse:
		// The number is on another account, or its proof is taken for one.
		return s.when(v.consumed > 0 && v.consumed != p.user || s.owner != nobody && s.owner != p.user || p.soft)
	case stepAddRefused:
		return s.when(v.consumed != nobody || !v.validated)
	case stepMaybeTake:
		if vacant {
			return []state{s, s.with(p.session, taken)}
		}
	case stepMaybeAssociate:
		if mine && s.owner == nobody {
			return []state{put}
		}
	}
	return unchanged
}

// after handles the steps that affect only one session.
func (v session) after(p step) []session {
	switch p.kind {
	case stepClaim, stepLostClaim:
		return v.claim(p)
	case stepSMS:
		// The documented rule: only if the attempt is greater than all seen before.
		if p.attempt <= v.acked || p.attempt <= v.sent && !p.excused {
			return nil
		}
		v.sent = max(v.sent, p.attempt)
	case stepSeen:
		if v.sent < p.attempt {
			return nil
		}
		v.acked = max(v.acked, p.attempt)
	case stepRight, stepWrong, stepExpired, stepGone, stepMaybeTry, stepMaybeRight:
		return v.submit(p)
	case stepValidated:
		return v.when(v.validated && v.consumed == nobody)
	case stepNotValidated:
		return v.when(!v.validated && v.consumed == nobody)
	case stepConsumed:
		return v.when(v.consumed != nobody)
	case stepRedeem, stepMaybeRedeem:
		if v.validated && v.consumed == nobody {
			v.consumed = theHost
		} else if p.kind == stepRedeem {
			return nil
		}
	}
	return []session{v}
}

func (v session) when(legal bool) []session {
	if !legal {
		return nil
	}
	return []session{v}
}

// claim gives the session the code of its next SMS: the same code as before, unless that is used up
// or void, or its validation was consumed. The tries of a void code may or may not carry over.
func (v session) claim(p step) []session {
	lost := p.kind == stepLostClaim
	if !lost && p.attempt <= v.acked {
		return nil
	}
	renewed := v.code == noCode || v.consumed != nobody || !v.current || v.tries >= maxTries
	switch {
	case !renewed && lost:
		return []session{v}
	case !renewed:
		if v.code != p.code && v.code != unseenCode {
			return nil
		}
		v.code = p.code
		return []session{v}
	case !lost && v.code == p.code:
		return nil
	}
	next := v
	next.code, next.current, next.tries = p.code, true, 0
	if lost {
		next.code = unseenCode
	}
	if v.consumed != nobody || !v.current {
		next.validated, next.consumed = false, nobody
	}
	if v.code != noCode && !v.current && v.tries > 0 && v.tries < maxTries {
		handedOn := next
		handedOn.tries = v.tries
		return []session{next, handedOn}
	}
	return []session{next}
}

// submit handles a submitted code. A code is counted as a wrong one before it is compared, so a
// right code uses up a try while it is being checked: slack. If a store loses the connection during
// a COMMIT, it runs the unit again, and a counted code is counted twice.
func (v session) submit(p step) []session {
	right := v.code == p.code && v.current
	counted, twice := v, v
	counted.tries++
	twice.tries = min(maxTries, v.tries+2)
	confirmed := v
	confirmed.validated, confirmed.tries = true, 0
	switch p.kind {
	case stepRight:
		switch {
		case v.consumed != nobody && v.code == p.code:
			return []session{v} // the link was opened again
		case right && v.validated:
			return []session{v, confirmed}
		case right && v.tries < maxTries:
			return []session{confirmed}
		}
		return nil
	case stepWrong:
		if v.tries >= maxTries || right && v.consumed == nobody {
			return nil
		}
		return []session{counted, twice}
	case stepExpired:
		// With one try left, a code that is counted twice uses up the tries itself.
		if v.current && v.consumed == nobody && v.tries+1+p.slack < maxTries {
			return nil
		}
		if right && v.tries < maxTries {
			return []session{v, counted, twice}
		}
	case stepGone:
		return v.when(v.consumed != nobody)
	case stepMaybeTry:
		if v.tries < maxTries && v.code != noCode {
			return []session{counted, twice}
		}
	case stepMaybeRight:
		if right && v.consumed == nobody {
			return []session{confirmed}
		}
	}
	return []session{v}
}

func (s state) String() string {
	out := []string{fmt.Sprintf("owner %d", s.owner)}
	for i, v := range s.sessions {
		if v == (session{}) {
			continue
		}
		out = append(out, fmt.Sprintf("session %d: sent %d, acked %d, code %d (current %t, %d tries), validated %t, consumed %d",
			i, v.sent, v.acked, v.code, v.current, v.tries, v.validated, v.consumed))
	}
	return strings.Join(out, "; ")
}

// name is what the step does, without arguments.
func (p step) name() string {
	return [...]string{
		stepClaim: "claim", stepLostClaim: "claim without an SMS", stepSMS: "SMS", stepSeen: "200",
		stepOwned: "in use", stepUnowned: "not in use", stepOwner: "owner",
		stepRight: "right code", stepWrong: "wrong code", stepExpired: "expired", stepGone: "no session",
		stepMaybeTry: "code counted", stepMaybeRight: "right code",
		stepValidated: "validated", stepNotValidated: "not validated", stepConsumed: "consumed",
		stepRedeem: "redeem", stepMaybeRedeem: "redeem",
		stepAdd: "add", stepAddInUse: "add: in use", stepAddRefused: "add: refused",
		stepMaybeTake: "add: take", stepMaybeAssociate: "add: associate",
		stepVoid: "void", stepFree: "free", stepVoidAgain: "void again",
	}[p.kind]
}

func (p step) String() string {
	out := p.name()
	if p.maybe {
		out += "?"
	}
	if !slices.Contains([]kind{stepOwned, stepUnowned, stepOwner, stepVoid, stepFree, stepVoidAgain}, p.kind) {
		out += fmt.Sprintf(" session %d", p.session)
	}
	if p.attempt != 0 {
		out += fmt.Sprintf(" attempt %d", p.attempt)
	}
	if p.code != noCode {
		out += fmt.Sprintf(" code %d", p.code)
	}
	if p.user != nobody || p.kind == stepOwner {
		out += fmt.Sprintf(" user %d", p.user)
	}
	if p.kind == stepVoid || p.kind == stepFree {
		out += fmt.Sprintf(" release %d", p.release)
	}
	if p.excused {
		out += " (may be a repetition)"
	}
	return out
}
