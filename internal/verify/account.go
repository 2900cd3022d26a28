package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"example.com/threepid/internal/phone"
	"example.com/threepid/store"
)

const (
	// MediumMSISDN is the Matrix specification's name for the kind of third-party
	// identifier that a phone number is.
	MediumMSISDN = "msisdn"

	// MaxUserIDLength is in bytes; stores keep no more.
	MaxUserIDLength = 255

	maxMSISDNLength = 20 // digits; stores keep no more
	releaseTries    = 3
)

// Addition adds the number of a validated session to an account.
type Addition struct {
	SID          string
	ClientSecret string
}

// Removal removes a number from an account.
type Removal struct {
	Medium  string
	Address string // as in the account's list: E.164 without the plus sign
}

// Add adds the number of a validated session to the user's account.
//
// It first reserves the validation for the user, in competition with Redeem and with every
// other Add, and then associates the number, where the store's unique index decides. So no
// validation serves two accounts, and no number is on two. If the process dies in between,
// the hold records who reserved the validation, and a retry of the same user continues. Once
// the number is on the account the hold is consumed: to add a number again that was deleted
// or released, the user must prove it again.
func (s *Service) Add(ctx context.Context, userID string, a Addition) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	slot := s.slots.Start()
	ctx, cancel := bounded(ctx)
	defer cancel()

	if err := s.expectAccounts(); err != nil {
		return err
	}
	h, claim, err := s.reserve(ctx, userID, a)
	switch {
	case errors.Is(err, ErrNoSession):
		slot.Wait() // so that time does not reveal whether the sid or the client_secret was wrong
		return errNotProved()
	case errors.Is(err, ErrNotValidated), errors.Is(err, ErrExpired):
		return errNotProved()
	case err != nil:
		return err
	case claim == consumed:
		return s.expectOwner(ctx, userID, h.sess.MSISDN)
	}
	return s.associate(ctx, userID, h)
}

// expectAccounts returns an error if Accounts only looks numbers up, before a validation is
// reserved or voided for a change that cannot be made.
func (s *Service) expectAccounts() error {
	if _, looksUp := s.Accounts.(store.OwnerFunc); looksUp {
		return fmt.Errorf("threepid: change an account's numbers: %w", store.ErrUnsupported)
	}
	return nil
}

// associate adds the number of a hold to the user's account, and consumes the hold. It
// finishes even if the client disconnects: a client that disconnects at the right moment
// could otherwise keep a hold, and add the number again after its release.
func (s *Service) associate(ctx context.Context, userID string, h hold) error {
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	err := s.Accounts.Associate(ctx, store.Association{
		UserID: userID, MSISDN: h.sess.MSISDN, ValidatedAt: h.sess.ValidatedAt, AddedAt: s.now(),
	})
	switch {
	case errors.Is(err, store.ErrInUse):
		return errInUse()
	case errors.Is(err, store.ErrOneNumber):
		return Errorf(Denied, "Your account has another phone number, and can have one only. Remove that number first.")
	case err != nil:
		return fmt.Errorf("threepid: add the number to the account: %w", err)
	}
	if err := s.consume(ctx, userID, h); err != nil {
		return s.takeBack(ctx, userID, h, err)
	}
	s.observeNumber(ctx, "added", h.sess.MSISDN)
	s.log(ctx).Info("threepid: number added to an account", "sid", h.sess.SID, "number", phone.Mask(h.sess.MSISDN))
	return nil
}

// takeBack removes the number from the account again if it was released after the validation
// was reserved, because the release may have found it on no account yet. consumeErr is why
// the hold was not consumed.
func (s *Service) takeBack(ctx context.Context, userID string, h hold, consumeErr error) error {
	if !errors.Is(consumeErr, ErrNotValidated) {
		return consumeErr
	}
	ctx, cancel := detached(ctx, storeTimeout) // the steps before may have used up its time
	defer cancel()
	err := s.Accounts.Dissociate(ctx, userID, h.sess.MSISDN)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("threepid: remove a number that was released while it was added: %w", err)
	}
	return errNotProved()
}

// holdState is how far a user has used a validation.
type holdState int

