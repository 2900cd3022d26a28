package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// eventEdgeTests are about events that an ordinary flow does not cause.
func eventEdgeTests() []test {
	return []test{
		{"EventsOfAClientThatHangsUp", testEventsOfAClientThatHangsUp},
		{"EventsOfACarelessSender", testEventsOfACarelessSender},
		{"ObserverThatStarts", testObserverThatStarts},
		{"ObserverThatPanicsAtStart", testObserverThatPanicsAtStart},
		{"EventsOfUnitsThatAreReported", testEventsOfUnitsThatAreReported},
		{"EventsOfAccountRefusals", testEventsOfAccountRefusals},
		{"EventsOfCallRefusals", testEventsOfCallRefusals},
		{"EventsOfTheIdentityService", testEventsOfTheIdentityService},
		{"EventsBelowAPathParameter", testEventsBelowAPathParameter},
		{"EventsOfCallsHaveAnID", testEventsOfCallsHaveAnID},
		{"LogOfAFailureHasTheRequest", testLogOfAFailureHasTheRequest},
	}
}

// hungUp is a store during whose work clients disconnect.
type hungUp struct {
	Store

	hangUp atomic.Pointer[context.CancelFunc]
}

func (h *hungUp) View(ctx context.Context, names store.Names) (store.Rows, error) {
	if hangUp := h.hangUp.Load(); hangUp != nil {
		(*hangUp)()
		<-ctx.Done()
		return store.Rows{}, ctx.Err()
	}
	return h.Store.View(ctx, names)
}

// testEventsOfAClientThatHangsUp ends a unit of work by disconnecting the client, which is no
// failure of the store.
func testEventsOfAClientThatHangsUp(t *testing.T, open opener) {
	var h heard
	st := &hungUp{Store: open(t)}
	n := start(t, st, observed(&h))
	ctx, cancel := context.WithCancel(t.Context())
	st.hangUp.Store(&cancel)
	_, err := n.plugin.SubmitToken(ctx, threepid.TokenSubmission{SID: "sid", ClientSecret: secret, Token: "123456"})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("SubmitToken: %v", err)
	}
	st.hangUp.Store(nil)
	units := all[observe.Unit](t, n, &h)
	if len(units) == 0 || slices.ContainsFunc(units, func(u observe.Unit) bool { return u.Failed }) {
		t.Errorf("units: %+v", units)
	}
}

// starter is an Observer that names each request in its context, and keeps the names that events
// have.
type starter struct {
	heard

	started atomic.Int64
	names   sync.Map // by type of event, the name in its context
}

type nameKey struct{}

func (s *starter) Start(ctx context.Context) context.Context {
	return context.WithValue(ctx, nameKey{}, fmt.Sprint("request ", s.started.Add(1)))
}

func (s *starter) Observe(ctx context.Context, e observe.Event) {
	s.heard.Observe(ctx, e)
	if ctx.Err() != nil {
		e = nil // no Observer may receive a context that has ended
	}
	s.names.Store(fmt.Sprintf("%T", e), ctx.Value(nameKey{}))
}

// testObserverThatStarts checks that the sender and the events of a request get its context.
func testObserverThatStarts(t *testing.T, open opener) {
	var s starter
	sent := make(chan any, 1)
	sender := sms.Func(func(ctx context.Context, _ sms.Message) error {
		sent <- ctx.Value(nameKey{})
		return nil
	})
	n := startWith(t, open(t), sender, &logs{}, func(o *threepid.Options) { o.Observer = &s })
	n.post(addPath, "{")
	n.mustRequest(addPath, attempt(1))
	if got := <-sent; got != "request 2" {
		t.Errorf("the sender is called for %v", got)
	}
	waitUntil(t, "the events of both requests arrive", func() bool { return s.requests() == 2 })
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	for event, want := range map[string]string{
		"observe.Refusal": "request 1", "observe.SMS": "request 2", "observe.Unit": "request 2", "observe.Request": "request 2",
	} {
		if got, _ := s.names.Load(event); got != want {
			t.Errorf("%s has the context of %v, want %s", event, got, want)
		}
	}
	if s.started.Load() != 2 {
		t.Errorf("%d requests were started", s.started.Load())
	}
}

