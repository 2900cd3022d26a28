package plugintest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// concealTests are about responses that do not reveal which numbers have an account.
func concealTests() []test {
	return []test{
		{"ConcealedAnswers", testConcealedAnswers},
		{"ConcealedSMS", testConcealedSMS},
		{"ConcealedTokens", testConcealedTokens},
		{"ConcealedFailures", testConcealedFailures},
		{"ConcealedLimits", testConcealedLimits},
		{"ConcealedPolicyComesFirst", testConcealedPolicyComesFirst},
		{"ConcealedAccountAppearsAndDisappears", testConcealedAccountAppearsAndDisappears},
		{"ConcealedAccountAppearingIsNotRevealed", testConcealedAccountAppearingIsNotRevealed},
		{"ConcealedValidationDoesNotSurvive", testConcealedValidationDoesNotSurvive},
		{"ConcealedTestNumber", testConcealedTestNumber},
		{"NothingConcealedByDefault", testNothingConcealedByDefault},
	}
}

func concealed(o *threepid.Options) { o.ConcealAccounts, o.Messages.Brand = true, "Example" }

// expectSame checks that two responses differ only in the sid and the time.
func expectSame(t *testing.T, real, decoy answer) {
	t.Helper()
	strip := func(a answer) (string, http.Header) {
		header := a.header.Clone()
		header.Del("Date")
		sid := a.text("sid")
		if sid != "" && !regexp.MustCompile(`^[0-9a-v]{39}$`).MatchString(sid) {
			t.Errorf("sid %q", sid)
		}
		return strings.ReplaceAll(a.body, `"`+sid+`"`, `"the sid"`), header
	}
	realBody, realHeader := strip(real)
	decoyBody, decoyHeader := strip(decoy)
	if real.status != decoy.status || realBody != decoyBody || real.closed != decoy.closed {
		t.Errorf("distinguishable: %d %s, %d %s", real.status, realBody, decoy.status, decoyBody)
	}
	if !maps.EqualFunc(realHeader, decoyHeader, slices.Equal) {
		t.Errorf("distinguishable: headers %v, %v", realHeader, decoyHeader)
	}
}

// twins are two servers that differ only in whether the number has an account. They receive the
// same requests, and their responses must be the same.
type twins struct {
	t           *testing.T
	path        string
	real, decoy *node
	calls       [2]*storetest.Counter
}

// eachTwins runs a test for each purpose.
func eachTwins(t *testing.T, open opener, run func(*testing.T, *twins), change ...func(*threepid.Options)) {
	for _, path := range []string{addPath, regPath, pwdPath} {
		t.Run(strings.Join(strings.Split(path, "/")[4:6], " "), func(t *testing.T) {
			t.Parallel()
			tw := &twins{t: t, path: path}
			var both [2]*node
			for i := range both {
				both[i], tw.calls[i] = startCounted(t, open, append(change, concealed, func(o *threepid.Options) {
					o.PublicURL = "https://example.org"
				})...)
			}
			tw.real, tw.decoy = both[0], both[1]
			with := tw.decoy
			if path == pwdPath {
				with = tw.real
			}
			with.associate(t, "@alice:example.org", msisdn)
			run(t, tw)
		})
	}
}

func startCounted(t *testing.T, open opener, change ...func(*threepid.Options)) (*node, *storetest.Counter) {
	t.Helper()
	inner := open(t)
	counter := storetest.Counting(inner)
	return start(t, both{counter, inner}, change...), counter
}

// each sends a request to both servers, and compares the responses, the calls of the stores, and
// the number of SMS.
func (tw *twins) each(ask func(n *node) answer) (real, decoy answer) {
	tw.t.Helper()
	real, decoy = ask(tw.real), ask(tw.decoy)
	expectSame(tw.t, real, decoy)
	if a, b := tw.calls[0], tw.calls[1]; a.Views() != b.Views() || a.Updates() != b.Updates() {
		tw.t.Errorf("distinguishable: %d and %d reads, %d and %d writes", a.Views(), b.Views(), a.Updates(), b.Updates())
	}
	if a, b := len(tw.real.sms.Calls()), len(tw.decoy.sms.Calls()); a != b {
		tw.t.Errorf("distinguishable: %d SMS and %d", a, b)
	}
	return real, decoy
}

