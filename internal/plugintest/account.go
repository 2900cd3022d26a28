package plugintest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/store"
)

const (
	listPath    = base + string(threepid.EndpointListNumbers)
	putPath     = base + string(threepid.EndpointAddNumber)
	deletePath  = base + string(threepid.EndpointDeleteNumber)
	alice       = "@alice:example.org"
	bob         = "@bob:example.org"
	deleteOurs  = `{"medium":"msisdn","address":"` + msisdn + `"}`
	deletedBody = `{"id_server_unbind_result":"no-support"}`
)

// accountTests are about the numbers of an account: listing, adding, deleting and releasing them.
func accountTests() []test {
	return []test{
		{"AccountFromCodeToDelete", testAccountFromCodeToDelete},
		{"AccountListIsOldestFirst", testAccountListIsOldestFirst},
		{"AccountAddNeedsAValidation", testAccountAddNeedsAValidation},
		{"AccountAddNeedsItsOwnPurpose", testAccountAddNeedsItsOwnPurpose},
		{"AccountAddOfAValidationThatTheHostTook", testAccountAddOfAValidationThatTheHostTook},
		{"AccountAddByTheSameUserAgain", testAccountAddByTheSameUserAgain},
		{"AccountFreedNumberIsProvedAgain", testAccountFreedNumberIsProvedAgain},
		{"AccountAddOfANumberThatIsTaken", testAccountAddOfANumberThatIsTaken},
		{"AccountAddOfOneSessionByMany", testAccountAddOfOneSessionByMany},
		{"AccountAddOfOneNumberByMany", testAccountAddOfOneNumberByMany},
		{"AccountAddRacesTheHost", testAccountAddRacesTheHost},
		{"AccountDelete", testAccountDelete},
		{"AccountRelease", testAccountRelease},
		{"AccountRefusesBadBodies", testAccountRefusesBadBodies},
	}
}

// authenticated makes the host accept an access token for the user of that name.
func authenticated(o *threepid.Options) {
	o.Authenticate = func(c *gin.Context) (string, error) {
		userID, ok := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
		switch {
		case !ok:
			return "", threepid.ErrMissingToken
		case userID == "stale":
			return "", fmt.Errorf("look the token up: %w", threepid.ErrUnknownToken)
		}
		return userID, nil
	}
}

// authed sends a request with the user's access token.
func (n *node) authed(userID, method, path, body string) answer {
	n.tb.Helper()
	req, err := http.NewRequestWithContext(n.tb.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+userID)
	return n.send(req)
}

func (n *node) add(userID, sid, clientSecret string) answer {
	n.tb.Helper()
	return n.authed(userID, http.MethodPost, putPath, fmt.Sprintf(`{"sid":%q,"client_secret":%q}`, sid, clientSecret))
}

// validatedBy validates a number as the client with that secret, and returns the sid.
func (n *node) validatedBy(clientSecret, path string, attempt int) (sid string) {
	n.tb.Helper()
	a := n.mustRequest(path, request(map[string]any{"client_secret": clientSecret, "send_attempt": attempt}))
	if a := n.submit(a.text("sid"), clientSecret, n.token()); a.status != http.StatusOK {
		n.tb.Fatalf("submitToken: %d %s", a.status, a.body)
	}
	return a.text("sid")
}

// expectDone fails the test unless the response is 200 with that body.
func expectDone(t *testing.T, a answer, body string) {
	t.Helper()
	if a.status != http.StatusOK || a.body != body {
		t.Errorf("got status %d %s, want 200 %s", a.status, a.body, body)
	}
}

// expectNumbers fails the test unless the user's list has these numbers and times.
func (n *node) expectNumbers(t *testing.T, userID string, want ...store.Association) {
	t.Helper()
	var each []string
	for _, w := range want {
		each = append(each, fmt.Sprintf(`{"medium":"msisdn","address":%q,"validated_at":%d,"added_at":%d}`, w.MSISDN, w.ValidatedAt, w.AddedAt))
	}
	expectDone(t, n.authed(userID, http.MethodGet, listPath, ""), `{"threepids":[`+strings.Join(each, ",")+`]}`)
}

