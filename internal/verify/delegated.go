package verify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// A service may text and check tokens in our place. Its answers are no more
// than that: what is counted, and when, is decided here.

const (
	maxDelegatedToken = 64  // bytes; no service has longer ones
	maxDelegateID     = 255 // bytes: see store.Session

	// limitedFor is how long a client is to wait when a service that refuses for
	// now does not say how long.
	limitedFor = time.Minute
)

// delegated reports whether a service sends and checks the session's tokens.
func (s *Service) delegated(msisdn string) bool {
	_, test := s.testNumber(msisdn)
	return s.Delegate != nil && !test
}

// checkIDServer refuses an identity server that is not the one that validates.
// Where the token is ours, or no identity server's, what the client names is not
// used and does not matter.
func (s *Service) checkIDServer(r Request) error {
	service, ok := s.Delegate.(delegate.IdentityServer)
	if ok && r.IDServer != "" && !service.MatchesServer(r.IDServer) {
		return Errorf(ServerNotTrusted, "This server does not use that identity server")
	}
	return nil
}

// start has the service send a code, by the deadline.
func (s *Service) start(ctx context.Context, c *claim, d delivery, m sms.Message, deadline time.Time) error {
	v := delegate.StartRequest{
		ID: m.ID, Secret: s.delegateSecret(c.sess, d.ClientSecret),
		To: m.To, Country: m.Country, Purpose: d.Purpose, Attempt: d.Attempt,
	}
	handles := make(chan string, 1)
	err := s.callUntil(ctx, deadline, func(ctx context.Context) error {
		handle, err := s.Delegate.Start(ctx, v)
		handles <- handle
		return err
	})
	if err != nil {
		return err
	}
	c.handle = <-handles
	if len(c.handle) > maxDelegateID || strings.ContainsFunc(c.handle, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("the service's handle is longer than %d bytes, or not printable: %w", maxDelegateID, sms.ErrUncertain)
	}
	return nil
}

// limitOf is what a client hears when the service does not text for now, or nil.
func limitOf(err error) error {
	limit, ok := errors.AsType[*delegate.LimitError](err)
	if !ok {
		return nil
	}
	wait := limit.RetryAfter
	if wait <= 0 {
		wait = limitedFor
	}
	return errLimited(wait)
}

// check compares a token that is counted as a wrong one already. No error means
// that it is right.
func (s *Service) check(ctx context.Context, sess store.Session, sub Submission, who limit.Subject) error {
	typed := normalizeToken(sub.Token)
	switch {
	case s.tokenMatches(sess, sub):
		return nil
	case !s.delegated(sess.MSISDN), sess.Decoy, typed == "", len(typed) > maxDelegatedToken:
		return errTokenIncorrect(sess)
	}
	err := s.callWithTimeout(ctx, func(ctx context.Context) error {
		return s.Delegate.Check(ctx, delegate.CheckRequest{
			Handle: sess.DelegateID, Secret: s.delegateSecret(sess, sub.ClientSecret),
			To: "+" + sess.MSISDN, Purpose: sess.Purpose, Token: typed,
		})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, delegate.ErrIncorrect):
		return errTokenIncorrect(sess)
	case errors.Is(err, delegate.ErrExpired):
		return s.alreadyAccepted(ctx, sub)
	}
	s.logCheck(sess, err, typed)
	if outcomeOf(err) != store.OutcomeUnknown {
		s.returnTry(ctx, sess, who)
	}
	return Errorf(CheckFailed, "The code could not be checked. Try again in a moment.")
}

// alreadyAccepted is nil when another request has brought the same token and it was
// right: a service may know nothing of a verification after that. Else the token can no
// longer be right.
func (s *Service) alreadyAccepted(ctx context.Context, sub Submission) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	sess, err := s.find(ctx, sub.SID, sub.ClientSecret)
	if err == nil && !s.tokenMatches(sess, sub) {
		err = errSessionExpired()
	}
	return err
}

func (s *Service) logCheck(sess store.Session, err error, typed string) {
	log, words := s.Logger.Warn, "threepid: the delegate did not say whether a code is right"
	if errors.Is(err, sms.ErrMisconfigured) {
		log, words = s.Logger.Error, "threepid: the delegate rejects the account or its settings; no code can be checked until that is fixed"
	}
	log(words, "sid", sess.SID, "number", phone.Mask(sess.MSISDN),
		"error", redact(err.Error(), typed, sms.Message{To: "+" + sess.MSISDN}))
}

// returnTry takes back what countTry did, for a token that nobody compared: a
// service that is down must not use up a person's tries.
func (s *Service) returnTry(ctx context.Context, tried store.Session, who limit.Subject) {
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	names := store.Names{Session: bySID(tried.SID), Records: s.limiter.Keys(who, limit.CodeKinds()...)}
	err := s.units.Update(ctx, names, func(rows *store.Rows) error {
		g, err := s.ledger(rows.Records, who, limit.CodeKinds()...)
		if err != nil {
			return err
		}
		sess := &rows.Session
		if subtle.ConstantTimeCompare(sess.Nonce, tried.Nonce) == 0 || sess.WrongTries == 0 {
			return nil // a token that is no longer, or was right in the meantime
		}
		sess.WrongTries--
		g.ReturnCode()
		g.CountFailed()
		return g.Put()
	})
	if err != nil {
		s.Logger.Error("threepid: a code that was not compared stays counted as a wrong one: the database fails", "sid", tried.SID, "error", err)
	}
}

// delegateSecret stands for the client towards the service: it changes with the
// nonce, as our own token would, and does not tell the client_secret.
func (s *Service) delegateSecret(sess store.Session, clientSecret string) string {
	return s.keyed(sess, "delegate", string(sess.Purpose), clientSecret)
}

// proofOf is a digest of a token that was right, so that the same token said
// again is known without asking the service, which may have forgotten it. Without
// the client_secret, which is in no row, no token can be tried against it.
func (s *Service) proofOf(sess store.Session, clientSecret, typed string) string {
	return s.keyed(sess, "proof", string(sess.Purpose), clientSecret, normalizeToken(typed))
}

// keyed is HMAC-SHA256 over parts and the sid, keyed as the token.
func (s *Service) keyed(sess store.Session, parts ...string) string {
	key, _ := s.keys.of(sess)
	mac := hmac.New(sha256.New, key)
	for _, part := range append(parts, sess.SID) {
		_, _ = io.WriteString(mac, part+"\x00")
	}
	return hex.EncodeToString(mac.Sum(nil))
}
