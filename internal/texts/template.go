package texts

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// The data of a template: fields, or notice for texts without a code.
type (
	fields struct {
		Token   string
		Brand   string
		Minutes int
	}
	notice struct{ Brand string }
)

// placeholder takes the place of the code while a template is executed. It is a character
// for private use, so no text contains it.
const placeholder = "\uE000"

// written is a text without its code, which goes between the parts. Templates are executed
// once, at start, so that an invalid one is found then.
type written []string

func (w written) with(token string) string { return strings.Join(w, token) }

// write executes a template. Errors contain name.
func write(name, source string, kind Kind, c Config) (written, error) {
	t, err := template.New(name).Parse(source)
	if err != nil {
		return nil, fmt.Errorf("threepid: %w", err) // it names the template
	}
	render := func(data any) (string, error) {
		var b strings.Builder
		if err := t.Execute(&b, data); err != nil {
			return "", fmt.Errorf("threepid: %w", err)
		}
		return b.String(), nil
	}
	if !kind.HasToken() {
		text, err := render(notice{Brand: c.Brand})
		if err != nil {
			return nil, fmt.Errorf("%w (it may use only .Brand, because its SMS contains no code)", err)
		}
		return written{text}, checked(name, text)
	}
	data := fields{Token: placeholder, Brand: c.Brand, Minutes: c.Minutes}
	text, err := render(data)
	if err != nil {
		return nil, fmt.Errorf("%w (it may use .Token, .Brand and .Minutes)", err)
	}
	w := written(strings.Split(text, placeholder))
	if len(w) < 2 {
		return nil, fmt.Errorf("threepid: %s must contain {{.Token}} unchanged", name)
	}
	data.Token = strings.Repeat("7", c.Digits)
	if text, err = render(data); err != nil || text != w.with(data.Token) {
		return nil, errors.Join(err, fmt.Errorf("threepid: %s must contain {{.Token}} unchanged, and nothing else may depend on it", name))
	}
	return w, checked(name, text)
}

// checked returns an error for what no text may contain.
func checked(name, text string) error {
	switch {
	case text == "" || strings.TrimSpace(text) != text:
		return fmt.Errorf("threepid: %s must not be empty, and must not begin or end with a space", name)
	case !utf8.ValidString(text):
		return fmt.Errorf("threepid: %s is not UTF-8", name)
	case strings.ContainsFunc(text, forbidden):
		return fmt.Errorf("threepid: %s contains a control character", name)
	}
	return nil
}

// forbidden reports whether r is a control character other than a line feed, or one that
// changes the direction of text, which can show digits in another order.
func forbidden(r rune) bool {
	return unicode.IsControl(r) && r != '\n' || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}
