package texts_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/threepid/internal/texts"
	"example.com/threepid/sms"
)

// The brand and code that every built-in text has room for in one SMS, as docs/TEXTS.md states.
const (
	roomGSM, roomUnicode = 40, 12
	maxToken             = 9
)

func builtIn(tb testing.TB) map[string]texts.Language {
	tb.Helper()
	languages, err := texts.BuiltIn()
	if err != nil {
		tb.Fatal(err)
	}
	return languages
}

func catalog(tb testing.TB, change ...func(*texts.Config)) *texts.Catalog {
	tb.Helper()
	c := texts.Config{Language: texts.English, Digits: 6, Minutes: 10}
	for _, f := range change {
		f(&c)
	}
	made, err := texts.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

func brand(b string) func(*texts.Config) { return func(c *texts.Config) { c.Brand = b } }

// TestOneSegment checks that every built-in text fits into one SMS, with and without a brand.
func TestOneSegment(t *testing.T) {
	t.Parallel()
	digits := func(c *texts.Config) { c.Digits = maxToken }
	for _, s := range slices.Concat(catalog(t, digits).Sizes(), catalog(t, digits, brand(strings.Repeat("M", roomUnicode))).Sizes()) {
		if s.Segments != 1 {
			t.Errorf("%v", s)
		}
	}
	for _, s := range catalog(t, digits, brand(strings.Repeat("M", roomGSM))).Sizes() {
		if !s.Unicode && s.Segments != 1 {
			t.Errorf("with a longer brand: %v", s)
		}
	}
	if len(builtIn(t)) != 15 {
		t.Errorf("%d languages", len(builtIn(t)))
	}
}

// TestWordings checks every text in every language, with and without a brand.
func TestWordings(t *testing.T) {
	t.Parallel()
	const token, name = "730915", "Example"
	for _, withBrand := range []bool{true, false} {
		c := catalog(t)
		if withBrand {
			c = catalog(t, brand(name))
		}
		for tag, l := range builtIn(t) {
			for _, kind := range texts.Kinds() {
				text := c.Text(tag, kind, token)
				if strings.Contains(text, token) != kind.HasToken() || !kind.HasToken() && strings.ContainsAny(text, "0123456789") {
					t.Errorf("%s %s: %q contains a code where it must not, or none", tag, kind, text)
				}
				if kind.HasToken() && strings.Index(text, token) > 10 {
					t.Errorf("%s %s: a notification may cut off the code: %q", tag, kind, text)
				}
				if strings.Contains(text, name) != withBrand {
					t.Errorf("%s %s: brand: %q", tag, kind, text)
				}
				if strings.Contains(text, "  ") || strings.Contains(text, " .") || strings.Contains(text, " ,") || strings.Contains(text, "{") {
					t.Errorf("%s %s: spaces: %q", tag, kind, text)
				}
				if l.SMS[kind].English == "" || len(l.SMS) != len(texts.Kinds()) {
					t.Errorf("%s %s: no translation back", tag, kind)
				}
			}
			if c.Text(tag, texts.Password, token) == c.Text(tag, texts.Add, token) {
				t.Errorf("%s: the text does not say that a password is reset", tag)
			}
		}
	}
}

// TestEnglish compares the English texts with the wording of the original document.
func TestEnglish(t *testing.T) {
	t.Parallel()
	if got := catalog(t).Text("en", texts.Add, "123456"); got != "123456 is your verification code." {
		t.Errorf("%q", got)
	}
	if got := catalog(t, brand("Example")).Text("en", texts.Add, "123456"); got != "123456 is your Example code." {
		t.Errorf("%q", got)
	}
}

// TestDirection checks that the digits of a text stay in order in a script that is written from
// right to left. The texts contain no invisible characters; the first strong character determines
// the direction.
func TestDirection(t *testing.T) {
	t.Parallel()
	for tag, l := range builtIn(t) {
		if rtl := tag == "ar"; l.Direction != map[bool]string{true: "rtl", false: "ltr"}[rtl] {
			t.Errorf("%s: %q", tag, l.Direction)
		}
	}
	for _, kind := range texts.Kinds() {
		text := catalog(t, brand("Example")).Text("ar", kind, "123456")
		first := strings.IndexFunc(text, func(r rune) bool { return r >= 'A' && r <= 'z' || r >= 0x600 })
		if r, _ := utf8.DecodeRuneInString(text[first:]); r < 0x600 || r > 0x6FF {
			t.Errorf("%s: is left to right: %q", kind, text)
		}
		if strings.ContainsAny(text, "\u200e\u200f\u061c") {
			t.Errorf("%s: direction marks: %q", kind, text)
		}
	}
}

// TestPages renders every sentence of the page in every language, with its values filled in.
func TestPages(t *testing.T) {
	t.Parallel()
	for tag, l := range builtIn(t) {
		v := reflect.ValueOf(l.Page)
		for i := range v.NumField() {
			name, text := v.Type().Field(i).Name, v.Field(i).String()
			if text == "" || strings.TrimSpace(text) != text || strings.ContainsAny(text, "<>&") {
				t.Errorf("%s: %s is %q", tag, name, text)
			}
			if strings.Contains(text, "{tries}") != (name == "WrongCode") || strings.Contains(text, "{wait}") != (name == "Limited") ||
				strings.Count(text, "{") > 1 {
				t.Errorf("%s: %s is %q", tag, name, text)
			}
			for _, unit := range []string{l.Page.Minutes, l.Page.Hours} {
				if waits := strings.ReplaceAll(text, "{wait}", "5 "+unit); strings.Contains(waits, "..") {
					t.Errorf("%s: %s is %q", tag, name, waits)
				}
			}
		}
	}
}

// TestCustom replaces some texts and adds a language.
func TestCustom(t *testing.T) {
	t.Parallel()
	c := catalog(t, brand("Example"), func(c *texts.Config) {
		c.Language = "de-AT"
		c.Custom = map[string]map[texts.Kind]string{
			"de":    {texts.Add: "{{.Token}}: {{.Brand}}, {{.Minutes}} Min.", texts.Register: ""},
			"PT-br": {texts.Password: "{{.Token}}\nsenha"},
			"sv":    {texts.Add: "{{.Token}} är din kod."},
		}
	})
	for _, row := range []struct {
		tag  string
		kind texts.Kind
		want string
	}{
		{"de", texts.Add, "123456: Example, 10 Min."},
		{"de", texts.Register, "123456 ist dein Code für Example."}, // an empty template replaces nothing
		{"pt-BR", texts.Password, "123456\nsenha"},                  //
		{"pt-BR", texts.Add, "123456 é o seu código Example."},      // from the language of which it is a variant
		{"sv", texts.Add, "123456 är din kod."},                     //
		{"sv", texts.Register, "123456 ist dein Code für Example."}, // the host's own language
		{"xx", texts.Add, "123456: Example, 10 Min."},               // an unknown language
		{"en", texts.Add, "123456 is your Example code."},           //
		{"zh", texts.Register, c.Text("zh", texts.Add, "123456")},   //
		{"ja", texts.Add, "123456 が Example の確認コードです。"},             //
		{"ar", texts.Add, "123456 هو رمز Example الخاص بك."},        //
		{"tr", texts.Add, "123456 Example kodunuzdur."},             //
		{"fr", texts.Register, "123456 est votre code Example."},    //
		{"uk", texts.TakenRegister, "У вас уже є акаунт Example: увійдіть. Не ви? Ігноруйте."},
	} {
		if got := c.Text(row.tag, row.kind, "123456"); got != row.want {
			t.Errorf("%s %s: %q, want %q", row.tag, row.kind, got, row.want)
		}
	}
	if c.Match("sv") != "sv" || c.Match("pt-BR") != "pt-BR" || c.Match("pt-PT") != "pt" || c.Match("ko") != "de" {
		t.Error(c.Match("sv"), c.Match("pt-BR"), c.Match("pt-PT"), c.Match("ko"))
	}
	if p := c.Page("sv"); p.Language != "de" {
		t.Errorf("a page in %s", p.Language)
	}
}

// TestLanguageOfItsOwn sets the host's language to one that is not built in.
func TestLanguageOfItsOwn(t *testing.T) {
	t.Parallel()
	swedish := map[texts.Kind]string{}
	for _, kind := range texts.Kinds() {
		swedish[kind] = "svenska"
		if kind.HasToken() {
			swedish[kind] = "{{.Token}} svenska"
		}
	}
	set := func(c *texts.Config) { c.Language, c.Custom = "sv-SE", map[string]map[texts.Kind]string{"sv": swedish} }
	c := catalog(t, set)
	if c.Text(c.Match("ko"), texts.Add, "123456") != "123456 svenska" || c.Page("ko").Language != texts.English {
		t.Error(c.Text(c.Match("ko"), texts.Add, "123456"), c.Page("ko").Language)
	}
	delete(swedish, texts.Unknown)
	config := texts.Config{Digits: 6}
	set(&config)
	if _, err := texts.New(config); err == nil || !strings.Contains(err.Error(), `Options.Messages.Templates["sv"].Unknown`) {
		t.Errorf("error %v", err)
	}
}

// TestRefused checks that the error names each invalid template and what is wrong with it.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		kind   texts.Kind
		source string
		says   []string
	}{
		"no template":           {texts.Add, "{{.Token} is it", []string{`Options.Messages.Templates["de"].Add`}},
		"a function unknown":    {texts.Add, "{{shout .Token}}", []string{`Options.Messages.Templates["de"].Add`, "shout"}},
		"a field unknown":       {texts.Password, "{{.Token}} {{.Code}}", []string{`Options.Messages.Templates["de"].Password`, ".Code", ".Token, .Brand and .Minutes"}},
		"no token":              {texts.Register, "Hello {{.Brand}}", []string{`Options.Messages.Templates["de"].Register`, "{{.Token}}"}},
		"a token in pieces":     {texts.Add, "{{slice .Token 0 2}} {{slice .Token 2}}", []string{`Options.Messages.Templates["de"].Add`, "{{.Token}}"}},
		"a token that decides":  {texts.Add, `{{.Token}} {{if eq .Token "777777"}}x{{end}}`, []string{`Options.Messages.Templates["de"].Add`, "depend"}},
		"a token in a notice":   {texts.TakenAdd, "No {{.Token}}", []string{`Options.Messages.Templates["de"].TakenAdd`, ".Token", "its SMS contains no code"}},
		"a control character":   {texts.Add, "{{.Token}}\t.", []string{`Options.Messages.Templates["de"].Add`, "control character"}},
		"one that is made":      {texts.Unknown, "a{{print \"\\x1b\"}}b", []string{`Options.Messages.Templates["de"].Unknown`, "control character"}},
		"a change of direction": {texts.Add, "\u202e{{.Token}}.", []string{`Options.Messages.Templates["de"].Add`, "control character"}},
		"no UTF-8":              {texts.Add, "{{.Token}} \xff.", []string{`Options.Messages.Templates["de"].Add`, "UTF-8"}},
		"nothing":               {texts.TakenRegister, "{{if false}}x{{end}}", []string{`Options.Messages.Templates["de"].TakenRegister`, "empty"}},
		"a space at the end":    {texts.Add, "{{.Token}} ", []string{`Options.Messages.Templates["de"].Add`, "space"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := texts.New(texts.Config{Language: "en", Digits: 6, Custom: map[string]map[texts.Kind]string{"de": {row.kind: row.source}}})
			for _, says := range row.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error %v, want %q", err, says)
				}
			}
		})
	}
	for name, row := range map[string]struct {
		language string
		custom   []string
		says     string
	}{
		"no tag":                 {"en", []string{"german"}, `Options.Messages.Templates["german"]`},
		"a language unknown":     {"en", []string{"xq"}, `Options.Messages.Templates["xq"]`},
		"an empty tag":           {"en", []string{""}, `Options.Messages.Templates[""]`},
		"no language":            {"en", []string{"und"}, `Options.Messages.Templates["und"]`},
		"twice":                  {"en", []string{"de", "DE"}, "twice"},
		"the host's is no tag":   {"e n", nil, "Options.Messages.Language"},
		"the host's has no text": {"sv", nil, "Options.Messages.Templates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			custom := map[string]map[texts.Kind]string{}
			for _, tag := range row.custom {
				custom[tag] = nil
			}
			if _, err := texts.New(texts.Config{Language: row.language, Digits: 6, Custom: custom}); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("error %v, want %q", err, row.says)
			}
		})
	}
}

