package verify

import (
	"context"
	"slices"
	"sync"
	"time"

	"example.com/threepid/internal/history"
	"example.com/threepid/internal/limit"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

const (
	// maxEarly is how many receipts wait for their SMS, and earlyWait how long. The node that
	// sent the SMS writes it to the journal two seconds later, or more if the database is slow.
	maxEarly  = 1000
	earlyWait = 15 * time.Second

	// receiptLocks is how many messages' receipts are recorded at a time.
	receiptLocks = 64
)

// early are receipts whose SMS is not in the journal yet.
type early struct {
	mu   sync.Mutex
	list []earlyReceipt
}

type earlyReceipt struct {
	ctx     context.Context // its values alone
	receipt sms.Receipt
	until   time.Time
}

// add makes a receipt wait, and reports whether there was room. One that waits already is not added
// again: otherwise a client that repeats it could take the room of others.
func (e *early) add(r earlyReceipt) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.ContainsFunc(e.list, func(other earlyReceipt) bool {
		return other.receipt.MessageID == r.receipt.MessageID && other.receipt.Status == r.receipt.Status
	}) {
		return true
	}
	if len(e.list) == maxEarly {
		return false
	}
	e.list = append(e.list, r)
	return true
}

func (e *early) take() []earlyReceipt {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.list
	e.list = nil
	return list
}

// RecordReceipt records a delivery receipt. One whose SMS is not in the journal yet waits for it in
// memory.
func (s *Service) RecordReceipt(ctx context.Context, r sms.Receipt) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	if !slices.Contains([]sms.Delivery{sms.Delivered, sms.Undelivered, sms.Delayed}, r.Status) {
		r.Status = sms.DeliveryUnknown
	}
	r.Provider, r.MessageID, r.Reason = plainID(r.Provider), plainID(r.MessageID), plainID(r.Reason)
	ctx, cancel := bounded(ctx)
	defer cancel()
	known, err := s.recordReceipt(ctx, r)
	if err != nil || known {
		return err
	}
	wait := earlyReceipt{context.WithoutCancel(ctx), r, s.Now().Add(earlyWait)}
	if !s.history.Journals() || r.MessageID == "" || !s.early.add(wait) {
		s.observeReceipt(ctx, r, observe.SMS{Provider: r.Provider}, history.About{})
	}
	return nil
}

// settleReceipts records the receipts whose SMS are in the journal by now. It reports those that
// have waited too long without their SMS; last reports all others so too, because the service is
// closed. The context bounds the whole pass, however many receipts wait.
func (s *Service) settleReceipts(ctx context.Context, last bool) {
	for _, e := range s.early.take() {
		if s.settled(ctx, e) {
			continue
		}
		waits := !last && s.Now().Before(e.until) && s.early.add(e)
		if !waits {
			s.observeReceipt(e.ctx, e.receipt, observe.SMS{Provider: e.receipt.Provider}, history.About{}) //nolint:contextcheck // with the values of its own request
		}
	}
}

// settled records a receipt if its SMS is in the journal, and reports whether it is.
func (s *Service) settled(ctx context.Context, e earlyReceipt) bool {
	if ctx.Err() != nil {
		return false
	}
	ctx, cancel := until(e.ctx, ctx)
	defer cancel()
	known, err := s.recordReceipt(ctx, e.receipt)
	return known && err == nil
}

// recordReceipt records a receipt, and reports whether its SMS is in the journal. One that says
// nothing new is ignored: it has the status of an earlier one, or it says that the provider was
// still trying when it had ended already.
func (s *Service) recordReceipt(ctx context.Context, r sms.Receipt) (known bool, err error) {
	if r.MessageID == "" {
		return false, nil
	}
	key := store.RecordKey("receipt", r.MessageID)
	lock := &s.receipts[key[0]%receiptLocks] // two copies at once count once
	lock.Lock()
	defer lock.Unlock()
	m, known, err := s.history.Message(ctx, r.MessageID)
	if err != nil || !known {
		return false, err
	}
	ended := false
	for _, earlier := range m.Receipts {
		status := sms.Delivery(earlier.Status)
		if status == r.Status {
			return true, nil
		}
		ended = ended || status == sms.Delivered || status == sms.Undelivered
	}
	if ended && (r.Status == sms.Delayed || r.Status == sms.DeliveryUnknown) {
		return true, nil
	}
	if r.Status == sms.Undelivered && !ended {
		if err := s.uncount(ctx, m); err != nil {
			return true, err
		}
	}
	s.observeReceipt(ctx, r, m.SMS, history.About{Subject: m.About.Subject})
	return true, nil
}

// uncount has the guard forget an SMS that was not delivered: it is not one that nobody confirmed.
// The number counts again with its next SMS. Nothing changes if the session was validated, or has
// had another SMS since.
func (s *Service) uncount(ctx context.Context, m history.Message) error {
	rows, err := s.units.View(ctx, store.Names{Session: bySID(m.About.SID)})
	if err != nil {
		return err
	}
	sess := rows.Session
	if !notConfirmed(sess) {
		return nil
	}
	n, err := s.numbers.Parse("+"+sess.MSISDN, "")
	if err != nil {
		return nil //nolint:nilerr // of another release: the guard cannot have counted it
	}
	who := asker(sess, s.subject(n, ""))
	var g *limit.Ledger
	names := store.Names{Session: bySID(sess.SID), Records: s.limiter.Keys(who, limit.SMSKinds()...)}
	err = s.units.Update(ctx, names, func(rows *store.Rows) (err error) {
		g = nil
		if !notConfirmed(rows.Session) || rows.Session.Client != sess.Client {
			return nil
		}
		if g, err = s.ledger(rows.Records, who, limit.SMSKinds()...); err != nil {
			return err
		}
		g.Undelivered()
		return g.Put()
	})
	if err == nil {
		s.reportBlocks(ctx, s.limiter.Watch.Report(g))
	}
	return err
}

// notConfirmed reports whether a session has had one SMS since its latest validation, if any, which
// was accepted.
func notConfirmed(sess store.Session) bool {
	return sess.SID != "" && sess.Texts == 1 && sess.Outcome == store.OutcomeAccepted
}

// withoutNumbers returns s, or an empty string if it may contain a complete phone number: some
// gateways put one into what they report.
func withoutNumbers(s string) string {
	const shortest = 7 // digits
	digits := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			digits = 0
		} else if digits++; digits == shortest {
			return ""
		}
	}
	return s
}

// observeReceipt reports a receipt for an SMS, of which only the provider may be known.
func (s *Service) observeReceipt(ctx context.Context, r sms.Receipt, of observe.SMS, about history.About) {
	if of.ID != "" {
		ctx = observe.WithID(ctx, of.ID) // that of the request whose SMS it is for
	}
	if of.MessageID == "" {
		r.MessageID = withoutNumbers(r.MessageID)
	}
	r.Reason = withoutNumbers(r.Reason)
	s.log(ctx).Info("threepid: delivery receipt", "provider", of.Provider, "message_id", r.MessageID,
		"to", of.Number, "status", r.Status, "reason", r.Reason)
	if !s.events.wanted() {
		return
	}
	s.events.record(ctx, observe.Receipt{
		Meta: s.events.meta(ctx), Provider: of.Provider, MessageID: r.MessageID, Country: of.Country, Status: string(r.Status), Reason: r.Reason,
	}, about)
}
