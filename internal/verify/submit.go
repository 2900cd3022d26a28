package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/store"
)

// Validation is proof that a client holds a number.
type Validation struct {
	SID    string
	MSISDN string // E.164 without the plus sign

	Country string // that the client said it dialled from; may be empty
	Purpose store.Purpose

	ValidatedAt time.Time // UTC
}

// Submit submits a token. If it is right, the session is validated, and Submit returns the
// session's next_link, which may be empty.
//
// Before a token is compared, a unit of work counts it durably as a wrong one. So, however
// many guesses arrive at once on any number of nodes, only as many are compared as were
// counted.
func (s *Service) Submit(ctx context.Context, sub Submission) (nextLink string, err error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	defer s.active.Done()

	slot := s.slots.Start()
	nextLink, msisdn, err := s.submit(ctx, sub)
	if errors.Is(err, ErrNoSession) {
		slot.Wait()
		err = errUnknownSession()
	}
	s.observeRefusal(ctx, err, "", "", msisdn)
	return nextLink, err
}

// submit is Submit, except that it returns ErrNoSession if there is no session, and otherwise
// also the session's number.
func (s *Service) submit(ctx context.Context, sub Submission) (nextLink, msisdn string, err error) {
	sess, again, err := s.preview(ctx, sub)
	if errors.Is(err, ErrNoSession) {
		return "", "", err
	}
	if err == nil {
		nextLink, err = s.prove(ctx, sess, sub)
	}
	if _, refused := errors.AsType[*Error](err); refused && again {
		return sess.NextLink, sess.MSISDN, nil // it proves nothing new, but it is right
	}
	return nextLink, sess.MSISDN, err
}

// prove counts a token, compares it, and records that it was right.
func (s *Service) prove(ctx context.Context, sess store.Session, sub Submission) (nextLink string, err error) {
	who, err := s.submitter(sess, sub)
	if err != nil {
		return "", err
	}
	take := func(g *limit.Ledger) limit.Refusal { return g.TakeCode(firstTry(sess)) }
	if err := s.ask(ctx, who, limit.CodeKinds(), take); err != nil {
		return "", err
	}
	if sess, err = s.countTry(ctx, sess, sub, who); err != nil {
		return "", err
	}
	err = s.check(ctx, sess, sub, who)
	if refusal, wrong := errors.AsType[*Error](err); err == nil || wrong && refusal.Code == TokenIncorrect {
		s.observeCode(ctx, sess, who.Country, err == nil)
	}
	if err != nil {
		return "", err
	}
	if sess, err = s.confirm(ctx, sess, sub, who); err != nil {
		return "", err
	}
	return sess.NextLink, nil
}

// preview refuses what needs no write: a session that does not exist or is closed, so that
// guesses at sids take no write lock. again reports, also with a refusal, that the session is
// validated and the token is right. Accepting it again reveals nothing new to the client, and a
// person may open the link again after the host has redeemed the validation.
func (s *Service) preview(ctx context.Context, sub Submission) (sess store.Session, again bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	sess, err = s.find(ctx, sub.SID, sub.ClientSecret)
	if err == nil && s.provedBy(sess, sub) {
		var rows store.Rows
		rows, err = s.units.View(ctx, withEpoch(bySID(sess.SID), sess.MSISDN))
		again = err == nil && rows.Records[0].State == sess.Epoch
	}
	if err == nil {
		_, err = s.withTry(sess, sess.Epoch) // the epoch is checked where the try is counted
	}
	return sess, again, err
}

// withTry is the transition of that name, if the session's server key is known. Without
// the key no token can be compared.
func (s *Service) withTry(sess store.Session, epoch string) (store.Session, error) {
	if _, known := s.keys.of(sess); !known {
		return sess, errSessionExpired()
	}
	return withTry(sess, epoch, s.now())
}

// provedBy reports whether the session is validated and the token is still right.
func (s *Service) provedBy(sess store.Session, sub Submission) bool {
	now := s.now()
	return sess.ValidatedAt != 0 && !expired(sess, now) && !lapsed(sess, s.lifetimes, now) && s.tokenMatches(sess, sub)
}

// tokenMatches compares the token in constant time. A decoy has no token. Of a token that
// a delegate sent, only the digest of an accepted one is known.
func (s *Service) tokenMatches(sess store.Session, sub Submission) bool {
	if s.delegated(sess.MSISDN) {
		proof := s.proofOf(sess, sub.ClientSecret, sub.Token)
		return subtle.ConstantTimeCompare([]byte(proof), []byte(sess.AcceptedTokenDigest)) == 1
	}
	code := s.code(sess, sub.ClientSecret)
	same := sameToken(sub.Token, code)
	return same && code != "" && !sess.Decoy
}

