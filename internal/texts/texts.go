// Package texts has all that people read in their own language: the SMS, and the page that a link
// opens. Each file in languages is one language.
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

// English is the language in which every text exists.
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

// HasToken reports whether a message of this kind has a code in it.
func (k Kind) HasToken() bool { return k == Add || k == Register || k == Password }

// Language is the content of one file.
type Language struct {
	Name      string // in English
	Direction string // the value of HTML's dir
	SMS       map[Kind]Wording
	Page      Page
}

// Wording is a template, and its translation into English for the brand "Example".
type Wording struct {
	Text    string
	English string
}

// Page is the text of the page: one of two titles, and one of the messages. {tries} is how
// many tries are left, {wait} a number of Minutes or Hours.
type Page struct {
	Language  string `json:"-"` // BCP 47
	Direction string `json:"-"`

	ConfirmedTitle, Confirmed string
	FailedTitle               string

	WrongCode      string
	LastTry        string // a wrong code, and no try is left
	Expired        string
	InvalidLink    string // the session is unknown
	IncompleteLink string // a parameter is missing
	Limited        string
	Minutes, Hours string // abbreviated, as units are
	Failed         string // on the server
}

// BuiltIn returns the built-in languages by BCP 47 tag.
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
