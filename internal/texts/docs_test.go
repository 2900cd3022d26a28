package texts_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"example.com/threepid/internal/texts"
	"example.com/threepid/sms"
)

var update = flag.Bool("update", false, "write the tables of docs/TEXTS.md")

// TestDocument compares the tables of the document with the texts.
func TestDocument(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/TEXTS.md", "<!-- tables -->\n", "<!-- end of tables -->\n"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("the document has no place for its tables")
	}
	want := before + begin + tables(t) + end + after
	if want == string(data) {
		return
	}
	if !*update {
		t.Fatal("docs/TEXTS.md is stale: go test ./internal/texts -run TestDocument -update")
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tables shows each text with the brand "Example". The text for registration is left out if it is
// the same as for adding.
func tables(tb testing.TB) string {
	tb.Helper()
	c := catalog(tb, brand("Example"))
	languages := builtIn(tb)
	var b strings.Builder
	for _, tag := range slices.Sorted(maps.Keys(languages)) {
		fmt.Fprintf(&b, "\n### %s, `%s`\n\n| | text | in English | SMS | brand |\n| --- | --- | --- | --- | --- |\n", languages[tag].Name, tag)
		for _, kind := range texts.Kinds() {
			name := string(kind)
			if languages[tag].SMS[texts.Add] == languages[tag].SMS[texts.Register] {
				if kind == texts.Register {
					continue
				}
				if kind == texts.Add {
					name = "Add, Register"
				}
			}
			text := c.Text(tag, kind, "123456")
			n, unicode := sms.Segments(text)
			size := fmt.Sprintf("%d, GSM-7, %d of 160", n, septets(text))
			if unicode {
				size = fmt.Sprintf("%d, UCS-2, %d of 70", n, len(utf16.Encode([]rune(text))))
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", name, text, languages[tag].SMS[kind].English, size, room(tb, tag, kind))
		}
	}
	return b.String() + "\n"
}

// septets returns the length of a text in GSM 7-bit. Characters of the extension table would count
// twice, but no built-in text contains any.
func septets(text string) int { return len([]rune(text)) }

// room returns the length of the longest brand, in characters of the basic alphabet, with which a
// text and the longest code fit into one SMS.
func room(tb testing.TB, tag string, kind texts.Kind) int {
	tb.Helper()
	text := catalog(tb, brand("\uE001")).Text(tag, kind, strings.Repeat("0", maxToken))
	for n := 1; ; n++ {
		if segments, _ := sms.Segments(strings.ReplaceAll(text, "\uE001", strings.Repeat("M", n))); segments > 1 {
			return n - 1
		}
	}
}
