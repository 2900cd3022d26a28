package verify

import (
	"context"
	"errors"
	"time"

	"example.com/threepid/internal/limit"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

const (
	// claimTries is how many times a claim is tried if the store fails.
	claimTries = 2

	// maxRenewals is how many times a lease that is too short for a call is renewed.
	maxRenewals = 3
)

// errStoreTooSlow means that each renewal of the lease took so long that the lease was too
// short again.
var errStoreTooSlow = errors.New("threepid: the store takes so long to claim an attempt that another node may send it too")

// claim is the right to send an attempt, or the state that prevents it.
type claim struct {
	sess  store.Session
	state attemptState // claimable: this node has the claim
	at    int64        // when it was claimed

	grant  limit.Grant // one SMS of each budget
	handle string      // the delegate's name for the verification that it started

	provider string // that the message was passed to

	again   bool           // an earlier try of this attempt may have been sent
	charged bool           // the SMS was taken from the limits
	counted bool           // the guard counted the number
	refused limit.Refusal  // a limit was reached
	ledger  *limit.Ledger  // of the unit of work
	blocks  []limits.Block // what the guard blocked because of it
}

// claim claims the attempt, in a new session if there is none.
//
// If the store fails it tries once more, because the claim may have been committed and only
// the response lost. Such a claim would block the session until its lease ends.
func (s *Service) claim(ctx context.Context, d delivery) (claim, error) {
	if err := ctx.Err(); err != nil {
		return claim{}, err
	}
	fresh, err := drawSecrets(s.Random, s.Now())
	if err != nil {
		return claim{}, err
	}
	fresh.keys = s.keys
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()

	var c claim
	for range claimTries {
		names := withEpoch(byKey(d.key), d.number.MSISDN, s.limiter.Keys(d.who, limit.SMSKinds()...)...)
		err = s.units.Update(ctx, names, func(rows *store.Rows) error {
			c, err = s.claimIn(rows, d, fresh, c)
			return err
		})
		if err == nil {
			break
		}
	}
	if err == nil {
		err = s.refused(ctx, c.refused, d.who)
	}
	if err == nil && c.state == claimable {
		c.blocks = s.limiter.Watch.Report(c.ledger)
	}
	return c, err
}

// takeSMS charges an attempt to the limits.
func takeSMS(g *limit.Ledger, sess store.Session, d delivery) limit.Refusal {
	if alreadyCharged(sess, d.Attempt) {
		return g.TakeRetry()
	}
	return g.TakeSMS(d.trusted)
}

// claimIn claims in a unit of work. before is the result of its last run, which may
// have been committed.
func (s *Service) claimIn(rows *store.Rows, d delivery, fresh secrets, before claim) (claim, error) {
	var c claim
	var err error
	if c.ledger, err = s.ledger(rows.Records[1:], d.who, limit.SMSKinds()...); err != nil {
		return before, err
	}
	c.at = c.ledger.Now() // the time by which the guard counts it, and takes it back
	sess := rows.Session
	switch {
	case !s.live(sess):
		sess = newSession(d.key, d.number.MSISDN, d.Country, fresh, c.at)
	case sess.ClaimID == fresh.claimID:
		return before, nil // it was committed
	}
	if c.state = attemptStateOf(sess, d.Attempt, s.now()); c.state != claimable {
		c.sess = sess
		return c, nil
	}
	c.again = alreadyCharged(sess, d.Attempt)
	c.charged = (d.budgeted || !c.ledger.Empty()) && !c.again
	if c.refused = takeSMS(c.ledger, sess, d); c.refused.Wait > 0 {
		return c, nil
	}
	switch {
	case c.charged:
		c.counted = c.ledger.Notice()
		sess = charged(sess, d.who.Client)
	case !c.again:
		sess.Texts++ // no limit needs it, but sms.Message.SentBefore does
	}
	epoch := &rows.Records[0]
	// The lease begins when all rows are loaded, however long that took.
	c.sess = claimed(sess, d.Request, d.decoy, epoch.State, fresh, s.lifetimes, s.now())
	keepEpoch(epoch, c.sess)
	rows.Session = c.sess
	return c, c.ledger.Put()
}

// errOvertaken ends a send whose claim another node took over when its lease ended.
var errOvertaken = errors.New("threepid: another node has claimed the attempt")

// holdLease returns the deadline of the provider call. It checks the lease immediately
// before the call, because the lock, the COMMIT or a pause of the process may have taken
// long. If the lease is too short for a whole call it is renewed, unless another node has
// claimed the attempt by then.
//
// The process's clock is read first, so that a pause after that shortens the call.
func (s *Service) holdLease(ctx context.Context, c *claim) (deadline time.Time, err error) {
	for try := 0; ; try++ {
		begin := time.Now() //nolint:forbidigo // a context's deadline is on this clock
		left := time.Duration(c.sess.LeaseUntil-s.now()) * time.Millisecond
		// More than a whole lease left means that the clock was set back.
		if left >= s.SendTimeout+sendGrace && left <= s.lifetimes.lease {
			return begin.Add(s.SendTimeout), nil
		}
		if try == maxRenewals {
			return begin, errStoreTooSlow
		}
		if err := s.renew(ctx, c); err != nil {
			return begin, err
		}
	}
}

// renew renews the lease of a claim that this node still has.
func (s *Service) renew(ctx context.Context, c *claim) error {
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	var renewed store.Session
	err := s.units.Update(ctx, store.Names{Session: byKey(c.sess.Key)}, func(rows *store.Rows) error {
		sess := &rows.Session
		if !s.live(*sess) || sess.ClaimID != c.sess.ClaimID || sess.Outcome != store.OutcomePending {
			return errOvertaken
		}
		sess.LeaseUntil = s.now() + s.lifetimes.lease.Milliseconds()
		renewed = *sess
		return nil
	})
	if err == nil {
		c.sess = renewed
	}
	return err
}
