package otel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"

	"example.com/threepid"
	"example.com/threepid/observe"
	"example.com/threepid/observe/otel"
	"example.com/threepid/sms"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

const (
	requestToken = "/account/3pid/msisdn/requestToken"
	clientSecret = "monkeys_are_GREAT"
	body         = `{"client_secret":"` + clientSecret + `","country":"GB","phone_number":"07700900001","send_attempt":1}`
)

// traced is a server whose spans are recorded.
type traced struct {
	router *gin.Engine
	plugin *threepid.Plugin
	spans  *tracetest.SpanRecorder
	sent   chan api.SpanContext // of the sender's context
	fails  atomic.Bool          // the store does
	wait   func()               // before the host's span ends; may be nil
}

// start runs a server. With a host's span, middleware starts one for each request.
func start(t *testing.T, hostsSpan bool, wrap func(observe.Observer) observe.Observer) *traced {
	t.Helper()
	gin.SetMode(gin.TestMode)
	s := &traced{router: gin.New(), spans: tracetest.NewSpanRecorder(), sent: make(chan api.SpanContext, 1)}
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(s.spans))
	observer, err := otel.New(otel.Options{TracerProvider: provider})
	if err != nil {
		t.Fatal(err)
	}
	if hostsSpan {
		s.router.Use(func(c *gin.Context) {
			ctx, span := provider.Tracer("host").Start(c.Request.Context(), "host", api.WithSpanKind(api.SpanKindServer))
			defer span.End()
			c.Request = c.Request.WithContext(ctx)
			c.Next()
			if s.wait != nil {
				s.wait()
			}
		})
	}
	inner := memstore.New()
	st := storetest.Failing(inner, func(op string) error {
		if op == storetest.OpUpdate && s.fails.Load() {
			return errors.New("disk on fire")
		}
		return nil
	})
	sender := sms.Func(func(ctx context.Context, _ sms.Message) error {
		sms.Report(ctx, sms.Result{Provider: "acme", MessageID: "m-1"})
		s.sent <- api.SpanContextFromContext(ctx)
		return nil
	})
	s.plugin, err = threepid.Register(s.router, st, sender, threepid.Options{
		Observer: wrap(observer), Accounts: inner, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *traced) post(t *testing.T, body string, status int) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/_api/client/v3"+requestToken, strings.NewReader(body))
	s.router.ServeHTTP(w, r)
	if w.Code != status {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

// ended closes the server and returns its spans by name.
func (s *traced) ended(t *testing.T) map[string][]trace.ReadOnlySpan {
	t.Helper()
	if err := s.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	spans := map[string][]trace.ReadOnlySpan{}
	for _, span := range s.spans.Ended() {
		spans[span.Name()] = append(spans[span.Name()], span)
		for _, a := range span.Attributes() {
			if text := a.Value.String(); strings.Contains(text, clientSecret) || strings.Contains(text, "7700900001") {
				t.Errorf("%s has %s=%s", span.Name(), a.Key, text)
			}
		}
	}
	if started, ended := len(s.spans.Started()), len(s.spans.Ended()); started != ended {
		t.Errorf("%d spans were started and %d ended", started, ended)
	}
	return spans
}

func attributesOf(span trace.ReadOnlySpan) map[attribute.Key]string {
	all := map[attribute.Key]string{}
	for _, a := range span.Attributes() {
		all[a.Key] = a.Value.String()
	}
	return all
}

func same(o observe.Observer) observe.Observer { return o }

// TestSpansOfARequest checks that the request is a child of the host's span, and the parent of its
// own work.
func TestSpansOfARequest(t *testing.T) {
	t.Parallel()
	s := start(t, true, same)
	s.post(t, body, http.StatusOK)
	inSender := <-s.sent
	spans := s.ended(t)
	if len(spans["host"]) != 1 || len(spans["POST "+requestToken]) != 1 || len(spans["threepid sms"]) != 1 ||
		len(spans["threepid store view"]) == 0 || len(spans["threepid store update"]) == 0 {
		t.Fatalf("spans: %v", spans)
	}
	host, request, sent := spans["host"][0], spans["POST "+requestToken][0], spans["threepid sms"][0]
	if request.Parent().SpanID() != host.SpanContext().SpanID() || request.SpanKind() != api.SpanKindInternal {
		t.Errorf("the request is %v of %v", request.SpanKind(), request.Parent().SpanID())
	}
	if inSender.SpanID() != request.SpanContext().SpanID() {
		t.Error("the sender's context has another span")
	}
	children := append(append(spans["threepid sms"], spans["threepid store view"]...), spans["threepid store update"]...)
	for _, child := range children {
		if child.Parent().SpanID() != request.SpanContext().SpanID() || child.SpanKind() != api.SpanKindClient {
			t.Errorf("%s is %v of %v", child.Name(), child.SpanKind(), child.Parent().SpanID())
		}
		if child.StartTime().Before(request.StartTime()) || child.EndTime().After(request.EndTime()) || child.EndTime().Before(child.StartTime()) {
			t.Errorf("%s is not within its request", child.Name())
		}
	}
	got := attributesOf(sent)
	for key, want := range map[attribute.Key]string{
		"threepid.provider": "acme", "threepid.message_id": "m-1", "threepid.country": "GB", "threepid.purpose": "add",
		"threepid.outcome": "accepted", "threepid.segments": "1",
	} {
		if got[key] != want {
			t.Errorf("SMS: %s is %q, want %q", key, got[key], want)
		}
	}
	if a := attributesOf(request); a["http.response.status_code"] != "200" || a["threepid.endpoint"] != requestToken || a["threepid.request_id"] == "" {
		t.Errorf("request: %v", a)
	}
}

// TestSpansOfFailures checks that a refusal is no error, and a failure of the store is one.
func TestSpansOfFailures(t *testing.T) {
	t.Parallel()
	s := start(t, false, same)
	s.post(t, "{", http.StatusBadRequest)
	s.fails.Store(true)
	s.post(t, body, http.StatusInternalServerError)
	spans := s.ended(t)
	requests := spans["POST "+requestToken]
	if len(requests) != 2 || requests[0].SpanKind() != api.SpanKindServer || requests[0].Parent().IsValid() {
		t.Fatalf("requests: %v", requests)
	}
	if a := attributesOf(requests[0]); a["threepid.refusal"] != "bad input" || a["threepid.errcode"] != "M_NOT_JSON" || requests[0].Status().Code != codes.Unset {
		t.Errorf("the refusal: %v, %v", a, requests[0].Status())
	}
	if requests[1].Status().Code != codes.Error {
		t.Errorf("the failure: %v", requests[1].Status())
	}
	updates := spans["threepid store update"]
	if len(updates) == 0 || updates[0].Status().Code != codes.Error {
		t.Errorf("updates: %v", updates)
	}
}

// TestForeignSpansAreNotEnded wraps the observer in one that passes on only events: the host's own
// span continues.
func TestForeignSpansAreNotEnded(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	s := start(t, true, func(o observe.Observer) observe.Observer {
		return observe.Func(func(ctx context.Context, e observe.Event) {
			o.Observe(ctx, e)
			if _, ok := e.(observe.Request); ok {
				close(seen)
			}
		})
	})
	s.wait = func() { <-seen }
	s.post(t, body, http.StatusOK)
	<-s.sent
	spans := s.ended(t)
	host := spans["host"]
	if len(host) != 1 || len(attributesOf(host[0])) != 0 {
		t.Fatalf("spans: %v", spans)
	}
	if sent := spans["threepid sms"]; len(sent) != 1 || sent[0].Parent().SpanID() != host[0].SpanContext().SpanID() {
		t.Errorf("SMS: %v", sent)
	}
}

// TestNoSpansOfTheBackground checks that events outside of requests start no trace.
func TestNoSpansOfTheBackground(t *testing.T) {
	t.Parallel()
	s := start(t, true, same)
	if err := s.plugin.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if spans := s.ended(t); len(spans) != 0 {
		t.Errorf("spans: %v", fmt.Sprint(spans))
	}
}
