package plugintest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
)

// unblockTests are about what an operator can do for a person whose number is blocked.
func unblockTests() []test {
	return []test{
		{"Unblock", testUnblock},
		{"UnblockLeavesTheCountry", testUnblockLeavesTheCountry},
		{"UnblockWrongCodes", testUnblockWrongCodes},
		{"OperatorsNumbers", testOperatorsNumbers},
	}
}

func testUnblock(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) { o.Guard = limits.Guard{} })
	n.expectBlocks(t, msisdn)
	until(t, func(i int) answer { return n.asks(fmt.Sprint("client", i), spoken) })
	for i := range 9 {
		n.asks(fmt.Sprint("other", i), fmt.Sprintf("+44770090%04d", 100+i)) // blocks the number's range
	}
	refused := n.asks("owner", spoken)
	expect(t, refused, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	blocks := n.expectBlocks(t, "+"+msisdn, "limit on SMS", "guard")
	if blocks[0].Range != "" || blocks[1].Range != "44770090" || blocks[1].Country != "" {
		t.Errorf("blocks %+v", blocks)
	}
	wait := time.Duration(refused.fields["retry_after_ms"].(float64) * float64(time.Millisecond))
	last := slices.MaxFunc(blocks, func(a, b limits.Block) int { return a.Until.Compare(b.Until) })
	if got := last.Until.Sub(n.clock.Now()); got != wait {
		t.Errorf("blocked for %v, but the response says %v", got, wait)
	}
	left, err := n.plugin.Unblock(t.Context(), msisdn)
	if err != nil || len(left) > 0 {
		t.Fatalf("still blocked: %+v, %v", left, err)
	}
	n.expectBlocks(t, msisdn)
	expect(t, n.asks("owner", spoken), http.StatusOK, "")
}

// testUnblockLeavesTheCountry unblocks a number of a country that is blocked by the guard and by a
// limit of the host.
func testUnblockLeavesTheCountry(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) {
		o.Guard = limits.Guard{MinNumbers: 4}
		o.Limits.PerCountry = []limits.Limit{{Burst: 100, Every: time.Hour}}
		o.Limits.Global = []limits.Limit{{Burst: 12, Every: time.Hour}}
	})
	until(t, func(i int) answer {
		n.clock.advance(time.Minute)
		return n.asks(newSecret(), mobile(i, 97*i)) // each is a client that the country is open to
	})
	blocks := n.expectBlocks(t, msisdn, "guard", "limit on SMS to all numbers")
	if blocks[0].Country != "GB" || blocks[0].Range != "" || blocks[1].Country != "" {
		t.Errorf("blocks %+v", blocks)
	}
	left, err := n.plugin.Unblock(t.Context(), "+"+msisdn)
	if err != nil || !slices.Equal(left, blocks) {
		t.Errorf("remaining blocks: %+v, %v; want %+v", left, err, blocks)
	}
}

func testUnblockWrongCodes(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.Limits = limits.Limits{MaxWrongCodes: 3}
	})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for range 3 {
		n.submit(sid, secret, wrong(n.token()))
	}
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	n.expectBlocks(t, msisdn, "limit on wrong codes")
	if left, err := n.plugin.Unblock(t.Context(), msisdn); err != nil || len(left) > 0 {
		t.Errorf("still blocked: %+v, %v", left, err)
	}
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

// testOperatorsNumbers uses numbers in all forms that operators use.
func testOperatorsNumbers(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	ctx := t.Context()
	v, err := n.plugin.Validated(ctx, n.validatedBy(secret, addPath, 1), secret)
	if err != nil {
		t.Fatal(err)
	}
	unblock := func(number string) error { _, err := n.plugin.Unblock(ctx, number); return err }
	blocks := func(number string) error { _, err := n.plugin.Blocks(ctx, number); return err }
	remove := func(number string) error { return n.plugin.RemoveNumber(ctx, alice, number) }
	release := func(number string) error { return n.plugin.ReleaseNumber(ctx, number) }
	calls := map[string]func(string) error{"Unblock": unblock, "Blocks": blocks, "RemoveNumber": remove, "ReleaseNumber": release}
	for name, call := range calls {
		for _, number := range []string{v.MSISDN, "+" + v.MSISDN} {
			n.associate(t, alice, msisdn)
			if err := call(number); err != nil {
				t.Errorf("%s %s: %v", name, number, err)
			}
			_ = release(number)
		}
		for _, bad := range []string{"", "+", "07700900001", "+44", "nonsense"} {
			err := call(bad)
			if name == "RemoveNumber" && bad == "+44" {
				continue // what is stored is removed, whether it is possible or not
			}
			if !errors.Is(err, threepid.ErrInvalidNumber) || strings.Contains(err.Error(), "country") {
				t.Errorf("%s %q: %v", name, bad, err)
			}
		}
	}
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		if err := call(msisdn); !errors.Is(err, threepid.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// expectBlocks expects blocks with reasons that begin with these.
func (n *node) expectBlocks(t *testing.T, number string, reasons ...string) []limits.Block {
	t.Helper()
	blocks, err := n.plugin.Blocks(t.Context(), number)
	ok := err == nil && len(blocks) == len(reasons)
	for i := range blocks {
		ok = ok && strings.HasPrefix(blocks[i].Reason, reasons[i]) && blocks[i].Until.After(n.clock.Now())
	}
	if !ok {
		t.Fatalf("blocks %+v, %v; want %q", blocks, err, reasons)
	}
	return blocks
}
