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
	// claimTries is how often a claim is tried when the store fails.
	claimTries = 2

	// maxRenewals is how often a lease is renewed that does not last for a call.
	maxRenewals = 3
)

// errStoreTooSlow means that each renewal of the lease took longer than the lease
// has to spare.
var errStoreTooSlow = errors.New("threepid: the store takes so long to claim an attempt that another node may send it too")

// claim is the right to send an attempt, or the state that prevents it.
type claim struct {
	sess  store.Session
	state attemptState // free: the right is ours
	at    int64        // when it was claimed

	grant   limit.Grant    // one SMS of each budget
	handle  string         // the delegate's name for the verification that it started
	again   bool           // an earlier try of this attempt may have been sent
	charged bool           // the SMS was taken from the limits
	counted bool           // the guard counted the number
	refused limit.Refusal  // a limit was reached
	ledger  *limit.Ledger  // of the unit of work
	blocks  []limits.Block // what the guard blocked because of it
}

// claim takes the right to send, in a new session if there is none.
//
// If the store fails it tries once more, since the claim may have been committed and
// only the response lost. Such a claim would block the session until its lease ends.
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

// takeSMS takes from the limits what an attempt costs.
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
	c.at = c.ledger.Now() // the guard counts it at this time, and takes it back by this time
	sess := rows.Session
	switch {
	case !s.live(sess):
		sess = newSession(d.key, d.number.MSISDN, d.Country, fresh, c.at)
	case sess.ClaimID == fresh.claimID:
		return before, nil // it is stored already
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

// errOvertaken ends a send whose claim another node has taken over, because its
// lease was over.
var errOvertaken = errors.New("threepid: another node has claimed the attempt")

// holdLease returns until when the provider may be called for a claim that is ours.
// It looks at the lease immediately before the call, since anything may have taken
// long in the meantime: waiting for a lock, the COMMIT, this process. If the lease
// does not last for a whole call it is renewed first, unless another node has
// claimed by then.
//
// The process's own clock is read first: a pause after that shortens the call.
func (s *Service) holdLease(ctx context.Context, c *claim) (deadline time.Time, err error) {
	for try := 0; ; try++ {
		begin := time.Now() //nolint:forbidigo // a context's deadline is on this clock
		left := time.Duration(c.sess.LeaseUntil-s.now()) * time.Millisecond
		// More than a whole lease is left if the clock was set back.
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

// renew gives a claim that is still ours a new lease.
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
