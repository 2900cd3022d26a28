package plugintest

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

// attemptTests are about send_attempt, and which token an attempt brings.
func attemptTests() []test {
	return []test{
		{"Attempts", testAttempts},
		{"ResendWithinLifetimeTextsTheSameToken", testResendWithinLifetimeTextsTheSameToken},
		{"ResendAfterLifetimeTextsANewToken", testResendAfterLifetimeTextsANewToken},
		{"AnotherPurposeAfterValidationStartsAnew", testAnotherPurposeAfterValidationStartsAnew},
		{"TokenOfAnotherPurposeIsAnother", testTokenOfAnotherPurposeIsAnother},
	}
}

// testAttempts is the heart: an SMS only if send_attempt is greater than the
// last one seen for that country, number and client_secret.
func testAttempts(t *testing.T, open opener) {
	n := start(t, open(t))
	steps := []struct {
		name  string
		body  string
		texts int
	}{
		{"first", attempt(1), 1},
		{"the same again", attempt(1), 1},
		{"a smaller one", attempt(0), 1},
		{"another spelling of the number", request(map[string]any{"phone_number": "+44 7700 900001"}), 1},
		{"a greater one", attempt(5), 2},
		{"one between", attempt(3), 2},
		{"another secret", request(map[string]any{"client_secret": "other"}), 3},
		{"another country", request(map[string]any{"country": "US", "phone_number": "+447700900001"}), 4},
		{"another number", request(map[string]any{"phone_number": "07700900002"}), 5},
	}
	var sid string
	for i, step := range steps {
		got := n.mustRequest(addPath, step.body).text("sid")
		if i == 0 {
			sid = got
		}
		if same := got == sid; same != (i < 6) {
			t.Errorf("%s: sid %s, first was %s", step.name, got, sid)
		}
		if n.sms.Count() != step.texts {
			t.Errorf("%s: %d texts by now, want %d", step.name, n.sms.Count(), step.texts)
		}
	}
}

func testResendWithinLifetimeTextsTheSameToken(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	first, _ := n.sms.Last()
	n.clock.advance(9 * time.Minute)
	n.mustRequest(addPath, attempt(2))
	second, _ := n.sms.Last()
	if first.Text != second.Text {
		t.Errorf("texts differ: %q, %q", first.Text, second.Text)
	}
	if first.ID == second.ID {
		t.Error("two attempts have one message ID: a gateway would drop the second")
	}
	expect(t, n.submit(sid, secret, smstest.Token(first)), http.StatusOK, "")
}

func testResendAfterLifetimeTextsANewToken(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	old := n.token()
	n.clock.advance(10 * time.Minute)
	if got := n.mustRequest(addPath, attempt(2)).text("sid"); got != sid {
		t.Errorf("another session: %s, was %s", got, sid)
	}
	if n.token() == old {
		t.Fatal("the same token again")
	}
	expect(t, n.submit(sid, secret, old), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

// testAnotherPurposeAfterValidationStartsAnew has a validated session be asked
// for something else: the old validation does not count for it, the new code does.
func testAnotherPurposeAfterValidationStartsAnew(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	old := n.token()
	expect(t, n.submit(sid, secret, old), http.StatusOK, "")
	n.mustRequest(addPath, attempt(2)) // for the same purpose it stays
	if v, err := n.plugin.Validated(t.Context(), sid, secret); err != nil || v.Purpose != store.PurposeAdd {
		t.Errorf("%+v, %v", v, err)
	}
	n.mustRequest(regPath, attempt(3))
	if _, err := n.plugin.Validated(t.Context(), sid, secret); !errors.Is(err, threepid.ErrNotValidated) {
		t.Errorf("validated for what nobody has proved: %v", err)
	}
	expect(t, n.submit(sid, secret, old), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	if v, err := n.plugin.Validated(t.Context(), sid, secret); err != nil || v.Purpose != store.PurposeRegister {
		t.Errorf("%+v, %v", v, err)
	}
}

func testTokenOfAnotherPurposeIsAnother(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	toAdd := n.token()
	n.mustRequest(regPath, attempt(2))
	if n.token() == toAdd {
		t.Fatal("a code given away to add a number also registers an account")
	}
	expect(t, n.submit(sid, secret, toAdd), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	v, err := n.plugin.Validated(t.Context(), sid, secret)
	if err != nil || v.Purpose != store.PurposeRegister {
		t.Errorf("%+v, %v", v, err)
	}
}
