package wire_test

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"example.com/threepid/internal/verify"
	"example.com/threepid/internal/wire"
	"example.com/threepid/store"
)

// FuzzRequestToken has whatever is accepted be a JSON object that says just
// what was read, and whatever is refused be refused in words.
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
