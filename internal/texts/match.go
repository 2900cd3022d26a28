package texts

import (
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// maxHeader is how many bytes of an Accept-Language are read. Browsers send less than half
// of that. Long and malformed headers have made language.ParseAcceptLanguage panic or take
// very long (CVE-2020-28852, CVE-2021-38561, CVE-2022-32149).
const maxHeader = 256

// maxWanted is how many languages of a header are matched, the preferred ones first, because
// each takes microseconds.
const maxWanted = 10

// matcher selects the best of some languages.
type matcher struct {
	languages []string // the first is for clients that accept none
	inner     language.Matcher
}

// LanguageOf returns the language that most people of a country read, by CLDR's likely
// subtags, as a value of Accept-Language. It is empty if the country is unknown.
func LanguageOf(country string) string {
	region, err := language.ParseRegion(country)
	if err != nil || !region.IsCountry() {
		return ""
	}
	tag, err := language.Compose(language.Und, region)
	if err != nil {
		return ""
	}
	base, _ := tag.Base()
	if tag, err = language.Compose(base, region); err != nil {
		return ""
	}
	return tag.String()
}

// newMatcher returns a matcher for valid tags.
func newMatcher(first string, tags []string) matcher {
	m := matcher{languages: []string{first}}
	for _, tag := range slices.Sorted(slices.Values(tags)) {
		if tag != first {
			m.languages = append(m.languages, tag)
		}
	}
	parsed := make([]language.Tag, len(m.languages))
	for i, tag := range m.languages {
		parsed[i] = language.Make(tag)
	}
	m.inner = language.NewMatcher(parsed)
	return m
}

// match returns the language for an Accept-Language header: RFC 9110, section 12.5.4. An
// invalid header counts as absent.
func (m matcher) match(header string) string {
	if len(header) > maxHeader {
		end := strings.LastIndexByte(header[:maxHeader+1], ',')
		header = header[:max(0, end)]
	}
	wanted, _, err := language.ParseAcceptLanguage(header)
	if err != nil || len(wanted) == 0 {
		return m.languages[0]
	}
	for _, tag := range wanted[:min(len(wanted), maxWanted)] {
		_, i, confidence := m.inner.Match(tag)
		if confidence >= language.High || confidence > language.No && sameBase(tag, language.Make(m.languages[i])) {
			return m.languages[i]
		}
	}
	return m.languages[0]
}

// sameBase reports whether two tags are of one language. If there is nothing better, CLDR
// matches Persian to Arabic because of the script; such readers get the host's language
// instead. Traditional Chinese does match simplified Chinese.
func sameBase(a, b language.Tag) bool {
	one, _ := a.Base()
	other, _ := b.Base()
	return one == other
}
