package verify

import (
	"context"
	"errors"

	"example.com/threepid/store"
)

// How often a claim is tried when the store fails.
const claimTries = 2

// claim is the right to send, or what was found in its place.
type claim struct {
	sess     store.Session
	standing standing // free: the right is ours
	at       int64    // when it was claimed

	handle  string  // what the service calls the verification that it started
	charged bool    // the text was taken from the buckets
	counted bool    // the guards counted the number
	refused refusal // a limit was reached
	tally   *tally
}

// claim takes the right to send, in a session made for it if there is none.
//
// A store that fails is asked once more, for the case that the claim is kept and
// only the news of it was lost: it would stand in the way until its lease ends.
func (s *Service) claim(ctx context.Context, d delivery) (claim, error) {
	if err := ctx.Err(); err != nil {
		return claim{}, err
	}
	fresh, err := drawSecrets(s.Random, s.Now())
	if err != nil {
		return claim{}, err
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
	var c claim
	for range claimTries {
		err = s.Store.Update(ctx, func(tx store.Tx) error {
			c, err = s.claimIn(tx, d, fresh, c)
			return err
		})
		if err == nil {
			break
		}
	}
	if err == nil {
		err = s.refused(c.refused, d.who)
	}
	ours = err == nil && c.standing == free
	return c, err
}

// claimIn claims in a unit of work. before is what the last run of it claimed,
// which may have been kept.
func (s *Service) claimIn(tx store.Tx, d delivery, fresh secrets, before claim) (claim, error) {
	var c claim
	var err error
	if c.tally, err = s.tally(tx, d.who, textScopes()...); err != nil {
		return before, err
	}
	c.at = c.tally.now // the guards count it by this time, and take it back by this time
	sess, found, err := s.live(tx, d.key)
	switch {
	case err != nil:
		return before, err
	case !found:
		sess = newSession(d.key, d.number.MSISDN, d.Country, fresh, c.at)
	case sess.ClaimID == fresh.claimID:
		return before, nil // it is kept already
	}
	if c.standing = s.standing(sess, d); c.standing != free {
		c.sess = sess
		return c, nil
	}
	c.charged = len(c.tally.entries) > 0 && !paid(sess, d.Attempt)
	take := (*tally).takeRetry
	if c.charged {
		take = (*tally).takeText
	}
	if c.refused = take(c.tally); c.refused.wait > 0 {
		return c, nil
	}
	if c.charged {
		c.counted = c.tally.notice()
		sess = charged(sess, d.who.client)
	}
	if err := c.tally.put(tx); err != nil {
		return c, err
	}
	epoch, err := loadEpoch(tx, sess.MSISDN)
	if err != nil {
		return c, err
	}
	c.sess = claimed(sess, d.Request, d.decoy, epoch.State, fresh, s.lifetimes, c.at)
	return c, errors.Join(keepEpoch(tx, epoch, c.sess), tx.PutSession(c.sess))
}
