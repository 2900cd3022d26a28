package texts_test

import (
	"strings"
	"testing"
	"time"

	"example.com/threepid/internal/texts"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	c := catalog(t, func(c *texts.Config) { c.Language = "nl" })
	for header, want := range map[string]string{
		"":                                    "nl",
		"de":                                  "de",
		"DE-at":                               "de",
		"en-GB,en;q=0.9":                      "en",
		"fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7": "fr",
		"en;q=0.2, ru;q=0.9":                  "ru",
		"ko, uk;q=0.5":                        "uk", // the first one is not available
		"pt-BR":                               "pt",
		"pt-PT":                               "pt",
		"es-419":                              "es",
		"zh-CN":                               "zh",
		"zh-Hans-SG":                          "zh",
		"zh-TW":                               "zh", // closer than any other
		"zh-Hant":                             "zh",
		"ar-EG":                               "ar",
		"fa":                                  "nl", // written in Arabic script
		"fa-IR, fa;q=0.9, de;q=0.8":           "de",
		"hi-Latn":                             "nl",
		"ko":                                  "nl",
		"*":                                   "nl",
		"*;q=0.5, it":                         "it",
		"de;q=0":                              "nl",
		"de;q=x":                              "nl",
		"x":                                   "nl",
		"i-klingon":                           "en", // as CLDR assumes
		"de;;;q=1":                            "nl",
		"\x00\xff":                            "nl",
		",,,,":                                "nl",
		"../../etc/passwd":                    "nl",
		"<script>":                            "nl",
		"-":                                   "nl",
		"de-" + strings.Repeat("a", 20):       "nl",
		"de-u-co-phonebk":                     "de",
	} {
		if got := c.Match(header); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// TestLongHeaders checks that a long header is cut at a comma, beyond the length of any real one.
func TestLongHeaders(t *testing.T) {
	t.Parallel()
	c := catalog(t)
	ends := func(size int) string { return "ko," + strings.Repeat(" ", size-8) + "ko,de" }
	for size, want := range map[int]string{255: "de", 256: "de", 257: "en", 1 << 10: "en"} {
		header := ends(size)
		if len(header) != size {
			t.Fatal(len(header))
		}
		if got := c.Match(header); got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
	if got := c.Match("de," + strings.Repeat("x", 1<<20)); got != "de" {
		t.Errorf("the part before the limit: %s", got)
	}
	if got := c.Match(strings.Repeat("ko,", 9) + "de"); got != "de" {
		t.Errorf("the tenth: %s", got)
	}
	if got := c.Match(strings.Repeat("ko,", 10) + "de"); got != "en" {
		t.Errorf("the eleventh: %s", got)
	}
	began := time.Now()
	for _, header := range []string{
		strings.Repeat("-", 1<<20), strings.Repeat("a-", 1<<19), strings.Repeat("en-", 1<<19) + "x",
		strings.Repeat("de,", 1<<19), strings.Repeat(";", 1<<20), "de-" + strings.Repeat("u-", 1<<19),
	} {
		for range 100 {
			c.Match(header)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("600 headers of a megabyte took %v", took)
	}
}

// FuzzMatch looks for a header that makes the parser panic, or that selects a language that does
// not exist.
func FuzzMatch(f *testing.F) {
	for _, seed := range []string{"", "de", "en-GB,en;q=0.9", "x-y-z", "de-u-co-phonebk-x-a", "zh-Hant-TW;q=0.1", "-,-,-", "aa-u-0a-0a-0a-0a"} {
		f.Add(seed)
	}
	c := catalog(f)
	languages := builtIn(f)
	f.Fuzz(func(t *testing.T, header string) {
		if _, ok := languages[c.Match(header)]; !ok {
			t.Errorf("%q: %s", header, c.Match(header))
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	c := catalog(b)
	for b.Loop() {
		c.Match("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5")
	}
}

// BenchmarkMatchMost matches a header with as many languages as are considered.
func BenchmarkMatchMost(b *testing.B) {
	c := catalog(b)
	header := strings.Repeat("gsw-Latn-CH,", 21)
	for b.Loop() {
		c.Match(header)
	}
}
