package plugintest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// receiptTests are about the effects of delivery receipts.
func receiptTests() []test {
	return []test{
		{"ReceiptsOfAnSMS", testReceiptsOfAnSMS},
		{"ReceiptOnAnotherNode", testReceiptOnAnotherNode},
		{"ReceiptBeforeItsSMS", testReceiptBeforeItsSMS},
		{"ReceiptsWithoutAnSMS", testReceiptsWithoutAnSMS},
		{"ReceiptsAtOnce", testReceiptsAtOnce},
		{"ReceiptsWithNumbers", testReceiptsWithNumbers},
		{"UndeliveredIsNotUnconfirmed", testUndeliveredIsNotUnconfirmed},
		{"UndeliveredAfterAValidation", testUndeliveredAfterAValidation},
		{"UndeliveredThenSentAgain", testUndeliveredThenSentAgain},
		{"UndeliveredWithoutEnd", testUndeliveredWithoutEnd},
		{"UndeliveredWithoutEndInACountry", testUndeliveredWithoutEndInACountry},
	}
}

func (n *node) receipt(t *testing.T, id string, status sms.Delivery) {
	t.Helper()
	if err := n.plugin.RecordReceipt(t.Context(), sms.Receipt{Provider: "acme", MessageID: id, Status: status, Reason: "30005"}); err != nil {
		t.Fatal(err)
	}
}

func (n *node) latestID(t *testing.T) string {
	t.Helper()
	m, ok := n.sms.Last()
	if !ok {
		t.Fatal("no SMS was sent")
	}
	return m.ID
}

// receiptsOf returns the statuses in the number's journal, the latest first.
func (n *node) receiptsOf(t *testing.T) (statuses []string) {
	t.Helper()
	for _, e := range n.explain(t, msisdn).Events {
		if r, ok := e.(observe.Receipt); ok {
			statuses = append(statuses, r.Status)
		}
	}
	return statuses
}

// testReceiptsOfAnSMS repeats receipts and delays some.
func testReceiptsOfAnSMS(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h))
	keepsHistory(t, n.store)
	n.mustRequest(addPath, attempt(1))
	id := n.latestID(t)
	for _, status := range []sms.Delivery{sms.Delayed, sms.Delayed, sms.Delivered, sms.Delivered, sms.Delayed, sms.DeliveryUnknown, "nonsense"} {
		n.clock.advance(time.Second)
		n.receipt(t, id, status)
	}
	if got := n.receiptsOf(t); !slices.Equal(got, []string{"delivered", "delayed"}) {
		t.Errorf("receipts: %q", got)
	}
	n.clock.advance(6*24*time.Hour + 23*time.Hour) // late: the session has expired
	n.receipt(t, id, sms.Undelivered)
	n.receipt(t, id, sms.Undelivered)
	if got := n.receiptsOf(t); !slices.Equal(got, []string{"failed", "delivered", "delayed"}) {
		t.Errorf("receipts: %q", got)
	}
	sent := all[observe.SMS](t, n, &h)
	receipts := all[observe.Receipt](t, n, &h)
	if len(receipts) != 3 || receipts[0].ID != sent[0].ID || receipts[0].Provider != "smstest" || receipts[0].Country != "GB" || receipts[0].MessageID != id || receipts[0].Reason != "30005" {
		t.Errorf("events: %+v", receipts)
	}
}

func testReceiptOnAnotherNode(t *testing.T, open opener) {
	st := open(t)
	a := start(t, st)
	keepsHistory(t, st)
	b := startWith(t, st, a.sms, &logs{}, func(o *threepid.Options) { o.Now = a.clock.Now })
	a.mustRequest(addPath, attempt(1))
	b.receipt(t, a.latestID(t), sms.Delivered) // waits until a has written its journal
	waitUntil(t, "the receipt is in the journal", func() bool { return len(b.receiptsOf(t)) == 1 })
	b.receipt(t, a.latestID(t), sms.Delivered)
	expectCounts(t, b.counts(t), map[string]int64{"sms GB add smstest accepted": 1, "receipt GB  smstest delivered": 1})
}

