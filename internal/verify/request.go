package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nyaruka/phonenumbers"

	"example.com/threepid/store"
)

const (
	// A waiter for another node's send asks the store at these intervals.
	pollFirst = 20 * time.Millisecond
	pollMost  = 320 * time.Millisecond
)

// Receipt answers a Request.
type Receipt struct {
	SID    string
	Number Number
}

// delivery is one Request on its way.
type delivery struct {
	Request
	number Number
	key    store.Key
	who    subject
	decoy  bool // the number is not to be validated, and the text will say so
	test   bool // a test number: nothing is texted, and nothing counted
}

// Request has a token texted, unless this attempt was texted already. It
// returns when the provider has accepted the SMS and the store has recorded it,
// or when it is known that none was sent.
func (s *Service) Request(ctx context.Context, r Request) (Receipt, error) {
	if err := s.enter(); err != nil {
		return Receipt{}, err
	}
	defer s.active.Done()

	if err := r.check(s.NextLinkHosts); err != nil {
		return Receipt{}, err
	}
	if err := s.checkIDServer(r); err != nil {
		return Receipt{}, err
	}
	number, err := s.numbers.parse(r.PhoneNumber, r.Country)
	if err != nil {
		return Receipt{}, err
	}
	_, test := s.testNumber(number.MSISDN)
	if s.RequireValid && !test && number.Kind == phonenumbers.UNKNOWN {
		return Receipt{}, errNotANumber(r.Country)
	}
	d := delivery{
		Request: r, number: number,
		key:  store.SessionKey(r.ClientSecret, r.Country, number.MSISDN),
		test: test,
	}
	if !test {
		d.who = s.subject(number, r.Client)
		err = s.checkPolicy(ctx, d)
	}
	if err == nil {
		d.decoy, err = s.checkOwner(ctx, r.Purpose, number.MSISDN)
	}
	if err != nil {
		if !number.ReadsBack() {
			err = errNotANumber(r.Country)
		}
		return Receipt{}, err
	}
	return s.deliver(ctx, d)
}

// checkOwner refuses a number that has an account, or for a password one that
// has none; or tells, where that is concealed, that a decoy is wanted.
func (s *Service) checkOwner(ctx context.Context, p store.Purpose, msisdn string) (decoy bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if s.Conceal {
		defer s.startWatch().even()
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

// deliver gets the attempt seen: by finding that it is, by sending it, or by
// waiting for whoever is sending it.
func (s *Service) deliver(ctx context.Context, d delivery) (Receipt, error) {
	var patience <-chan time.Time
	awaited, poll := "", pollFirst
	for {
		sess, standing, err := s.look(ctx, d)
		if err == nil && standing == free {
			if awaited != "" && sess.ClaimID == awaited && sess.ClaimAttempt == d.Attempt && sess.Outcome != store.OutcomePending {
				return Receipt{}, outcomeError(sess.Outcome) // another node's send of this very attempt
			}
			c, claimErr := s.admit(ctx, sess, d)
			if claimErr == nil && c.standing == free {
				receipt, err := s.send(ctx, c, d)
				s.tell(c.tally) // the host's code, after all of ours
				return receipt, err
			}
			sess, standing, err = c.sess, c.standing, claimErr
		}
		if err != nil {
			return Receipt{}, err
		}
		switch standing {
		case seen:
			return Receipt{SID: sess.SID, Number: d.number}, nil
		case free, busy:
			awaited = sess.ClaimID
		}
		if patience == nil {
			// Long enough for two sends, so that who waits behind another
			// attempt of the same session still gets its turn.
			patience = time.After(2 * s.lifetimes.lease)
		}
		fl, err := s.await(ctx, sess.ClaimID, poll, patience)
		switch {
		case err != nil:
			return Receipt{}, err
		case fl == nil:
			poll = min(2*poll, pollMost)
		case sess.ClaimAttempt == d.Attempt && fl.err != nil:
			return Receipt{}, fl.err
		case sess.ClaimAttempt == d.Attempt:
			return Receipt{SID: sess.SID, Number: d.number}, nil
		}
	}
}

// look reads how the attempt stands, without writing.
func (s *Service) look(ctx context.Context, d delivery) (store.Session, standing, error) {
	sess, found, err := s.view(ctx, d.key)
	if err != nil || !found {
		return store.Session{}, free, err
	}
	if d.Attempt <= sess.ClaimAttempt && s.flights.unrecorded(sess.ClaimID) {
		return sess, seen, nil
	}
	return sess, s.standing(sess, d), nil
}

// admit claims, once it is known that there is a number to text and that the
// limits seem to have room: a flood that they refuse takes no write lock.
func (s *Service) admit(ctx context.Context, sess store.Session, d delivery) (claim, error) {
	if !d.number.ReadsBack() {
		return claim{}, errNotANumber(d.Country)
	}
	take := (*tally).takeText
	if paid(sess, d.Attempt) {
		take = (*tally).takeRetry
	}
	refused := s.ask(ctx, d.who, textScopes(), take)
	if refused == nil {
		return s.claim(ctx, d)
	}
	// What used the limit up may be this very attempt, come twice.
	if sess, standing, err := s.look(ctx, d); err == nil && standing != free {
		return claim{sess: sess, standing: standing}, nil
	}
	return claim{}, refused
}

// standing is standingOf, and knows too what is under way on this node: should
// the clock leap forward, a lease is over before its send is.
func (s *Service) standing(sess store.Session, d delivery) standing {
	st := standingOf(sess, d.Attempt, s.now())
	if st == free && s.flights.under(sess.ClaimID) {
		return busy
	}
	return st
}

// await returns when the claim has ended on this node, with its flight, or
// after the poll interval with nil.
func (s *Service) await(ctx context.Context, claimID string, poll time.Duration, patience <-chan time.Time) (*flight, error) {
	var landed chan struct{}
	fl := s.flights.find(claimID)
	if fl != nil {
		landed = fl.landed
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-landed:
		return fl, nil
	case <-timer.C:
		return nil, nil //nolint:nilnil // no flight and no error: look again
	case <-patience:
		return nil, outcomeError(store.OutcomeFailed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
