package history

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"example.com/threepid/observe"
	"example.com/threepid/store"
)

const (
	// maxText is how many bytes of events one entry has. A store keeps 4,000.
	maxText = 3500

	// maxByRef is how many entries may have the ID of one message: its SMS, and its receipts.
	maxByRef = 50
)

// The subjects of what is about no number.
func blocksKey() store.Key  { return store.RecordKey("journal of blocks") }
func actionsKey() store.Key { return store.RecordKey("journal of actions") }

// item is an event that waits to be written.
type item struct {
	event   observe.Event
	subject store.Key
	sid     string
}

// subjectOf returns the subject whose journal an event belongs to, or the zero value.
func (r *Recorder) subjectOf(e observe.Event, about About) store.Key {
	switch e := e.(type) {
	case observe.SMS, observe.Refusal, observe.Code, observe.Validation, observe.Receipt, observe.Unblock, observe.Number:
		if r.Journal > 0 {
			return about.Subject
		}
	case observe.Block:
		if e.Kind == "range" && !e.DryRun {
			return blocksKey()
		}
	case observe.Action:
		return actionsKey()
	}
	return store.Key{}
}

// messageKey is the Ref of the entries about a message. IDs of different providers do not meet:
// they are random, or long.
func messageKey(id string) store.Key { return store.RecordKey("message", id) }

// messageOf returns the provider's ID of the message that an event is about.
func messageOf(e observe.Event) string {
	switch e := e.(type) {
	case observe.SMS:
		return e.MessageID
	case observe.Receipt:
		return e.MessageID
	}
	return ""
}

// line is an event as the text of an entry has it.
type line struct {
	Type  string          `json:"t"`
	SID   string          `json:"s,omitempty"`
	Event json.RawMessage `json:"e"`
}

// entriesOf makes entries of items. Events of one subject share an entry, which has the ID of one
// message at most.
func (r *Recorder) entriesOf(items []item) []store.Entry {
	var entries []store.Entry
	open := make(map[store.Key]int) // the latest entry of each subject
	for _, it := range items {
		text, at := encode(it), observe.MetaOf(it.event).At
		if len(text) > maxText {
			continue // no store keeps it, and every try to would fail
		}
		var ref store.Key
		if id := messageOf(it.event); id != "" {
			ref = messageKey(id)
		}
		i, ok := open[it.subject]
		if ok {
			e := &entries[i]
			if len(e.Text)+len(text) < maxText && (ref == store.Key{} || e.Ref == store.Key{} || ref == e.Ref) {
				e.Text += "\n" + text
				e.ExpiresAt = max(e.ExpiresAt, at.Add(r.lifetime(it)).UnixMilli())
				if e.Ref == (store.Key{}) {
					e.Ref = ref
				}
				continue
			}
		}
		r.sequence++
		open[it.subject] = len(entries)
		entries = append(entries, store.Entry{
			ID: fmt.Sprintf("%011x-%s-%07x", at.UnixMilli(), r.Node, r.sequence), Subject: it.subject, Ref: ref,
			At: at.UnixMilli(), Text: text, ExpiresAt: at.Add(r.lifetime(it)).UnixMilli(),
		})
	}
	return entries
}

// lifetime returns how long an event is kept.
func (r *Recorder) lifetime(it item) time.Duration {
	switch e := it.event.(type) {
	case observe.Block:
		return max(r.Journal, e.Until.Sub(e.At))
	case observe.Action:
		return max(r.Journal, r.Statistics)
	}
	return r.Journal
}

// encode returns an event as a line.
func encode(it item) string {
	event, _ := json.Marshal(it.event) // of strings, numbers and times alone
	text, _ := json.Marshal(line{Type: observe.Name(it.event), SID: it.sid, Event: event})
	return string(text)
}

// decode returns the event of a line. An event of another release is left out.
func decode(text string) (it item, ok bool) {
	var l line
	if json.Unmarshal([]byte(text), &l) != nil {
		return item{}, false
	}
	it.sid = l.SID
	switch l.Type {
	case "sms":
		it.event, ok = eventOf[observe.SMS](l.Event)
	case "refusal":
		it.event, ok = eventOf[observe.Refusal](l.Event)
	case "code":
		it.event, ok = eventOf[observe.Code](l.Event)
	case "validation":
		it.event, ok = eventOf[observe.Validation](l.Event)
	case "receipt":
		it.event, ok = eventOf[observe.Receipt](l.Event)
	case "unblock":
		it.event, ok = eventOf[observe.Unblock](l.Event)
	case "number":
		it.event, ok = eventOf[observe.Number](l.Event)
	case "block":
		it.event, ok = eventOf[observe.Block](l.Event)
	case "action":
		it.event, ok = eventOf[observe.Action](l.Event)
	}
	return it, ok
}

