package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/internal/texts"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

const (
	// If the store fails, the outcome of a claim is written up to recordTries times, with a
	// pause of recordPause that doubles, for recordTimeout at most: as long as the lease
	// lasts beyond the send.
	recordTries   = 6
	recordPause   = 25 * time.Millisecond
	recordTimeout = leaseMargin

	// retryRecordPause is the pause before the next such round, if all those have failed.
	retryRecordPause = time.Second

	// sendGrace is how long a sender may take to return its error after the deadline.
	sendGrace = 50 * time.Millisecond
)

// send sends the code of a session whose claim this node has, and records the outcome. It
// continues if the client disconnects. The error is errOvertaken if nothing was sent because
// another node has taken over the claim.
func (s *Service) send(ctx context.Context, c claim, d delivery) (Receipt, error) {
	code := s.code(c.sess, d.ClientSecret)
	m := sms.Message{
		ID:         messageID(c.sess, d.Attempt),
		To:         "+" + c.sess.MSISDN,
		Country:    d.destination(),
		Attempt:    d.Attempt,
		SentBefore: max(0, c.sess.Texts-1), // Texts includes this one
	}
	if s.Delegate == nil && !d.test {
		m.Code, m.Purpose, m.Brand = d.shown(code), string(d.Purpose), s.Brand
		m.Text, m.Language = s.Text(d.kind(), d.language(), m.Code)
	}
	var deadline time.Time
	if !d.test {
		err := s.renewGrant(ctx, &c, d)
		if err == nil {
			deadline, err = s.holdLease(ctx, &c)
		}
		if err == nil && s.closing.Err() != nil {
			err = ErrClosed
		}
		if err == nil && !s.budgets.Valid(c.grant) {
			err = errStoreTooSlow // renewing the claim took as long as a budget's lease
		}
		if err != nil {
			return Receipt{}, s.abandon(ctx, c, d, err)
		}
	}
	m.Validity = (time.Duration(c.sess.TokenExpiresAt-s.now()) * time.Millisecond).Round(time.Second)
	report := sendReport{message: m}
	began := time.Now() //nolint:forbidigo // how long the provider really takes
	err := s.dispatch(sms.WithReport(ctx, report.report), &c, d, m, deadline)
	outcome := outcomeOf(err)
	if !d.test {
		c.provider = s.providerOf(report.get())
	}
	s.observeSMS(ctx, d, &c, m, outcome, time.Since(began), report.get())
	cause := ""
	if err != nil {
		cause = redact(err.Error(), code, m)
	}
	s.logOutcome(ctx, c, d, outcome, report.get(), errors.Is(err, sms.ErrMisconfigured), cause)
	return Receipt{SID: c.sess.SID, Number: d.number}, s.conclude(ctx, c, d, outcome, err)
}

// abandon gives back a claim that will not be sent, and returns why.
func (s *Service) abandon(ctx context.Context, c claim, d delivery, why error) error {
	if errors.Is(why, errOvertaken) {
		return why
	}
	if err := s.recordOutcome(ctx, c, d, store.OutcomeFailed); err != nil {
		s.log(ctx).Error("threepid: cannot give a claim back, so it blocks its session until the lease ends: the database fails",
			"sid", c.sess.SID, "attempt", d.Attempt, "error", err)
	}
	return why
}

// conclude records the outcome, and returns the error for the client. An accepted SMS that is
// not recorded is not a success, because another node would send it again after the lease.
func (s *Service) conclude(ctx context.Context, c claim, d delivery, outcome store.Outcome, sendErr error) error {
	told := outcomeError(outcome)
	if limit := limitOf(sendErr); limit != nil {
		told = limit
	}
	err := s.recordOutcome(ctx, c, d, outcome)
	if err == nil {
		return told
	}
	s.log(ctx).Error("threepid: cannot record how an SMS ended: the database fails",
		"sid", c.sess.SID, "attempt", d.Attempt, "outcome", outcome, "error", err)
	if outcome != store.OutcomeAccepted {
		return told // the claim expires by itself
	}
	s.flights.keepUnrecorded(c)
	s.active.Add(1)
	go s.retryRecordOutcome(context.WithoutCancel(ctx), c)
	return fmt.Errorf("threepid: an SMS was accepted and cannot be recorded: %w", err)
}

