package threepid_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
)

// The recipes of docs/RECIPES.md that use the Go calls.

// ExamplePlugin_RequestToken adds a number on pages that the server renders. The host's session
// keeps the state that a browser app would keep.
func ExamplePlugin_RequestToken() {
	texts := smstest.New()
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), texts, threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	var session struct { // of a user who is logged in
		user, secret, sid string
		attempt           int64
	}
	session.user = "alice"
	sentence := func(err error) string { // for the page
		var refusal *threepid.Error
		if errors.As(err, &refusal) {
			return refusal.Message
		}
		return "Something went wrong. Try again." // and log err
	}
	router.POST("/phone", func(c *gin.Context) {
		if session.secret == "" {
			session.secret = rand.Text() // for the whole flow
		}
		session.attempt++ // each press of the button requests another SMS
		res, err := plugin.RequestToken(c.Request.Context(), threepid.TokenRequest{
			Purpose: threepid.PurposeAdd, ClientSecret: session.secret, SendAttempt: session.attempt,
			PhoneNumber: c.PostForm("phone"), Country: c.PostForm("country"),
			ClientKey: c.ClientIP(), AcceptLanguage: c.GetHeader("Accept-Language"),
		})
		if err != nil {
			c.String(http.StatusOK, sentence(err))
			return
		}
		session.sid = res.SID
		c.String(http.StatusOK, "Type the code that was sent to "+res.International)
	})
	router.POST("/code", func(c *gin.Context) {
		ctx := c.Request.Context()
		_, err := plugin.SubmitToken(ctx, threepid.TokenSubmission{
			SID: session.sid, ClientSecret: session.secret, Token: c.PostForm("code"), ClientKey: c.ClientIP(),
		})
		if err == nil {
			err = plugin.AddNumber(ctx, session.user, session.sid, session.secret)
		}
		if err != nil {
			c.String(http.StatusOK, sentence(err))
			return
		}
		session.secret, session.sid, session.attempt = "", "", 0
		c.String(http.StatusOK, "The number is on your account")
	})

	fmt.Println(postForm(router, "/phone", "country=GB&phone=07700"))
	fmt.Println(postForm(router, "/phone", "country=GB&phone=07700+900001"))
	fmt.Println(postForm(router, "/code", "code=oops"))
	text, _ := texts.Last()
	fmt.Println(postForm(router, "/code", "code="+smstest.Token(text)))
	numbers, err := plugin.Numbers(context.Background(), "alice")
	fmt.Println(numbers[0].MSISDN, err)
	// Output:
	// phone_number is not a phone number that can be dialled from GB
	// Type the code that was sent to +44 7700 900001
	// That code is not right. Check the text message. 4 tries left.
	// The number is on your account
	// 447700900001 <nil>
}

// ExamplePlugin_AddNumber serves an account's addresses for a host that keeps email
// addresses as well.
func ExamplePlugin_AddNumber() {
	texts := smstest.New()
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), texts, threepid.Options{PublicURL: "https://example.org", Logger: slogDiscard()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	const user = "alice" // the user who is logged in
	emails := []gin.H{{"medium": "email", "address": "alice@example.org"}}
	addEmail := func(_ context.Context, sid, _ string) bool { return sid == "a session of an email address" }

	group := router.Group("/_api/client/v3/account/3pid")
	group.GET("", func(c *gin.Context) {
		numbers, err := plugin.Numbers(c.Request.Context(), user)
		if err != nil {
			c.Status(http.StatusInternalServerError)
			return
		}
		list := emails
		for _, n := range numbers {
			list = append(list, gin.H{"medium": "msisdn", "address": n.MSISDN})
		}
		c.JSON(http.StatusOK, gin.H{"threepids": list})
	})
	group.POST("/add", func(c *gin.Context) {
		var body struct {
			SID    string `json:"sid"`
			Secret string `json:"client_secret"`
		}
		if c.ShouldBindJSON(&body) != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		if addEmail(c.Request.Context(), body.SID, body.Secret) {
			c.JSON(http.StatusOK, gin.H{})
			return
		}
		err := plugin.AddNumber(c.Request.Context(), user, body.SID, body.Secret)
		var refusal *threepid.Error
		switch {
		case errors.As(err, &refusal):
			c.JSON(refusal.Status, gin.H{"errcode": refusal.ErrCode, "error": refusal.Message})
		case err != nil:
			c.Status(http.StatusInternalServerError)
		default:
			c.JSON(http.StatusOK, gin.H{})
		}
	})

	sid := validate(router, texts, "/_api/client/v3/account/3pid/msisdn/requestToken")
	for _, sid := range []string{"unknown", "a session of an email address", sid} {
		fmt.Println(postJSON(router, "/_api/client/v3/account/3pid/add", fmt.Sprintf(`{"sid":%q,"client_secret":"s3cret"}`, sid))["errcode"])
	}
	w := httptest.NewRecorder()
	router.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/_api/client/v3/account/3pid", nil))
	fmt.Println(w.Body)
	// Output:
	// M_THREEPID_AUTH_FAILED
	// <nil>
	// <nil>
	// {"threepids":[{"address":"alice@example.org","medium":"email"},{"address":"447700900001","medium":"msisdn"}]}
}

// ExamplePlugin_Unblock helps a person who got too many codes.
func ExamplePlugin_Unblock() {
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
		Limits: limits.Limits{PerNumber: []limits.Limit{{Burst: 1, Every: time.Hour}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()
	postJSON(router, "/_api/client/v3/account/3pid/msisdn/requestToken",
		`{"client_secret":"s3cret","country":"GB","phone_number":"07700900001","send_attempt":1}`)

	ctx := context.Background()
	blocks, err := plugin.Blocks(ctx, "+447700900001")
	for _, b := range blocks {
		fmt.Println(b.Reason, err)
	}
	left, err := plugin.Unblock(ctx, "+447700900001")
	fmt.Println(left, err)
	// Output:
	// limit on SMS <nil>
	// [] <nil>
}

// postForm posts a form, as a browser does.
func postForm(router http.Handler, path, form string) string {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)
	return w.Body.String()
}
