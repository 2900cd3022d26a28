package admin

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

// pages are the parsed templates, by name.
type pages struct {
	byName map[string]*template.Template
	style  []byte
}

// parsePages parses each page together with the layout.
func parsePages() (*pages, error) {
	p := &pages{byName: make(map[string]*template.Template)}
	for _, name := range []string{"glance", "blocks", "limits", "number", "audit", "error"} {
		t, err := template.New(name).Funcs(functions()).ParseFS(assets, "assets/layout.html", "assets/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		p.byName[name] = t
	}
	style, err := assets.ReadFile("assets/style.css")
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	p.style = style
	return p, nil
}

// functions returns the functions that the templates call.
func functions() template.FuncMap {
	return template.FuncMap{
		"stamp":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"minute":  minuteOf,
		"span":    span,
		"count":   count,
		"words":   wordsOf,
		"country": countryName,
		"nav":     navigation,
		"tallies": listTallies,
		"reason":  blockWords,
		"rules": func(title string, rules []rule) any {
			return struct {
				Title string
				Rules []rule
			}{title, rules}
		},
	}
}

// maxTallies is how many countries or providers are listed one by one.
const maxTallies = 30

// tallyList is a table of countries or providers.
type tallyList struct {
	List              []tally
	Rest              int   // how many more there are
	Others            tally // their sum
	Countries, Priced bool
	Currency          string
}

func listTallies(list []tally, countries, priced bool, currency string) *tallyList {
	l := &tallyList{List: list[:min(len(list), maxTallies)], Countries: countries, Priced: priced, Currency: currency}
	for i := range list[len(l.List):] {
		l.Rest++
		l.Others.merge(&list[len(l.List)+i])
	}
	return l
}

// link is a page in the navigation.
type link struct{ Path, Name string }

func navigation() []link {
	return []link{{"/", "At a glance"}, {"/blocks", "Blocks"}, {"/number", "Number"}, {"/limits", "Limits"}, {"/audit", "Audit log"}}
}

// page has the data for the layout, and the content of one page.
type page struct {
	Title    string
	Prefix   string
	Current  string // the path of the page in the navigation
	Operator string
	Logout   string
	Writes   bool // whether the page offers actions
	Now      time.Time
	Notice   string // the result of an action
	Problem  string // what is wrong with a form
	Content  any
}

// show writes a page.
func (s *server) show(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	v := visitorOf(r)
	p.Prefix, p.Operator, p.Writes, p.Now, p.Logout = s.Prefix, v.operator, v.access == Write, s.now(), s.Logout
	var body bytes.Buffer
	if err := s.pages.byName[name].ExecuteTemplate(&body, "layout", p); err != nil {
		s.Logger.Error("threepid: the operator's page cannot be written", "page", name, "error", err)
		http.Error(w, "This page cannot be shown. The log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

func (s *server) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(s.pages.style)
}

// fail responds with an error: as JSON below /api/, and otherwise as a page.
func (s *server) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		writeJSON(w, status, map[string]string{"error": message})
		return
	}
	s.show(w, r, status, "error", page{Title: http.StatusText(status), Problem: message})
}

// broken responds to a failure of the plugin.
func (s *server) broken(w http.ResponseWriter, r *http.Request, err error) {
	s.Logger.Error("threepid: the operator's page cannot be served", "path", r.URL.Path, "error", err)
	s.fail(w, r, http.StatusServiceUnavailable, "The database does not respond, or the server is shutting down. The log says more.")
}
