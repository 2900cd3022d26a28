package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

// limitTests are about the limits on SMS.
func limitTests() []test {
	return []test{
		{"LimitOfANumber", testLimitOfANumber},
		{"ReserveOfANumber", testReserveOfANumber},
		{"ReserveIsGivenBack", testReserveIsGivenBack},
		{"ReserveTakesAnIPv6NetworkForOneClient", testReserveTakesAnIPv6NetworkForOneClient},
		{"LimitOfAClientOnANumber", testLimitOfAClientOnANumber},
		{"LimitOfAClient", testLimitOfAClient},
		{"LimitOfABlock", testLimitOfABlock},
		{"LongestLimitIsReported", testLongestLimitIsReported},
		{"LimitOfCountryAndAll", testLimitOfCountryAndAll},
		{"LimitCountsNeighboursOfIPv6AsOne", testLimitCountsNeighboursOfIPv6AsOne},
		{"LimitsHoldAtOnceAndOnAllNodes", testLimitsHoldAtOnceAndOnAllNodes},
		{"LastSMSIsSharedByIdenticalRequests", testLastSMSIsSharedByIdenticalRequests},
		{"LimitsLetRetriesThrough", testLimitsLetRetriesThrough},
		{"ValidationGivesSMSBack", testValidationGivesSMSBack},
		{"FinalLimitsGiveNothingBack", testFinalLimitsGiveNothingBack},
		{"FailureGivesSMSBack", testFailureGivesSMSBack},
		{"FailuresOfAClientAreLimited", testFailuresOfAClientAreLimited},
		{"RetriesOfAnUncertainSMSAreLimited", testRetriesOfAnUncertainSMSAreLimited},
		{"SlowProviderCostsOneSMS", testSlowProviderCostsOneSMS},
		{"OneClientLocksNobodyOut", testOneClientLocksNobodyOut},
		{"RefusalsWriteNothing", testRefusalsWriteNothing},
		{"RecordsExpire", testRecordsExpire},
		{"LimitsCanBeSwitchedOff", testLimitsCanBeSwitchedOff},
	}
}

// limited switches the limits on and the guard off, and lets a test choose each request's client.
func limited(o *threepid.Options) {
	o.Limits = limits.Limits{}
	o.ClientKey = func(c *gin.Context) string { return c.GetHeader("X-Test-Client") }
}

// as sends a request as a client.
func (n *node) as(client, path, body string) answer {
	n.tb.Helper()
	req, err := http.NewRequestWithContext(n.tb.Context(), http.MethodPost, n.url+path, strings.NewReader(body))
	if err != nil {
		n.tb.Fatal(err)
	}
	req.Header.Set("X-Test-Client", client)
	return n.send(req)
}

// asks requests an SMS to a number as a client, with a new secret each time.
func (n *node) asks(client, number string) answer {
	n.tb.Helper()
	return n.as(client, addPath, request(map[string]any{"client_secret": newSecret(), "phone_number": number}))
}

var secrets atomic.Int64

func newSecret() string { return fmt.Sprintf("secret-%d-of-a-client", secrets.Add(1)) }

// mobile returns the nth number of a range of British mobile numbers.
func mobile(block, n int) string { return fmt.Sprintf("+447400%02d%04d", block, n) }

// until repeats a request until it is refused, and returns how often it was not.
func until(t *testing.T, ask func(i int) answer) (let int, refused answer) {
	t.Helper()
	for let < 1000 {
		a := ask(let)
		if a.status != http.StatusOK {
			return let, a
		}
		let++
	}
	t.Fatal("never refused")
	return 0, answer{}
}