// testReceiptBeforeItsSMS delivers the receipt before the sender has returned.
func testReceiptBeforeItsSMS(t *testing.T, open opener) {
	n := start(t, open(t))
	keepsHistory(t, n.store)
	release := n.sms.Hold()
	defer release()
	done := make(chan answer, 1)
	go func() { done <- n.post(addPath, attempt(1)) }()
	waitUntil(t, "the sender is called", func() bool { return len(n.sms.Calls()) == 1 })
	n.receipt(t, n.sms.Calls()[0].ID, sms.Delivered)
	release()
	expect(t, <-done, http.StatusOK, "")
	waitUntil(t, "the receipt is in the journal", func() bool { return len(n.receiptsOf(t)) == 1 })
}

func testReceiptsWithoutAnSMS(t *testing.T, open opener) {
	n := start(t, open(t))
	keepsHistory(t, n.store)
	n.receipt(t, "unheard-of", sms.Undelivered)
	n.receipt(t, "unheard-of", sms.Undelivered) // again
	n.receipt(t, "", sms.Delivered)
	n.receipt(t, "not an ID of "+n.url, sms.Delivered)
	n.clock.advance(time.Minute)
	waitUntil(t, "the receipt no longer waits for an SMS", func() bool { return n.counts(t)["receipt   acme failed"] == 1 })
	expectCounts(t, n.counts(t), map[string]int64{"receipt   acme failed": 1, "receipt   acme delivered": 2})

	n.receipt(t, "still-unheard-of", sms.Undelivered)
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	next := start(t, n.store)
	expectCounts(t, next.counts(t), map[string]int64{"receipt   acme failed": 2, "receipt   acme delivered": 2})
}

// testReceiptsWithNumbers sends receipts whose ID or reason contains the number. The journal does not
// contain it; nor do the log and the events, which every test checks.
func testReceiptsWithNumbers(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h))
	keepsHistory(t, n.store)
	n.mustRequest(addPath, attempt(1))
	id := n.latestID(t)
	for _, r := range []sms.Receipt{
		{MessageID: id, Status: sms.Delivered, Reason: "to:" + msisdn},
		{MessageID: msisdn, Status: sms.Undelivered, Reason: "30005"},
		{MessageID: "a-" + msisdn + "-b", Status: sms.Undelivered, Reason: msisdn},
	} {
		r.Provider = "acme"
		if err := n.plugin.RecordReceipt(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	n.clock.advance(time.Minute)
	waitUntil(t, "the receipts no longer wait for an SMS", func() bool { return n.counts(t)["receipt   acme failed"] == 2 })
	for _, e := range n.explain(t, msisdn).Events {
		if strings.Contains(fmt.Sprintf("%+v", e), msisdn) {
			t.Errorf("the journal has %+v", e)
		}
	}
}

// slowHistory finds entries slowly, so that calls overlap.
type slowHistory struct {
	Store
	store.History
}

func (s slowHistory) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	entries, err := s.History.EntriesByRef(ctx, ref, limit)
	time.Sleep(5 * time.Millisecond)
	return entries, err
}

func testReceiptsAtOnce(t *testing.T, open opener) {
	inner := open(t)
	n := start(t, slowHistory{inner, keepsHistory(t, inner)})
	n.mustRequest(addPath, attempt(1))
	id := n.latestID(t)
	together(20, func(int) { n.receipt(t, id, sms.Delivered) })
	if got := n.receiptsOf(t); len(got) != 1 {
		t.Errorf("receipts: %q", got)
	}
	expectCounts(t, n.counts(t), map[string]int64{"sms GB add smstest accepted": 1, "receipt GB  smstest delivered": 1})
}