const (
	unclaimed holdState = iota // nobody has reserved it
	held                       // this user has reserved it, and may associate the number
	consumed                   // this user has associated the number, or the host has redeemed it
)

// hold is a session and the user who reserved its validation for an account.
type hold struct {
	sess  store.Session
	state string // of its record
	epoch string // of the number
}

// holdNames are the session's row, its number's epoch and its hold. The nonce
// distinguishes one validation of a session from the next: each has a hold of its own.
func holdNames(sess store.Session) store.Names {
	return withEpoch(bySID(sess.SID), sess.MSISDN, store.RecordKey("adder", sess.SID, hex.EncodeToString(sess.Nonce)))
}

// holdIn returns the hold in rows that holdNames has named.
func holdIn(rows *store.Rows, a Addition) (hold, error) {
	if err := expectOwned(rows.Session, a.ClientSecret); err != nil {
		return hold{}, err
	}
	if err := expectNames(rows, holdNames(rows.Session)); err != nil {
		return hold{}, err
	}
	return hold{sess: rows.Session, epoch: rows.Records[0].State, state: rows.Records[1].State}, nil
}

// claim returns how far the user has used the validation, or why it does not count.
func (h hold) claim(userID string, l lifetimes, now int64) (holdState, error) {
	switch state := h.state; {
	case expired(h.sess, now), lapsed(h.sess, l, now):
		return 0, ErrExpired
	case h.sess.Epoch != h.epoch && state != holder(consumed, userID):
		return 0, ErrNotValidated
	case state == holder(held, userID):
		return held, nil
	case state == holder(consumed, userID), state == "" && h.sess.RedeemedAt != 0:
		return consumed, nil
	case state != "":
		return 0, errInUse() // another user has reserved it, or has added the number
	}
	if err := validity(h.sess, h.epoch, l, now); err != nil {
		return 0, err
	}
	if h.sess.Purpose != store.PurposeAdd {
		return 0, ErrNotValidated // the SMS said that the code was for another purpose
	}
	return unclaimed, nil
}

// holder returns the state of a hold. It has a digest of the user's ID, because a digest has
// a fixed length and is UTF-8.
func holder(c holdState, userID string) string {
	digest := sha256.Sum256([]byte(userID))
	return fmt.Sprintf("%d %x", c, digest)
}

// reserve reserves the validation for the user. A refusal, or a validation that the user
// has reserved before, takes no write lock.
func (s *Service) reserve(ctx context.Context, userID string, a Addition) (h hold, c holdState, err error) {
	named, err := s.find(ctx, a.SID, a.ClientSecret)
	if err != nil {
		return h, 0, err
	}
	look := func(rows *store.Rows) error {
		if h, err = holdIn(rows, a); err == nil {
			c, err = h.claim(userID, s.lifetimes, s.now())
		}
		return err
	}
	names := holdNames(named)
	rows, err := s.units.View(ctx, names)
	if err == nil {
		err = look(&rows)
	}
	if err != nil && !errors.Is(err, store.ErrNames) || err == nil && c != unclaimed {
		return h, c, err
	}
	err = s.units.Update(ctx, names, func(rows *store.Rows) error {
		if err := look(rows); err != nil || c != unclaimed {
			return err // overtaken by another request
		}
		rows.Session.RedeemedAt = s.now()
		rows.Records[1].State, rows.Records[1].ExpiresAt = holder(held, userID), h.sess.ExpiresAt
		return nil
	})
	return h, c, err
}

// consume records that the number of a hold is on the account. It returns
// ErrNotValidated if the number was released since the validation was reserved.
func (s *Service) consume(ctx context.Context, userID string, h hold) error {
	names := store.Names{Records: holdNames(h.sess).Records}
	return s.units.Update(ctx, names, func(rows *store.Rows) error {
		if rows.Records[0].State != h.sess.Epoch {
			return ErrNotValidated
		}
		rows.Records[1].State, rows.Records[1].ExpiresAt = holder(consumed, userID), h.sess.ExpiresAt
		return nil
	})
}

