package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"

	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// Policy defines to which numbers the host sends SMS at all.
type Policy struct {
	AllowCountries []string // none means all but those of no country, "001"
	DenyCountries  []string
	DenyPrefixes   []string // beginnings of numbers in E.164 without the plus sign
	RefuseKinds    []phonenumbers.PhoneNumberType

	// Approve is asked once for each attempt that would be sent; nil approves of
	// all. An error that wraps ErrDenied refuses the request, any other fails it.
	Approve func(context.Context, ApprovalRequest) (Approval, error)
}

// Approval is how far a host approves of an SMS.
type Approval int

// The approvals.
const (
	Approved Approval = iota
	Trusted           // the SMS is sent although the guard blocks it
)

// ApprovalRequest is what the host's hook is told of a request.
type ApprovalRequest struct {
	Purpose store.Purpose
	MSISDN  string // E.164 without the plus sign
	Country string // of the number; two letters, or "001"
	Client  string // an IP address, or what the host says
	Header  map[string][]string
	Blocks  []limits.Block // what the guard blocks: only a trusted request is sent
}

// ErrDenied is what a host refuses a request with.
var ErrDenied = errors.New("threepid: denied by the host")

// noCountry is the region of numbers that belong to no country, such as those
// of satellites and of international networks.
const noCountry = "001"

// permits reports whether an SMS may be sent to the number, before the hook is asked.
func (p Policy) permits(n phone.Number) bool {
	for _, prefix := range p.DenyPrefixes {
		if strings.HasPrefix(n.MSISDN, prefix) {
			return false
		}
	}
	return p.permitsCountry(n) && !slices.Contains(p.RefuseKinds, n.Kind)
}

// permitsCountry judges a number that no plan assigns by the main country of
// its calling code where only some are allowed, and by all of them where some
// are denied: +1 876 555… must not slip past a denial of Jamaica for being none
// of Jamaica's numbers.
func (p Policy) permitsCountry(n phone.Number) bool {
	if len(p.AllowCountries) == 0 && n.Home() == noCountry {
		return false
	}
	if len(p.AllowCountries) > 0 && !slices.Contains(p.AllowCountries, n.Home()) {
		return false
	}
	return !slices.ContainsFunc(n.Regions(), func(r string) bool { return slices.Contains(p.DenyCountries, r) })
}

// checkPolicy refuses a number to which the host sends no SMS.
func (s *Service) checkPolicy(n phone.Number) error {
	if !s.Policy.permits(n) {
		return errDenied()
	}
	return nil
}

// approve asks the host's hook about an attempt that would be sent. It is asked
// once for each: a claim is only made after the hook approved, so a session that
// was claimed for this attempt and purpose carries the approval, whatever became of
// that claim.
//
// A trusted request passes what the guard blocks. So does a further try of an attempt
// that was claimed: the guard has let it pass before.
func (s *Service) approve(ctx context.Context, d delivery, st state) (trusted bool, err error) {
	if d.test || approved(st.sess, d) {
		return true, nil
	}
	if s.Policy.Approve == nil {
		return false, nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	approval, err := s.Policy.Approve(ctx, ApprovalRequest{
		Purpose: d.Purpose, MSISDN: d.number.MSISDN, Country: d.number.Home(), Client: d.Client, Header: d.Header, Blocks: st.blocks,
	})
	if errors.Is(err, ErrDenied) {
		return false, errDenied()
	}
	if err != nil {
		return false, fmt.Errorf("threepid: ask the host: %w", err)
	}
	return approval == Trusted, nil
}

// approved reports whether the session was claimed for the delivery's attempt.
func approved(sess store.Session, d delivery) bool {
	return sess.ClaimID != "" && sess.ClaimAttempt == d.Attempt && sess.Purpose == d.Purpose
}

func errDenied() error {
	return Errorf(Denied, "This server does not send text messages to this number")
}