// testUndeliveredIsNotUnconfirmed sends many SMS that the provider reports as undelivered: the
// guard blocks nothing. It does block when SMS are delivered and not confirmed.
func testUndeliveredIsNotUnconfirmed(t *testing.T, open opener) {
	for status, blocks := range map[sms.Delivery]bool{sms.Undelivered: false, sms.Delivered: true} {
		t.Run(string(status), func(t *testing.T) {
			var heard heardBlocks
			n := start(t, open(t), guarded(&heard))
			keepsHistory(t, n.store)
			const many = 40
			for i := range many {
				n.clock.advance(time.Minute)
				if n.asks(newSecret(), mobile(1, i*97%10_000)).status != http.StatusOK {
					break
				}
				n.receipt(t, n.latestID(t), status)
			}
			if blocked := len(heard.all) > 0; blocked != blocks {
				t.Errorf("%d SMS were sent, heard %+v", n.sms.Count(), heard.all)
			}
		})
	}
}

// testUndeliveredAfterAValidation sends a receipt that contradicts a validation: for the guard the
// number is validated nevertheless.
func testUndeliveredAfterAValidation(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	keepsHistory(t, n.store)
	for i := range 10 {
		n.clock.advance(time.Minute)
		client, own, number := fmt.Sprint("client", i), newSecret(), mobile(1, i*97)
		expect(t, n.asks(client, number), http.StatusOK, "") // in a session of its own
		first := n.latestID(t)
		sid := n.as(client, addPath, request(map[string]any{"client_secret": own, "phone_number": number})).text("sid")
		expect(t, n.guess(client, sid, own, n.token()), http.StatusOK, "")
		n.receipt(t, first, sms.Undelivered)
		n.receipt(t, n.latestID(t), sms.Undelivered)
	}
	// Ten validations allow for forty numbers that are not validated, and for those of the last
	// minutes.
	let, _ := until(t, func(i int) answer {
		n.clock.advance(20 * time.Second)
		return n.asks(newSecret(), mobile(1, 5000+i*97%5000))
	})
	if let < 40 || let > 56 {
		t.Errorf("%d SMS were sent, heard %+v", let, heard.all)
	}
}

// testUndeliveredThenSentAgain makes the first SMS of each number fail after a second one was sent
// that nobody confirms: the guard blocks the range.
func testUndeliveredThenSentAgain(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	keepsHistory(t, n.store)
	let, _ := until(t, func(i int) answer {
		n.clock.advance(time.Minute)
		own, client := newSecret(), fmt.Sprint("client", i)
		ask := func(attempt int) answer {
			return n.as(client, addPath, request(map[string]any{"client_secret": own, "phone_number": mobile(1, i*97%10_000), "send_attempt": attempt}))
		}
		if a := ask(1); a.status != http.StatusOK {
			return a
		}
		first := n.latestID(t)
		a := ask(2)
		n.receipt(t, first, sms.Undelivered)
		return a
	})
	if let > 24 {
		t.Errorf("%d numbers were sent SMS, heard %+v", let, heard.all)
	}
}

// testUndeliveredWithoutEnd reports all SMS of a range as undelivered, as a network that profits
// from pumping might: its range is blocked nevertheless.
func testUndeliveredWithoutEnd(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	keepsHistory(t, n.store)
	let, _ := until(t, func(i int) answer {
		n.clock.advance(10 * time.Second)
		a := n.asks(newSecret(), mobile(1, i*97%10_000))
		if a.status == http.StatusOK {
			n.receipt(t, n.latestID(t), sms.Undelivered)
		}
		return a
	})
	if let < 40 || let > 80 { // twenty more, and those of the last minutes
		t.Errorf("%d SMS were sent, heard %+v", let, heard.all)
	}
}

// testUndeliveredWithoutEndInACountry does the same with numbers of many ranges.
func testUndeliveredWithoutEndInACountry(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	keepsHistory(t, n.store)
	for i := range 400 {
		n.clock.advance(5 * time.Second)
		if n.asks(newSecret(), mobile(i%90, i*97%10_000)).status == http.StatusOK {
			n.receipt(t, n.latestID(t), sms.Undelivered)
		}
	}
	blocked := slices.IndexFunc(heard.all, func(b limits.Block) bool { return b.Country == "GB" && b.Range == "" })
	if blocked < 0 {
		t.Errorf("%d SMS were sent, and the country is not blocked: %+v", n.sms.Count(), heard.all)
	}
}
