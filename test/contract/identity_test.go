package contract_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The requirements of the identity service API for responses (Matrix specification v1.19, "Phone
// number validation", "Checking non-published 3PID ownership", "API versions" and "Status check";
// the deprecated version 1 has the same bodies). docs/openapi.yaml is stricter, and must not
// contradict it.

const (
	identityPrefix = "/_matrix/identity"

	needsSID       = `{"type":"object","required":["sid"],"properties":{"sid":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[0-9a-zA-Z.=_-]+$"}}}`
	needsSuccess   = `{"type":"object","required":["success"],"properties":{"success":{"type":"boolean"}}}`
	needsValidated = `{"type":"object","required":["medium","address","validated_at"],"properties":{"medium":{"type":"string"},"address":{"type":"string"},"validated_at":{"type":"integer"}}}`
	needsVersions  = `{"type":"object","required":["versions"],"properties":{"versions":{"type":"array","items":{"type":"string"}}}}`
	needsError     = `{"type":"object","required":["errcode"],"properties":{"errcode":{"type":"string"},"error":{"type":"string"}}}`
	needsObject    = `{"type":"object"}`
)

// identityEndpoint contains the specification's requirements for an endpoint.
type identityEndpoint struct {
	method, path string
	success      string // the schema of a 200; empty: a page
	statuses     []int  // of errors, apart from those that every endpoint may have
}

func identityEndpoints() []identityEndpoint {
	return []identityEndpoint{
		{http.MethodPost, "/validate/msisdn/requestToken", needsSID, []int{http.StatusBadRequest, http.StatusForbidden}},
		{http.MethodPost, "/validate/msisdn/submitToken", needsSuccess, []int{http.StatusBadRequest, http.StatusForbidden}},
		{http.MethodGet, "/validate/msisdn/submitToken", "", []int{http.StatusFound, http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound}},
		{http.MethodGet, "/3pid/getValidated3pid", needsValidated, []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound}},
		{http.MethodGet, "/versions", needsVersions, nil},
		{http.MethodGet, "", needsObject, nil},
	}
}

// anyEndpoint are the statuses that every endpoint may have: authentication, size, rate limits and
// failures.
func anyEndpoint() []int {
	return []int{
		http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
	}
}

// specification holds the schemas of identityEndpoints.
type specification struct{ schemas map[string]*jsonschema.Schema }

func loadSpecification(tb testing.TB) *specification {
	tb.Helper()
	s := &specification{schemas: map[string]*jsonschema.Schema{}}
	for i, text := range []string{needsSID, needsSuccess, needsValidated, needsVersions, needsError, needsObject} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			tb.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		name := fmt.Sprintf("specification-%d.json", i)
		if err := compiler.AddResource(name, value); err != nil {
			tb.Fatal(err)
		}
		if s.schemas[text], err = compiler.Compile(name); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// check compares a response of the identity service with the specification.
func (s *specification) check(x exchange) []string {
	path, identity := strings.CutPrefix(x.req.URL.Path, identityPrefix)
	if !identity {
		return nil
	}
	path = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(path, "/api/v1"), "/v2"), "/")
	endpoints := identityEndpoints()
	i := slices.IndexFunc(endpoints, func(e identityEndpoint) bool { return e.method == x.req.Method && e.path == path })
	if i < 0 {
		return nil // a preflight, or a method that only the description contains
	}
	e, status := endpoints[i], x.res.StatusCode
	if status != http.StatusOK && !slices.Contains(e.statuses, status) && !slices.Contains(anyEndpoint(), status) {
		return []string{fmt.Sprintf("has no status %d", status)}
	}
	schema := needsError
	switch {
	case e.success == "" && status != http.StatusUnauthorized:
		return nil // a page, or a redirect
	case status == http.StatusOK:
		schema = e.success
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.got))
	if err == nil {
		err = s.schemas[schema].Validate(value)
	}
	if err != nil {
		return []string{err.Error()}
	}
	return nil
}