// submitter returns the subject to which a token is charged. Tokens of a test number are
// limited too, because its token never changes; the guard ignores its validations.
func (s *Service) submitter(sess store.Session, sub Submission) (limit.Subject, error) {
	number, err := s.numbers.Parse("+"+sess.MSISDN, "")
	if err != nil {
		return limit.Subject{}, fmt.Errorf("threepid: the number of session %s cannot be read: it was stored by another release", sess.SID)
	}
	who := s.subject(number, sub.Client)
	if _, test := s.testNumber(sess.MSISDN); test {
		who.Guarded = false
	}
	return who, nil
}

// countTry counts the token as a wrong one. If the store loses the connection during the
// COMMIT, it runs the unit again, and the try may be counted twice.
func (s *Service) countTry(ctx context.Context, preview store.Session, sub Submission, who limit.Subject) (sess store.Session, err error) {
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	var verdict error
	var met limit.Refusal
	names := withEpoch(bySID(sub.SID), preview.MSISDN, s.limiter.Keys(who, limit.CodeKinds()...)...)
	err = s.units.Update(ctx, names, func(rows *store.Rows) error {
		verdict, met, sess = nil, limit.Refusal{}, rows.Session
		g, err := s.ledger(rows.Records[1:], who, limit.CodeKinds()...)
		if err == nil {
			err = expectOwned(sess, sub.ClientSecret)
		}
		if err != nil {
			return err
		}
		var after store.Session
		after, verdict = s.withTry(sess, rows.Records[0].State)
		if verdict == nil {
			met = g.TakeCode(firstTry(sess))
		}
		if verdict != nil || met.Wait > 0 {
			return errRefused
		}
		sess, rows.Session = after, after
		return g.Put()
	})
	if errors.Is(err, errRefused) {
		return sess, cmp.Or(verdict, s.refused(ctx, met, who)) // which logs: not inside the unit
	}
	return sess, err
}

// errRefused ends a unit of work that stores nothing.
var errRefused = errors.New("threepid: refused")

// confirm records that the right token of a session was submitted, and takes back its charge
// to the limits.
func (s *Service) confirm(ctx context.Context, tried store.Session, sub Submission, who limit.Subject) (store.Session, error) {
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	var before, after store.Session
	var verdict error
	var g, other *limit.Ledger
	err := s.units.Update(ctx, s.confirmingNames(tried, who), func(rows *store.Rows) error {
		verdict, g = nil, nil
		before = rows.Session
		if err := expectOwned(before, sub.ClientSecret); err != nil {
			return err
		}
		epoch := &rows.Records[0]
		if before.RedeemedAt != 0 || expired(before, s.now()) || !bytes.Equal(before.Nonce, tried.Nonce) || before.Epoch != epoch.State {
			verdict = errSessionExpired() // overtaken by another request
			return nil
		}
		// Another client may have requested an SMS since.
		err := expectNames(rows, s.confirmingNames(before, who))
		if err == nil {
			g, other, err = s.confirming(rows.Records[1:], before, who)
		}
		if err != nil {
			return err
		}
		after = validated(before, s.lifetimes, s.now())
		if s.delegated(after.MSISDN) {
			after.AcceptedTokenDigest = s.proofOf(after, sub.ClientSecret, sub.Token)
		}
		if _, test := s.testNumber(after.MSISDN); test {
			g.Confirm(0, 0) // its SMS were never charged
		} else {
			g.Confirm(before.Texts, before.ClientTexts)
		}
		if other != nil {
			err = other.Put()
		}
		keepEpoch(epoch, after)
		rows.Session = after
		return errors.Join(err, g.Put())
	})
	if err == nil && verdict == nil {
		s.budgets.Validated(who, before.Texts)
		s.reportBlocks(ctx, s.limiter.Watch.Report(g))
	}
	if err == nil && verdict == nil && before.ValidatedAt == 0 {
		s.observeValidation(ctx, before, who.Country)
		s.log(ctx).Info("threepid: number validated", "sid", after.SID, "number", phone.Mask(after.MSISDN))
	}
	return after, errors.Join(err, verdict)
}

// confirmingNames returns the names of the rows that a right token changes.
func (s *Service) confirmingNames(sess store.Session, who limit.Subject) store.Names {
	names := withEpoch(bySID(sess.SID), sess.MSISDN, s.limiter.Keys(asker(sess, who), limit.SMSKinds()...)...)
	if who.Client != sess.Client {
		names.Records = append(names.Records, s.limiter.Keys(who, limit.Client)...)
	}
	return names
}

