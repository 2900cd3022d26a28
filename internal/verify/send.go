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
	// How often, and first after what pause, the end of a claim is written again
	// when the store fails. The pause doubles.
	settleTries = 6
	settlePause = 25 * time.Millisecond

	// When all those have failed: how long until the next such round.
	settleLaterPause = time.Second

	// lastWord is how long a sender whose time is over may take to say how far it came.
	lastWord = 50 * time.Millisecond
)

// errAbandoned is how a claim ends whose request failed or panicked half-way.
var errAbandoned = errors.New("threepid: the request that was sending has failed")

// send texts the token of a session whose claim is ours, and records how that
// ended. It goes on when the caller hangs up.
func (s *Service) send(ctx context.Context, c claim, d delivery) (Receipt, error) {
	sess := c.sess
	defer s.flights.land(sess.ClaimID, errAbandoned) // does nothing but when the store panics
	code := s.code(sess, d.ClientSecret)
	m := sms.Message{
		ID:      messageID(sess, d.Attempt),
		To:      "+" + sess.MSISDN,
		Country: d.destination(),
		Attempt: d.Attempt,
	}
	err := s.carry(ctx, &c, d, &m, code)
	outcome := outcomeOf(err)
	log := s.Logger.With("sid", sess.SID, "to", Mask(sess.MSISDN), "attempt", d.Attempt)
	switch {
	case errors.Is(err, sms.ErrMisconfigured): // nobody gets a text until the operator acts
		log.Error("threepid: SMS not sent: the provider refuses the account or its settings, and will until somebody mends that",
			"outcome", outcome, "error", redact(err.Error(), code, m))
	case err != nil:
		log.Warn(failureWords(outcome), "outcome", outcome, "error", redact(err.Error(), code, m))
	default:
		log.Info("threepid: SMS accepted by the provider", "test_number", d.test)
	}

	answer := outcomeError(outcome)
	if limit := limitOf(err); limit != nil {
		answer = limit
	}
	settleErr := s.settle(ctx, c, d, outcome)
	if settleErr != nil {
		log.Error("threepid: cannot record how an SMS ended: the database fails", "outcome", outcome, "error", settleErr)
	}
	if settleErr != nil && outcome == store.OutcomeAccepted {
		// The SMS is out and its token is good, so the caller is not told of
		// our trouble; but this attempt must not be texted again.
		s.flights.landUnrecorded(sess.ClaimID)
		s.active.Add(1)
		go s.settleLater(context.WithoutCancel(ctx), c, d)
	} else {
		// A claim that failed and cannot be given back runs out by itself.
		s.flights.land(sess.ClaimID, answer)
	}
	return Receipt{SID: sess.SID, Number: d.number}, answer
}

// failureWords say for the log what became of an SMS that was not accepted.
func failureWords(o store.Outcome) string {
	switch o {
	case store.OutcomeRejected:
		return "threepid: SMS not sent: the provider cannot reach that number"
	case store.OutcomeUnknown:
		return "threepid: SMS perhaps sent: the provider did not say in time whether it took it"
	case store.OutcomeFailed, store.OutcomePending, store.OutcomeAccepted:
	}
	return "threepid: SMS not sent; another try may work"
}

// carry has the token texted, and completes the message with the text.
func (s *Service) carry(ctx context.Context, c *claim, d delivery, m *sms.Message, code string) error {
	switch {
	case d.test:
		return nil
	case s.Delegate != nil:
		return s.start(ctx, c, d, *m)
	}
	m.Text = s.Text(textFor(d, code))
	return s.hand(ctx, func(ctx context.Context) error { return s.Sender.Send(ctx, *m) })
}

// TextFor is what a text has to say. The same one gives the same text, or a
// retry would bring another than the one that it may repeat.
type TextFor struct {
	Purpose        store.Purpose
	AcceptLanguage string // of the Request
	Decoy          bool   // say why there is no token; Token is empty
	Token          string
}

func textFor(d delivery, code string) TextFor {
	t := TextFor{Purpose: d.Purpose, AcceptLanguage: d.AcceptLanguage, Decoy: d.decoy}
	if !d.decoy {
		t.Token = code
	}
	return t
}

// destination is the country of the number, or where it was dialled from when it
// belongs to none.
func (d delivery) destination() string {
	if home := d.number.Home(); home != noCountry {
		return home
	}
	return d.Country
}

// settleLater goes on trying to record an accepted SMS, until it succeeds or
// the plugin is closed.
func (s *Service) settleLater(ctx context.Context, c claim, d delivery) {
	defer s.active.Done()
	defer s.flights.forget(c.sess.ClaimID)
	for {
		select {
		case <-s.stopping:
			return
		case <-time.After(settleLaterPause):
		}
		if s.settle(ctx, c, d, store.OutcomeAccepted) == nil {
			s.Logger.Info("threepid: an SMS is on record at last", "sid", c.sess.SID, "attempt", d.Attempt)
			return
		}
	}
}

// hand has the host's sender or service do something and returns soon after the send
// timeout, whatever that does: hang, ignore its context, or panic.
func (s *Service) hand(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := detached(ctx, s.SendTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				// Nobody knows how far it had come.
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
	case <-time.After(lastWord):
		return fmt.Errorf("the sender did not answer within %v: %w", s.SendTimeout, ctx.Err())
	}
}

// settle records how our claim ended. An attempt that failed is given back, and
// with it what it took from the buckets, unless its text may have left.
func (s *Service) settle(ctx context.Context, c claim, d delivery, o store.Outcome) error {
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
		err = s.Store.Update(ctx, func(tx store.Tx) error { return s.settleIn(tx, c, d, o) })
		if err == nil {
			return nil
		}
	}
	return err
}

func (s *Service) settleIn(tx store.Tx, c claim, d delivery, o store.Outcome) error {
	var t *tally
	if c.charged && (o == store.OutcomeFailed || o == store.OutcomeRejected) {
		var err error
		if t, err = s.tally(tx, d.who, textScopes()...); err != nil {
			return err
		}
	}
	current, err := tx.SessionBySID(c.sess.SID)
	if errors.Is(err, store.ErrNotFound) {
		return nil // expired meanwhile, and deleted or replaced
	}
	if err != nil {
		return err
	}
	// Not twice, should the first time have been kept and the news of it lost.
	if t != nil && current.ClaimID == c.sess.ClaimID && current.Outcome == store.OutcomePending {
		t.returnText(c.counted, c.at)
		t.countFailed()
		if err := t.put(tx); err != nil {
			return err
		}
		current = uncharged(current, d.who.client)
	}
	return tx.PutSession(settled(current, c.sess, o, c.handle))
}

// outcomeOf tells how a send ended. One that was cut off may have left.
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

// redact takes out of a sender's error what belongs in no log. The token need
// not be in the text, if that is a decoy's.
func redact(text, code string, m sms.Message) string {
	return sms.Redact(strings.ReplaceAll(text, code, "******"), m)
}
