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

// noCountry is the region of numbers that belong to no country, such as those of
// satellites.
const noCountry = "001"

// permits reports whether the policy allows an SMS to the number, before the hook is
// asked.
func permits(p limits.Policy, n phone.Number) bool {
	denied := slices.ContainsFunc(p.DenyPrefixes, func(prefix string) bool { return strings.HasPrefix("+"+n.MSISDN, prefix) })
	return !denied && permitsCountry(p, n) && permitsKind(p, n.Kind)
}

// permitsKind judges what the number is used for. FIXED_LINE_OR_MOBILE may be mobile,
// as all numbers of the United States may.
func permitsKind(p limits.Policy, kind phonenumbers.PhoneNumberType) bool {
	switch kind { //nolint:exhaustive // all others are permitted
	case phonenumbers.FIXED_LINE:
		return !p.RefuseFixedLines
	case phonenumbers.PREMIUM_RATE, phonenumbers.SHARED_COST, phonenumbers.TOLL_FREE, phonenumbers.PAGER,
		phonenumbers.VOICEMAIL, phonenumbers.UAN, phonenumbers.PERSONAL_NUMBER:
		return p.AllowServiceNumbers
	}
	return true
}

// permitsCountry judges a number that no plan assigns by the main country of its
// calling code where only some countries are allowed, and by all countries of the code
// where some are denied. Otherwise +1 876 555…, which belongs to no country, would pass
// although Jamaica is denied.
func permitsCountry(p limits.Policy, n phone.Number) bool {
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
	if !permits(s.Policy, n) {
		return errDenied()
	}
	return nil
}

// approve asks the host's hook about an attempt that would be sent, once for each attempt. A
// claim is made only after the hook has approved, so a session that was claimed for this
// attempt and purpose carries the approval, whatever the outcome of the claim.
//
// A trusted request passes the guard. So does a further try of an attempt that was claimed,
// because the guard let it pass before.
func (s *Service) approve(ctx context.Context, d delivery, st state) (trusted bool, err error) {
	if d.test || approved(st.sess, d) {
		return true, nil
	}
	if s.Policy.Approve == nil {
		return false, nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	approval, err := s.Policy.Approve(ctx, limits.ApprovalRequest{
		Purpose: d.Purpose, MSISDN: d.number.MSISDN, Country: d.number.Home(), Client: d.Client, Header: d.Header, Blocks: st.blocks,
	})
	if errors.Is(err, limits.ErrDenied) {
		denied := errDenied()
		denied.Reason = "host"
		return false, denied
	}
	if err != nil {
		return false, fmt.Errorf("threepid: ask the host: %w", err)
	}
	return approval == limits.Trusted, nil
}

// approved reports whether the session was claimed for the delivery's attempt.
func approved(sess store.Session, d delivery) bool {
	return sess.ClaimID != "" && sess.ClaimAttempt == d.Attempt && sess.Purpose == d.Purpose
}

func errDenied() *Error {
	return Errorf(Denied, "This server does not send text messages to this number")
}

// testNumbers are the policy's test numbers by MSISDN.
func testNumbers(list []limits.TestNumber) map[string]limits.TestNumber {
	numbers := make(map[string]limits.TestNumber, len(list))
	for _, n := range list {
		numbers[strings.TrimPrefix(n.Number, "+")] = n
	}
	return numbers
}

// testNumber returns the test number that msisdn is now.
func (s *Service) testNumber(msisdn string) (limits.TestNumber, bool) {
	n, ok := s.testNumbers[msisdn]
	if !ok || !n.Until.IsZero() && !s.Now().Before(n.Until) {
		return limits.TestNumber{}, false
	}
	return n, true
}
