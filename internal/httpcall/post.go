package httpcall

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"example.com/threepid/sms"
)

// PostForm posts a form and reads the response, which must be JSON. What precedes
// a colon in its errors is name. authorize sets what says whose request it is; it
// may be nil.
func PostForm(
	ctx context.Context, client *http.Client, name, address string, form url.Values, authorize func(*http.Request),
) (Answer, error) {
	return post(ctx, client, name, address, "application/x-www-form-urlencoded", []byte(form.Encode()), authorize)
}

// PostJSON is PostForm with a body in JSON.
func PostJSON(
	ctx context.Context, client *http.Client, name, address string, body any, authorize func(*http.Request),
) (Answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return Answer{}, errUnmade(name)
	}
	return post(ctx, client, name, address, "application/json", encoded, authorize)
}

func post(
	ctx context.Context, client *http.Client, name, address, contentType string, body []byte, authorize func(*http.Request),
) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return Answer{}, errUnmade(name)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	if authorize != nil {
		authorize(req)
	}
	return Do(client, name, req)
}

// Validity is m.Validity in whole units, rounded down, but between least and most, as a
// provider's API asks. 0 means that the message has none.
func Validity(m sms.Message, unit time.Duration, least, most int64) int64 {
	if m.Validity <= 0 {
		return 0
	}
	return min(max(int64(m.Validity/unit), least), most)
}

// errUnmade does not repeat its cause, which holds the URL or the body.
func errUnmade(name string) error {
	return fmt.Errorf("%s: the request cannot be made: %w", name, sms.ErrMisconfigured)
}
