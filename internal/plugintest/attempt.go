package plugintest

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

// attemptTests are about send_attempt, and which code an attempt gets.
func attemptTests() []test {
	return []test{
		{"Attempts", testAttempts},
		{"ResendWithinLifetimeSendsTheSameToken", testResendWithinLifetimeSendsTheSameToken},
		{"ResendAfterLifetimeSendsANewToken", testResendAfterLifetimeSendsANewToken},
		{"AnotherPurposeAfterValidationStartsOver", testAnotherPurposeAfterValidationStartsOver},
		{"TokenOfAnotherPurposeIsAnother", testTokenOfAnotherPurposeIsAnother},
		{"OneSecretForTwoPurposes", testOneSecretForTwoPurposes},
		{"SentBefore", testSentBefore},
	}
}

// testAttempts checks the main rule: an SMS is sent only if send_attempt is greater than the last
// one seen for that country, number and client_secret.
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
			t.Errorf("%s: %d SMS by now, want %d", step.name, n.sms.Count(), step.texts)
		}
	}
}

// testSentBefore checks what a sender is told about earlier SMS and the code's lifetime, with
// limits and without.
func testSentBefore(t *testing.T, open opener) {
	for name, off := range map[string]bool{"limits": false, "no limits": true} {
		t.Run(name, func(t *testing.T) {
			n := start(t, open(t), func(o *threepid.Options) {
				o.Limits.Disabled, o.Guard.Disabled = off, off
			})
			expectSent := func(attempts int64, status, want int) {
				t.Helper()
				expect(t, n.post(addPath, attempt(int(attempts))), status, map[int]string{http.StatusBadGateway: "M_SEND_ERROR"}[status])
				calls := n.sms.Calls()
				if m := calls[len(calls)-1]; m.SentBefore != want || m.Attempt != attempts || m.Validity != 10*time.Minute {
					t.Errorf("attempt %d: %d sent before, valid for %v; want %d, 10m", m.Attempt, m.SentBefore, m.Validity, want)
				}
			}
			expectSent(7, http.StatusOK, 0) // whichever number the client gives it
			n.sms.Fail(errors.New("busy"), sms.ErrUncertain)
			expectSent(1000, http.StatusBadGateway, 1)
			expectSent(1001, http.StatusBadGateway, 1) // no SMS was sent for 1000
			expectSent(1001, http.StatusOK, 1)         // the same attempt again
			expectSent(1002, http.StatusOK, 2)
			expect(t, n.submit(n.mustRequest(addPath, attempt(1002)).text("sid"), secret, n.token()), http.StatusOK, "")
			expectSent(1003, http.StatusOK, 0) // the last SMS arrived
		})
	}
}

func testResendWithinLifetimeSendsTheSameToken(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	first, _ := n.sms.Last()
	n.clock.advance(9 * time.Minute)
	n.mustRequest(addPath, attempt(2))
	second, _ := n.sms.Last()
	if first.Text != second.Text {
		t.Errorf("the SMS differ: %q, %q", first.Text, second.Text)
	}
	if first.ID == second.ID {
		t.Error("two attempts have one message ID: a gateway would drop the second")
	}
	expect(t, n.submit(sid, secret, smstest.Token(first)), http.StatusOK, "")
}

func testResendAfterLifetimeSendsANewToken(t *testing.T, open opener) {
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

// testAnotherPurposeAfterValidationStartsOver uses a validated session for another purpose: the old
// validation does not count for it, the new code does.
func testAnotherPurposeAfterValidationStartsOver(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	old := n.token()
	expect(t, n.submit(sid, secret, old), http.StatusOK, "")
	n.mustRequest(addPath, attempt(2)) // for the same purpose the validation stays
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

// testOneSecretForTwoPurposes repeats an attempt for another purpose: a 200 without an SMS would
// lead to a validation that the client cannot use.
func testOneSecretForTwoPurposes(t *testing.T, open opener) {
	n := start(t, open(t))
	expectAnother := func(path string, i int) {
		t.Helper()
		a := n.post(path, attempt(i))
		expect(t, a, http.StatusBadRequest, "M_INVALID_PARAM")
		if want := "This client_secret was used for another purpose; generate a new one."; a.text("error") != want {
			t.Errorf("error %q, want %q", a.text("error"), want)
		}
	}
	sid := n.mustRequest(addPath, attempt(3)).text("sid")
	for _, i := range []int{3, 2, 0} {
		expectAnother(regPath, i)
		n.mustRequest(addPath, attempt(i))
	}
	n.expectTexts(t, 1)

	// A greater attempt for the other purpose fails: the attempt seen and its purpose stay.
	n.sms.Fail(errors.New("no route"))
	expect(t, n.post(regPath, attempt(4)), http.StatusBadGateway, "M_SEND_ERROR")
	expectAnother(regPath, 3)
	n.mustRequest(addPath, attempt(3))
	n.expectTexts(t, 1)

	if got := n.mustRequest(regPath, attempt(4)).text("sid"); got != sid {
		t.Errorf("sid %s, was %s", got, sid)
	}
	n.expectTexts(t, 2)
	for _, i := range []int{4, 3} {
		expectAnother(addPath, i)
		n.mustRequest(regPath, attempt(i))
	}
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	expectAnother(addPath, 4) // also after the validation
	n.expectTexts(t, 2)

	// If the provider did not say whether it sent an SMS, the attempt counts as seen once its code
	// is submitted.
	n = start(t, open(t))
	n.sms.Fail(sms.ErrUncertain)
	expect(t, n.post(regPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
	sess, err := n.sessionOf(t)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, n.submit(sess.SID, secret, smstest.Token(n.sms.Calls()[0])), http.StatusOK, "")
	expectAnother(addPath, 1)
	n.mustRequest(regPath, attempt(1))
}