// brokenStarter is a Starter that panics or returns nothing.
type brokenStarter struct{ heard }

func (*brokenStarter) Start(context.Context) context.Context { panic("broken") }

func testObserverThatPanicsAtStart(t *testing.T, open opener) {
	var p brokenStarter
	n := start(t, open(t), func(o *threepid.Options) { o.Observer = &p })
	n.mustRequest(addPath, attempt(1))
	if sent := all[observe.SMS](t, n, &p.heard); len(sent) != 1 || sent[0].ID == "" {
		t.Errorf("SMS: %+v", sent)
	}
	if !strings.Contains(n.logs.String(), "Start of Options.Observer panicked") {
		t.Error("the panic was not logged")
	}
}

// testEventsOfACarelessSender makes the sender report secrets as its name and ID.
func testEventsOfACarelessSender(t *testing.T, open opener) {
	for name, leak := range map[string]func(sms.Message) string{
		"the code": func(m sms.Message) string { return m.Code }, "the text": func(m sms.Message) string { return m.Text },
		"the number": func(m sms.Message) string { return m.To }, "its digits": func(m sms.Message) string { return m.To[1:] },
		"part of an ID": func(m sms.Message) string { return "id-" + m.To[1:] + "-" + m.Code }, "a page": func(sms.Message) string { return strings.Repeat("x", 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			var h heard
			recorder := smstest.New()
			sender := sms.Func(func(ctx context.Context, m sms.Message) error {
				err := recorder.Send(ctx, m)
				sms.Report(ctx, sms.Result{Provider: leak(m), MessageID: leak(m)})
				return err
			})
			n := startWith(t, open(t), sender, &logs{}, observed(&h))
			n.sms = recorder // secrets of its messages are looked for in events and log
			n.mustRequest(addPath, attempt(1))
			if sent := all[observe.SMS](t, n, &h); len(sent) != 1 || len(sent[0].Provider)+len(sent[0].MessageID) > 100 {
				t.Errorf("SMS: %+v", sent)
			}
		})
	}
}

// batching is a store that reports how it runs units.
type batching struct{ Store }

func (b batching) View(ctx context.Context, names store.Names) (store.Rows, error) {
	store.Report(ctx, store.Run{Batch: 7, Retries: 1})
	return b.Store.View(ctx, names)
}

func (b batching) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	store.Report(ctx, store.Run{Batch: 9, Retries: 2})
	return b.Store.Update(ctx, names, change)
}

func testEventsOfUnitsThatAreReported(t *testing.T, open opener) {
	var h heard
	n := start(t, batching{open(t)}, observed(&h))
	n.mustRequest(addPath, attempt(1))
	runs := map[string]store.Run{}
	for _, u := range all[observe.Unit](t, n, &h) {
		runs[u.Op] = store.Run{Batch: u.Batch, Retries: u.Retries}
	}
	if runs["view"] != (store.Run{Batch: 7, Retries: 1}) || runs["update"] != (store.Run{Batch: 9, Retries: 2}) {
		t.Errorf("units: %+v", runs)
	}
}

// reasons returns the reasons of the refusals, in order.
func reasons(t *testing.T, n *node, h *heard) []string {
	t.Helper()
	var list []string
	for _, e := range all[observe.Refusal](t, n, h) {
		list = append(list, e.Reason)
	}
	return list
}

func testEventsOfAccountRefusals(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), authenticated, observed(&h))
	taken := n.validatedBy(secret, addPath, 1)
	n.associate(t, bob, msisdn)
	n.do(http.MethodGet, listPath, "", "")
	n.authed("stale", http.MethodGet, listPath, "")
	n.authed(alice, http.MethodPost, putPath, "{")
	n.authed(alice, http.MethodPost, deletePath, "{}")
	n.add(alice, "unknown", secret)
	n.add(alice, taken, secret)
	want := []string{"not authorized", "not authorized", "bad input", "bad input", "not validated", "in use"}
	if got := reasons(t, n, &h); !slices.Equal(got, want) {
		t.Errorf("refusals %q, want %q", got, want)
	}
	n.do(http.MethodPut, listPath, "", "")
	requests := all[observe.Request](t, n, &h)
	if last := requests[len(requests)-1]; last.ErrCode != "M_THREEPID_IN_USE" || last.Endpoint != string(threepid.EndpointAddNumber) {
		t.Errorf("the last request: %+v", last)
	}
}