func expectLimited(t *testing.T, a answer, wait time.Duration) {
	t.Helper()
	expect(t, a, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if got := a.header.Get("Retry-After"); got != strconv.Itoa(int(wait.Seconds())) {
		t.Errorf("Retry-After %q, want %v", got, wait)
	}
	if ms, _ := a.fields["retry_after_ms"].(float64); ms != float64(wait.Milliseconds()) {
		t.Errorf("retry_after_ms %v, want %v", a.fields["retry_after_ms"], wait)
	}
}

func testLimitOfANumber(t *testing.T, open opener) {
	n := start(t, open(t), limited, withoutReserve)
	let, refused := until(t, func(i int) answer { return n.asks(fmt.Sprint("client", i), spoken) })
	if let != 6 {
		t.Errorf("%d SMS at once", let)
	}
	expectLimited(t, refused, 10*time.Minute)
	n.clock.advance(10*time.Minute - time.Millisecond)
	late := n.asks("late", spoken)
	expect(t, late, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if late.header.Get("Retry-After") != "1" || late.fields["retry_after_ms"] != 1.0 {
		t.Errorf("a millisecond is rounded to %q and %v", late.header.Get("Retry-After"), late.fields["retry_after_ms"])
	}
	n.clock.advance(time.Millisecond)
	expect(t, n.asks("later", spoken), http.StatusOK, "")
	day := 7
	for range 24 * 6 {
		n.clock.advance(10 * time.Minute)
		if n.asks(newSecret(), spoken).status == http.StatusOK {
			day++
		}
	}
	if day != 12 {
		t.Errorf("%d SMS in a day", day)
	}
	n.expectTexts(t, day)
}

// withoutReserve leaves clients only the limits that all of them share.
func withoutReserve(o *threepid.Options) {
	o.Limits.Reserve, o.Limits.ReserveCodes = []limits.Limit{}, []limits.Limit{}
}

// slowNumber refuses every client of the number for days after one SMS, except for a reserve of
// three.
func slowNumber(o *threepid.Options) {
	limited(o)
	const long = 100 * 24 * time.Hour
	o.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: long}}
	o.Limits.Reserve = []limits.Limit{{Burst: 3, Every: long}}
}

