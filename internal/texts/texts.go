// Package texts is what people read in their own language: the text messages,
// and the page that a link opens. Each file of languages is one language.
package texts

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

//go:embed languages/*.json
var files embed.FS

// English is the language that everything is in, whatever else is not.
const English = "en"

// Kind is what a text says. Its name is that of a field of threepid.Templates.
type Kind string

// The kinds. The first three have a code; the others are sent instead where
// accounts are concealed.
const (
	Add           Kind = "Add"
	Register      Kind = "Register"
	Password      Kind = "Password"
	TakenAdd      Kind = "TakenAdd"
	TakenRegister Kind = "TakenRegister"
	Unknown       Kind = "Unknown"
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Add, Register, Password, TakenAdd, TakenRegister, Unknown} }

// BringsToken reports whether a message of this kind has a code in it.
func (k Kind) BringsToken() bool { return k == Add || k == Register || k == Password }

// Language is what one file holds.
type Language struct {
	Name      string // in English
	Direction string // as HTML's dir has it
	SMS       map[Kind]Wording
	Page      Page
}

// Wording is a template, and what it says in English, of the brand "Example".
type Wording struct {
	Text    string
	English string
}

// Page is what the page says. The title is one of two, the message one of the
// others: {tries} is how many are left, {wait} a number of Minutes or Hours.
type Page struct {
	Language  string `json:"-"` // BCP 47
	Direction string `json:"-"`

	ConfirmedTitle, Confirmed string
	FailedTitle               string

	WrongCode      string
	LastTry        string // a wrong code, and no try is left
	Expired        string
	InvalidLink    string // no session that is known
	IncompleteLink string // a parameter is missing
	Limited        string
	Minutes, Hours string // abbreviated, as units are
	Failed         string // on our side
}

// BuiltIn reads the languages there are, by their BCP 47 tag.
func BuiltIn() (map[string]Language, error) {
	entries, err := files.ReadDir("languages")
	if err != nil {
		return nil, fmt.Errorf("threepid: texts: %w", err)
	}
	languages := make(map[string]Language, len(entries))
	for _, entry := range entries {
		data, err := files.ReadFile(path.Join("languages", entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("threepid: texts: %w", err)
		}
		var l Language
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&l); err != nil {
			return nil, fmt.Errorf("threepid: texts: %s: %w", entry.Name(), err)
		}
		tag := strings.TrimSuffix(entry.Name(), ".json")
		l.Page.Language, l.Page.Direction = tag, l.Direction
		languages[tag] = l
	}
	return languages, nil
}