func (tw *twins) request(attempt int) (real, decoy answer) {
	tw.t.Helper()
	return tw.each(func(n *node) answer { return n.post(tw.path, request(map[string]any{"send_attempt": attempt})) })
}

func (tw *twins) advance(d time.Duration) {
	tw.real.clock.advance(d)
	tw.decoy.clock.advance(d)
}

func testConcealedAnswers(t *testing.T, open opener) {
	eachTwins(t, open, func(t *testing.T, tw *twins) {
		for _, i := range []int{1, 1, 0, 5, 3} {
			if a, _ := tw.request(i); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		tw.advance(11 * time.Minute)
		tw.request(5)
		tw.request(6)
		tw.advance(25 * time.Hour)
		tw.request(6)
		for _, n := range []*node{tw.real, tw.decoy} {
			if _, err := n.sessionOf(t); err != nil {
				t.Error(err)
			}
			n.expectTexts(t, 4)
		}
		tw.each(func(n *node) answer { return n.post(tw.path, request(map[string]any{"send_attempt": -1})) })
	})
}

// testConcealedSMS checks that the number's owner is told in one short SMS for each attempt why
// there is no code.
func testConcealedSMS(t *testing.T, open opener) {
	says := map[string]string{addPath: "already on an account", regPath: "already an account with this number", pwdPath: "No account has this number"}
	eachTwins(t, open, func(t *testing.T, tw *twins) {
		for _, i := range []int{1, 1, 2, 1} {
			tw.request(i)
		}
		texts := tw.decoy.sms.Messages()
		if len(texts) != 2 || texts[0].ID == texts[1].ID || texts[0].Text != texts[1].Text {
			t.Fatalf("SMS: %+v", texts)
		}
		for i, m := range texts {
			if !strings.Contains(m.Text, says[tw.path]) || !strings.Contains(m.Text, "Example") || strings.ContainsAny(m.Text, "0123456789") {
				t.Errorf("the SMS is %q", m.Text)
			}
			const oneSMS, maxBrand = 160, 40
			if len(m.Text)-len("Example")+maxBrand > oneSMS {
				t.Errorf("an SMS of %d characters", len(m.Text))
			}
			if like := tw.real.sms.Messages()[i]; m.To != like.To || m.Country != like.Country || m.Attempt != like.Attempt || len(m.ID) != len(like.ID) {
				t.Errorf("%+v, a real one is %+v", m, like)
			}
		}
	})
}

// testConcealedTokens checks that a decoy responds to each wrong code as a real session does, and
// is not validated.
func testConcealedTokens(t *testing.T, open opener) {
	for method, submit := range map[string]func(*node, string, string) answer{
		"POST": func(n *node, sid, token string) answer { return n.submit(sid, secret, token) },
		"GET":  func(n *node, sid, token string) answer { return n.submitGet(sid, secret, token) },
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			eachTwins(t, open, func(t *testing.T, tw *twins) {
				for attempt := range 2 {
					first, second := tw.request(attempt)
					sids := map[*node]string{tw.real: first.text("sid"), tw.decoy: second.text("sid")}
					guess := wrong(tw.real.token())
					for try := range 7 {
						a, _ := tw.each(func(n *node) answer { return submit(n, sids[n], guess) })
						if a.status != http.StatusBadRequest || method == "POST" && (a.errcode() == "M_TOKEN_INCORRECT") != (try < 5) {
							t.Errorf("try %d: %d %s", try, a.status, a.body)
						}
					}
					tw.each(func(n *node) answer { return submit(n, sids[n], "x") })
					tw.each(func(n *node) answer { return n.submit(sids[n], "another", guess) })
					expectNotValidated(t, tw.real, sids[tw.real])
					expectNotValidated(t, tw.decoy, sids[tw.decoy])
				}
			})
		})
	}
}

