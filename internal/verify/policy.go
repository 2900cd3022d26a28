package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nyaruka/phonenumbers"

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
	Approve func(context.Context, Inquiry) error
}

// Inquiry is what the host's hook is told of a request.
type Inquiry struct {
	Purpose store.Purpose
	MSISDN  string // E.164 without the plus sign
	Country string // of the number; two letters, or "001"
	Client  string // an IP address, or what the host says
	Header  map[string][]string
}

// ErrDenied is what a host refuses a request with.
var ErrDenied = errors.New("threepid: denied by the host")

// noCountry is the region of numbers that belong to no country, such as those
// of satellites and of international networks.
const noCountry = "001"

// permits reports whether an SMS may be sent to the number, before the hook is asked.
func (p Policy) permits(n Number) bool {
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
func (p Policy) permitsCountry(n Number) bool {
	if len(p.AllowCountries) == 0 && n.Home() == noCountry {
		return false
	}
	if len(p.AllowCountries) > 0 && !slices.Contains(p.AllowCountries, n.Home()) {
		return false
	}
	regions := []string{n.Region}
	if n.Region == "" {
		regions = phonenumbers.GetRegionCodesForCountryCode(n.callingCode)
	}
	return !slices.ContainsFunc(regions, func(r string) bool { return slices.Contains(p.DenyCountries, r) })
}

// checkPolicy refuses a number to which the host sends no SMS.
func (s *Service) checkPolicy(n Number) error {
	if !s.Policy.permits(n) {
		return errDenied()
	}
	return nil
}

// approve asks the host's hook about an attempt that would be sent. It is asked
// once for each: a claim is only made after the hook approved, so a session that
// was claimed for this attempt and purpose carries the approval, whatever became of
// that claim.
func (s *Service) approve(ctx context.Context, d delivery, sess store.Session) error {
	if s.Policy.Approve == nil || d.test || approved(sess, d) {
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err := s.Policy.Approve(ctx, Inquiry{
		Purpose: d.Purpose, MSISDN: d.number.MSISDN, Country: d.number.Home(), Client: d.Client, Header: d.Header,
	})
	if errors.Is(err, ErrDenied) {
		return errDenied()
	}
	if err != nil {
		return fmt.Errorf("threepid: ask the host: %w", err)
	}
	return nil
}

// approved reports whether the session was claimed for the delivery's attempt.
func approved(sess store.Session, d delivery) bool {
	return sess.ClaimID != "" && sess.ClaimAttempt == d.Attempt && sess.Purpose == d.Purpose
}

func errDenied() error {
	return Errorf(Denied, "This server does not send text messages to this number")
}
