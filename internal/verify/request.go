package verify

import (
	"context"
	"errors"
	"fmt"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// Receipt is the response to a Request.
type Receipt struct {
	SID    string
	Number phone.Number
}

// delivery is a Request whose number was parsed.
type delivery struct {
	Request
	number phone.Number
	key    store.Key
	who    limit.Subject
	decoy  bool // the number must not be validated, and the SMS says so
	test   bool // a test number: no SMS is sent or charged

	budgeted bool // the SMS was charged to a budget
	trusted  bool // the host's hook lets it pass the guard
}

// Request sends a code, unless this attempt was sent already. It returns when the
// provider has accepted the SMS and the store has recorded it, or when it is known
// that none was sent.
func (s *Service) Request(ctx context.Context, r Request) (Receipt, error) {
	if err := s.enter(); err != nil {
		return Receipt{}, err
	}
	defer s.active.Done()
	ctx, cancel := s.untilClosed(ctx)
	defer cancel()

	receipt, number, err := s.request(ctx, r)
	s.observeRefusal(ctx, err, number.Home(), r.Purpose, number.MSISDN)
	if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), ErrClosed) {
		err = ErrClosed
	}
	return receipt, err
}

// request runs the checks in the order of the protocol: the fields, the fixed policy, the
// limit on look-ups, the association, and those of deliver. It also returns the number, as
// far as it was parsed.
func (s *Service) request(ctx context.Context, r Request) (receipt Receipt, number phone.Number, err error) {
	if err := r.check(s.NextLinkHosts); err != nil {
		return Receipt{}, number, err
	}
	if err := s.checkIDServer(r); err != nil {
		return Receipt{}, number, err
	}
	number, err = s.numbers.Parse(r.PhoneNumber, r.Country)
	_, test := s.testNumber(number.MSISDN)
	if err == nil && s.Policy.RequireValidNumbers && !test && !number.Valid() {
		err = phone.ErrNotANumber(r.Country)
	}
	if errors.Is(err, phone.ErrUnknownCountry) {
		return Receipt{}, number, Errorf(InvalidParam, "%s", err)
	}
	if err != nil {
		return Receipt{}, number, Errorf(InvalidNumber, "%s", err)
	}
	d := delivery{
		Request: r, number: number,
		key:  store.SessionKey(r.ClientSecret, r.Country, number.MSISDN),
		test: test,
	}
	if !test {
		d.who = s.subject(number, r.Client)
		err = s.checkPolicy(number)
	}
	if err == nil {
		err = s.limitLookUps(ctx, d)
	}
	if err == nil {
		d.decoy, err = s.checkOwner(ctx, r.Purpose, number.MSISDN)
	}
	if err == nil {
		receipt, err = s.deliver(ctx, d)
	}
	return receipt, number, err
}

// checkOwner refuses a number that has an account or, for a password reset, one that has
// none. If accounts are concealed, it reports instead that a decoy is needed. For a
// homeserver it looks nothing up: only the homeserver knows its accounts.
func (s *Service) checkOwner(ctx context.Context, p store.Purpose, msisdn string) (decoy bool, err error) {
	if p == store.PurposeIdentity {
		return false, nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if s.Conceal {
		defer s.slots.Start().Wait()
	}
	_, err = s.Accounts.Owner(ctx, msisdn)
	owned := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, fmt.Errorf("threepid: look up the number's account: %w", err)
	}
	switch wanted := p == store.PurposePassword; {
	case owned == wanted:
		return false, nil
	case s.Conceal:
		return true, nil
	case owned:
		return false, errInUse()
	default:
		return false, Errorf(NotAssociated, "MSISDN not found")
	}
}

// deliver finds that the attempt was sent, sends it, or waits for the request that sends it.
func (s *Service) deliver(ctx context.Context, d delivery) (Receipt, error) {
	p := s.newPatience()
	for {
		fl, leads := s.flights.join(d)
		if leads {
			return s.lead(ctx, d, fl, p)
		}
		if !fl.identical(d) { // it may have been sent before
			st, err := s.loadState(ctx, d, false)
			if err != nil {
				return Receipt{}, err
			}
			if st.attempt == sent {
				return seenReceipt(st.sess, d)
			}
		}
		if err := s.await(ctx, fl, p); err != nil {
			return Receipt{}, err
		}
		if fl.shared && fl.identical(d) {
			return fl.receipt, fl.err
		}
	}
}

// lead handles a request that others may wait for, and shares the outcome with them, except
// that its own client disconnected, or a panic.
func (s *Service) lead(ctx context.Context, d delivery, fl *flight, p patience) (Receipt, error) {
	defer s.flights.finish(d.key, fl)
	receipt, err := s.sendOnce(ctx, d, p)
	fl.receipt, fl.err = receipt, err
	fl.shared = err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err())
	return receipt, err
}

