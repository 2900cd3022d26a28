package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// What persons may ask for about their data: a copy, and to have it erased.

const (
	// maxExported bounds the sessions, and the events, of an export.
	maxExported = 100_000

	// maxErased is how many sessions are erased at a time.
	maxErased = 1000

	// maxErasures is how many times sessions are looked for.
	maxErasures = 100
)

// export is what Export returns, as JSON.
type export struct {
	Number   string    `json:"number"`
	Exported time.Time `json:"exported"`
	UserID   string    `json:"user_id,omitempty"`

	Sessions []exportedSession `json:"sessions"`
	Limits   []exportedRecord  `json:"limits"`

	JournalSince *time.Time      `json:"journal_since,omitempty"`
	Journal      []observe.Typed `json:"journal"`

	Incomplete bool `json:"incomplete,omitempty"` // there are more sessions or events
}

// exportedSession is a session without what would let its reader compute its code.
type exportedSession struct {
	SID         string        `json:"sid"`
	Country     string        `json:"country,omitempty"`
	Purpose     store.Purpose `json:"purpose"`
	NextLink    string        `json:"next_link,omitempty"`
	Attempt     int64         `json:"attempt"`
	Outcome     store.Outcome `json:"outcome,omitempty"`
	Provider    string        `json:"provider,omitempty"`
	Client      string        `json:"client,omitempty"` // a digest of the address
	Created     time.Time     `json:"created"`
	Validated   *time.Time    `json:"validated,omitempty"`
	Redeemed    *time.Time    `json:"redeemed,omitempty"`
	Expires     time.Time     `json:"expires"`
	CodeExpires time.Time     `json:"code_expires"`
}

type exportedRecord struct {
	Of      string          `json:"of"`
	State   json.RawMessage `json:"state"`
	Expires time.Time       `json:"expires"`
}

// Export returns all that the store has about a number in E.164, as JSON.
func (s *Service) Export(ctx context.Context, number string) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	n, err := phone.ParseE164(number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	x := export{Number: "+" + n.MSISDN, Exported: s.Now().UTC(), Sessions: []exportedSession{}, Limits: []exportedRecord{}, Journal: []observe.Typed{}}
	x.UserID, err = s.Accounts.Owner(ctx, n.MSISDN)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("threepid: look up the number's account: %w", err)
	}
	if err := errors.Join(s.exportSessions(ctx, n, &x), s.exportRecords(ctx, n, &x), s.exportJournal(ctx, n, &x)); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("threepid: write an export: %w", err)
	}
	s.observeAction(ctx, "export", phone.Mask(n.MSISDN))
	return text, nil
}

func (s *Service) exportSessions(ctx context.Context, n phone.Number, x *export) error {
	sessions, err := s.sessionsOf(ctx, n.MSISDN, maxExported)
	if err != nil {
		return err
	}
	x.Incomplete = x.Incomplete || len(sessions) == maxExported
	optional := func(ms int64) *time.Time {
		if ms == 0 {
			return nil
		}
		t := time.UnixMilli(ms).UTC()
		return &t
	}
	for i := range sessions {
		sess := &sessions[i]
		x.Sessions = append(x.Sessions, exportedSession{
			SID: sess.SID, Country: sess.Country, Purpose: sess.Purpose, NextLink: sess.NextLink, Attempt: sess.Attempt, Outcome: sess.Outcome,
			Provider: sess.Provider, Client: sess.Client, Created: time.UnixMilli(sess.CreatedAt).UTC(), Validated: optional(sess.ValidatedAt),
			Redeemed: optional(sess.RedeemedAt), Expires: time.UnixMilli(sess.ExpiresAt).UTC(), CodeExpires: time.UnixMilli(sess.TokenExpiresAt).UTC(),
		})
	}
	return nil
}

// sessionsOf returns the sessions of a number, at most limit. The error wraps store.ErrUnsupported if the store
// cannot find them.
func (s *Service) sessionsOf(ctx context.Context, msisdn string, limit int) ([]store.Session, error) {
	finder, ok := s.Store.(store.History)
	if !ok {
		return nil, fmt.Errorf("threepid: find the sessions of a number: the store does not implement store.History: %w", store.ErrUnsupported)
	}
	return finder.SessionsOf(ctx, msisdn, limit)
}

func (s *Service) exportRecords(ctx context.Context, n phone.Number, x *export) error {
	who := s.subject(n, "")
	rows, err := s.units.View(ctx, store.Names{Records: []store.Key{who.Key(limit.Number)}})
	if err != nil {
		return err
	}
	if r := rows.Records[0]; json.Valid([]byte(r.State)) {
		x.Limits = append(x.Limits, exportedRecord{"the number", json.RawMessage(r.State), time.UnixMilli(r.ExpiresAt).UTC()})
	}
	return nil
}

func (s *Service) exportJournal(ctx context.Context, n phone.Number, x *export) error {
	events, since, err := s.history.Timeline(ctx, n.MSISDN, maxExported)
	if err != nil || since.IsZero() {
		return err
	}
	x.Incomplete = x.Incomplete || len(events) == maxExported
	x.JournalSince = &since
	x.Journal = observe.TypedOf(events)
	return nil
}

// Erase deletes all that the store has about a number in E.164. It goes on after an error, so that
// as much as possible is erased; call it again.
func (s *Service) Erase(ctx context.Context, number string) error {
	n, err := phone.ParseE164(number)
	if err != nil {
		return err
	}
	// First, so that no validation of what is being erased is used.
	released := s.Release(ctx, number)
	if errors.Is(released, ErrNoAccount) || errors.Is(released, store.ErrUnsupported) {
		released = nil
	}
	if errors.Is(released, ErrClosed) {
		return released
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = errors.Join(released, s.eraseSessions(ctx, n.MSISDN), s.eraseRecord(ctx, n), s.history.Forget(ctx, n.MSISDN))
	if err != nil {
		return err
	}
	s.observeAction(ctx, "erase", phone.Mask(n.MSISDN))
	s.log(ctx).Info("threepid: the data about a number were erased", "number", phone.Mask(n.MSISDN))
	return nil
}

// eraseSessions lets the sessions of a number expire in 1970, and deletes what expired then.
func (s *Service) eraseSessions(ctx context.Context, msisdn string) error {
	for range maxErasures {
		sessions, err := s.sessionsOf(ctx, msisdn, maxErased)
		if err != nil || len(sessions) == 0 {
			return err
		}
		for i := range sessions {
			err := s.units.Update(ctx, store.Names{Session: bySID(sessions[i].SID)}, func(rows *store.Rows) error {
				if rows.Session.SID != "" {
					rows.Session.ExpiresAt = 0
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if _, err := s.Store.DeleteExpired(ctx, time.UnixMilli(0), len(sessions)); err != nil {
			return err
		}
	}
	return errors.New("threepid: erase sessions: new ones keep appearing")
}

func (s *Service) eraseRecord(ctx context.Context, n phone.Number) error {
	who := s.subject(n, "")
	return s.units.Update(ctx, store.Names{Records: []store.Key{who.Key(limit.Number)}}, func(rows *store.Rows) error {
		rows.Records[0].State, rows.Records[0].ExpiresAt = "", 0
		return nil
	})
}
