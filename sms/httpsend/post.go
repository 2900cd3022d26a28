package httpsend

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

// PostForm posts a form and reads the response. It asks for JSON. Its errors begin with
// name. authorize adds credentials to the request; it may be nil.
func PostForm(
	ctx context.Context, client *http.Client, name, address string, form url.Values, authorize func(*http.Request),
) (Response, error) {
	return post(ctx, client, name, address, "application/x-www-form-urlencoded", []byte(form.Encode()), authorize)
}

// PostJSON is PostForm with a JSON body.
func PostJSON(
	ctx context.Context, client *http.Client, name, address string, body any, authorize func(*http.Request),
) (Response, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return Response{}, errUnmade(name)
	}
	return post(ctx, client, name, address, "application/json", encoded, authorize)
}

func post(
	ctx context.Context, client *http.Client, name, address, contentType string, body []byte, authorize func(*http.Request),
) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return Response{}, errUnmade(name)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	if authorize != nil {
		authorize(req)
	}
	return Do(client, name, req)
}

// Validity returns m.Validity in whole units, rounded down, within the range that a
// provider accepts. 0 means that the message has none.
func Validity(m sms.Message, unit time.Duration, minimum, maximum int64) int64 {
	if m.Validity <= 0 {
		return 0
	}
	return min(max(int64(m.Validity/unit), minimum), maximum)
}

// errUnmade omits its cause, which contains the URL or the body.
func errUnmade(name string) error {
	return fmt.Errorf("%s: the request cannot be made: %w", name, sms.ErrMisconfigured)
}