// sendOnce claims the attempt and sends it, or waits for the node that has claimed it.
func (s *Service) sendOnce(ctx context.Context, d delivery, p patience) (Receipt, error) {
	awaited, poll := "", minPoll
	var host approval
	for {
		if err := s.recordLate(ctx, d.key); err != nil {
			return Receipt{}, err
		}
		st, err := s.loadState(ctx, d, true)
		if err != nil {
			return Receipt{}, err
		}
		if st.attempt == claimable && awaited != "" && st.sess.ClaimID == awaited && ended(st.sess, d.Attempt) {
			return Receipt{}, outcomeError(st.sess.Outcome) // another node has sent this attempt
		}
		if st.attempt == claimable {
			var receipt Receipt
			if st, receipt, err = s.trySend(ctx, d, st, &host); err != nil || st.attempt == claimable {
				return receipt, err
			}
		}
		if st.attempt == sent {
			return seenReceipt(st.sess, d)
		}
		awaited = st.sess.ClaimID
		if err := s.pause(ctx, poll, p); err != nil {
			return Receipt{}, err
		}
		poll = min(2*poll, maxPoll)
	}
}

// ended reports whether the session's claim is of the attempt and has an outcome.
func ended(sess store.Session, attempt int64) bool {
	return sess.ClaimAttempt == attempt && sess.Outcome != store.OutcomePending
}

// approval is the result of the host's hook for a request. The hook is asked once, even if
// another node claims first, because the token of a CAPTCHA can be used once.
type approval struct{ given, trusted bool }

// trySend claims and sends, after the checks that cost no write. The attempt of the
// state it returns is claimable if this node had the claim, whatever the outcome, and
// otherwise what another node's claim makes of it.
func (s *Service) trySend(ctx context.Context, d delivery, st state, host *approval) (state, Receipt, error) {
	if !st.refused.Guard {
		if err := s.refused(ctx, st.refused, d.who); err != nil {
			return st, Receipt{}, err
		}
	}
	if !host.given {
		trusted, err := s.approve(ctx, d, st)
		if err != nil {
			return st, Receipt{}, err
		}
		*host = approval{given: true, trusted: trusted}
	}
	if d.trusted = host.trusted; !d.trusted {
		if err := s.refused(ctx, st.refused, d.who); err != nil {
			return st, Receipt{}, err
		}
	}
	grant, err := s.takeFromBudgets(ctx, d)
	if err != nil {
		return st, Receipt{}, err
	}
	d.budgeted = len(grant) > 0
	c, err := s.claim(ctx, d)
	if err != nil || c.state != claimable || !c.charged {
		s.budgets.Return(grant)
	}
	if err != nil || c.state != claimable {
		return state{sess: c.sess, attempt: c.state}, Receipt{}, err
	}
	if c.charged {
		c.grant = grant
	}
	receipt, err := s.send(ctx, c, d)
	s.reportBlocks(ctx, c.blocks) // the host's code, after all of the engine's
	if errors.Is(err, errOvertaken) {
		return state{sess: c.sess, attempt: inFlight}, Receipt{}, nil
	}
	return state{attempt: claimable}, receipt, err
}

// seenReceipt returns the response to an attempt that was sent before. An attempt that was
// sent for another purpose validates nothing for this one.
func seenReceipt(sess store.Session, d delivery) (Receipt, error) {
	if seenPurpose(sess) != d.Purpose {
		e := Errorf(InvalidParam, "This client_secret was used for another purpose; generate a new one.")
		e.Reason = "another purpose"
		return Receipt{}, e
	}
	return Receipt{SID: sess.SID, Number: d.number}, nil
}

// state is what the store holds about an attempt.
type state struct {
	sess    store.Session
	attempt attemptState
	refused limit.Refusal  // by a limit or the guard, if the attempt would have to be sent
	blocks  []limits.Block // by the guard
}

// loadState reads the state of an attempt and, if withLimits is set, whether the limits refuse
// it, so that a flood of refused requests takes no write lock.
func (s *Service) loadState(ctx context.Context, d delivery, withLimits bool) (st state, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	withLimits = withLimits && d.who.MSISDN != ""
	names := store.Names{Session: byKey(d.key)}
	if withLimits {
		// The epoch is for the claim, which then need not read it.
		names.Records = append(s.limiter.Keys(d.who, limit.SMSKinds()...), epochKey(d.number.MSISDN))
	}
	rows, err := s.units.View(ctx, names)
	if err != nil {
		return state{}, err
	}
	if s.live(rows.Session) {
		st = state{sess: rows.Session, attempt: attemptStateOf(rows.Session, d.Attempt, s.now())}
	}
	if st.attempt != claimable || !withLimits {
		return st, nil
	}
	g, err := s.ledger(rows.Records, d.who, limit.SMSKinds()...)
	if err != nil {
		return state{}, err
	}
	st.blocks = g.Blocks()
	st.refused = takeSMS(g, st.sess, d)
	return st, nil
}