// testReserveOfANumber makes a client use up a number's limit. It then gets one SMS from the
// reserve, and so do other clients until the reserve is used up.
func testReserveOfANumber(t *testing.T, open opener) {
	n := start(t, open(t), slowNumber)
	expect(t, n.asks("one", spoken), http.StatusOK, "")
	for _, client := range []string{"one", "two", "three"} {
		expect(t, n.asks(client, spoken), http.StatusOK, "")
		expect(t, n.asks(client, spoken), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	}
	expect(t, n.asks("four", spoken), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	expect(t, n.asks("one", mobile(1, 1)), http.StatusOK, "")
	n.expectTexts(t, 5)
	fast := start(t, open(t), limited)
	let, refused := until(t, func(i int) answer { return fast.asks(fmt.Sprint("client", i), spoken) })
	if let != 6 {
		t.Errorf("%d SMS at once: the reserve passes a fast limit", let)
	}
	expectLimited(t, refused, 10*time.Minute)
}

// testReserveIsGivenBack makes an SMS from the reserve fail, and other clients validate: the client
// has its part of the reserve again, and the number its SMS.
func testReserveIsGivenBack(t *testing.T, open opener) {
	n := start(t, open(t), slowNumber)
	expect(t, n.asks("attacker", spoken), http.StatusOK, "")
	expect(t, n.asks("attacker", spoken), http.StatusOK, "")
	for range 3 {
		n.sms.Fail(sms.ErrRejected)
		expect(t, n.asks("owner", spoken), http.StatusBadRequest, "M_DESTINATION_REJECTED")
		expect(t, n.asks("attacker", spoken), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
		own := newSecret()
		a := n.as("owner", addPath, request(map[string]any{"client_secret": own}))
		expect(t, a, http.StatusOK, "")
		expect(t, n.guess("owner", a.text("sid"), own, n.token()), http.StatusOK, "")
		expect(t, n.asks("attacker", spoken), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	}
	for _, client := range []string{"two", "three"} {
		expect(t, n.asks(client, spoken), http.StatusOK, "")
	}
	expect(t, n.asks("four", spoken), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
}

func testReserveTakesAnIPv6NetworkForOneClient(t *testing.T, open opener) {
	n := start(t, open(t), slowNumber)
	for i, status := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		if a := n.asks(fmt.Sprintf("2001:db8:77:%x::1", i), spoken); a.status != status {
			t.Errorf("request %d: status %d %s", i, a.status, a.body)
		}
	}
	expect(t, n.asks("2001:db8:78::1", spoken), http.StatusOK, "")
	n.expectTexts(t, 3)
}

func testLimitOfAClientOnANumber(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	let, refused := until(t, func(int) answer { return n.asks("one", spoken) })
	if let != 4 {
		t.Errorf("%d SMS at once", let)
	}
	expectLimited(t, refused, 10*time.Minute)
	expect(t, n.asks("one", mobile(12, 1)), http.StatusOK, "")
	expect(t, n.asks("another", spoken), http.StatusOK, "")
}

func testLimitOfAClient(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	let, refused := until(t, func(i int) answer { return n.asks("one", mobile(i, 1)) })
	if let != 20 {
		t.Errorf("%d SMS at once", let)
	}
	expectLimited(t, refused, time.Minute)
	expect(t, n.asks("another", mobile(99, 1)), http.StatusOK, "")
}

func testLimitOfABlock(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	let, refused := until(t, func(i int) answer { return n.asks(fmt.Sprint("client", i), mobile(1, i*97)) })
	if let != 20 {
		t.Errorf("%d SMS at once", let)
	}
	expectLimited(t, refused, 5*time.Minute)
	expect(t, n.asks("another", mobile(2, 1)), http.StatusOK, "")
	one, _ := until(t, func(i int) answer { return n.asks("one", mobile(3, i*97)) })
	if one != 10 {
		t.Errorf("%d SMS of one client", one)
	}
}

func testLimitOfCountryAndAll(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) {
		o.Limits.PerCountry = []limits.Limit{{Burst: 3, Every: time.Hour}}
		o.Limits.Global = []limits.Limit{{Burst: 5, Every: time.Hour}, {Burst: 100, Every: time.Minute}}
	})
	let, _ := until(t, func(i int) answer { return n.asks("one", mobile(i, 1)) })
	french, refused := until(t, func(i int) answer { return n.asks("one", fmt.Sprintf("+3361234567%d", i)) })
	if let != 3 || french != 2 {
		t.Errorf("%d British SMS, then %d French ones", let, french)
	}
	expectLimited(t, refused, time.Hour)
}

func testLimitCountsNeighboursOfIPv6AsOne(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	let, _ := until(t, func(i int) answer { return n.asks(fmt.Sprintf("2001:db8:1:2:%x::%x", i, i), mobile(i, 1)) })
	if let != 20 {
		t.Errorf("%d SMS for one /64", let)
	}
	expect(t, n.asks("2001:db8:1:3::1", mobile(99, 1)), http.StatusOK, "")
	let, _ = until(t, func(i int) answer {
		return n.asks([]string{"::ffff:192.0.2.1", "192.0.2.1"}[i%2], mobile(i, 2))
	})
	if let != 20 {
		t.Errorf("%d SMS for one IPv4 address in two spellings", let)
	}
	expect(t, n.asks("192.0.2.2", mobile(98, 2)), http.StatusOK, "")
}

// testLongestLimitIsReported makes two limits refuse a request: a client that waits as long as the
// response says is not refused again.
func testLongestLimitIsReported(t *testing.T, open opener) {
	for _, row := range []struct{ number, client time.Duration }{{time.Hour, time.Minute}, {time.Minute, time.Hour}} {
		n := start(t, open(t), limited, withoutReserve, func(o *threepid.Options) {
			o.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: row.number}}
			o.Limits.PerClient = []limits.Limit{{Burst: 1, Every: row.client}}
		})
		expect(t, n.asks("one", spoken), http.StatusOK, "")
		expectLimited(t, n.asks("one", spoken), time.Hour)
		n.clock.advance(time.Hour)
		expect(t, n.asks("one", spoken), http.StatusOK, "")
	}
}

// testLimitsHoldAtOnceAndOnAllNodes sends requests of many clients for one number to two nodes at
// once.
func testLimitsHoldAtOnceAndOnAllNodes(t *testing.T, open opener) {
	st := open(t)
	n := start(t, st, limited)
	other := startWith(t, st, n.sms, &logs{}, limited, func(o *threepid.Options) { o.Now = n.clock.Now })
	var let atomic.Int64
	together(100, func(i int) {
		a := []*node{n, other}[i%2].asks(fmt.Sprint("client", i), spoken)
		switch a.status {
		case http.StatusOK:
			let.Add(1)
		case http.StatusTooManyRequests:
		default:
			t.Errorf("status %d %s", a.status, a.body)
		}
	})
	if let.Load() != 6 {
		t.Errorf("%d requests were allowed", let.Load())
	}
	n.expectTexts(t, 6)
}