// asker returns who with the client that requested the session's SMS. The name of that client's
// network is not known.
func asker(sess store.Session, who limit.Subject) limit.Subject {
	if who.Client != sess.Client {
		who.Client, who.Prefix = sess.Client, ""
	}
	return who
}

// confirming loads the records that a right token changes: those that the session's SMS
// were charged to and, if another client submits the token, that client's.
func (s *Service) confirming(records []store.Record, sess store.Session, who limit.Subject) (g, other *limit.Ledger, err error) {
	if g, err = s.ledger(records, asker(sess, who), limit.SMSKinds()...); err != nil {
		return nil, nil, err
	}
	if who.Client == sess.Client {
		g.ForgiveCodes(true, true)
		return g, nil, nil
	}
	n := len(s.limiter.Keys(asker(sess, who), limit.SMSKinds()...))
	if other, err = s.ledger(records[n:], who, limit.Client); err != nil {
		return nil, nil, err
	}
	g.ForgiveCodes(true, false)
	other.Borrow(g)
	other.ForgiveCodes(false, true)
	return g, other, nil
}

// Validated looks up a validated session. The error is ErrNoSession, ErrNotValidated or
// ErrExpired; any other means that the store failed.
func (s *Service) Validated(ctx context.Context, sid, clientSecret string) (Validation, error) {
	return s.validated(ctx, sid, clientSecret, func(ctx context.Context, names store.Names, look func(*store.Rows) error) error {
		return store.Follow(names, func(names store.Names) error {
			rows, err := s.units.View(ctx, names)
			if err != nil {
				return err
			}
			return look(&rows)
		})
	})
}

// Redeem is Validated that succeeds once: of many concurrent calls, on any number of nodes,
// one gets the validation and the others ErrNoSession.
func (s *Service) Redeem(ctx context.Context, sid, clientSecret string) (Validation, error) {
	return s.RedeemIn(ctx, s.units.Update, sid, clientSecret)
}

// Unit runs a unit of work, as [store.Store]'s Update does.
type Unit func(ctx context.Context, names store.Names, change func(*store.Rows) error) error

// RedeemIn is Redeem in a unit of work that update runs, as Store.Update does.
func (s *Service) RedeemIn(ctx context.Context, update Unit, sid, clientSecret string) (Validation, error) {
	return s.validated(ctx, sid, clientSecret, func(ctx context.Context, names store.Names, look func(*store.Rows) error) error {
		return update(ctx, names, func(rows *store.Rows) error {
			if err := look(rows); err != nil {
				return err
			}
			rows.Session.RedeemedAt = s.now()
			return nil
		})
	})
}

// validated looks up a validated session and its number's epoch in a unit of work.
func (s *Service) validated(ctx context.Context, sid, clientSecret string, unit Unit) (Validation, error) {
	if err := s.enter(); err != nil {
		return Validation{}, err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if !isOpaque(sid) || !isOpaque(clientSecret) {
		return Validation{}, ErrNoSession
	}
	var v Validation
	err := unit(ctx, store.Names{Session: bySID(sid)}, func(rows *store.Rows) error {
		if err := expectOwned(rows.Session, clientSecret); err != nil {
			return err
		}
		if err := expectNames(rows, withEpoch(bySID(sid), rows.Session.MSISDN)); err != nil {
			return err
		}
		v = validation(rows.Session)
		return validity(rows.Session, rows.Records[0].State, s.lifetimes, s.now())
	})
	if err != nil {
		return Validation{}, err
	}
	return v, nil
}

// find returns the session with that sid if clientSecret is its own, and otherwise
// ErrNoSession. The number and the country of a session never change, so a unit of work that
// names the session may also name their records.
func (s *Service) find(ctx context.Context, sid, clientSecret string) (store.Session, error) {
	if !isOpaque(sid) || !isOpaque(clientSecret) {
		return store.Session{}, ErrNoSession
	}
	rows, err := s.units.View(ctx, store.Names{Session: bySID(sid)})
	if err != nil {
		return store.Session{}, err
	}
	return rows.Session, expectOwned(rows.Session, clientSecret)
}

// expectOwned returns ErrNoSession if the session is absent or clientSecret is not
// its own. Both take the same time.
func expectOwned(sess store.Session, clientSecret string) error {
	if owned := owns(sess, clientSecret); sess.SID == "" || !owned {
		return ErrNoSession
	}
	return nil
}

func validation(s store.Session) Validation {
	return Validation{SID: s.SID, MSISDN: s.MSISDN, Country: s.Country, Purpose: s.Purpose, ValidatedAt: time.UnixMilli(s.ValidatedAt).UTC()}
}