func expectNotValidated(t *testing.T, n *node, sid string) {
	t.Helper()
	if _, err := n.plugin.Validated(t.Context(), sid, secret); !errors.Is(err, threepid.ErrNotValidated) {
		t.Errorf("Validated: %v", err)
	}
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); !errors.Is(err, threepid.ErrNotValidated) {
		t.Errorf("Redeem: %v", err)
	}
}

func testConcealedFailures(t *testing.T, open opener) {
	for name, failure := range map[string]error{
		"failed": errors.New("out of order"), "rejected": fmt.Errorf("no such number: %w", sms.ErrRejected),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachTwins(t, open, func(t *testing.T, tw *twins) {
				for _, n := range []*node{tw.real, tw.decoy} {
					n.sms.Fail(failure, failure, nil, failure)
				}
				for _, row := range []struct{ attempt, status int }{
					{1, 0}, {1, 0}, {1, http.StatusOK}, {1, http.StatusOK}, {2, 0}, {2, http.StatusOK},
				} {
					if a, _ := tw.request(row.attempt); (a.status == http.StatusOK) != (row.status == http.StatusOK) {
						t.Errorf("attempt %d: %d %s", row.attempt, a.status, a.body)
					}
				}
			})
		})
	}
}

// testConcealedLimits sends requests until the limits refuse them, and guesses codes until the
// limits refuse those.
func testConcealedLimits(t *testing.T, open opener) {
	eachTwins(t, open, func(t *testing.T, tw *twins) {
		statuses := map[int]int{}
		for i := range 60 {
			first, second := tw.request(i)
			statuses[first.status]++
			if first.status == http.StatusOK {
				sids := map[*node]string{tw.real: first.text("sid"), tw.decoy: second.text("sid")}
				guess := wrong(tw.real.token())
				for range 3 {
					a, _ := tw.each(func(n *node) answer { return n.submit(sids[n], secret, guess) })
					statuses[a.status]++
				}
			}
			tw.advance(7 * time.Minute)
		}
		if statuses[http.StatusOK] < 4 || statuses[http.StatusTooManyRequests] < 10 || statuses[http.StatusBadRequest] < 10 {
			t.Errorf("responses %v", statuses)
		}
	}, inEarnest)
}

func testConcealedPolicyComesFirst(t *testing.T, open opener) {
	eachTwins(t, open, func(t *testing.T, tw *twins) {
		a, _ := tw.request(1)
		expectDenied(t, a)
		tw.real.expectTexts(t, 0)
	}, policy(limits.Policy{AllowCountries: []string{"FR"}}))
}

