package threepid

import (
	"context"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
)

// These calls are for operators: they show what happened and why a number gets no SMS, and
// they unblock, release and erase numbers. Package admin serves a web page that uses them.

// Statistic counts the events of one kind in one hour, on all nodes.
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
	UserID        string `json:"user_id,omitempty"`     // of the account that has the number; empty if there is none
	Policy        string `json:"policy,omitempty"`      // why Options.Policy refuses the number; empty if it does not
	TestNumber    bool   `json:"test_number,omitempty"` // whether the number is one of Policy.TestNumbers

	Levels []limits.Level `json:"levels"` // how much is used of each limit on the number, its range, its country and all SMS
	Blocks []limits.Block `json:"blocks"` // what blocks the number now

	// Events are what happened to the number, the latest first, at most 500: observe.SMS,
	// Refusal, Code, Validation, Receipt, Unblock and Number. The journal covers the time from
	// Since on; Since is zero if the store keeps no journal.
	Events []observe.Event `json:"events"`
	Since  time.Time       `json:"since,omitzero"`
}

// Explain returns what is known about a number, in E.164 with or without the plus sign: what
// happened to it, and what blocks SMS to it, if anything does. The errors are those of Unblock.
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
// the store does not implement store.History. The error is ErrClosed; any other error means that
// the store failed.
func (p *Plugin) AllBlocks(ctx context.Context) ([]limits.Block, error) {
	return p.service.AllBlocks(ctx)
}

// Lift ends a block of a range, a country or a network that AllBlocks or Blocks returned, and
// resets what the guard has counted for it. The block ends on other nodes within about two
// seconds. The error is ErrNotBlocked if the block has ended already, or ErrClosed; any other
// error means that the store failed.
func (p *Plugin) Lift(ctx context.Context, b limits.Block) error {
	return p.service.Lift(observe.NewID(ctx), b)
}

// Export returns everything that the store holds about a number, as JSON, for a request for
// access to personal data. If there are more than 100,000 sessions or events, it returns those that
// fit and sets "incomplete". The errors are those of Unblock. In addition, an error that wraps
// store.ErrUnsupported means that the store cannot find the sessions of a number, because it
// does not implement store.History.
func (p *Plugin) Export(ctx context.Context, number string) ([]byte, error) {
	return p.service.Export(observe.NewID(ctx), number)
}

// Erase deletes everything that the store holds about a number, for a request to erase personal
// data: it does what ReleaseNumber does, and deletes the sessions, limits and journal of the
// number. Only a random value remains, under a hash of the number: it keeps earlier codes and
// validations invalid until they would have expired. If Options.Accounts only looks numbers up,
// remove the number from its account first. After an error, some of the data may remain: call
// Erase again. The errors are those of Export.
func (p *Plugin) Erase(ctx context.Context, number string) error {
	return p.service.Erase(observe.NewID(ctx), number)
}

// Actions returns at most limit actions of operators since a time, the latest first. The error wraps
// store.ErrUnsupported if the store keeps no history.
func (p *Plugin) Actions(ctx context.Context, since time.Time, limit int) ([]observe.Action, error) {
	return p.service.Actions(ctx, since, limit)
}

// RecordReceipt records a delivery receipt in the journal of the number and in the statistics. It
// also passes the receipt to the guard, which does not count an undelivered SMS as unconfirmed. A
// repeated receipt changes nothing. An unknown MessageID is not an error, because the journal may
// not go back that far. An error means that the store failed: make the provider send the receipt
// again.
func (p *Plugin) RecordReceipt(ctx context.Context, r sms.Receipt) error {
	return p.service.RecordReceipt(observe.NewID(ctx), r)
}
