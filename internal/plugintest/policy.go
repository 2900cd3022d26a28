package plugintest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// policyTests are about numbers to which the host sends no SMS.
func policyTests() []test {
	return []test{
		{"PolicyOfCountries", testPolicyOfCountries},
		{"PolicyDisregardsTheCountryField", testPolicyDisregardsTheCountryField},
		{"PolicyRefusesServiceNumbers", testPolicyRefusesServiceNumbers},
		{"PolicyRefusesServiceNumbersOfNoCountry", testPolicyRefusesServiceNumbersOfNoCountry},
		{"PolicyOfFixedLines", testPolicyOfFixedLines},
		{"PolicyOfPrefixes", testPolicyOfPrefixes},
		{"PolicyIsCopied", testPolicyIsCopied},
		{"PolicyOrder", testPolicyOrder},
		{"PolicyLeavesNothingBehind", testPolicyLeavesNothingBehind},
	}
}

// Numbers of several regions, some of which share a calling code.
const (
	inGB         = "+447400123456"
	inGuernsey   = "+447781123456"
	inJersey     = "+447797712345"
	inNoneOfGB   = "+447700900001" // a number for films, in no range that is assigned
	inUS         = "+12015550123"
	inJamaica    = "+18762101234"
	inNoneOfUS   = "+19765551234" // no area code 976 is assigned
	inFrance     = "+33612345678"
	inNoCountry  = "+870773111632" // of a satellite
	fixedInGB    = "+442071234567"
	fixedOrNotUS = inUS // where fixed and mobile numbers look the same
)

// dial requests an SMS to a number in E.164, in a session of its own.
func dial(number string) string {
	return request(map[string]any{"phone_number": number, "country": "", "client_secret": "of" + number[1:]})
}

// policy sets the policy of a node.
func policy(p limits.Policy) func(*threepid.Options) {
	return func(o *threepid.Options) { o.Policy = p }
}

func expectDenied(t *testing.T, a answer) {
	t.Helper()
	expect(t, a, http.StatusForbidden, "M_THREEPID_DENIED")
}

// expectTexted requests an SMS to each number: only those in allowed are sent one.
func expectTexted(t *testing.T, n *node, allowed, denied []string) {
	t.Helper()
	for _, number := range allowed {
		if a := n.post(addPath, dial(number)); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", number, a.status, a.body)
		}
		if len(n.sms.To(number)) != 1 {
			t.Errorf("%s got %d SMS", number, len(n.sms.To(number)))
		}
	}
	for _, number := range denied {
		a := n.post(addPath, dial(number))
		expectDenied(t, a)
		if a.status != http.StatusForbidden || len(n.sms.To(number)) > 0 {
			t.Errorf("%s was not refused", number)
		}
	}
}

func testPolicyOfCountries(t *testing.T, open opener) {
	allow := func(countries ...string) limits.Policy { return limits.Policy{AllowCountries: countries} }
	deny := func(countries ...string) limits.Policy { return limits.Policy{DenyCountries: countries} }
	rows := []struct {
		name            string
		policy          limits.Policy
		allowed, denied []string
	}{
		{
			"default",
			limits.Policy{},
			[]string{inGB, inGuernsey, inNoneOfGB, inUS, inJamaica, inNoneOfUS, inFrance},
			[]string{inNoCountry},
		},
		{"one", allow("GB"), []string{inGB, inNoneOfGB}, []string{inGuernsey, inJersey, inUS, inFrance, inNoCountry}},
		{"one that is not the main one", allow("GG"), []string{inGuernsey}, []string{inGB, inJersey, inNoneOfGB, inFrance}},
		{"several", allow("US", "FR"), []string{inUS, inNoneOfUS, inFrance}, []string{inJamaica, inGB}},
		{"no country's", allow("001"), []string{inNoCountry}, []string{inGB, inUS}},
		{"no country's beside one", allow("GB", "001"), []string{inNoCountry, inGB}, []string{inUS}},
		{"denied", deny("JM"), []string{inUS, inGB}, []string{inJamaica, inNoneOfUS, inNoCountry}},
		{"denied, the main one", deny("US"), []string{inJamaica, inGB}, []string{inUS, inNoneOfUS}},
		{"denied, an island", deny("GG"), []string{inGB, inJersey}, []string{inGuernsey, inNoneOfGB}},
		{
			"allowed and denied",
			limits.Policy{AllowCountries: []string{"GB", "FR"}, DenyCountries: []string{"FR"}},
			[]string{inGB, inNoneOfGB},
			[]string{inFrance, inUS},
		},
		{
			"no country's allowed and denied",
			limits.Policy{AllowCountries: []string{"GB", "001"}, DenyCountries: []string{"001"}},
			[]string{inGB},
			[]string{inNoCountry},
		},
	}
	for i := range rows {
		row := &rows[i]
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			expectTexted(t, start(t, open(t), policy(row.policy)), row.allowed, row.denied)
		})
	}
}

