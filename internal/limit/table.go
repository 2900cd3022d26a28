package limit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// table keeps levels for several keys in one record, such as the clients that request one number.
// It is bounded: a new key replaces the key whose levels end first. That raises no limit, because
// the record's own limits apply to all keys together. It only allows one client more than its
// share.
type table map[string][]int64

// maxTable is the maximum number of keys in a table, and maxTableLevels that of levels in total: a
// record has 2,000 bytes.
const (
	maxTable       = 24
	maxTableLevels = 72
)

// set returns t with the levels of a key, and without levels that have ended.
func (t table) set(key string, levels []int64, now int64) table {
	next := make(table, len(t)+1)
	for k, l := range t {
		if k != key && slices.Max(l) > now {
			next[k] = l
		}
	}
	if len(levels) == 0 || slices.Max(levels) <= now {
		return next
	}
	for len(next) > 0 && (len(next) >= maxTable || (len(next)+1)*len(levels) > maxTableLevels) {
		delete(next, next.first())
	}
	next[key] = levels
	return next
}

// first returns the key whose levels end first.
func (t table) first() string {
	return slices.MinFunc(slices.Sorted(maps.Keys(t)), func(a, b string) int {
		return cmp.Compare(slices.Max(t[a]), slices.Max(t[b]))
	})
}

// end returns when all levels have ended.
func (t table) end() int64 {
	end := int64(0)
	for _, levels := range t {
		end = max(end, slices.Max(levels))
	}
	return end
}

const timeBase = 36

// MarshalJSON writes the table as one short string.
func (t table) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(t)) {
		b.WriteString(key)
		for _, level := range t[key] {
			b.WriteByte(' ')
			b.WriteString(strconv.FormatInt(level, timeBase))
		}
		b.WriteByte(';')
	}
	return json.Marshal(b.String())
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *table) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*t = table{}
	for row := range strings.SplitSeq(strings.TrimSuffix(s, ";"), ";") {
		key, rest, _ := strings.Cut(row, " ")
		var levels []int64
		for field := range strings.FieldsSeq(rest) {
			level, err := strconv.ParseInt(field, timeBase, 64)
			if err != nil {
				return fmt.Errorf("limit: read a table: %w", err)
			}
			levels = append(levels, level)
		}
		if len(levels) > 0 {
			(*t)[key] = levels
		}
	}
	return nil
}
