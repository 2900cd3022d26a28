// Package wire parses what clients send: JSON bodies, forms and queries. Package verify defines
// what the fields mean, and the Error that wire returns.
package wire

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/threepid/internal/verify"
)

// object is a JSON object whose names are matched exactly, which
// encoding/json's structs do not.
type object map[string]json.RawMessage

// parseObject parses a body that must be one JSON object in UTF-8. It refuses a duplicated
// name, because two parsers may read such a body differently.
func parseObject(body []byte) (object, error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, verify.Errorf(verify.NotJSON, "The body is not one JSON text in UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, verify.Errorf(verify.BadJSON, "The body is not a JSON object")
	}
	o := make(object)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, verify.Errorf(verify.NotJSON, "The body is not JSON")
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, verify.Errorf(verify.NotJSON, "The body is not JSON")
		}
		if _, twice := o[name]; twice {
			return nil, verify.Errorf(verify.BadJSON, "The body has a field twice")
		}
		o[name] = value
	}
	return o, nil
}

// has reports whether a field is present. null counts as absent.
func (o object) has(name string) bool {
	value, ok := o[name]
	return ok && !bytes.Equal(value, []byte("null"))
}

// require returns an error that names each absent field.
func (o object) require(names ...string) error {
	var missing []string
	for _, name := range names {
		if !o.has(name) {
			missing = append(missing, name)
		}
	}
	return errMissing(missing)
}

func errMissing(names []string) error {
	if len(names) == 0 {
		return nil
	}
	return verify.Errorf(verify.MissingParam, "Missing: %s", strings.Join(names, ", "))
}

// text returns a field that must be a string, or an empty string if it is absent.
func (o object) text(name string) (string, error) {
	if !o.has(name) {
		return "", nil
	}
	var s string
	if o[name][0] != '"' || json.Unmarshal(o[name], &s) != nil {
		return "", verify.Errorf(verify.InvalidParam, "%s must be a string", name)
	}
	return s, nil
}

// integer returns a field that must be written as a nonnegative integer, so neither 1.0 nor
// 1e0. It does not limit the value.
func (o object) integer(name string) (int64, error) {
	// ParseInt would accept a sign. JSON excludes leading zeros and the like.
	n, err := strconv.ParseUint(string(o[name]), 10, 63)
	if err != nil {
		return 0, verify.Errorf(verify.InvalidParam, "%s must be an integer, 0 or more and not too great", name)
	}
	return int64(n), nil
}