// testLastSMSIsSharedByIdenticalRequests sends one attempt many times at once when one SMS is left:
// none of the requests is refused because another one used it.
func testLastSMSIsSharedByIdenticalRequests(t *testing.T, open opener) {
	for range 5 {
		n := start(t, open(t), limited)
		for i := range 3 {
			expect(t, n.as("one", addPath, attempt(i)), http.StatusOK, "")
		}
		together(50, func(int) { expect(t, n.as("one", addPath, attempt(3)), http.StatusOK, "") })
		n.expectTexts(t, 4)
	}
}

func testLimitsLetRetriesThrough(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	for i := range 4 {
		expect(t, n.as("one", addPath, attempt(i)), http.StatusOK, "")
	}
	for i := range 4 {
		expect(t, n.as("one", addPath, attempt(i)), http.StatusOK, "")
	}
	expect(t, n.as("one", addPath, attempt(4)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	n.expectTexts(t, 4)
}

func testValidationGivesSMSBack(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	for range 5 { // as many as the limit each time
		clientSecret := newSecret()
		body := func(i int) string {
			return request(map[string]any{"client_secret": clientSecret, "send_attempt": i})
		}
		let, _ := until(t, func(i int) answer { return n.as("one", addPath, body(i+1)) })
		if let != 4 {
			t.Fatalf("%d SMS", let)
		}
		sid := n.as("one", addPath, body(1)).text("sid")
		expect(t, n.submit(sid, clientSecret, n.token()), http.StatusOK, "")
	}
}

func testFinalLimitsGiveNothingBack(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	let := 0
	for ; let < 100; let++ {
		clientSecret := newSecret()
		a := n.as("one", addPath, request(map[string]any{"client_secret": clientSecret}))
		if a.status != http.StatusOK {
			expectLimited(t, a, time.Hour)
			break
		}
		expect(t, n.submit(a.text("sid"), clientSecret, n.token()), http.StatusOK, "")
	}
	if let != 24 {
		t.Errorf("one number received %d SMS because it validates", let)
	}
}

func testFailureGivesSMSBack(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	for i := range 19 { // one less than the number of failures that are allowed
		failure, errcode, status := errors.New("down"), "M_SEND_ERROR", http.StatusBadGateway
		if i%2 == 0 {
			failure, errcode, status = sms.ErrRejected, "M_DESTINATION_REJECTED", http.StatusBadRequest
		}
		n.sms.Fail(failure)
		expect(t, n.as("one", addPath, attempt(1)), status, errcode)
	}
	let, _ := until(t, func(i int) answer { return n.as("one", addPath, attempt(i+1)) })
	if let != 4 {
		t.Errorf("%d SMS after failures that cost nothing", let)
	}
}

// testFailuresOfAClientAreLimited makes SMS fail that do not count: each is a call to the provider
// nevertheless.
func testFailuresOfAClientAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	for _, failure := range []error{errors.New("down"), sms.ErrRejected} {
		client := newSecret()
		n.sms.FailAlways(failure)
		calls := len(n.sms.Calls())
		let := 0
		a := n.asks(client, mobile(let, let))
		for ; a.errcode() != "M_LIMIT_EXCEEDED" && let < 100; let++ {
			a = n.asks(client, mobile(let%90, let))
		}
		if let != 20 || len(n.sms.Calls()) != calls+20 {
			t.Errorf("%v: the provider was called %d times for %d requests", failure, len(n.sms.Calls())-calls, let)
		}
		expectLimited(t, a, time.Minute)
		n.sms.FailAlways(nil)
		expect(t, n.asks(newSecret(), mobile(91, let)), http.StatusOK, "")
		n.clock.advance(time.Minute)
		expect(t, n.asks(client, mobile(92, let)), http.StatusOK, "")
	}
}

// testRetriesOfAnUncertainSMSAreLimited makes the provider's outcome unknown: repeating the
// attempt does not count again, but cannot flood a number either.
func testRetriesOfAnUncertainSMSAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	n.sms.FailAlways(sms.ErrUncertain)
	calls := 0
	a := n.as("one", addPath, attempt(1))
	for ; a.errcode() == "M_SEND_ERROR" && calls < 100; calls++ {
		a = n.as(fmt.Sprint("client", calls), addPath, attempt(1))
	}
	if calls != 21 || len(n.sms.Calls()) != calls {
		t.Errorf("the provider was called %d times, %d requests were allowed", len(n.sms.Calls()), calls)
	}
	expectLimited(t, a, time.Minute)
	n.sms.FailAlways(nil)
	n.clock.advance(time.Minute)
	expect(t, n.as("one", addPath, attempt(1)), http.StatusOK, "")
}