// testPolicyDisregardsTheCountryField makes clients claim to dial from an allowed country.
func testPolicyDisregardsTheCountryField(t *testing.T, open opener) {
	n := start(t, open(t), policy(limits.Policy{AllowCountries: []string{"US", "GB"}}))
	for _, fields := range []map[string]any{
		{"country": "US", "phone_number": inJamaica},
		{"country": "US", "phone_number": "876 210 1234"},
		{"country": "JM", "phone_number": "876 210 1234"},
		{"country": "GB", "phone_number": "07781 123456"},
		{"country": "GB", "phone_number": "00 33 6 12 34 56 78"},
		{"country": "US", "phone_number": "011 870 773 111632"},
	} {
		expectDenied(t, n.post(addPath, request(fields)))
	}
	n.expectTexts(t, 0)
	n.mustRequest(addPath, request(map[string]any{"country": "JM", "phone_number": "201 555 0123"}))
	n.mustRequest(addPath, request(map[string]any{"country": "FR", "phone_number": inGB}))
	n.expectTexts(t, 2)
}

// serviceNumbers are examples, in E.164, of numbers that charge the sender of an SMS, or that
// belong to no person.
func serviceNumbers(kind phonenumbers.PhoneNumberType) []string {
	var all []string
	for _, region := range []string{"AT", "AU", "BE", "BR", "CH", "DE", "ES", "FR", "GB", "IN", "IT", "JP", "MX", "PL", "PT", "SE", "TR", "US", "ZA"} {
		if example := phonenumbers.GetExampleNumberForType(region, kind); example != nil {
			all = append(all, phonenumbers.Format(example, phonenumbers.E164))
		}
	}
	return all
}

func testPolicyRefusesServiceNumbers(t *testing.T, open opener) {
	for name, kind := range map[string]phonenumbers.PhoneNumberType{
		"premium rate": phonenumbers.PREMIUM_RATE, "shared cost": phonenumbers.SHARED_COST, "toll-free": phonenumbers.TOLL_FREE,
		"pager": phonenumbers.PAGER, "voicemail": phonenumbers.VOICEMAIL, "UAN": phonenumbers.UAN,
		"personal": phonenumbers.PERSONAL_NUMBER,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			numbers := serviceNumbers(kind)
			if len(numbers) < 4 {
				t.Fatalf("only %v to test with", numbers)
			}
			expectTexted(t, start(t, open(t)), nil, numbers)
			expectTexted(t, start(t, open(t), policy(limits.Policy{AllowServiceNumbers: true})), numbers, nil)
		})
	}
}

// testPolicyRefusesServiceNumbersOfNoCountry checks both rules on one number.
func testPolicyRefusesServiceNumbersOfNoCountry(t *testing.T, open opener) {
	const tollFree, premium = "+80012345678", "+979123456789"
	named := limits.Policy{AllowCountries: []string{"001"}}
	expectTexted(t, start(t, open(t), policy(named)), nil, []string{tollFree, premium})
	expectTexted(t, start(t, open(t), policy(limits.Policy{AllowServiceNumbers: true})), nil, []string{tollFree, premium})
	named.AllowServiceNumbers = true
	expectTexted(t, start(t, open(t), policy(named)), []string{tollFree, premium}, nil)
}

