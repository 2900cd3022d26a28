package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/store"
)

const (
	// A waiter for another node's send asks the store at these intervals.
	pollFirst = 20 * time.Millisecond
	pollMost  = 320 * time.Millisecond

	// How often a claim is tried when the store fails.
	claimTries = 2

	// How often, and first after what pause, the end of a claim is written again
	// when the store fails. The pause doubles.
	settleTries = 6
	settlePause = 25 * time.Millisecond

	// When all those have failed: how long until the next such round.
	settleLaterPause = time.Second
)

// errAbandoned is how a claim ends whose request failed or panicked half-way.
var errAbandoned = errors.New("threepid: the request that was sending has failed")

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
	number, err := s.numbers.parse(r.PhoneNumber, r.Country, s.RequireValid)
	if err != nil {
		return Receipt{}, err
	}
	if err := s.checkOwner(ctx, r.Purpose, number.MSISDN); err != nil {
		if !number.ReadsBack() {
			err = errNotANumber(r.Country)
		}
		return Receipt{}, err
	}
	key := store.SessionKey(r.ClientSecret, r.Country, number.MSISDN)
	return s.deliver(ctx, delivery{Request: r, number: number, key: key})
}

// checkOwner refuses a number that has an account, or for a password one that
// has none.
func (s *Service) checkOwner(ctx context.Context, p store.Purpose, msisdn string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := s.Accounts.Owner(ctx, msisdn)
	owned := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("threepid: look up the number's account: %w", err)
	}
	switch {
	case p == store.PurposePassword && !owned:
		return Errorf(NotAssociated, "MSISDN not found")
	case p != store.PurposePassword && owned:
		// A client in the field matches this very text.
		return Errorf(InUse, "MSISDN is already in use")
	}
	return nil
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
			sess, standing, err = s.claim(ctx, d)
		}
		if err != nil {
			return Receipt{}, err
		}
		switch standing {
		case seen:
			return Receipt{SID: sess.SID, Number: d.number}, nil
		case free:
			return s.send(ctx, sess, d)
		case busy:
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

// standing is standingOf, and knows too what is under way on this node: should
// the clock leap forward, a lease is over before its send is.
func (s *Service) standing(sess store.Session, d delivery) standing {
	st := standingOf(sess, d.Attempt, s.now())
	if st == free && s.flights.under(sess.ClaimID) {
		return busy
	}
	return st
}

// claim takes the right to send, in a session made for it if there is none.
// The standing it returns is free when it got it.
//
// A store that fails is asked once more, for the case that the claim is kept and
// only the news of it was lost: it would stand in the way until its lease ends.
func (s *Service) claim(ctx context.Context, d delivery) (store.Session, standing, error) {
	if err := ctx.Err(); err != nil {
		return store.Session{}, free, err
	}
	if !d.number.ReadsBack() {
		return store.Session{}, free, errNotANumber(d.Country)
	}
	fresh, err := drawSecrets(s.Random, s.Now())
	if err != nil {
		return store.Session{}, free, err
	}
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()

	s.flights.open(fresh.claimID)
	ours := false
	defer func() {
		if !ours {
			s.flights.land(fresh.claimID, errAbandoned)
		}
	}()
	var sess store.Session
	var standing standing
	for range claimTries {
		err = s.Store.Update(ctx, func(tx store.Tx) error {
			sess, standing, err = s.claimIn(tx, d, fresh)
			return err
		})
		if err == nil {
			break
		}
	}
	ours = err == nil && standing == free
	return sess, standing, err
}

func (s *Service) claimIn(tx store.Tx, d delivery, fresh secrets) (store.Session, standing, error) {
	now := s.now()
	sess, found, err := s.live(tx, d.key)
	switch {
	case err != nil:
		return store.Session{}, free, err
	case !found:
		sess = newSession(d.key, d.number.MSISDN, d.Country, fresh, now)
	case sess.ClaimID == fresh.claimID:
		return sess, free, nil // it is kept already
	}
	if standing := s.standing(sess, d); standing != free {
		return sess, standing, nil
	}
	sess = claimed(sess, d.Request, fresh, s.lifetimes, now)
	return sess, free, tx.PutSession(sess)
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

// send texts the token of a session whose claim is ours, and records how that
// ended. It goes on when the caller hangs up.
func (s *Service) send(ctx context.Context, sess store.Session, d delivery) (Receipt, error) {
	defer s.flights.land(sess.ClaimID, errAbandoned) // does nothing but when the store panics
	code := token(sess, d.ClientSecret, s.TokenDigits)
	m := sms.Message{
		ID:      messageID(sess, d.Attempt),
		To:      "+" + sess.MSISDN,
		Text:    s.Text(code),
		Country: d.number.Region(d.Country),
		Attempt: d.Attempt,
	}
	err := s.hand(ctx, m)
	outcome := store.OutcomeAccepted
	switch {
	case errors.Is(err, sms.ErrRejected):
		outcome = store.OutcomeRejected
	case err != nil:
		outcome = store.OutcomeFailed
	}
	log := s.Logger.With("sid", sess.SID, "to", Mask(sess.MSISDN), "attempt", d.Attempt)
	if err != nil {
		log.Warn("threepid: SMS not sent", "outcome", outcome, "error", redact(err.Error(), code, sess.MSISDN))
	} else {
		log.Info("threepid: SMS accepted by the provider")
	}

	answer := outcomeError(outcome)
	settleErr := s.settle(ctx, sess, d.Attempt, outcome)
	if settleErr != nil {
		log.Error("threepid: cannot record how an SMS ended", "outcome", outcome, "error", settleErr)
	}
	if settleErr != nil && outcome == store.OutcomeAccepted {
		// The SMS is out and its token is good, so the caller is not told of
		// our trouble; but this attempt must not be texted again.
		s.flights.landUnrecorded(sess.ClaimID)
		s.active.Add(1)
		go s.settleLater(context.WithoutCancel(ctx), sess, d.Attempt)
	} else {
		// A claim that failed and cannot be given back runs out by itself.
		s.flights.land(sess.ClaimID, answer)
	}
	return Receipt{SID: sess.SID, Number: d.number}, answer
}

// settleLater goes on trying to record an accepted SMS, until it succeeds or
// the plugin is closed.
func (s *Service) settleLater(ctx context.Context, sess store.Session, attempt int64) {
	defer s.active.Done()
	defer s.flights.forget(sess.ClaimID)
	for {
		select {
		case <-s.stopping:
			return
		case <-time.After(settleLaterPause):
		}
		if s.settle(ctx, sess, attempt, store.OutcomeAccepted) == nil {
			s.Logger.Info("threepid: an SMS is on record at last", "sid", sess.SID, "attempt", attempt)
			return
		}
	}
}

// hand gives the message to the sender and returns within the send timeout,
// whatever the sender does: hang, ignore its context, or panic.
func (s *Service) hand(ctx context.Context, m sms.Message) error {
	ctx, cancel := detached(ctx, s.SendTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("the sender panicked: %v", v)
			}
		}()
		done <- s.Sender.Send(ctx, m)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the sender did not answer within %v: %w", s.SendTimeout, ctx.Err())
	}
}

