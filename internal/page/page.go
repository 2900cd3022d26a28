// Package page renders the page that a link to submitToken opens.
package page

import (
	"crypto/sha256"
	_ "embed" // for the page's two files
	"encoding/base64"
	"fmt"
	"html/template"
	"io"

	"example.com/threepid/internal/texts"
)

//go:embed page.html
var markup string

//go:embed page.css
var style string

// Page is the parsed page.
type Page struct {
	template *template.Template
	policy   string
}

// New parses the page.
func New() (*Page, error) {
	t, err := template.New("page").Parse(markup)
	if err != nil {
		return nil, fmt.Errorf("threepid: page: %w", err)
	}
	sum := sha256.Sum256([]byte(style))
	return &Page{template: t, policy: "default-src 'none'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}, nil
}

// Policy returns the page's Content-Security-Policy, which allows its own style and nothing
// else.
func (p *Page) Policy() string { return p.policy }

// Render writes the page with a sentence about the result, in the language of words.
func (p *Page) Render(w io.Writer, words texts.Page, done bool, message string) error {
	title := words.FailedTitle
	if done {
		title = words.ConfirmedTitle
	}
	return p.template.Execute(w, map[string]any{
		"Language": words.Language, "Direction": words.Direction, "Title": title, "Message": message, "Done": done,
		"Style": template.CSS(style), //nolint:gosec // our own file
	})
}
