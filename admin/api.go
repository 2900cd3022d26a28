package admin

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// The JSON API. docs/OPERATIONS.md lists the calls.

const (
	defaultActions = 100
	maxActions     = 1000
)

// routeAPI mounts the API.
func (s *server) routeAPI(read, write func(pattern string, h http.HandlerFunc)) {
	read("GET /api/v1/statistics", s.apiStatistics)
	read("GET /api/v1/blocks", s.apiBlocks)
	read("GET /api/v1/actions", s.apiActions)
	read("POST /api/v1/number/explain", s.apiNumber(func(ctx context.Context, number string) (any, error) {
		x, err := s.plugin.Explain(ctx, number)
		return struct {
			threepid.Explanation

			Events []observe.Typed `json:"events"`
		}{x, observe.TypedOf(x.Events)}, err
	}))
	write("POST /api/v1/blocks/lift", s.apiLift)
	write("POST /api/v1/number/unblock", s.apiNumber(func(ctx context.Context, number string) (any, error) {
		left, err := s.plugin.Unblock(ctx, number)
		return map[string][]limits.Block{"blocks": append([]limits.Block{}, left...)}, err
	}))
	write("POST /api/v1/number/release", s.apiNumber(func(ctx context.Context, number string) (any, error) {
		err := s.plugin.ReleaseNumber(ctx, number)
		if errors.Is(err, threepid.ErrNoAccount) {
			return map[string]bool{"had_account": false}, nil
		}
		return map[string]bool{"had_account": true}, err
	}))
	write("POST /api/v1/number/export", s.apiNumber(func(ctx context.Context, number string) (any, error) {
		text, err := s.plugin.Export(ctx, number)
		return json.RawMessage(text), err
	}))
	write("POST /api/v1/number/erase", s.apiNumber(func(ctx context.Context, number string) (any, error) {
		return struct{}{}, s.plugin.Erase(ctx, number)
	}))
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		http.Error(w, `{"error":"the response cannot be written"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// respond writes a result, or the error of a call.
func (s *server) respond(w http.ResponseWriter, r *http.Request, body any, err error) {
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, body)
	case errors.Is(err, threepid.ErrInvalidNumber):
		s.fail(w, r, http.StatusBadRequest, "This is not a phone number in E.164.")
	case errors.Is(err, threepid.ErrNotBlocked):
		s.fail(w, r, http.StatusNotFound, "There is no such block.")
	case errors.Is(err, store.ErrUnsupported):
		s.fail(w, r, http.StatusNotImplemented, "The store keeps no history.")
	default:
		s.broken(w, r, err)
	}
}

// readJSON reads a body, and reports whether it could.
func (s *server) readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.fail(w, r, http.StatusUnsupportedMediaType, "Send JSON, with the Content-Type application/json.")
		return false
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		s.fail(w, r, http.StatusBadRequest, "The body is not the JSON object that this call takes.")
		return false
	}
	return true
}

func (s *server) apiNumber(do func(ctx context.Context, number string) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Number string `json:"number"`
		}
		if !s.readJSON(w, r, &body) {
			return
		}
		result, err := do(r.Context(), body.Number)
		s.respond(w, r, result, err)
	}
}

func (s *server) apiLift(w http.ResponseWriter, r *http.Request) {
	var b limits.Block
	if s.readJSON(w, r, &b) {
		s.respond(w, r, struct{}{}, s.plugin.Lift(r.Context(), b))
	}
}

func (s *server) apiBlocks(w http.ResponseWriter, r *http.Request) {
	blocks, err := s.plugin.AllBlocks(r.Context())
	s.respond(w, r, map[string][]limits.Block{"blocks": append([]limits.Block{}, blocks...)}, err)
}

// apiStatistics takes the query parameters from and to, in RFC 3339.
func (s *server) apiStatistics(w http.ResponseWriter, r *http.Request) {
	now := s.now()
	from, fromErr := timeOr(r.URL.Query().Get("from"), now.Add(-24*time.Hour))
	to, toErr := timeOr(r.URL.Query().Get("to"), now.Add(time.Second))
	if fromErr != nil || toErr != nil {
		s.fail(w, r, http.StatusBadRequest, "from and to must be times in RFC 3339, such as 2026-11-26T12:00:00Z.")
		return
	}
	statistics, err := s.plugin.Statistics(r.Context(), from, to)
	s.respond(w, r, map[string][]observe.Statistic{"statistics": append([]observe.Statistic{}, statistics...)}, err)
}

func timeOr(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	return time.Parse(time.RFC3339, text)
}

// apiActions takes the query parameters since, in RFC 3339, and limit.
func (s *server) apiActions(w http.ResponseWriter, r *http.Request) {
	since, err := timeOr(r.URL.Query().Get("since"), s.now().Add(-auditAge))
	if err != nil {
		s.fail(w, r, http.StatusBadRequest, "since must be a time in RFC 3339, such as 2026-11-26T12:00:00Z.")
		return
	}
	limit := defaultActions
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxActions {
			s.fail(w, r, http.StatusBadRequest, "limit must be a number from 1 to 1000.")
			return
		}
	}
	actions, err := s.plugin.Actions(r.Context(), since, limit)
	s.respond(w, r, map[string][]observe.Action{"actions": append([]observe.Action{}, actions...)}, err)
}