func (s *Service) logOutcome(
	ctx context.Context, c claim, d delivery, outcome store.Outcome, r sms.Result, misconfigured bool, cause string,
) {
	log := s.log(ctx).With("sid", c.sess.SID, "to", phone.Mask(c.sess.MSISDN), "attempt", d.Attempt)
	if r.Provider != "" {
		log = log.With("provider", r.Provider)
	}
	if r.MessageID != "" {
		log = log.With("message_id", r.MessageID)
	}
	switch {
	case misconfigured: // no SMS is sent until the operator acts
		log.Error("threepid: SMS not sent: the provider refuses the account or its settings, and will until that is fixed",
			"outcome", outcome, "error", cause)
	case outcome != store.OutcomeAccepted:
		log.Warn(failureWords(outcome), "outcome", outcome, "error", cause)
	default:
		log.Info("threepid: SMS accepted by the provider", "test_number", d.test)
	}
}

// failureWords is the log line for an SMS that was not accepted.
func failureWords(o store.Outcome) string {
	switch o {
	case store.OutcomeRejected:
		return "threepid: SMS not sent: the provider cannot reach that number"
	case store.OutcomeUnknown:
		return "threepid: SMS perhaps sent: the provider did not respond in time"
	case store.OutcomeFailed, store.OutcomePending, store.OutcomeAccepted:
	}
	return "threepid: SMS not sent; another try may work"
}

// dispatch passes the message to the sender or the delegate, with a deadline.
func (s *Service) dispatch(ctx context.Context, c *claim, d delivery, m sms.Message, deadline time.Time) error {
	switch {
	case d.test:
		return nil
	case s.Delegate != nil:
		return s.start(ctx, c, d, m, deadline)
	}
	return s.callUntil(ctx, deadline, func(ctx context.Context) error { return s.Sender.Send(ctx, m) })
}

// kind returns what the SMS says.
func (d delivery) kind() texts.Kind {
	switch {
	case d.Purpose == store.PurposeRegister && d.decoy:
		return texts.TakenRegister
	case d.Purpose == store.PurposeRegister:
		return texts.Register
	case d.Purpose == store.PurposePassword && d.decoy:
		return texts.Unknown
	case d.Purpose == store.PurposePassword:
		return texts.Password
	case d.decoy:
		return texts.TakenAdd
	}
	return texts.Add
}

// language returns the Accept-Language that selects the text. Homeservers send none, so the
// language of their SMS follows the number's country.
func (d delivery) language() string {
	if d.AcceptLanguage == "" && d.Purpose == store.PurposeIdentity {
		return texts.LanguageOf(d.number.Home())
	}
	return d.AcceptLanguage
}

// shown returns the code as far as the SMS may show it: a decoy's is not in any.
func (d delivery) shown(code string) string {
	if d.decoy {
		return ""
	}
	return code
}

// destination is the country of the number, or the client's if the number belongs to
// no country.
func (d delivery) destination() string {
	if home := d.number.Home(); home != noCountry {
		return home
	}
	return d.Country
}

// retryRecordOutcome keeps trying to record an accepted SMS. When the plugin is closed it
// tries once more.
func (s *Service) retryRecordOutcome(ctx context.Context, c claim) {
	defer s.active.Done()
	for {
		last := false
		select {
		case <-s.closing.Done():
			last = true
		case <-time.After(retryRecordPause):
		}
		err := s.recordLate(ctx, c.sess.Key)
		switch {
		case err == nil:
			return
		case last:
			s.log(ctx).Error("threepid: an accepted SMS stays unrecorded, so a retry of its attempt is sent again: the database fails",
				"sid", c.sess.SID, "attempt", c.sess.ClaimAttempt, "error", err)
			return
		}
	}
}

// recordLate records the accepted SMS of a session that is not recorded yet, if there is
// one. Until then no other request for the session can continue.
func (s *Service) recordLate(ctx context.Context, key store.Key) error {
	c, ok := s.flights.findUnrecorded(key)
	if !ok {
		return nil
	}
	if err := s.recordOutcome(ctx, c, delivery{}, store.OutcomeAccepted); err != nil {
		return fmt.Errorf("threepid: an SMS was accepted and cannot be recorded: %w", err)
	}
	if s.flights.forget(c) {
		s.log(ctx).Info("threepid: an accepted SMS is recorded now", "sid", c.sess.SID, "attempt", c.sess.ClaimAttempt)
	}
	return nil
}