// testEventsOfCallRefusals checks that refused calls have the same events as refused requests.
func testEventsOfCallRefusals(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), authenticated, observed(&h))
	taken := n.validatedBy(secret, addPath, 1)
	n.associate(t, bob, msisdn)
	call := threepid.TokenRequest{Purpose: threepid.PurposeAdd, ClientSecret: "s", PhoneNumber: "12", SendAttempt: 1}
	_, badNumber := n.plugin.RequestToken(t.Context(), call)
	_, unknown := n.plugin.SubmitToken(t.Context(), threepid.TokenSubmission{SID: "unknown", ClientSecret: secret, Token: "1"})
	_, empty := n.plugin.SubmitToken(t.Context(), threepid.TokenSubmission{SID: "unknown", ClientSecret: secret})
	add := n.plugin.AddNumber(t.Context(), alice, taken, secret)
	remove := n.plugin.RemoveNumber(t.Context(), alice, "12x")
	for i, err := range []error{badNumber, unknown, empty, add, remove} {
		if err == nil {
			t.Errorf("call %d succeeded", i)
		}
	}
	want := []string{"bad input", "unknown session", "bad input", "in use", "bad input"}
	if got := reasons(t, n, &h); !slices.Equal(got, want) {
		t.Errorf("refusals %q, want %q", got, want)
	}
}

// testEventsOfTheIdentityService is about its errcodes, which differ, and a wrong bearer token.
func testEventsOfTheIdentityService(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h))
	identity(t, n)
	const v2 = "/v2/validate/msisdn/requestToken"
	n.identityRequest(identityV2, request(map[string]any{"phone_number": "12"}))
	n.do(http.MethodPost, "/_matrix/identity"+v2, "application/json", request(nil))
	n.do(http.MethodPost, "/_matrix/identity/v3/"+secret, "application/json", "")
	n.asHomeserver(http.MethodGet, identityV2+"/3pid/getValidated3pid", "", "")
	n.getValidated(identityV2, "unknown", secret)
	if got, want := reasons(t, n, &h), []string{"bad input", "not authorized", "bad input"}; !slices.Equal(got, want) {
		t.Errorf("refusals %q, want %q", got, want)
	}
	var got []string
	for _, e := range all[observe.Request](t, n, &h) {
		got = append(got, e.Endpoint+" "+e.ErrCode)
	}
	const validated = "/v2/3pid/getValidated3pid "
	want := []string{v2 + " M_INVALID_ADDRESS", v2 + " M_UNAUTHORIZED", "unknown M_UNRECOGNIZED", validated + "M_MISSING_PARAM", validated + "M_NO_VALID_SESSION"}
	if !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
}

// testEventsBelowAPathParameter mounts the plugin below a path with a parameter for each tenant:
// the endpoint in the events is the same for all of them.
func testEventsBelowAPathParameter(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h))
	other := gin.New()
	var tenants heard
	plugin, err := threepid.Register(other.Group("/:path"), n.store, n.sms, threepid.Options{Logger: n.logs.logger(), Observer: &tenants})
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"/acme", "/" + secret} {
		other.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, tenant+addPath, strings.NewReader("{")))
	}
	if err := plugin.Close(); err != nil {
		t.Fatal(err)
	}
	requests := all[observe.Request](t, n, &tenants)
	if len(requests) != 2 || requests[0].Endpoint != string(threepid.EndpointRequestTokenAdd) || requests[1].Endpoint != requests[0].Endpoint {
		t.Errorf("requests: %+v", requests)
	}
}