// testConcealedAccountAppearsAndDisappears gives the number an account between two attempts and removes it
// before the next.
func testConcealedAccountAppearsAndDisappears(t *testing.T, open opener) {
	st := open(t)
	n := start(t, st, concealed)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	first := n.token()
	n.associate(t, "@alice:example.org", msisdn)
	n.mustRequest(addPath, attempt(1)) // seen: the SMS with the code still counts
	n.expectTexts(t, 1)
	if again := n.mustRequest(addPath, attempt(2)).text("sid"); again != sid || n.token() != "" {
		t.Errorf("session %s, was %s; code %q", again, sid, n.token())
	}
	expectSubmit(t, n.submit(sid, secret, first), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expectNotValidated(t, n, sid)

	if err := st.Dissociate(t.Context(), "@alice:example.org", msisdn); err != nil {
		t.Fatal(err)
	}
	if again := n.mustRequest(addPath, attempt(3)).text("sid"); again != sid || n.token() == "" || n.token() == first {
		t.Errorf("session %s, was %s; code %q, was %q", again, sid, n.token(), first)
	}
	expectSubmit(t, n.submit(sid, secret, first), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	if v, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil || v.MSISDN != msisdn {
		t.Errorf("%+v, %v", v, err)
	}
	ids := map[string]bool{}
	for _, m := range n.sms.Messages() {
		ids[m.ID] = true
	}
	if len(ids) != 3 {
		t.Errorf("%d message IDs: a gateway would drop an SMS", len(ids))
	}
}

// testConcealedAccountAppearingIsNotRevealed submits wrong codes while the number gets an account: the
// number of tries left continues to fall from the same value.
func testConcealedAccountAppearingIsNotRevealed(t *testing.T, open opener) {
	for _, before := range []int{0, 3, 5} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			t.Parallel()
			eachTwins(t, open, func(t *testing.T, tw *twins) {
				for _, n := range []*node{tw.real, tw.decoy} { // both begin in the same state
					_ = n.store.Dissociate(t.Context(), "@alice:example.org", msisdn)
				}
				sids := map[*node]string{}
				ask := func(attempt int) {
					first, second := tw.each(func(n *node) answer { return n.post(addPath, request(map[string]any{"send_attempt": attempt})) })
					sids[tw.real], sids[tw.decoy] = first.text("sid"), second.text("sid")
				}
				guess := func(times int) {
					for range times {
						tw.each(func(n *node) answer { return n.submit(sids[n], secret, "x") })
					}
				}
				ask(1)
				guess(before)
				tw.decoy.associate(t, "@alice:example.org", msisdn)
				ask(1)
				ask(2)
				guess(6)
				ask(3)
				guess(6)
			})
		})
	}
}

// testConcealedValidationDoesNotSurvive makes a validated or redeemed session a decoy.
func testConcealedValidationDoesNotSurvive(t *testing.T, open opener) {
	for _, redeemed := range []bool{false, true} {
		t.Run(fmt.Sprint(redeemed), func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), concealed)
			sid := n.mustRequest(regPath, attempt(1)).text("sid")
			code := n.token()
			expectSubmit(t, n.submit(sid, secret, code), http.StatusOK, "")
			if redeemed {
				if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
					t.Fatal(err)
				}
			}
			n.associate(t, "@alice:example.org", msisdn)
			n.mustRequest(regPath, attempt(2))
			expectNotValidated(t, n, sid)
			expectSubmit(t, n.submit(sid, secret, code), http.StatusBadRequest, "M_TOKEN_INCORRECT")
			expectNotValidated(t, n, sid)
			n.expectTexts(t, 2)
		})
	}
}

// testConcealedTestNumber checks that a test number's fixed code is wrong where no code is right.
func testConcealedTestNumber(t *testing.T, open opener) {
	n := start(t, open(t), concealed, testNumber)
	n.associate(t, "@reviewer:example.org", msisdn)
	sid := n.mustRequest(regPath, attempt(1)).text("sid")
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expectNotValidated(t, n, sid)
	sid = n.mustRequest(pwdPath, attempt(2)).text("sid")
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusOK, "")
	n.expectTexts(t, 0)
}

// testNothingConcealedByDefault gives the number an account between two attempts.
func testNothingConcealedByDefault(t *testing.T, open opener) {
	n := start(t, open(t))
	expect(t, n.post(pwdPath, attempt(1)), http.StatusBadRequest, "M_THREEPID_NOT_FOUND")
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	n.associate(t, "@alice:example.org", msisdn)
	expect(t, n.post(addPath, attempt(2)), http.StatusBadRequest, "M_THREEPID_IN_USE")
	expect(t, n.post(regPath, attempt(2)), http.StatusBadRequest, "M_THREEPID_IN_USE")
	n.expectTexts(t, 1)
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	if s, err := n.sessionOf(t); err != nil || s.Decoy || s.Purpose != store.PurposeAdd {
		t.Errorf("%+v, %v", s, err)
	}
}
