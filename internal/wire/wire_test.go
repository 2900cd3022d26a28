package wire_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/threepid/internal/verify"
	"example.com/threepid/internal/wire"
	"example.com/threepid/store"
)

// FuzzRequestToken checks that an accepted body is a JSON object with exactly the values that were
// read, and that an error has a message.
func FuzzRequestToken(f *testing.F) {
	for _, seed := range []string{
		`{"client_secret":"monkeys_are_GREAT","country":"GB","phone_number":"07700900001","send_attempt":1}`,
		`{"client_secret":"a","country":"","phone_number":"+447700900001","send_attempt":0,"next_link":"https://example.org/","id_server":"a","id_access_token":"b"}`,
		`{"client_secret":null,"country":[],"phone_number":1e9,"send_attempt":-1}`,
		`{"country":"GB","country":"FR"}`, `[]`, `null`, `{`, "", "\xff", `{"a":{"a":{"a":1}}} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := wire.RequestToken(body, store.PurposeAdd, false)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		var loose map[string]any
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Fatalf("accepted what is no JSON object: %v", err)
		}
		for name, got := range map[string]string{
			"client_secret": r.ClientSecret, "country": r.Country, "phone_number": r.PhoneNumber,
		} {
			if loose[name] != got {
				t.Errorf("%s read as %q, is %v", name, got, loose[name])
			}
		}
		if attempt, ok := loose["send_attempt"].(float64); !ok || attempt != float64(r.Attempt) || r.Attempt < 0 {
			t.Errorf("send_attempt read as %d, is %v", r.Attempt, loose["send_attempt"])
		}
	})
}

// FuzzSubmission is the same for submitToken, JSON and form.
func FuzzSubmission(f *testing.F) {
	f.Add([]byte(`{"sid":"a","client_secret":"b","token":"123456"}`))
	f.Add([]byte(`sid=a&client_secret=b&token=123456`))
	f.Add([]byte(`sid=%zz&&=&token=1;2`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, read := range []func([]byte) (verify.Submission, error){wire.Submission, wire.SubmissionForm} {
			sub, err := read(body)
			if err != nil {
				checkRefusal(t, err)
			} else if sub.SID == "" || sub.ClientSecret == "" || sub.Token == "" {
				t.Errorf("accepted with a parameter missing: %+v", sub)
			}
		}
	})
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var refusal *verify.Error
	if !errors.As(err, &refusal) || refusal.Message == "" || !utf8.ValidString(refusal.Message) || len(refusal.Message) > 200 {
		t.Errorf("refused with %#v", err)
	}
}

func TestEveryMissingFieldIsNamed(t *testing.T) {
	t.Parallel()
	_, err := wire.RequestToken([]byte(`{"phone_number":"1"}`), store.PurposeAdd, false)
	if err == nil || err.Error() != "Missing: client_secret, country, send_attempt" {
		t.Errorf("error %v", err)
	}
}

// TestAmbiguousBodiesAreRefused checks that bodies which parsers interpret differently are
// refused, without a panic.
func TestAmbiguousBodiesAreRefused(t *testing.T) {
	t.Parallel()
	const rest = `"client_secret":"a","country":"GB","phone_number":"07700900001"`
	for name, body := range map[string]string{
		"a name twice":              `{"send_attempt":1,` + rest + `,"send_attempt":2}`,
		"a name twice, escaped":     `{"send_attempt":1,` + rest + `,"send_\u0061ttempt":2}`,
		"an ignored name twice":     `{"send_attempt":1,` + rest + `,"x":1,"x":1}`,
		"invalid UTF-8":             `{"send_attempt":1,` + rest + `,"x":"` + "\xc0\x80" + `"}`,
		"a byte order mark":         "\ufeff" + `{"send_attempt":1,` + rest + `}`,
		"another encoding":          "{\x00\"\x00a\x00",
		"NUL after it":              `{"send_attempt":1,` + rest + "}\x00",
		"NUL in a secret":           `{"send_attempt":1,"client_secret":"a` + "\x00" + `","country":"GB","phone_number":"07700900001"}`,
		"deep lists":                `{"x":` + strings.Repeat("[", 60_000),
		"deep objects":              strings.Repeat(`{"a":`, 12_000),
		"deep lists that end":       `{"x":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`,
		"a number of many digits":   `{"send_attempt":` + strings.Repeat("9", 60_000) + "," + rest + `}`,
		"another case of its name":  `{"Send_Attempt":1,` + rest + `}`,
		"a single quote for a name": `{'send_attempt':1}`,
	} {
		if _, err := wire.RequestToken([]byte(body), store.PurposeAdd, false); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			checkRefusal(t, err)
		}
	}
	// Ignored fields may have any value, and names in nested objects are not checked.
	fine := `{"send_attempt":1,` + rest + `,"x":{"a":1,"a":[null,{"a":"\ud800"}]}}`
	if _, err := wire.RequestToken([]byte(fine), store.PurposeAdd, false); err != nil {
		t.Errorf("%s: %v", fine, err)
	}
}

func TestAmbiguousFormsAreRefused(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]string{
		"a name twice":          "sid=a&client_secret=b&token=1&token=2",
		"a name twice, escaped": "sid=a&client_secret=b&token=1&%74oken=2",
		"semicolons":            "sid=a&client_secret=b;token=1&token=1",
		"a broken escape":       "sid=a&client_secret=b&token=1&x=%z",
		"invalid UTF-8":         "sid=a&client_secret=b&token=%ff",
	} {
		if _, err := wire.SubmissionForm([]byte(form)); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			checkRefusal(t, err)
		}
	}
	if _, err := wire.SubmissionForm([]byte("sid=a&client_secret=b&token=1&x=1&x=2&next_link=y")); err != nil {
		t.Errorf("parameters that are ignored: %v", err)
	}
}