// callWithTimeout is callUntil with the send timeout.
func (s *Service) callWithTimeout(ctx context.Context, do func(context.Context) error) error {
	return s.callUntil(ctx, time.Now().Add(s.SendTimeout), do) //nolint:forbidigo // a context's deadline is on this clock
}

// callUntil calls the host's sender or delegate, and returns soon after the deadline even if
// that hangs, ignores its context or panics.
func (s *Service) callUntil(ctx context.Context, deadline time.Time, do func(context.Context) error) error {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	if ctx.Err() != nil {
		return errors.New("nothing was sent: the process was paused before the call for as long as the call may take")
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				// The SMS may have been sent before the panic.
				done <- fmt.Errorf("the sender panicked: %v: %w", v, sms.ErrUncertain)
			}
		}()
		done <- do(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(sendGrace):
		return fmt.Errorf("the sender did not return within %v: %w", s.SendTimeout, ctx.Err())
	}
}

// recordOutcome records how a claim of this node ended. A failed attempt is given back, and
// its charge to the limits too, unless its SMS may have been sent.
func (s *Service) recordOutcome(ctx context.Context, c claim, d delivery, o store.Outcome) error {
	ctx, cancel := detached(ctx, recordTimeout)
	defer cancel()
	var err error
	pause := recordPause
	for try := range recordTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pause):
			}
			pause *= 2
		}
		var g *limit.Ledger
		var returned bool
		if g, returned, err = s.recordOutcomeOnce(ctx, c, d, o); err == nil {
			s.reportBlocks(ctx, s.limiter.Watch.Report(g))
			if returned {
				s.budgets.Return(c.grant)
			}
			return nil
		}
	}
	return err
}

// recordOutcomeOnce records the outcome in a unit of work. returned reports whether the
// SMS was given back to the limits.
func (s *Service) recordOutcomeOnce(ctx context.Context, c claim, d delivery, o store.Outcome) (g *limit.Ledger, returned bool, err error) {
	if o == store.OutcomeFailed && c.again {
		o = store.OutcomeUnknown // the earlier try may have been sent, so it stays charged
	}
	failed := o == store.OutcomeFailed || o == store.OutcomeRejected
	names := store.Names{Session: bySID(c.sess.SID)}
	if c.charged && failed {
		names.Records = s.limiter.Keys(d.who, limit.SMSKinds()...)
	}
	err = s.units.Update(ctx, names, func(rows *store.Rows) (err error) {
		g, returned = nil, false
		current := rows.Session
		if current.SID == "" {
			return nil // expired in the meantime, and deleted or replaced
		}
		if c.charged && failed {
			if g, err = s.ledger(rows.Records, d.who, limit.SMSKinds()...); err != nil {
				return err
			}
		}
		// Only once: an earlier try may have been committed, and only its response lost.
		if failed && !c.again && current.ClaimID == c.sess.ClaimID && current.Outcome == store.OutcomePending {
			if g != nil {
				g.ReturnSMS(c.counted, c.at)
				g.CountFailed()
				err = g.Put()
				returned = true
			}
			current = uncharged(current, d.who.Client)
		}
		rows.Session = settled(current, c, o)
		return err
	})
	return g, returned, err
}

// outcomeOf returns how a send ended. One that was cut off may have been sent.
func outcomeOf(err error) store.Outcome {
	switch {
	case err == nil:
		return store.OutcomeAccepted
	case errors.Is(err, sms.ErrRejected):
		return store.OutcomeRejected
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, sms.ErrUncertain):
		return store.OutcomeUnknown
	default:
		return store.OutcomeFailed
	}
}

func outcomeError(o store.Outcome) error {
	switch o {
	case store.OutcomeAccepted:
		return nil
	case store.OutcomeRejected:
		return Errorf(DestinationRejected, "Text messages cannot be sent to this number")
	case store.OutcomePending, store.OutcomeFailed, store.OutcomeUnknown:
		return Errorf(SendFailed, "The text message could not be sent. Try again later.")
	}
	return fmt.Errorf("threepid: unknown outcome %q", o)
}

// redact removes from a sender's error what must not be logged, including the code, which a
// decoy's text does not contain.
func redact(text, code string, m sms.Message) string {
	return sms.Redact(strings.ReplaceAll(text, code, "******"), m)
}