// settle records how our claim ended. An attempt that failed is given back.
func (s *Service) settle(ctx context.Context, sess store.Session, attempt int64, o store.Outcome) error {
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	var err error
	pause := settlePause
	for try := range settleTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pause):
			}
			pause *= 2
		}
		err = s.Store.Update(ctx, func(tx store.Tx) error {
			current, err := tx.SessionBySID(sess.SID)
			if errors.Is(err, store.ErrNotFound) {
				return nil // expired meanwhile, and deleted or replaced
			}
			if err != nil {
				return err
			}
			return tx.PutSession(settled(current, sess.ClaimID, attempt, o))
		})
		if err == nil {
			return nil
		}
	}
	return err
}

func outcomeError(o store.Outcome) error {
	switch o {
	case store.OutcomeAccepted:
		return nil
	case store.OutcomeRejected:
		return Errorf(DestinationRejected, "Text messages cannot be sent to this number")
	case store.OutcomePending, store.OutcomeFailed:
		return Errorf(SendFailed, "The text message could not be sent. Try again later.")
	}
	return fmt.Errorf("threepid: unknown outcome %q", o)
}

// redact takes out of a sender's error what belongs in no log, should a
// provider have echoed it: the token and the number, in whole or the national part.
func redact(text, code, msisdn string) string {
	const national = 8 // trailing digits that tell a subscriber, however the prefix is written
	text = strings.ReplaceAll(text, code, "******")
	text = strings.ReplaceAll(text, msisdn, strings.TrimPrefix(Mask(msisdn), "+"))
	if len(msisdn) > national {
		text = strings.ReplaceAll(text, msisdn[len(msisdn)-national:], "********")
	}
	return text
}