func testPolicyOfFixedLines(t *testing.T, open opener) {
	expectTexted(t, start(t, open(t)), []string{fixedInGB, inGB}, nil)
	n := start(t, open(t), policy(limits.Policy{RefuseFixedLines: true}))
	expectTexted(t, n, []string{inGB, fixedOrNotUS, inNoneOfGB}, []string{fixedInGB})
	// The other kinds are still refused.
	expectTexted(t, n, nil, serviceNumbers(phonenumbers.PREMIUM_RATE))
}

func testPolicyOfPrefixes(t *testing.T, open opener) {
	n := start(t, open(t), policy(limits.Policy{DenyPrefixes: []string{"+4474001", "+33"}}))
	expectTexted(t, n, []string{"+447400223456", inUS}, []string{inGB, inFrance})
	expectDenied(t, n.post(addPath, request(map[string]any{"phone_number": "07400 123456"})))
}

func testPolicyIsCopied(t *testing.T, open opener) {
	p := limits.Policy{
		AllowCountries: []string{"GB", "US"}, DenyCountries: []string{"US"}, DenyPrefixes: []string{"+447781"},
	}
	n := start(t, open(t), policy(p))
	p.AllowCountries[0], p.DenyCountries[0], p.DenyPrefixes[0] = "FR", "FR", "+4474"
	expectTexted(t, n, []string{inGB}, []string{inUS, inFrance})
}

// testPolicyOrder checks the order of the refusals.
func testPolicyOrder(t *testing.T, open opener) {
	st := open(t)
	before := start(t, st)
	before.mustRequest(addPath, attempt(1))
	n := start(t, st, policy(limits.Policy{DenyPrefixes: []string{"+4477009"}}))

	expectDenied(t, n.post(addPath, attempt(1))) // takes precedence over an attempt that was seen
	expectDenied(t, n.post(pwdPath, attempt(1))) // takes precedence over M_THREEPID_NOT_FOUND
	n.associate(t, "@alice:example.org", msisdn)
	for _, path := range []string{addPath, regPath, pwdPath} { // takes precedence over M_THREEPID_IN_USE
		expectDenied(t, n.post(path, attempt(1)))
	}

	malformed := map[string]string{
		request(map[string]any{"client_secret": "a b"}):                            "M_INVALID_PARAM",
		request(map[string]any{"send_attempt": -1}):                                "M_INVALID_PARAM",
		request(map[string]any{"send_attempt": nil}):                               "M_MISSING_PARAM",
		request(map[string]any{"country": "ZZ"}):                                   "M_INVALID_PARAM",
		request(map[string]any{"next_link": "ftp://a"}):                            "M_INVALID_PARAM",
		request(map[string]any{"id_server": "id.example.org"}):                     "M_MISSING_PARAM",
		strings.Replace(request(nil), "{", `{"country":"GB",`, 1):                  "M_BAD_JSON",
		request(map[string]any{"phone_number": spoken + "1111111111111111111111"}): "M_INVALID_PARAM",
	}
	for body, errcode := range malformed {
		expect(t, n.post(addPath, body), http.StatusBadRequest, errcode)
	}
	n.expectTexts(t, 0)
}

// testPolicyLeavesNothingBehind also makes the host's own hook refuse, which runs after the account
// and the limits were read.
func testPolicyLeavesNothingBehind(t *testing.T, open opener) {
	for name, p := range map[string]limits.Policy{
		"country": {AllowCountries: []string{"FR"}},
		"prefix":  {DenyPrefixes: []string{"+44"}},
		"hook": {Approve: func(context.Context, limits.ApprovalRequest) (limits.Approval, error) {
			return 0, limits.ErrDenied
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := open(t)
			counter := storetest.Counting(inner)
			n := start(t, both{counter, inner}, policy(p), inEarnest)
			for _, path := range []string{addPath, regPath} {
				for i := range 30 { // more than the limits on SMS allow
					expectDenied(t, n.post(path, attempt(i)))
				}
			}
			if counter.Updates() != 0 || p.Approve == nil && counter.Views() != 0 {
				t.Errorf("the store was asked %d times, and written to %d times", counter.Views(), counter.Updates())
			}
			if _, err := n.sessionOf(t); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a session was stored: %v", err)
			}
			n.expectTexts(t, 0)
		})
	}
}

// inEarnest gives a node the default limits and guard.
func inEarnest(o *threepid.Options) { o.Limits, o.Guard = limits.Limits{}, limits.Guard{} }