// TestEnds checks that each text with a code ends with the lines for browsers and Android, and that
// no other text does.
func TestEnds(t *testing.T) {
	t.Parallel()
	const hash = "FA+9qCX9VSu"
	webOTP := func(c *texts.Config) { c.WebOTPDomain = "example.com" }
	android := func(c *texts.Config) { c.AndroidAppHash = hash }
	for _, row := range []struct {
		c    *texts.Catalog
		want string
	}{
		{catalog(t, webOTP), "730915 is your verification code.\n@example.com #730915"},
		{catalog(t, android), "730915 is your verification code.\n" + hash},
		{catalog(t, webOTP, android), "730915 is your verification code.\n" + hash + "\n@example.com #730915"},
	} {
		if got := row.c.Text("en", texts.Add, "730915"); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
		_, ends, _ := strings.Cut(row.want, "\n")
		for tag := range builtIn(t) {
			for _, kind := range texts.Kinds() {
				if got := row.c.Text(tag, kind, "730915"); strings.HasSuffix(got, ends) != kind.HasToken() {
					t.Errorf("%s %s: %q", tag, kind, got)
				}
			}
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	c := catalog(t, brand(strings.Repeat("M", 40)), func(c *texts.Config) { c.Digits = 9 })
	sizes := c.Sizes()
	if want := 15 * len(texts.Kinds()); len(sizes) != want {
		t.Fatalf("%d, want %d", len(sizes), want)
	}
	long := map[string]int{}
	for _, s := range sizes {
		n, unicode := sms.Segments(c.Text(s.Language, s.Kind, "123456789"))
		if n != s.Segments || unicode != s.Unicode {
			t.Errorf("%v, want %d, %v", s, n, unicode)
		}
		if n > 1 {
			long[s.Language]++
		}
	}
	if !slices.Contains(slices.Collect(maps.Keys(long)), "ru") || long["en"] != 0 {
		t.Errorf("%v", long)
	}
	if i := slices.IndexFunc(sizes, func(s texts.Size) bool { return s.Language == "ru" && s.Kind == texts.Password }); sizes[i].String() != "ru Password: 2 (UCS-2)" {
		t.Errorf("%v", sizes[i])
	}
}
