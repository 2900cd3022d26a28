package threepid

import (
	"context"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
)

// The calls of an operator: what happened, why a number gets no SMS, and how to help. Package
// admin is a page over them.

// Statistic is how often something happened in one hour, on all nodes.
type Statistic = observe.Statistic

// Statistics returns what happened in the hours that begin at or after from and before to, in
// no particular order. The latest two seconds may be missing. The error wraps
// store.ErrUnsupported if the store keeps no history.
func (p *Plugin) Statistics(ctx context.Context, from, to time.Time) ([]Statistic, error) {
	return p.service.Statistics(ctx, from, to)
}

// Explanation is what is known about a number.
type Explanation struct {
	MSISDN        string `json:"msisdn"`        // E.164 without the plus sign
	International string `json:"international"` // for a person, such as +44 7700 900001
	Country       string `json:"country"`
	UserID        string `json:"user_id,omitempty"`     // of the account that has the number; empty if none has
	Policy        string `json:"policy,omitempty"`      // why Options.Policy refuses the number; empty if it does not
	TestNumber    bool   `json:"test_number,omitempty"` // it is one of Policy.TestNumbers

	Levels []limits.Level `json:"levels"` // of the limits of the number, its range and its country
	Blocks []limits.Block `json:"blocks"` // what blocks it now

	// Events are what happened to the number, the latest first, at most 500: observe.SMS,
	// Refusal, Code, Validation, Receipt, Unblock and Number. They are complete since Since,
	// as far as the journal of the store goes; Since is zero if there is no journal.
	Events []observe.Event `json:"events"`
	Since  time.Time       `json:"since,omitzero"`
}

// Explain returns what is known about a number, in E.164 with or without the plus sign: what
// happened to it, and why it gets no SMS, if it gets none. Errors are as for Unblock.
func (p *Plugin) Explain(ctx context.Context, number string) (Explanation, error) {
	x, err := p.service.Explain(observe.NewID(ctx), number)
	if err != nil {
		return Explanation{}, err
	}
	return Explanation{
		MSISDN: x.Number.MSISDN, International: x.Number.International, Country: x.Number.Home(), UserID: x.UserID, Policy: x.Policy,
		TestNumber: x.Test, Levels: x.Levels, Blocks: x.Blocks, Events: x.Events, Since: x.Since,
	}, nil
}

// AllBlocks returns what the guard blocks now: ranges, countries and networks. Ranges are missing if
// the store is no store.History. The error is ErrClosed; any other means that the store failed.
func (p *Plugin) AllBlocks(ctx context.Context) ([]limits.Block, error) {
	return p.service.AllBlocks(ctx)
}

// Lift ends a block that AllBlocks or Blocks returned: of a range, a country or a network. What
// was counted for it is reset. Other nodes follow within about two seconds. The error is
// ErrNotBlocked if the block has ended, or ErrClosed; any other means that the store failed.
func (p *Plugin) Lift(ctx context.Context, b limits.Block) error {
	return p.service.Lift(observe.NewID(ctx), b)
}

// Export returns all that the store has about a number, as JSON, for a request for access to
// personal data. Errors are as for Unblock; one that wraps store.ErrUnsupported means that the
// store cannot find the sessions of a number, because it is no store.History.
func (p *Plugin) Export(ctx context.Context, number string) ([]byte, error) {
	return p.service.Export(observe.NewID(ctx), number)
}

// Erase deletes all that the store has about a number, for a request to erase personal data: it
// does what ReleaseNumber does, and deletes sessions, limits and journal of the number. What
// remains is a random value under a hash of the number, which keeps old proofs void until they
// would have expired. If Options.Accounts only looks numbers up, remove the number from its
// account first. An error means that something may be left: call Erase again. Errors are as for
// Export.
func (p *Plugin) Erase(ctx context.Context, number string) error {
	return p.service.Erase(observe.NewID(ctx), number)
}

// Actions returns what operators did since a time, the latest first, at most limit. The error wraps
// store.ErrUnsupported if the store keeps no history.
func (p *Plugin) Actions(ctx context.Context, since time.Time, limit int) ([]observe.Action, error) {
	return p.service.Actions(ctx, since, limit)
}

// RecordReceipt records a delivery receipt in the journal of the number, in the statistics, and for
// the guard, which does not count an SMS that was not delivered as one that nobody confirmed. A
// receipt that repeats another changes nothing. If no SMS with the MessageID is known,
// RecordReceipt returns nil, because the journal may not go back that far. An error means that the
// store failed: make the provider send the receipt again.
func (p *Plugin) RecordReceipt(ctx context.Context, r sms.Receipt) error {
	return p.service.RecordReceipt(observe.NewID(ctx), r)
}
