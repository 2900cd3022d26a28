package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
)

// lookUp is the content of the page about a number.
type lookUp struct {
	Typed string // what the operator typed
	Found *threepid.Explanation
}

func (s *server) numberForm(w http.ResponseWriter, r *http.Request) {
	s.showNumber(w, r, http.StatusOK, &lookUp{}, "", "")
}

func (s *server) showNumber(w http.ResponseWriter, r *http.Request, status int, l *lookUp, notice, problem string) {
	s.show(w, r, status, "number", page{Title: "Number", Current: "/number", Notice: notice, Problem: problem, Content: l})
}

// number serves a look-up. The form posts the number, so that it appears in no URL and in no proxy's log.
func (s *server) number(w http.ResponseWriter, r *http.Request) { s.aboutNumber(w, r, nil) }

// aboutNumber calls do with the number in the form, unless do is nil, and then shows what is known
// about the number.
func (s *server) aboutNumber(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, number string) (notice string, err error)) {
	l := &lookUp{Typed: strings.TrimSpace(r.PostFormValue("number"))}
	number := strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "").Replace(l.Typed)
	var notice string
	var err error
	if do != nil {
		notice, err = do(r.Context(), number)
	}
	if err == nil {
		var x threepid.Explanation
		x, err = s.plugin.Explain(r.Context(), number)
		l.Found = &x
	}
	switch {
	case errors.Is(err, threepid.ErrInvalidNumber):
		l.Found = nil
		s.showNumber(w, r, http.StatusBadRequest, l, "", "This is not a phone number in international form, such as +44 7700 900001.")
	case err != nil:
		s.broken(w, r, err)
	default:
		s.showNumber(w, r, http.StatusOK, l, notice, "")
	}
}

func (s *server) unblock(w http.ResponseWriter, r *http.Request) {
	s.aboutNumber(w, r, func(ctx context.Context, number string) (string, error) {
		left, err := s.plugin.Unblock(ctx, number)
		switch {
		case err != nil:
			return "", err
		case len(left) > 0:
			return "The number and its range are unblocked. The blocks that remain are listed below, and end by themselves.", nil
		}
		return "The number and its range are unblocked.", nil
	})
}

func (s *server) release(w http.ResponseWriter, r *http.Request) {
	s.aboutNumber(w, r, func(ctx context.Context, number string) (string, error) {
		err := s.plugin.ReleaseNumber(ctx, number)
		if errors.Is(err, threepid.ErrNoAccount) {
			return "No account had the number. Its earlier codes and validations are no longer valid.", nil
		}
		return "The number is released from its account. Its earlier codes and validations are no longer valid.", err
	})
}

// erase requires that the operator types the number again.
func (s *server) erase(w http.ResponseWriter, r *http.Request) {
	if typed := strings.TrimSpace(r.PostFormValue("number")); strings.TrimSpace(r.PostFormValue("again")) != typed {
		s.showNumber(w, r, http.StatusBadRequest, &lookUp{Typed: typed}, "", "To erase the data about the number, type it again exactly as it is shown.")
		return
	}
	s.aboutNumber(w, r, func(ctx context.Context, number string) (string, error) {
		return "All data about the number is erased.", s.plugin.Erase(ctx, number)
	})
}

func (s *server) export(w http.ResponseWriter, r *http.Request) {
	text, err := s.plugin.Export(r.Context(), strings.TrimSpace(r.PostFormValue("number")))
	switch {
	case errors.Is(err, threepid.ErrInvalidNumber):
		s.fail(w, r, http.StatusBadRequest, "This is not a phone number in international form.")
		return
	case err != nil:
		s.broken(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="number.json"`)
	_, _ = w.Write(text)
}

// timelineEntry is an event of a number, as the page shows it.
type timelineEntry struct {
	observe.Meta

	Words string
	Class string
}

// Timeline returns the events of the number, the latest first.
func (l *lookUp) Timeline() []timelineEntry {
	entries := make([]timelineEntry, 0, len(l.Found.Events))
	for _, e := range l.Found.Events {
		entries = append(entries, timelineEntry{observe.MetaOf(e), wordsOf(e), classOf(e)})
	}
	return entries
}

// classOf returns how an event is marked: good, bad, or neither.
func classOf(e observe.Event) string {
	switch e := e.(type) {
	case observe.SMS:
		if e.Outcome == observe.Accepted {
			return ""
		}
		return "bad"
	case observe.Refusal:
		return "bad"
	case observe.Code:
		if !e.Right {
			return "bad"
		}
	case observe.Validation:
		return "good"
	case observe.Receipt:
		return map[string]string{"delivered": "good", "failed": "bad"}[e.Status]
	}
	return ""
}

// shownLevel is a level, as the page shows it.
type shownLevel struct {
	limits.Level

	Name, Rule string
}

// Used returns the levels of the limits that are partly or fully used.
func (l *lookUp) Used() []shownLevel {
	var used []shownLevel
	for _, level := range l.Found.Levels {
		if level.Left < level.Limit.Burst {
			used = append(used, shownLevel{level, scopeWords(level.Scope), limitWords(level.Limit)})
		}
	}
	return used
}
