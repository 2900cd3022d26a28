package contract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"example.com/threepid/docs"
)

const (
	file     = "openapi.yaml"
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// object is a JSON object.
type object = map[string]any

// description is docs/openapi.yaml. The schemas of OpenAPI 3.1 are JSON Schema 2020-12, so the
// validator reads them in place.
type description struct {
	root     object
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by JSON pointer
}

func load(tb testing.TB) *description {
	tb.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(docs.OpenAPI())) // embedded, so that a change invalidates the test cache
	if err != nil {
		tb.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		tb.Fatal(err)
	}
	d := &description{root: whole.(object), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	for path, methods := range d.root["paths"].(object) {
		for method, operation := range methods.(object) {
			for status := range operation.(object)["responses"].(object) {
				d.close(place("#", "paths", path, method, "responses", status, "content", jsonType, "schema"))
			}
		}
	}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource(file, d.root); err != nil {
		tb.Fatal(err)
	}
	return d
}

// close makes a field that is not described an error. Clients must accept such a field, but here it
// means that the description is out of date.
func (d *description) close(at string) {
	if schema, _, ok := d.find(at); ok {
		schema.(object)["unevaluatedProperties"] = false
	}
}

// place is a JSON pointer into the description.
func place(root string, names ...string) string {
	for _, name := range names {
		root += "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	}
	return root
}

// find follows a pointer, and references on the way. It also returns the place at which it ended.
func (d *description) find(at string) (any, string, bool) {
	var here any = d.root
	came := "#"
	for name := range strings.SplitSeq(strings.TrimPrefix(at, "#/"), "/") {
		inside, ok := here.(object)
		if !ok {
			return nil, "", false
		}
		if here, ok = inside[strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")]; !ok {
			return nil, "", false
		}
		came += "/" + name
		if next, ok := here.(object); ok && next["$ref"] != nil && !strings.Contains(came, "/schema") {
			if here, came, ok = d.find(next["$ref"].(string)); !ok {
				return nil, "", false
			}
		}
	}
	return here, came, true
}

// check compares a value with the schema at a place. A missing schema is an error too.
func (d *description) check(value any, at string) []string {
	_, came, ok := d.find(at)
	if !ok {
		return []string{"not described: " + at}
	}
	schema := d.schemas[came]
	if schema == nil {
		var err error
		if schema, err = d.compiler.Compile(file + came); err != nil {
			return []string{err.Error()}
		}
		d.schemas[came] = schema
	}
	if err := schema.Validate(value); err != nil {
		return []string{fmt.Sprintf("%v", err)}
	}
	return nil
}

// path returns the described path that matches a request's path.
func (d *description) path(requested string) (string, bool) {
	for path := range d.root["paths"].(object) {
		if strings.HasSuffix(requested, path) {
			return path, true
		}
	}
	return "", false
}

func (d *description) describes(method, path string) bool {
	_, _, ok := d.find(place("#", "paths", path, strings.ToLower(method)))
	return ok
}

// rows returns everything that the description allows: each operation with each status and, where a
// status has errcodes, each errcode.
func (d *description) rows() (rows []string) {
	for path, methods := range d.root["paths"].(object) {
		for method, operation := range methods.(object) {
			for status := range operation.(object)["responses"].(object) {
				schema, _, _ := d.find(place("#", "paths", path, method, "responses", status, "content", jsonType, "schema"))
				codes := errcodes(schema)
				if len(codes) == 0 {
					codes = []string{""}
				}
				for _, code := range codes {
					rows = append(rows, row(method, path, status, code))
				}
			}
		}
	}
	slices.Sort(rows)
	return rows
}

func row(method, path, status, errcode string) string {
	return strings.TrimSpace(strings.Join([]string{strings.ToUpper(method), path, status, errcode}, " "))
}

// errcodes returns the errcodes that a response names itself.
func errcodes(schema any) (codes []string) {
	s, _ := schema.(object)
	for _, word := range []string{"allOf", "anyOf"} {
		parts, _ := s[word].([]any)
		for _, part := range parts {
			codes = append(codes, errcodes(part)...)
		}
	}
	properties, _ := s["properties"].(object)
	errcode, _ := properties["errcode"].(object)
	named, _ := errcode["enum"].([]any)
	for _, code := range named {
		codes = append(codes, code.(string))
	}
	return codes
}

// checkRequest checks a request that was not refused for its form.
func (d *description) checkRequest(path string, x exchange) (wrong []string) {
	at := place("#", "paths", path, strings.ToLower(x.req.Method))
	if _, secured, _ := d.find(at + "/security"); secured == "" && x.req.Header.Get("Authorization") == "" && x.req.Method != http.MethodOptions {
		wrong = append(wrong, "no access token")
	}
	query := x.req.URL.Query()
	if parameters, _, ok := d.find(at + "/parameters"); ok {
		for _, parameter := range parameters.([]any) {
			p := parameter.(object)
			if name, _ := p["name"].(string); p["in"] == "query" && query.Get(name) == "" {
				wrong = append(wrong, "no parameter "+name) // all parameters are required and must not be empty
			}
		}
	}
	if _, _, ok := d.find(at + "/requestBody"); !ok {
		return wrong
	}
	body, kind := x.requestBody()
	return append(wrong, d.check(body, place(at, "requestBody", "content", kind, "schema"))...)
}

// requestBody returns the body of a request. A Content-Type is not required, and JSON with the
// Content-Type of a form is JSON.
func (x exchange) requestBody() (any, string) {
	if strings.HasPrefix(x.req.Header.Get("Content-Type"), formType) && !bytes.HasPrefix(bytes.TrimSpace(x.sent), []byte("{")) {
		form, _ := url.ParseQuery(string(x.sent))
		fields := object{}
		for name := range form {
			fields[name] = form.Get(name)
		}
		return fields, formType
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.sent))
	if err != nil {
		return err.Error(), jsonType
	}
	return value, jsonType
}

func (d *description) checkAnswer(path string, x exchange) (wrong []string) {
	at := place("#", "paths", path, strings.ToLower(x.req.Method), "responses", strconv.Itoa(x.res.StatusCode))
	if _, _, ok := d.find(at); !ok {
		return []string{"the status is not described"}
	}
	if content, _, ok := d.find(at + "/content"); ok {
		kind := x.res.Header.Get("Content-Type") // with its parameters, because some clients compare all of it
		switch _, described := content.(object)[kind]; {
		case !described:
			wrong = append(wrong, fmt.Sprintf("Content-Type %q", kind))
		case kind == jsonType:
			body, err := jsonschema.UnmarshalJSON(bytes.NewReader(x.got))
			if err != nil {
				return append(wrong, err.Error())
			}
			wrong = append(wrong, d.check(body, place(at, "content", kind, "schema"))...)
		}
	} else if len(x.got) > 0 && x.res.StatusCode != http.StatusFound {
		wrong = append(wrong, "a body that is not described")
	}
	return append(wrong, d.checkHeaders(at, x.res.Header)...)
}

// checkHeaders checks that all required headers are present and valid, and that there are no others
// except those of HTTP itself.
func (d *description) checkHeaders(at string, got http.Header) (wrong []string) {
	described, _, _ := d.find(at + "/headers")
	for name := range described.(object) {
		header, came, _ := d.find(place(at, "headers", name))
		if got.Get(name) == "" && header.(object)["required"] == true {
			wrong = append(wrong, "no header "+name)
		}
		for _, value := range got.Values(name) {
			if len(d.check(value, came+"/schema")) == 0 {
				continue
			}
			if wrongs := d.check(json.Number(value), came+"/schema"); len(wrongs) > 0 {
				wrong = append(wrong, fmt.Sprintf("header %s: %q: %v", name, value, wrongs))
			}
		}
	}
	ofHTTP := []string{"Content-Type", "Content-Length", "Date", "Connection"}
	for name := range got {
		if _, ok := described.(object)[name]; !ok && !slices.Contains(ofHTTP, name) {
			wrong = append(wrong, "a header that is not described: "+name)
		}
	}
	return wrong
}
