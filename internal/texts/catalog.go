package texts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/language"

	"example.com/threepid/sms"
)

// Config configures a Catalog.
type Config struct {
	Language string // for clients that accept no available language
	Brand    string // may be empty
	Digits   int    // the length of a code
	Minutes  int    // how long a code is valid

	// Custom are the host's templates by language and kind. An empty one keeps the built-in text.
	Custom map[string]map[Kind]string

	// What texts with a code end with, if not empty: see threepid.Messages.
	WebOTPDomain, AndroidAppHash string
}

// Catalog has every text, and the page, in every language. It is immutable.
type Catalog struct {
	digits  int
	texts   map[string]map[Kind]written
	pages   map[string]Page
	matcher matcher
	paged   matcher
}

// New executes every template, and returns an error that names each invalid one.
func New(c Config) (*Catalog, error) {
	builtIn, err := BuiltIn()
	if err != nil {
		return nil, err
	}
	custom, err := c.custom()
	if err != nil {
		return nil, err
	}
	first, err := canonical("Options.Messages.Language", c.Language)
	if err != nil {
		return nil, err
	}
	b := builder{Config: c, builtIn: builtIn, custom: custom}
	known := maps.Clone(custom)
	for tag := range builtIn {
		known[tag] = nil
	}
	first, ok := nearest(known, first)
	if !ok {
		return nil, fmt.Errorf("threepid: Options.Messages.Language: there are no texts in %q; give them in Options.Messages.Templates", c.Language)
	}
	out := &Catalog{digits: c.Digits, texts: make(map[string]map[Kind]written, len(known)), pages: make(map[string]Page, len(builtIn))}
	for tag := range known {
		if out.texts[tag], err = b.language(tag, first); err != nil {
			return nil, err
		}
	}
	for tag := range builtIn {
		out.pages[tag] = builtIn[tag].Page
	}
	page, ok := nearest(builtIn, first)
	if !ok {
		page = English
	}
	out.matcher = newMatcher(first, slices.Collect(maps.Keys(known)))
	out.paged = newMatcher(page, slices.Collect(maps.Keys(builtIn)))
	return out, nil
}

// custom returns Custom by canonical tags.
func (c Config) custom() (map[string]map[Kind]string, error) {
	custom := make(map[string]map[Kind]string, len(c.Custom))
	for given, kinds := range c.Custom {
		tag, err := canonical(fmt.Sprintf("Options.Messages.Templates[%q]", given), given)
		if err != nil {
			return nil, err
		}
		if _, twice := custom[tag]; twice {
			return nil, fmt.Errorf("threepid: Options.Messages.Templates has %q twice", tag)
		}
		custom[tag] = kinds
	}
	return custom, nil
}

// canonical returns the canonical form of a tag: "pt-BR" for "PT-br".
func canonical(name, tag string) (string, error) {
	parsed, err := language.Parse(tag)
	if err != nil || parsed.IsRoot() {
		return "", fmt.Errorf(`threepid: %s: %q is not a known language tag; examples are "de" and "pt-BR" (BCP 47)`, name, tag)
	}
	return parsed.String(), nil
}

// builder builds the texts.
type builder struct {
	Config
	builtIn map[string]Language
	custom  map[string]map[Kind]string
}

// language returns all texts of one language.
func (b builder) language(tag, first string) (map[Kind]written, error) {
	all := map[Kind]written{}
	var errs []error
	for _, kind := range Kinds() {
		name, source, ok := b.source(tag, kind)
		if !ok {
			name, source, ok = b.source(first, kind)
		}
		if !ok {
			return nil, fmt.Errorf("threepid: Options.Messages.Templates[%q].%s is missing: it is Options.Messages.Language, and not built in", first, kind)
		}
		w, err := write(name, source, kind, b.Config)
		errs = append(errs, err)
		all[kind] = b.ended(w, kind)
	}
	return all, errors.Join(errs...)
}

// source returns the template for a language: the host's, the built-in one, or that of the
// language of which it is a variant.
func (b builder) source(tag string, kind Kind) (name, source string, ok bool) {
	for t := language.Make(tag); !t.IsRoot(); t = t.Parent() {
		if source := b.custom[t.String()][kind]; source != "" {
			return fmt.Sprintf("Options.Messages.Templates[%q].%s", t, kind), source, true
		}
		if wording, ok := b.builtIn[t.String()].SMS[kind]; ok {
			return fmt.Sprintf("the built-in %s text in %q", kind, t), wording.Text, true
		}
	}
	return "", "", false
}

// nearest returns the language that a tag is, or of which it is a variant.
func nearest[V any](languages map[string]V, tag string) (string, bool) {
	for t := language.Make(tag); !t.IsRoot(); t = t.Parent() {
		if _, ok := languages[t.String()]; ok {
			return t.String(), true
		}
	}
	return "", false
}

// ended returns a text with the lines for browsers and Android. WebOTP's must be the last
// line; the hash of an app may be anywhere.
func (b builder) ended(w written, kind Kind) written {
	if len(w) == 0 || !kind.HasToken() {
		return w
	}
	last := len(w) - 1
	if b.AndroidAppHash != "" {
		w[last] += "\n" + b.AndroidAppHash
	}
	if b.WebOTPDomain != "" {
		w[last] += "\n@" + b.WebOTPDomain + " #"
		w = append(w, "")
	}
	return w
}

// Message returns the text of an SMS and its language, which an Accept-Language header
// selects.
func (c *Catalog) Message(kind Kind, acceptLanguage, code string) (text, language string) {
	language = c.Match(acceptLanguage)
	return c.Text(language, kind, code), language
}

// Match returns the language that an Accept-Language header selects.
func (c *Catalog) Match(acceptLanguage string) string { return c.matcher.match(acceptLanguage) }

// Text returns a text in a language that Match returned; any other is the host's language.
func (c *Catalog) Text(tag string, kind Kind, token string) string {
	all, ok := c.texts[tag]
	if !ok {
		all = c.texts[c.matcher.languages[0]]
	}
	return all[kind].with(token)
}

// Page returns the page for an Accept-Language header.
func (c *Catalog) Page(acceptLanguage string) Page { return c.pages[c.paged.match(acceptLanguage)] }

// Size is how many SMS a text needs with a code.
type Size struct {
	Language string
	Kind     Kind
	Segments int
	Unicode  bool // sent as UCS-2
}

func (s Size) String() string {
	alphabet := "GSM-7"
	if s.Unicode {
		alphabet = "UCS-2"
	}
	return fmt.Sprintf("%s %s: %d (%s)", s.Language, s.Kind, s.Segments, alphabet)
}

// Sizes returns the sizes of all texts, by language and kind.
func (c *Catalog) Sizes() []Size {
	var sizes []Size
	for _, tag := range slices.Sorted(maps.Keys(c.texts)) {
		for _, kind := range Kinds() {
			s := Size{Language: tag, Kind: kind}
			s.Segments, s.Unicode = sms.Segments(c.Text(tag, kind, strings.Repeat("0", c.digits)))
			sizes = append(sizes, s)
		}
	}
	return sizes
}
