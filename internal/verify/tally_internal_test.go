package verify

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// mostState is what stores keep of a bucket: see store.Bucket.
const mostState = 2000

// TestStateFits has each field of a bucket be as long as it can get: more than
// any scope has together.
func TestStateFits(t *testing.T) {
	t.Parallel()
	const at, count = 1_799_999_999_999, 9_999_999
	levels := slices.Repeat([]int64{at}, 8)
	slots := slices.Repeat(guardCounts{{at / 10_000, count, count}}, guardSlots) // a window of five minutes has the longest names
	run := slices.Repeat([]guardNumber{{9999, at}}, runKept)
	client := bucketState{
		Texts: levels, Wrong: levels, Share: levels[:1], Failed: levels,
		Asked: strings.Repeat("f", 16), AskedIn: "001", AskedAt: at,
	}
	number := bucketState{Texts: levels, Wrong: levels, Failed: levels, WrongCount: count, WrongAt: at, Counted: at, Confirmed: true}
	block := bucketState{Texts: levels, Guard: guardState{Slots: slots, Run: run, Closed: at, Until: at, Strikes: count}}
	country := bucketState{Texts: levels, Guard: guardState{Slots: slots, While: slots, Closed: at, Until: at, Strikes: count, Shut: true}}
	for name, s := range map[string]bucketState{"client": client, "number": number, "block": block, "country": country} {
		state, err := json.Marshal(s)
		t.Logf("%s: %d bytes", name, len(state))
		if err != nil || len(state) > mostState {
			t.Errorf("%s: %d bytes, %v", name, len(state), err)
		}
	}
}