// testSlowProviderCostsOneSMS makes the provider too slow: it may have sent the SMS, which counts
// once, also if the attempt is repeated.
func testSlowProviderCostsOneSMS(t *testing.T, open opener) {
	var hang atomic.Bool
	recorder := smstest.New()
	n := startWith(t, open(t), sms.Func(func(ctx context.Context, m sms.Message) error {
		if hang.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return recorder.Send(ctx, m)
	}), &logs{}, limited, func(o *threepid.Options) { o.SendTimeout = 20 * time.Millisecond })
	hang.Store(true)
	for range 6 {
		expect(t, n.as("one", addPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
	}
	expect(t, n.asks("one", spoken), http.StatusBadGateway, "M_SEND_ERROR")
	hang.Store(false)
	expect(t, n.as("one", addPath, attempt(1)), http.StatusOK, "")
	let, _ := until(t, func(int) answer { return n.asks("one", spoken) })
	if let != 2 {
		t.Errorf("after two SMS that may have been sent there were %d more", let)
	}
}

// testOneClientLocksNobodyOut makes one client send as many requests about a number as it can for
// two days. Its owner can always get an SMS and validate.
func testOneClientLocksNobodyOut(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) { o.Guard = limits.Guard{} })
	for hour := range 48 {
		clientSecret := newSecret()
		for i := range 12 {
			a := n.as("attacker", addPath, request(map[string]any{"client_secret": clientSecret, "send_attempt": i}))
			for range 6 {
				n.guess("attacker", a.text("sid"), clientSecret, "nonsense")
			}
			n.asks("attacker", fmt.Sprintf("+44770090%04d", hour*13+i*2)) // of the same range
		}
		if hour%8 == 7 {
			own := newSecret()
			a := n.as("owner", addPath, request(map[string]any{"client_secret": own}))
			expect(t, a, http.StatusOK, "")
			expect(t, n.guess("owner", a.text("sid"), own, n.token()), http.StatusOK, "")
		}
		n.clock.advance(time.Hour)
	}
}

func testRefusalsWriteNothing(t *testing.T, open opener) {
	n, counting := startCounted(t, open, limited)
	until(t, func(int) answer { return n.asks("one", spoken) })
	before := counting.Updates()
	for range 10 {
		expect(t, n.asks("one", spoken), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	}
	if got := counting.Updates() - before; got != 0 {
		t.Errorf("10 refusals took %d units that may write", got)
	}
}

// testRecordsExpire checks that all records of the limits are deleted in the end.
func testRecordsExpire(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) { o.Guard = limits.Guard{} })
	a := n.asks("one", spoken)
	for range 3 {
		n.guess("one", a.text("sid"), "secret-of-nobody", "1")
	}
	sweep := func(after time.Duration) int {
		deleted, err := n.store.DeleteExpired(t.Context(), n.clock.Now().Add(after), 1000)
		if err != nil {
			t.Fatal(err)
		}
		return deleted
	}
	sweep(0)                                // deletes none of the rows below, but perhaps one that stands for an absent session
	if n := sweep(49 * time.Hour); n != 4 { // number, client, range; and the session
		t.Errorf("%d rows have expired after two days, want 4", n)
	}
}

func testLimitsCanBeSwitchedOff(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) {
		o.Limits = limits.Limits{PerNumber: []limits.Limit{}, PerNumberAndClient: []limits.Limit{{Burst: 30, Every: time.Hour}}, PerRangeAndClient: []limits.Limit{}}
	})
	let, _ := until(t, func(int) answer { return n.asks("one", spoken) })
	if let != 20 { // the limit of the range
		t.Errorf("%d SMS", let)
	}
	off := start(t, open(t), limited, func(o *threepid.Options) { o.Limits.Disabled = true })
	for range 50 {
		expect(t, off.asks("one", spoken), http.StatusOK, "")
	}
}
