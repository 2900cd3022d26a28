package store

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Names names the rows of a unit of work: at most one session, and any number of records, each
// once.
type Names struct {
	Session SessionRef
	Records []Key
}

// SessionRef names a session by its key or, if SID is set, by its sid. The zero value names none.
// Sids are compared byte by byte. A unit cannot create a session that it names by sid.
type SessionRef struct {
	Key Key
	SID string
}

// None reports whether r names no session.
func (r SessionRef) None() bool { return r == SessionRef{} }

// Rows are the rows of a unit of work. To create an absent session or record, fill it in; to change
// one, assign to it. A session keeps its key, but may get another sid.
type Rows struct {
	Session Session  // the zero value if it is absent or none is named
	Records []Record // in the order of the names; an absent one has no State and no ExpiresAt
}

// ErrNames matches every [NamesError].
var ErrNames = errors.New("store: the unit of work needs other rows")

// NamesError is returned by the change function of a unit that has learned from its rows that it
// needs other ones, such as the record of the client that a session names. Update then starts again
// with these names.
type NamesError struct{ Names Names }

// Error implements error.
func (e *NamesError) Error() string {
	return fmt.Sprintf("%v: a session and %d records", ErrNames, len(e.Names.Records))
}

// Is reports whether target is ErrNames.
func (e *NamesError) Is(target error) bool { return target == ErrNames }

// maxRenames is how many times a unit starts again with other names.
const maxRenames = 3

// Follow calls update with names and, whenever it returns a [NamesError], with the names of that
// error, at most three times. Stores use it to implement Update.
func Follow(names Names, update func(Names) error) error {
	for renames := 0; ; renames++ {
		err := update(names)
		var other *NamesError
		if renames == maxRenames || !errors.As(err, &other) {
			return err
		}
		names = other.Names
	}
}

// Apply calls change with a copy of the named rows. It returns the rows as change left them, and
// whether they differ. Stores use it to implement Update. The error is that of change, or means
// that the rows cannot be stored: a row has another key or is gone, or a value is too long or not
// UTF-8. Apply finds this before units share a transaction, so that one unit's mistake does not
// affect others.
func Apply(names Names, rows Rows, change func(*Rows) error) (after Rows, changed bool, err error) {
	after = rows.Clone()
	if err := change(&after); err != nil {
		return Rows{}, false, err
	}
	if err := checkShape(names, &rows, &after); err != nil {
		return Rows{}, false, err
	}
	if !after.Session.Equal(&rows.Session) {
		changed = true
		if err := after.Session.check(); err != nil {
			return Rows{}, false, err
		}
	}
	for i := range after.Records {
		if after.Records[i] != rows.Records[i] {
			changed = true
			if err := checkText("State", after.Records[i].State, 2000); err != nil {
				return Rows{}, false, err
			}
		}
	}
	if changed && rows.Session.SID == "" && names.Session.SID != "" {
		return Rows{}, false, errors.New("store: a unit whose session is named by its sid and absent cannot store anything")
	}
	return after.Clone(), changed, nil // change cannot keep a reference to it
}

// checkShape checks that change has left the keys unchanged.
func checkShape(names Names, before, after *Rows) error {
	same := func(a, b Record) bool { return a.Key == b.Key }
	switch created := before.Session.SID == ""; {
	case !slices.EqualFunc(before.Records, after.Records, same):
		return errors.New("store: a unit of work cannot add or remove records or change their keys")
	case created && after.Session.SID == "" && after.Session.Equal(&Session{}):
		return nil
	case created && (names.Session.SID != "" || after.Session.Key != names.Session.Key || names.Session.None()):
		return errors.New("store: a session can be created only by a unit that names it by its key")
	case !created && after.Session.Key != before.Session.Key:
		return errors.New("store: a unit of work cannot remove a session or change its key")
	}
	return nil
}

// Clone returns a copy of r that shares nothing with it.
func (r Rows) Clone() Rows {
	r.Session.Nonce = slices.Clone(r.Session.Nonce)
	r.Records = slices.Clone(r.Records)
	return r
}

// Equal reports whether s and other have the same values. An empty nonce is
// equal to none.
func (s Session) Equal(other *Session) bool {
	o := *other
	if len(s.Nonce) == 0 && len(o.Nonce) == 0 {
		s.Nonce, o.Nonce = nil, nil
	}
	return reflect.DeepEqual(s, o)
}

// IsSID reports whether s can be a sid: 1 to 255 bytes of [0-9a-zA-Z.=_-].
func IsSID(s string) bool {
	return s != "" && len(s) <= 255 && strings.Trim(s, sidAlphabet) == ""
}

const sidAlphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.=_-"

// check returns an error for a value that some store could not keep.
func (s *Session) check() error {
	if !IsSID(s.SID) {
		return errors.New("store: SID must be 1 to 255 bytes of [0-9a-zA-Z.=_-]")
	}
	if len(s.Nonce) > 32 {
		return errors.New("store: Nonce is longer than 32 bytes")
	}
	for _, text := range []struct {
		field, value string
		most         int
	}{
		{"MSISDN", s.MSISDN, 20},
		{"Country", s.Country, 8},
		{"Purpose", string(s.Purpose), 16},
		{"NextLink", s.NextLink, 2048},
		{"ClaimID", s.ClaimID, 255},
		{"Outcome", string(s.Outcome), 16},
		{"Client", s.Client, 64},
		{"DelegateID", s.DelegateID, 255},
		{"AcceptedTokenDigest", s.AcceptedTokenDigest, 64},
		{"Epoch", s.Epoch, 64},
		{"KeyID", s.KeyID, 64},
		{"AttemptPurpose", string(s.AttemptPurpose), 16},
		{"Provider", s.Provider, 128},
	} {
		if err := checkText(text.field, text.value, text.most); err != nil {
			return err
		}
	}
	return nil
}

func checkText(field, value string, most int) error {
	switch {
	case len(value) > most:
		return fmt.Errorf("store: %s has %d bytes; at most %d can be stored", field, len(value), most)
	case !utf8.ValidString(value), strings.ContainsRune(value, 0):
		return fmt.Errorf("store: %s is not UTF-8 or contains NUL", field)
	}
	return nil
}