// expectOwner returns an error unless the number is still on the account to which a consumed
// validation added it.
func (s *Service) expectOwner(ctx context.Context, userID, msisdn string) error {
	owner, err := s.Accounts.Owner(ctx, msisdn)
	switch {
	case err == nil && owner == userID:
		return nil
	case err == nil, errors.Is(err, store.ErrNotFound):
		return errNotProved()
	default:
		return fmt.Errorf("threepid: look up the number's account: %w", err)
	}
}

// Numbers returns the user's numbers, oldest association first.
func (s *Service) Numbers(ctx context.Context, userID string) ([]store.Association, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	list, err := s.Accounts.List(ctx, userID)
	if err != nil {
		return nil, fmt.Errorf("threepid: list the account's numbers: %w", err)
	}
	return list, nil
}

// Remove removes a number from the user's account. It is not an error if the account does not
// have it.
func (s *Service) Remove(ctx context.Context, userID string, r Removal) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	if r.Medium != MediumMSISDN {
		return Errorf(InvalidParam, "medium must be %s: no other is kept here", MediumMSISDN)
	}
	if !isMSISDN(r.Address) {
		return Errorf(InvalidParam, "address must be a phone number as the account's list has it: digits, without a plus sign")
	}
	if err := s.expectAccounts(); err != nil {
		return err
	}
	if s.Conceal {
		defer s.slots.Start().Wait()
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	owner, err := s.Accounts.Owner(ctx, r.Address)
	if err == nil && owner != userID {
		err = store.ErrNotFound
	}
	if err == nil {
		err = s.unlink(ctx, userID, r.Address)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("threepid: remove the number from the account: %w", err)
	}
	s.observeNumber(ctx, "removed", r.Address)
	s.log(ctx).Info("threepid: number removed from an account", "number", phone.Mask(r.Address))
	return nil
}

// unlink voids the number's proofs and removes it from the account, or returns
// store.ErrNotFound. In this order, an Add that uses a proof at the same time is either
// refused or undone.
func (s *Service) unlink(ctx context.Context, userID, msisdn string) error {
	if err := s.voidProofs(ctx, msisdn); err != nil {
		return err
	}
	return s.Accounts.Dissociate(ctx, userID, msisdn)
}

// Release voids the proofs of a number, in E.164 with or without the plus sign, and
// removes it from the account that has it, or returns ErrNoAccount.
func (s *Service) Release(ctx context.Context, number string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	n, err := phone.ParseE164(number)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for range releaseTries {
		err = s.releaseOnce(ctx, n.MSISDN)
		switch {
		case errors.Is(err, ErrNoAccount):
			s.observeAction(ctx, "release", phone.Mask(n.MSISDN)) // its proofs are void
			return err
		case errors.Is(err, store.ErrNotFound):
			continue // it has moved to another account
		case err != nil:
			return fmt.Errorf("threepid: release a number: %w", err)
		}
		s.observeNumber(ctx, "released", n.MSISDN)
		s.observeAction(ctx, "release", phone.Mask(n.MSISDN))
		s.log(ctx).Info("threepid: number released from its account", "number", phone.Mask(n.MSISDN))
		return nil
	}
	return errors.New("threepid: release a number: its account keeps changing")
}

// releaseOnce voids the number's proofs before it looks for an account: an Add that relies
// on an old proof has either added the number by then, or undoes it.
func (s *Service) releaseOnce(ctx context.Context, msisdn string) error {
	if err := s.voidProofs(ctx, msisdn); err != nil {
		return err
	}
	owner, err := s.Accounts.Owner(ctx, msisdn)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrNoAccount
	case err != nil:
		return err
	}
	return s.Accounts.Dissociate(ctx, owner, msisdn)
}

// isMSISDN reports whether s has the form of a stored number. It need not be a possible
// number, because every stored number must be removable.
func isMSISDN(s string) bool {
	return s != "" && len(s) <= maxMSISDNLength && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}

func errInUse() error {
	// Element Android compares this text.
	return Errorf(InUse, "MSISDN is already in use")
}

func errNotProved() error {
	return Errorf(AuthFailed, "No confirmed phone number belongs to that sid and client_secret. "+
		"Ask for a code to add the number, submit it, and try again.")
}
