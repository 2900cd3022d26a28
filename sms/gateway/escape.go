package gateway

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"text/template"
	syntax "text/template/parse"
	"unicode"
	"unicode/utf16"
)

// parse parses a template and appends the escaper to each of its actions, as html/template
// does, so that every value is escaped.
func parse(text string, escape func(any) string) (*template.Template, error) {
	const name = "escape"
	t, err := template.New("call").Funcs(template.FuncMap{"utf16hex": utf16hex, name: escape}).Parse(text)
	if err != nil {
		return nil, err
	}
	for _, part := range t.Templates() {
		if part.Tree != nil {
			appendEscaper(part.Root, name)
		}
	}
	return t, nil
}

// appendEscaper appends a function to each pipeline below a node whose value is printed.
func appendEscaper(node syntax.Node, function string) {
	branches := func(b *syntax.BranchNode) {
		appendEscaper(b.List, function)
		appendEscaper(b.ElseList, function)
	}
	switch n := node.(type) {
	case *syntax.ListNode:
		if n == nil {
			return
		}
		for _, child := range n.Nodes {
			appendEscaper(child, function)
		}
	case *syntax.IfNode:
		branches(&n.BranchNode)
	case *syntax.WithNode:
		branches(&n.BranchNode)
	case *syntax.RangeNode:
		branches(&n.BranchNode)
	case *syntax.ActionNode:
		if len(n.Pipe.Decl) > 0 {
			return // {{$x := .To}} prints nothing
		}
		call := &syntax.CommandNode{NodeType: syntax.NodeCommand, Pos: n.Pos}
		call.Args = []syntax.Node{syntax.NewIdentifier(function).SetPos(n.Pos)}
		n.Pipe.Cmds = append(n.Pipe.Cmds, call)
	}
}

// escaperOf returns the escaper for a body.
func escaperOf(contentType string) (func(any) string, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
	case isJSON(contentType):
		return inJSON, nil
	case kind == "application/x-www-form-urlencoded":
		return percent, nil
	case strings.HasSuffix(kind, "/xml"), strings.HasSuffix(kind, "+xml"):
		return inXML, nil
	case kind == "text/plain":
		return func(v any) string { return fmt.Sprint(v) }, nil
	}
	return nil, errors.New("gateway: Options.Body needs a Content-Type in Options.Header: JSON, application/x-www-form-urlencoded, XML or text/plain")
}

func isJSON(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// percent escapes a value for a query or a path. A plus sign for a space would be right only
// in a query.
func percent(v any) string { return strings.ReplaceAll(url.QueryEscape(fmt.Sprint(v)), "+", "%20") }

// inJSON escapes a value for the inside of a JSON string.
func inJSON(v any) string {
	quoted, err := json.Marshal(fmt.Sprint(v))
	if err != nil {
		return "" // a string can always be written
	}
	return string(quoted[1 : len(quoted)-1])
}

func inXML(v any) string {
	var text strings.Builder
	_ = xml.EscapeText(&text, []byte(fmt.Sprint(v))) // a Builder takes everything
	return text.String()
}

func utf16hex(text string) string {
	var hex strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		_, _ = fmt.Fprintf(&hex, "%04X", unit)
	}
	return hex.String()
}

// beginsWithHost reports whether a URL has a literal host. A host that depended on the
// message could receive the credentials.
func beginsWithHost(template string) bool {
	found, err := regexp.MatchString(`^https?://[^/?#{}@\s]+([/?#]|$)`, template)
	return found && err == nil
}

// checkHeader returns an error for a header that cannot be sent.
func (s *Sender) checkHeader() error {
	o := s.options
	if strings.Contains(o.User, ":") {
		return errors.New("gateway: Options.User has a colon, which basic authentication does not allow")
	}
	for name, values := range o.Header {
		if strings.ContainsFunc(strings.Join(values, ""), unicode.IsControl) || name == "" || strings.ContainsFunc(name, notInName) {
			return fmt.Errorf("gateway: Options.Header has a name or a value that cannot be sent, at %q", http.CanonicalHeaderKey(name))
		}
	}
	return nil
}

// notInName reports whether a header's name must not contain r: RFC 9110, section 5.6.2.
func notInName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
