package plugintest

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
)

// tryTests are about guessing codes.
func tryTests() []test {
	return []test{
		{"WrongTriesAreReported", testWrongTriesAreReported},
		{"GuessesAtOnceOnAllNodesGetFiveComparisons", testGuessesAtOnce},
		{"NewTokenDoesNotForgetWrongTries", testNewTokenDoesNotForgetWrongTries},
		{"HundredWrongTriesLockANumber", testHundredWrongTriesLockANumber},
		{"FirstCodeIsComparedOnALockedNumber", testFirstCodeIsComparedOnALockedNumber},
		{"AnotherPurposeHasItsOwnTries", testAnotherPurposeHasItsOwnTries},
		{"RightTokenForgetsWrongTries", testRightTokenForgetsWrongTries},
		{"WrongCodesOfAClientForANumberAreLimited", testWrongCodesOfAClientForANumberAreLimited},
		{"RightTokenForgivesNobodyElse", testRightTokenForgivesNobodyElse},
		{"SubmitsOfAClientAreLimited", testSubmitsOfAClientAreLimited},
		{"RightTokenIsTakenAtTheLastTry", testRightTokenIsTakenAtTheLastTry},
	}
}

// guess submits a code as a client.
func (n *node) guess(client, sid, clientSecret, token string) answer {
	n.tb.Helper()
	return n.as(client, subPath, fmt.Sprintf(`{"sid":%q,"client_secret":%q,"token":%q}`, sid, clientSecret, token))
}

func testWrongTriesAreReported(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for _, want := range []string{"4 tries left", "3 tries left", "2 tries left", "1 try left", "last try"} {
		a := n.submit(sid, secret, wrong(n.token()))
		expectSubmit(t, a, http.StatusBadRequest, "M_TOKEN_INCORRECT")
		if !strings.Contains(a.text("error"), want) {
			t.Errorf("error %q does not say %q", a.text("error"), want)
		}
	}
}

// testAnotherPurposeHasItsOwnTries checks that another purpose has another code, with all of its
// tries.
func testAnotherPurposeHasItsOwnTries(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for range 4 {
		n.submit(sid, secret, wrong(n.token()))
	}
	n.mustRequest(regPath, attempt(2))
	for range 4 {
		expect(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	}
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

// testGuessesAtOnce sends a thousand guesses to two nodes at once, the last of which is the right
// code: each response that says "incorrect" means that one was compared.
func testGuessesAtOnce(t *testing.T, open opener) {
	st := open(t)
	n := start(t, st, limited)
	other := startWith(t, st, n.sms, &logs{}, limited, func(o *threepid.Options) { o.Now = n.clock.Now })
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	guess := wrong(n.token())
	var compared atomic.Int64
	together(32, func(caller int) {
		for i := range 31 {
			a := []*node{n, other}[(caller+i)%2].guess(fmt.Sprint(caller, i), sid, secret, guess)
			switch a.errcode() {
			case "M_TOKEN_INCORRECT":
				compared.Add(1)
			case "M_SESSION_EXPIRED":
			default:
				t.Errorf("status %d %s", a.status, a.body)
			}
		}
	})
	if compared.Load() != 5 {
		t.Errorf("%d guesses were compared", compared.Load())
	}
	expect(t, n.submit(sid, secret, n.token()), http.StatusBadRequest, "M_SESSION_EXPIRED")
}

// burn uses up the five tries of a new code, each as another client.
func (n *node) burn(t *testing.T) (compared int, last answer) {
	t.Helper()
	clientSecret := newSecret()
	a := n.as(newSecret(), addPath, request(map[string]any{"client_secret": clientSecret}))
	if a.status != http.StatusOK {
		return 0, a
	}
	for range 5 {
		last = n.guess(newSecret(), a.text("sid"), clientSecret, wrong(n.token()))
		if last.errcode() != "M_TOKEN_INCORRECT" {
			return compared, last
		}
		compared++
	}
	return compared, last
}

// manyTexts sets no limit on SMS to a number.
func manyTexts(o *threepid.Options) {
	limited(o)
	o.Limits.PerNumber, o.Limits.PerRange = []limits.Limit{}, []limits.Limit{}
}

func testNewTokenDoesNotForgetWrongTries(t *testing.T, open opener) {
	n := start(t, open(t), manyTexts, withoutReserve)
	total := 0
	for range 12 {
		compared, _ := n.burn(t)
		total += compared
	}
	if total != 40 {
		t.Errorf("%d guesses were compared for one number", total)
	}
	_, last := n.burn(t)
	expectLimited(t, last, 30*time.Minute)
	if last.fields["success"] != false {
		t.Errorf("body %s", last.body)
	}
	expectPage(t, n.submitGet("a", "b", "c"), http.StatusBadRequest)
}

func testHundredWrongTriesLockANumber(t *testing.T, open opener) {
	n := start(t, open(t), manyTexts, withoutReserve, func(o *threepid.Options) { o.SessionLifetime = 100 * 24 * time.Hour })
	total := 0
	for range 14 * 6 {
		compared, _ := n.burn(t)
		total += compared
		n.clock.advance(4 * time.Hour)
	}
	if total != 100 {
		t.Errorf("%d guesses were compared in two weeks", total)
	}
	_, last := n.burn(t)
	expect(t, last, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	n.clock.advance(30 * 24 * time.Hour)
	if compared, _ := n.burn(t); compared != 5 {
		t.Errorf("a month later %d guesses are compared", compared)
	}
}

// testFirstCodeIsComparedOnALockedNumber makes guesses use up all limits of a number. Each code
// that is sent can be submitted once nevertheless, until the reserve is used up.
func testFirstCodeIsComparedOnALockedNumber(t *testing.T, open opener) {
	n := start(t, open(t), manyTexts, func(o *threepid.Options) {
		o.Limits.MaxWrongCodes = 5
		o.Limits.ReserveCodes = []limits.Limit{{Burst: 3, Every: time.Hour}}
	})
	for _, want := range []int{5, 1, 1} {
		compared, last := n.burn(t)
		if compared != want {
			t.Errorf("%d guesses were compared, want %d", compared, want)
		}
		if compared == 1 {
			expectLimited(t, last, 30*24*time.Hour)
		}
	}
	own := newSecret()
	a := n.as("owner", addPath, request(map[string]any{"client_secret": own}))
	expect(t, n.guess("owner", a.text("sid"), own, n.token()), http.StatusOK, "")
	compared, _ := n.burn(t)
	if compared != 5 {
		t.Errorf("after a right code %d guesses are compared, want 5", compared)
	}
	if compared, _ = n.burn(t); compared != 0 {
		t.Errorf("%d guesses were compared beyond the reserve", compared)
	}
}

func testRightTokenForgetsWrongTries(t *testing.T, open opener) {
	n := start(t, open(t), manyTexts)
	for range 10 {
		for range 3 {
			if compared, last := n.burn(t); compared != 5 {
				t.Fatalf("%d compared: %s", compared, last.body)
			}
		}
		clientSecret := newSecret()
		a := n.as("owner", addPath, request(map[string]any{"client_secret": clientSecret}))
		expect(t, n.guess("owner", a.text("sid"), clientSecret, n.token()), http.StatusOK, "")
	}
}

// testWrongCodesOfAClientForANumberAreLimited makes one client guess in sessions that others began:
// the client is refused before the number is, so that its owner is not.
func testWrongCodesOfAClientForANumberAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), manyTexts)
	compared := 0
	var last answer
	for range 5 {
		clientSecret := newSecret()
		a := n.as(newSecret(), addPath, request(map[string]any{"client_secret": clientSecret}))
		for range 5 {
			last = n.guess("guesser", a.text("sid"), clientSecret, wrong(n.token()))
			if last.errcode() == "M_TOKEN_INCORRECT" {
				compared++
			}
		}
	}
	if compared != 15 {
		t.Errorf("%d guesses of one client were compared", compared)
	}
	expectLimited(t, last, 12*time.Hour)
	own := newSecret()
	a := n.as("owner", addPath, request(map[string]any{"client_secret": own}))
	expect(t, n.guess("owner", a.text("sid"), own, n.token()), http.StatusOK, "")
}