func eventOf[E observe.Event](text []byte) (observe.Event, bool) {
	var e E
	err := json.Unmarshal(text, &e)
	return e, err == nil
}

// itemsOf returns the events of entries, the latest first.
func itemsOf(entries []store.Entry) []item {
	var items []item
	for _, e := range entries {
		lines := strings.Split(e.Text, "\n")
		for i := len(lines) - 1; i >= 0; i-- {
			if it, ok := decode(lines[i]); ok {
				it.subject = e.Subject
				items = append(items, it)
			}
		}
	}
	return items
}

// Journals reports whether events of numbers are kept.
func (r *Recorder) Journals() bool { return r != nil && r.Journal > 0 }

// Timeline returns the events of a number, the latest first, at most limit, and since when they
// are kept: zero if none are.
func (r *Recorder) Timeline(ctx context.Context, msisdn string, limit int) (events []observe.Event, since time.Time, err error) {
	if !r.Journals() {
		return nil, time.Time{}, nil
	}
	since = r.Now().Add(-r.Journal)
	events, err = r.events(ctx, NumberKey(msisdn), since, limit)
	return events, since.UTC(), err
}

// Ranges returns the blocks of ranges that may not have ended, the latest first.
func (r *Recorder) Ranges(ctx context.Context, since time.Time, limit int) ([]observe.Event, error) {
	if r == nil {
		return nil, nil
	}
	return r.events(ctx, blocksKey(), since, limit)
}

// Actions returns what operators did since a time, the latest first. The error wraps
// store.ErrUnsupported if nothing is kept.
func (r *Recorder) Actions(ctx context.Context, since time.Time, limit int) ([]observe.Event, error) {
	if r == nil {
		return nil, fmt.Errorf("threepid: no actions are kept: %w", store.ErrUnsupported)
	}
	return r.events(ctx, actionsKey(), since, limit)
}

// events reads the journal of a subject.
func (r *Recorder) events(ctx context.Context, subject store.Key, since time.Time, limit int) ([]observe.Event, error) {
	if err := r.Flush(ctx); err != nil {
		return nil, err
	}
	entries, err := r.Store.Entries(ctx, subject, since.UnixMilli(), limit)
	if err != nil {
		return nil, fmt.Errorf("threepid: read the journal: %w", err)
	}
	var events []observe.Event
	receipts := make(map[observe.Receipt]bool)
	for _, it := range itemsOf(entries) {
		if receipt, ok := it.event.(observe.Receipt); ok {
			same := observe.Receipt{MessageID: receipt.MessageID, Status: receipt.Status}
			if receipts[same] {
				continue // two nodes received it at the same moment
			}
			receipts[same] = true
		}
		events = append(events, it.event)
	}
	return events[:min(limit, len(events))], nil
}

// Forget deletes the journal of a number.
func (r *Recorder) Forget(ctx context.Context, msisdn string) error {
	if r == nil {
		return nil
	}
	if err := r.Flush(ctx); err != nil {
		return err
	}
	if err := r.Store.DeleteEntries(ctx, NumberKey(msisdn)); err != nil {
		return fmt.Errorf("threepid: delete the journal of a number: %w", err)
	}
	return nil
}

// Message is what the journal has about a message.
type Message struct {
	SMS      observe.SMS
	About    About
	Receipts []observe.Receipt // that were recorded
}

// Message returns what is known about the message that has an ID of the provider's. known is false
// if there is no such SMS in the journal. It also looks at what this node has not stored yet.
func (r *Recorder) Message(ctx context.Context, id string) (m Message, known bool, err error) {
	if !r.Journals() {
		return Message{}, false, nil
	}
	ref := messageKey(id)
	items := r.unstored(ref, id) // first: Flush may store it in the meantime
	entries, err := r.Store.EntriesByRef(ctx, ref, maxByRef)
	if err != nil {
		return Message{}, false, fmt.Errorf("threepid: look for a message in the journal: %w", err)
	}
	for _, it := range append(items, itemsOf(entries)...) {
		if messageOf(it.event) != id {
			continue
		}
		switch e := it.event.(type) {
		case observe.SMS:
			m.SMS, m.About, known = e, About{Subject: it.subject, SID: it.sid}, true
		case observe.Receipt:
			m.Receipts = append(m.Receipts, e)
		}
	}
	return m, known, nil
}

// unstored returns the events that this node has not stored yet, and that may be about a message.
func (r *Recorder) unstored(ref store.Key, id string) []item {
	r.mu.Lock()
	defer r.mu.Unlock()
	var items []item
	for _, it := range r.waiting {
		if messageOf(it.event) == id {
			items = append(items, it)
		}
	}
	for i := range r.unsaved {
		if r.unsaved[i].Ref == ref {
			items = append(items, itemsOf(r.unsaved[i:i+1])...)
		}
	}
	return items
}
