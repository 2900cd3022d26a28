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

// parse reads a template and ends each of its actions with the escaper, as
// html/template does: no value gets into the result around it.
func parse(text string, escape func(any) string) (*template.Template, error) {
	const name = "escape"
	t, err := template.New("call").Funcs(template.FuncMap{"utf16hex": utf16hex, name: escape}).Parse(text)
	if err != nil {
		return nil, err
	}
	for _, part := range t.Templates() {
		if part.Tree != nil {
			end(part.Root, name)
		}
	}
	return t, nil
}

// end appends a function to each pipeline below a node whose value is printed.
func end(node syntax.Node, function string) {
	branches := func(b *syntax.BranchNode) {
		end(b.List, function)
		end(b.ElseList, function)
	}
	switch n := node.(type) {
	case *syntax.ListNode:
		if n == nil {
			return
		}
		for _, child := range n.Nodes {
			end(child, function)
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

// escaperOf is how values are written in a body.
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

// percent writes a value for a query or a path: the plus sign for a space would be
// right in the one only.
func percent(v any) string { return strings.ReplaceAll(url.QueryEscape(fmt.Sprint(v)), "+", "%20") }

// inJSON writes a value for the inside of a JSON string.
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

// beginsWithHost reports whether a URL has a literal host: one that
// depended on the message would have credentials go wherever it says.
func beginsWithHost(template string) bool {
	found, err := regexp.MatchString(`^https?://[^/?#{}@\s]+([/?#]|$)`, template)
	return found && err == nil
}

// checkHeader refuses what could not be sent.
func (s *Sender) checkHeader() error {
	o := s.options
	if strings.Contains(o.User, ":") {
		return errors.New("gateway: Options.User has a colon, which basic authentication cannot say")
	}
	for name, values := range o.Header {
		if strings.ContainsFunc(strings.Join(values, ""), unicode.IsControl) || name == "" || strings.ContainsFunc(name, notInName) {
			return fmt.Errorf("gateway: Options.Header has a name or a value that cannot be sent, at %q", http.CanonicalHeaderKey(name))
		}
	}
	return nil
}

// notInName reports what a header's name cannot contain: RFC 9110, section 5.6.2.
func notInName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