// testRightTokenForgivesNobodyElse submits the right code as another client than the one that
// requested it and guessed: the wrong codes of the latter still count.
func testRightTokenForgivesNobodyElse(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) {
		o.Limits.WrongCodesPerNumberAndClient = []limits.Limit{{Burst: 1, Every: time.Hour}}
	})
	guess := func() (sid, clientSecret string, a answer) {
		clientSecret = newSecret()
		sid = n.as("guesser", addPath, request(map[string]any{"client_secret": clientSecret})).text("sid")
		return sid, clientSecret, n.guess("guesser", sid, clientSecret, wrong(n.token()))
	}
	sid, clientSecret, a := guess()
	expectSubmit(t, a, http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, n.guess("friend", sid, clientSecret, n.token()), http.StatusOK, "")
	_, _, a = guess()
	expectLimited(t, a, time.Hour)
}

func testSubmitsOfAClientAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	compared := 0
	var last answer
	for i := range 8 {
		clientSecret := newSecret()
		a := n.as(fmt.Sprint("asker", i), addPath, request(map[string]any{"client_secret": clientSecret, "phone_number": mobile(i, i)}))
		for range 5 {
			last = n.guess("guesser", a.text("sid"), clientSecret, wrong(n.token()))
			if last.errcode() == "M_TOKEN_INCORRECT" {
				compared++
			}
		}
	}
	if compared != 30 {
		t.Errorf("%d guesses of one client were compared", compared)
	}
	expectLimited(t, last, time.Minute)
	// Right codes do not count, for any number.
	for i := range 40 {
		clientSecret := newSecret()
		a := n.as(fmt.Sprint("other", i), addPath, request(map[string]any{"client_secret": clientSecret, "phone_number": mobile(i+20, i)}))
		expect(t, n.guess("quick", a.text("sid"), clientSecret, n.token()), http.StatusOK, "")
	}
}

func testRightTokenIsTakenAtTheLastTry(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for range 4 {
		expectSubmit(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	}
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}