// testEventsOfCallsHaveAnID calls the plugin from the host's own handlers.
func testEventsOfCallsHaveAnID(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h))
	call := threepid.TokenRequest{Purpose: threepid.PurposeAdd, ClientSecret: secret, PhoneNumber: spoken, Country: "GB", SendAttempt: 1}
	response, err := n.plugin.RequestToken(observe.WithID(t.Context(), "of-the-host"), call)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.plugin.SubmitToken(t.Context(), threepid.TokenSubmission{SID: response.SID, ClientSecret: secret, Token: n.token()}); err != nil {
		t.Fatal(err)
	}
	if err := n.plugin.AddNumber(t.Context(), alice, response.SID, secret); err != nil {
		t.Fatal(err)
	}
	if err := n.plugin.RemoveNumber(t.Context(), alice, msisdn); err != nil {
		t.Fatal(err)
	}
	if err := n.plugin.ReleaseNumber(t.Context(), msisdn); !errors.Is(err, threepid.ErrNoAccount) {
		t.Fatal(err)
	}
	if _, err := n.plugin.Unblock(t.Context(), msisdn); err != nil {
		t.Fatal(err)
	}
	sent, validations := all[observe.SMS](t, n, &h), all[observe.Validation](t, n, &h)
	changes, unblocks := all[observe.Number](t, n, &h), all[observe.Unblock](t, n, &h)
	if len(sent) != 1 || sent[0].ID != "of-the-host" {
		t.Errorf("SMS: %+v", sent)
	}
	ids := map[string]bool{"": true, "of-the-host": true}
	for _, id := range []string{validations[0].ID, changes[0].ID, changes[1].ID, unblocks[0].ID} {
		if ids[id] {
			t.Errorf("the ID %q is empty, or that of another call", id)
		}
		ids[id] = true
		if !strings.Contains(n.logs.String(), "request="+id) && id != unblocks[0].ID {
			t.Errorf("the log has no %q: %s", id, n.logs)
		}
	}
}

// testLogOfAFailureHasTheRequest makes the store and the delegate fail in each way that is logged:
// each record has the request's ID, and none has a secret path.
func testLogOfAFailureHasTheRequest(t *testing.T, open opener) {
	const secretPath = "/gWbq2tJx0sVhRk4f"
	inner, fails := open(t), &atomic.Bool{}
	failing := storetest.Failing(inner, func(op string) error {
		if fails.Load() && op == storetest.OpUpdate {
			return errors.New("disk on fire")
		}
		return nil
	})
	s, l := &service{}, &logs{}
	n := startWith(t, both{failing, inner}, nil, l, func(o *threepid.Options) { o.Delegate = s })
	identity(t, n, func(o *threepid.IdentityOptions) { o.SecretPath = secretPath })
	base := secretPath + identityV2
	sid := n.identityRequest(base, request(nil)).text("sid")
	s.failWith(errors.New("down"))
	expect(t, n.identitySubmit(base, sid, secret, rightToken), http.StatusBadGateway, "M_UNKNOWN")
	s.failWith(sms.ErrMisconfigured)
	expect(t, n.identitySubmit(base, sid, secret, rightToken), http.StatusBadGateway, "M_UNKNOWN")
	fails.Store(true)
	expect(t, n.identitySubmit(base, sid, secret, rightToken), http.StatusInternalServerError, "M_UNKNOWN")
	fails.Store(false)
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	log := l.String()
	for _, words := range []string{"SMS accepted", "did not say whether a code is right", "the delegate rejects the account", "request failed"} {
		if !strings.Contains(log, words) {
			t.Errorf("%q was not logged: %s", words, log)
		}
	}
	for line := range strings.Lines(log) {
		of := strings.Contains(line, "SMS ") || strings.Contains(line, "code") || strings.Contains(line, "request failed")
		if of && !strings.Contains(line, "level=WARN msg=\"threepid: Options") && !strings.Contains(line, "request=") {
			t.Errorf("no request: %s", line)
		}
		if strings.Contains(line, secretPath) {
			t.Errorf("a secret path: %s", line)
		}
	}
}
