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
	"log/slog"
	"strings"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// A delegate sends and checks tokens. What is counted, and when, is decided here.

const (
	maxDelegatedToken = 64  // bytes; no service has longer ones
	maxDelegateID     = 255 // bytes: see store.Session

	// limitedFor is how long a client must wait if a delegate limits the number and does not
	// say for how long.
	limitedFor = time.Minute
)

// delegated reports whether a service sends and checks the session's tokens.
func (s *Service) delegated(msisdn string) bool {
	_, test := s.testNumber(msisdn)
	return s.Delegate != nil && !test
}

// checkIDServer refuses an id_server that is not the delegate. If the delegate is not an
// identity server, or there is none, id_server is ignored.
func (s *Service) checkIDServer(r Request) error {
	service, ok := s.Delegate.(delegate.IdentityServer)
	if ok && r.IDServer != "" && !service.MatchesServer(r.IDServer) {
		return Errorf(ServerNotTrusted, "This server does not use that identity server")
	}
	return nil
}

// start asks the delegate to send a code, by the deadline.
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

// limitOf returns the error for a client whose number the delegate limits, or nil.
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

// check compares a token whose try is already counted. A nil error means that it is right.
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
	s.logCheck(ctx, sess, err, typed)
	if outcomeOf(err) != store.OutcomeUnknown {
		s.returnTry(ctx, sess, who)
	}
	return Errorf(CheckFailed, "The code could not be checked. Try again in a moment.")
}

// alreadyAccepted returns nil if another request has submitted the same token and it was
// right, because a delegate may forget a verification after that. Otherwise the token can
// no longer be right.
func (s *Service) alreadyAccepted(ctx context.Context, sub Submission) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	sess, err := s.find(ctx, sub.SID, sub.ClientSecret)
	if err == nil && !s.tokenMatches(sess, sub) {
		err = errSessionExpired()
	}
	return err
}

func (s *Service) logCheck(ctx context.Context, sess store.Session, err error, typed string) {
	level, words := slog.LevelWarn, "threepid: the delegate did not say whether a code is right"
	if errors.Is(err, sms.ErrMisconfigured) {
		level, words = slog.LevelError, "threepid: the delegate rejects the account or its settings; no code can be checked until that is fixed"
	}
	s.log(ctx).Log(ctx, level, words, "sid", sess.SID, "number", phone.Mask(sess.MSISDN),
		"error", redact(err.Error(), typed, sms.Message{To: "+" + sess.MSISDN}))
}

// returnTry undoes countTry for a token that was not compared, so that a delegate which is
// down does not use up a person's tries.
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
			return nil // the token was replaced, or was right
		}
		sess.WrongTries--
		g.ReturnCode()
		g.CountFailed()
		return g.Put()
	})
	if err != nil {
		s.log(ctx).Error("threepid: a code that was not compared stays counted as a wrong one: the database fails", "sid", tried.SID, "error", err)
	}
}

// delegateSecret is the secret of the session for the delegate. It changes with the nonce,
// as a token would, and does not reveal the client_secret.
func (s *Service) delegateSecret(sess store.Session, clientSecret string) string {
	return s.keyed(sess, "delegate", string(sess.Purpose), clientSecret)
}

// proofOf returns a digest of a right token, by which the same token is recognised again
// without asking the delegate, which may have forgotten it. No token can be tried against
// the digest without the client_secret, which is in no row.
func (s *Service) proofOf(sess store.Session, clientSecret, typed string) string {
	return s.keyed(sess, "proof", string(sess.Purpose), clientSecret, normalizeToken(typed))
}

// keyed returns the HMAC-SHA256 of parts and the sid, with the key of the token.
func (s *Service) keyed(sess store.Session, parts ...string) string {
	key, _ := s.keys.of(sess)
	mac := hmac.New(sha256.New, key)
	for _, part := range append(parts, sess.SID) {
		_, _ = io.WriteString(mac, part+"\x00")
	}
	return hex.EncodeToString(mac.Sum(nil))
}