func testAccountFromCodeToDelete(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	n.expectNumbers(t, alice)
	sid := n.validatedBy(secret, addPath, 1)
	validated := n.clock.Now().UnixMilli()
	n.clock.advance(time.Hour)
	expectDone(t, n.add(alice, sid, secret), `{}`)
	n.expectNumbers(t, alice, store.Association{MSISDN: msisdn, ValidatedAt: validated, AddedAt: n.clock.Now().UnixMilli()})
	n.expectNumbers(t, bob)
	expect(t, n.post(regPath, attempt(1)), http.StatusBadRequest, "M_THREEPID_IN_USE")

	expectDone(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), deletedBody)
	n.expectNumbers(t, alice)
	n.mustRequest(regPath, attempt(2))
}

func testAccountListIsOldestFirst(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	want := []store.Association{{MSISDN: "447700900009", ValidatedAt: 1, AddedAt: 2}, {MSISDN: "447700900003", ValidatedAt: 0, AddedAt: 3}}
	for _, a := range []store.Association{want[1], want[0]} {
		a.UserID = alice
		if err := n.store.Associate(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	n.expectNumbers(t, alice, want...)
}

func testAccountAddNeedsAValidation(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	refused := func(step string, a answer) answer {
		t.Helper()
		t.Log(step)
		expect(t, a, http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
		return a
	}
	unknown := refused("unknown", n.add(alice, "nosuchsid", secret))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	pending := refused("not validated", n.add(alice, sid, secret))
	n.submit(sid, secret, wrong(n.token()))
	refused("a wrong code", n.add(alice, sid, secret))
	n.submit(sid, secret, n.token())
	foreign := refused("another's secret", n.add(alice, sid, "another"))
	refused("no secret", n.add(alice, sid, ""))
	refused("no sid", n.add(alice, "", secret))
	if unknown.body != foreign.body || unknown.body != pending.body {
		t.Errorf("distinguishable: %s, %s, %s", unknown.body, foreign.body, pending.body)
	}
	n.clock.advance(24 * time.Hour)
	refused("expired", n.add(alice, sid, secret))
	n.expectNumbers(t, alice)

	sid = n.validatedBy(secret, addPath, 2)
	n.clock.advance(24*time.Hour - time.Millisecond)
	expectDone(t, n.add(alice, sid, secret), `{}`)
}

// testAccountAddNeedsItsOwnPurpose submits codes that were sent for another purpose. They add no
// number to an account: a thief who talked a person into revealing a code for one purpose must not
// use it for another.
func testAccountAddNeedsItsOwnPurpose(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	expect(t, n.add(alice, n.validatedBy("for-register", regPath, 1), "for-register"), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	n.associate(t, alice, msisdn)
	sid := n.validatedBy("for-password", pwdPath, 1)
	expect(t, n.add(alice, sid, "for-password"), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	expect(t, n.add(bob, sid, "for-password"), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	for _, s := range []string{"for-register", "for-password"} {
		expect(t, n.post(addPath, request(map[string]any{"client_secret": s})), http.StatusBadRequest, "M_THREEPID_IN_USE")
	}
}

// testAccountAddOfAValidationThatTheHostTook redeems a validation before the client adds it.
func testAccountAddOfAValidationThatTheHostTook(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	sid := n.validatedBy(secret, addPath, 1)
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
		t.Fatal(err)
	}
	expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	n.associate(t, alice, msisdn)
	expectDone(t, n.add(alice, sid, secret), `{}`)
	expect(t, n.add(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
}

func testAccountAddByTheSameUserAgain(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	sid := n.validatedBy(secret, addPath, 1)
	together(20, func(int) { expectDone(t, n.add(alice, sid, secret), `{}`) })
	added := store.Association{MSISDN: msisdn, ValidatedAt: n.clock.Now().UnixMilli(), AddedAt: n.clock.Now().UnixMilli()}
	n.clock.advance(time.Minute)
	expectDone(t, n.add(alice, sid, secret), `{}`)
	n.expectNumbers(t, alice, added)
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); err == nil {
		t.Error("the host could take a validation that an account has used")
	}
	expect(t, n.add(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_IN_USE")

	// After the deletion, the number needs a new validation, also from the same client.
	expectDone(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), deletedBody)
	for _, user := range []string{alice, bob} {
		expect(t, n.add(user, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	}
	n.clock.advance(time.Second)
	if again := n.validatedBy(secret, addPath, 2); again != sid {
		t.Errorf("another session: %s, %s", again, sid)
	}
	expectDone(t, n.add(bob, sid, secret), `{}`)
	expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_IN_USE")
	n.clock.advance(24 * time.Hour)
	expect(t, n.add(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
}

// testAccountFreedNumberIsProvedAgain obtains validations of a number that then leaves its account:
// the holder's own, another user's, and one whose code is submitted later. None of them counts.
func testAccountFreedNumberIsProvedAgain(t *testing.T, open opener) {
	for name, free := range map[string]func(n *node) error{
		"deleted": func(n *node) error {
			expectDone(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), deletedBody)
			return nil
		},
		"released": func(n *node) error { return n.plugin.ReleaseNumber(t.Context(), "+"+msisdn) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), authenticated)
			used, kept := n.validatedBy("used", addPath, 1), n.validatedBy("kept", addPath, 1)
			pending := n.mustRequest(addPath, request(map[string]any{"client_secret": "pending"})).text("sid")
			// Only the account that has a number can delete it.
			expectDone(t, n.authed(bob, http.MethodPost, deletePath, deleteOurs), deletedBody)
			expectDone(t, n.add(alice, used, "used"), `{}`)
			expectDone(t, n.authed(bob, http.MethodPost, deletePath, deleteOurs), deletedBody)
			expectDone(t, n.add(alice, used, "used"), `{}`)
			expect(t, n.submit(pending, "pending", n.token()), http.StatusOK, "")
			n.clock.advance(time.Second)
			if err := free(n); err != nil {
				t.Fatal(err)
			}
			for _, user := range []string{alice, bob} {
				for secret, sid := range map[string]string{"used": used, "kept": kept, "pending": pending} {
					expect(t, n.add(user, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
				}
			}
			n.clock.advance(time.Second)
			expectDone(t, n.add(bob, n.validatedBy("anew", addPath, 1), "anew"), `{}`)
		})
	}
}

func testAccountAddOfANumberThatIsTaken(t *testing.T, open opener) {
	for name, conceal := range map[string]func(*threepid.Options){"told": func(*threepid.Options) {}, "concealed": concealed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), authenticated, conceal)
			sid := n.validatedBy(secret, addPath, 1)
			n.associate(t, bob, msisdn) // before the add
			a := n.add(alice, sid, secret)
			expect(t, a, http.StatusBadRequest, "M_THREEPID_IN_USE")
			if a.text("error") != "MSISDN is already in use" {
				t.Errorf("error %q", a.text("error"))
			}
			n.expectNumbers(t, alice)
			// Once it is free, a user who wants the number must prove it again.
			if err := n.plugin.ReleaseNumber(t.Context(), "+"+msisdn); err != nil {
				t.Fatal(err)
			}
			expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
			n.clock.advance(time.Second)
			expectDone(t, n.add(alice, n.validatedBy(secret, addPath, 2), secret), `{}`)
		})
	}
}

const rivals = 50

// race makes many accounts add a number at once, on two nodes in turn. One succeeds.
func race(t *testing.T, nodes []*node, add func(n *node, i int, userID string) answer) {
	t.Helper()
	answers := make([]answer, rivals)
	user := func(i int) string { return fmt.Sprintf("@user%d:example.org", i) }
	together(rivals, func(i int) { answers[i] = add(nodes[i%len(nodes)], i, user(i)) })
	winners := 0
	for i, a := range answers {
		if a.status == http.StatusOK {
			winners++
			if owner, err := nodes[0].store.Owner(t.Context(), msisdn); err != nil || owner != user(i) {
				t.Errorf("%s won, and %s has the number, error %v", user(i), owner, err)
			}
			continue
		}
		expect(t, a, http.StatusBadRequest, "M_THREEPID_IN_USE")
	}
	if winners != 1 {
		t.Errorf("%d of %d added the number", winners, rivals)
	}
}

func twoNodes(t *testing.T, open opener) []*node {
	t.Helper()
	st := open(t)
	first := start(t, st, authenticated)
	return []*node{first, startWith(t, st, first.sms, &logs{}, authenticated)}
}

func testAccountAddOfOneSessionByMany(t *testing.T, open opener) {
	nodes := twoNodes(t, open)
	sid := nodes[0].validatedBy(secret, addPath, 1)
	race(t, nodes, func(n *node, _ int, userID string) answer { return n.add(userID, sid, secret) })
}

func testAccountAddOfOneNumberByMany(t *testing.T, open opener) {
	nodes := twoNodes(t, open)
	var sids [rivals]string
	secretOf := func(i int) string { return fmt.Sprintf("secret%d", i) }
	for i := range sids {
		sids[i] = nodes[0].validatedBy(secretOf(i), addPath, 1)
	}
	race(t, nodes, func(n *node, i int, userID string) answer { return n.add(userID, sids[i], secretOf(i)) })
}

// testAccountAddRacesTheHost redeems validations while accounts add them: each is used once.
func testAccountAddRacesTheHost(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	for i := range 10 {
		sid := n.validatedBy(secret, addPath, i+1)
		var added answer
		var redeemed error
		together(2, func(i int) {
			if i == 0 {
				added = n.add(alice, sid, secret)
			} else {
				_, redeemed = n.plugin.Redeem(t.Context(), sid, secret)
			}
		})
		if (added.status == http.StatusOK) == (redeemed == nil) {
			t.Fatalf("add: %d %s; Redeem: %v", added.status, added.body, redeemed)
		}
		n.authed(alice, http.MethodPost, deletePath, deleteOurs)
		n.clock.advance(time.Second)
	}
}

func testAccountDelete(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	n.associate(t, alice, msisdn)
	// A number that is absent, or on another account, is not on this account afterwards.
	expectDone(t, n.authed(bob, http.MethodPost, deletePath, deleteOurs), deletedBody)
	n.expectNumbers(t, alice, store.Association{MSISDN: msisdn, AddedAt: 1})
	for _, body := range []string{
		`{"medium":"email","address":"` + msisdn + `"}`,
		`{"medium":"MSISDN","address":"` + msisdn + `"}`,
		`{"medium":"msisdn","address":"+` + msisdn + `"}`,
		`{"medium":"msisdn","address":"` + spoken + `"}`,
		`{"medium":"msisdn","address":"44 7700 900001"}`,
		`{"medium":"msisdn","address":"` + strings.Repeat("4", 21) + `"}`,
		`{"medium":"msisdn","address":""}`,
	} {
		expect(t, n.authed(alice, http.MethodPost, deletePath, body), http.StatusBadRequest, "M_INVALID_PARAM")
	}
	n.expectNumbers(t, alice, store.Association{MSISDN: msisdn, AddedAt: 1})
	withServer := strings.TrimSuffix(deleteOurs, "}") + `,"id_server":"id.example.org"}`
	for range 2 {
		expectDone(t, n.authed(alice, http.MethodPost, deletePath, withServer), deletedBody)
	}
	n.expectNumbers(t, alice)
}

func testAccountRefusesBadBodies(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	for _, row := range []struct {
		path, body string
		status     int
		errcode    string
	}{
		{putPath, `sid=1`, http.StatusBadRequest, "M_NOT_JSON"},
		{putPath, ``, http.StatusBadRequest, "M_NOT_JSON"},
		{putPath, `{"sid":"a","client_secret":"b"} {}`, http.StatusBadRequest, "M_NOT_JSON"},
		{putPath, `[]`, http.StatusBadRequest, "M_BAD_JSON"},
		{putPath, `{"sid":"a"}`, http.StatusBadRequest, "M_MISSING_PARAM"},
		{putPath, `{"sid":null,"client_secret":"b"}`, http.StatusBadRequest, "M_MISSING_PARAM"},
		{putPath, `{"sid":1,"client_secret":"b"}`, http.StatusBadRequest, "M_INVALID_PARAM"},
		{putPath, strings.Repeat(" ", 64<<10+1), http.StatusRequestEntityTooLarge, "M_TOO_LARGE"},
		{deletePath, `medium`, http.StatusBadRequest, "M_NOT_JSON"},
		{deletePath, `"msisdn"`, http.StatusBadRequest, "M_BAD_JSON"},
		{deletePath, `{"medium":"msisdn"}`, http.StatusBadRequest, "M_MISSING_PARAM"},
		{deletePath, `{"medium":"msisdn","address":447700900001}`, http.StatusBadRequest, "M_INVALID_PARAM"},
		{deletePath, strings.Repeat(" ", 64<<10+1), http.StatusRequestEntityTooLarge, "M_TOO_LARGE"},
	} {
		t.Run(row.errcode, func(t *testing.T) {
			t.Parallel()
			expect(t, n.authed(alice, http.MethodPost, row.path, row.body), row.status, row.errcode)
		})
	}
}
