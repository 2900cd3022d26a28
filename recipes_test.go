package threepid_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/memstore"
)

// The recipes of docs/RECIPES.md, compiled and run.

// users is a table that the host already has.
type users map[string]*user // by name

type user struct{ phone, password string }

func (u users) byPhone(phone string) (string, error) {
	for name := range u {
		if u[name].phone == phone {
			return name, nil
		}
	}
	return "", store.ErrNotFound
}

// ExampleRegister_ownUsers mounts on a server that has a table of users: the plugin only needs
// to look numbers up in it.
func ExampleRegister_ownUsers() {
	table := users{"alice": {phone: "447700900001"}}
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{
		PublicURL: "https://example.org",
		Logger:    slogDiscard(),
		Accounts: store.OwnerFunc(func(_ context.Context, msisdn string) (string, error) {
			return table.byPhone(msisdn) // SELECT name FROM users WHERE phone = ?
		}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	fmt.Println(postJSON(router, "/_api/client/v3/register/msisdn/requestToken",
		`{"client_secret":"s3cret","country":"GB","phone_number":"07700900001","send_attempt":1}`)["error"])
	// Output: MSISDN is already in use
}

// ExamplePlugin_Redeem registers an account with a number that was validated.
func ExamplePlugin_Redeem() {
	table := users{}
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

	router.POST("/register", func(c *gin.Context) {
		var form struct{ Name, SID, Secret string }
		if c.ShouldBindJSON(&form) != nil || table[form.Name] != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		ctx := c.Request.Context()
		v, err := plugin.Validated(ctx, form.SID, form.Secret)
		if err == nil && v.Purpose != threepid.PurposeRegister {
			err = threepid.ErrNotValidated
		}
		if err == nil {
			// The last step before the account is created: Redeem cannot be undone, and of
			// two requests with the same validation, only one succeeds.
			v, err = plugin.Redeem(ctx, form.SID, form.Secret)
		}
		switch {
		case errors.Is(err, threepid.ErrNoSession), errors.Is(err, threepid.ErrNotValidated), errors.Is(err, threepid.ErrExpired):
			c.JSON(http.StatusUnauthorized, gin.H{"error": "Confirm your phone number first"})
		case err != nil:
			c.Status(http.StatusInternalServerError)
		default:
			table[form.Name] = &user{phone: v.MSISDN}
			c.JSON(http.StatusOK, gin.H{"name": form.Name, "phone": v.MSISDN})
		}
	})

	sid := validate(router, texts, "/_api/client/v3/register/msisdn/requestToken")
	body := fmt.Sprintf(`{"name":"alice","sid":%q,"secret":"s3cret"}`, sid)
	fmt.Println(postJSON(router, "/register", body))
	fmt.Println(postJSON(router, "/register", strings.Replace(body, "alice", "mallory", 1)))
	other := validateAs(router, texts, "0ther", "/_api/client/v3/account/3pid/msisdn/requestToken") // to add a number
	fmt.Println(postJSON(router, "/register", fmt.Sprintf(`{"name":"mallory","sid":%q,"secret":"0ther"}`, other)))
	// Output:
	// map[name:alice phone:447700900001]
	// map[error:Confirm your phone number first]
	// map[error:Confirm your phone number first]
}

// member is a host's row of an account.
type member struct {
	Name  string `gorm:"primaryKey"`
	Phone string `gorm:"uniqueIndex"`
}

// openMembers opens a host's database, in which the plugin's store is too.
func openMembers(dir string) (*gorm.DB, *gormstore.Store, error) {
	db, err := gorm.Open(sqliteDialector(filepath.Join(dir, "host.db")), &gorm.Config{TranslateError: true, Logger: logger.Discard})
	if err != nil {
		return nil, nil, err
	}
	st, err := gormstore.New(db, gormstore.Options{})
	if err != nil {
		return nil, nil, err
	}
	return db, st, errors.Join(st.Migrate(context.Background()), db.AutoMigrate(&member{}))
}

// ExamplePlugin_RedeemTx creates an account and redeems the validation in one
// transaction: if the name is taken, the validation remains valid.
func ExamplePlugin_RedeemTx() {
	dir, err := os.MkdirTemp("", "threepid")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	db, st, err := openMembers(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	db.Create(&member{Name: "alice", Phone: "447700900002"})
	recorder := smstest.New()
	router := gin.New()
	plugin, err := threepid.Register(router, st, recorder, threepid.Options{PublicURL: "https://example.org", Logger: slogDiscard()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	router.POST("/register", func(c *gin.Context) {
		ctx := c.Request.Context()
		var form struct{ Name, SID, Secret string }
		if c.ShouldBindJSON(&form) != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			v, err := plugin.RedeemTx(ctx, tx, form.SID, form.Secret)
			if err != nil {
				return err
			}
			if v.Purpose != threepid.PurposeRegister {
				return threepid.ErrNotValidated
			}
			return tx.Create(&member{Name: form.Name, Phone: v.MSISDN}).Error
		})
		switch {
		case errors.Is(err, gorm.ErrDuplicatedKey):
			c.JSON(http.StatusConflict, gin.H{"error": "Choose another name"})
		case errors.Is(err, threepid.ErrNoSession), errors.Is(err, threepid.ErrNotValidated), errors.Is(err, threepid.ErrExpired):
			c.JSON(http.StatusUnauthorized, gin.H{"error": "Confirm your phone number first"})
		case err != nil:
			c.Status(http.StatusInternalServerError)
		default:
			c.JSON(http.StatusOK, gin.H{"name": form.Name})
		}
	})

	sid := validate(router, recorder, "/_api/client/v3/register/msisdn/requestToken")
	for _, name := range []string{"alice", "bob", "mallory"} {
		fmt.Println(postJSON(router, "/register", fmt.Sprintf(`{"name":%q,"sid":%q,"secret":"s3cret"}`, name, sid)))
	}
	// Output:
	// map[error:Choose another name]
	// map[name:bob]
	// map[error:Confirm your phone number first]
}

// ExamplePlugin_Validated resets a password: it requires a code that was sent for this
// purpose, and redeems the validation only after it has checked the new password.
func ExamplePlugin_Validated() {
	table := users{"alice": {phone: "447700900001", password: "forgotten"}}
	texts := smstest.New()
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), texts, threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
		Accounts: store.OwnerFunc(func(_ context.Context, msisdn string) (string, error) { return table.byPhone(msisdn) }),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	router.POST("/password", func(c *gin.Context) {
		ctx := c.Request.Context()
		var form struct{ SID, Secret, Password string }
		if c.ShouldBindJSON(&form) != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		v, err := plugin.Validated(ctx, form.SID, form.Secret)
		if err == nil && v.Purpose != threepid.PurposePassword {
			err = threepid.ErrNotValidated
		}
		if err != nil {
			c.JSON(http.StatusUnauthorized, gin.H{"error": "Confirm your phone number first"})
			return
		}
		if len(form.Password) < 12 {
			c.JSON(http.StatusBadRequest, gin.H{"error": "At least 12 characters, please"})
			return // and the validation remains valid
		}
		if v, err = plugin.Redeem(ctx, form.SID, form.Secret); err != nil {
			c.Status(http.StatusUnauthorized)
			return
		}
		name, err := table.byPhone(v.MSISDN)
		if err != nil {
			c.Status(http.StatusUnauthorized) // the number is no longer on the account
			return
		}
		table[name].password = form.Password // hash it
		c.JSON(http.StatusOK, gin.H{"name": name})
	})

	sid := validate(router, texts, "/_api/client/v3/account/password/msisdn/requestToken")
	for _, password := range []string{"short", "correct horse battery"} {
		fmt.Println(postJSON(router, "/password", fmt.Sprintf(`{"sid":%q,"secret":"s3cret","password":%q}`, sid, password)))
	}
	// Output:
	// map[error:At least 12 characters, please]
	// map[name:alice]
}

// ExampleRegister_authenticate serves the list of an account's numbers.
func ExampleRegister_authenticate() {
	sessions := map[string]string{"alices-token": "alice"} // yours
	texts := smstest.New()
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), texts, threepid.Options{
		PublicURL: "https://example.org", Logger: slogDiscard(),
		Authenticate: func(c *gin.Context) (string, error) {
			token, found := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
			if !found {
				return "", threepid.ErrMissingToken
			}
			name, known := sessions[token]
			if !known {
				return "", threepid.ErrUnknownToken
			}
			return name, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	sid := validate(router, texts, "/_api/client/v3/account/3pid/msisdn/requestToken")
	add := fmt.Sprintf(`{"sid":%q,"client_secret":"s3cret"}`, sid)
	for _, token := range []string{"", "Bearer stolen", "Bearer alices-token"} {
		r := httptest.NewRequest(http.MethodPost, "/_api/client/v3/account/3pid/add", strings.NewReader(add))
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 401 {"errcode":"M_MISSING_TOKEN","error":"Log in first: the request has no access token"}
	// 401 {"errcode":"M_UNKNOWN_TOKEN","error":"You are not logged in any more. Log in again."}
	// 200 {}
}

// ExamplePlugin_NotFound responds to unknown paths as Matrix clients expect.
func ExamplePlugin_NotFound() {
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{
		BasePath: "/_matrix/client/v3", PublicURL: "https://example.org", Logger: slogDiscard(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()
	router.RedirectTrailingSlash = false
	router.NoRoute(plugin.NotFound, func(c *gin.Context) { c.String(http.StatusNotFound, "Your own page") })

	for _, path := range []string{"/_matrix/client/v3/account/3pid/bind", "/_matrix/client/v3/register/msisdn/requestToken/", "/shop"} {
		w := httptest.NewRecorder()
		router.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, http.NoBody))
		fmt.Println(w.Code, w.Body)
	}
	// Output:
	// 404 {"errcode":"M_UNRECOGNIZED","error":"This server does not serve this path"}
	// 404 {"errcode":"M_UNRECOGNIZED","error":"This server does not serve this path"}
	// 404 Your own page
}

// ExampleRegister_sender sends SMS through a provider that this module does not support.
func ExampleRegister_sender() {
	text := func(_ context.Context, to, body, _ string) error { // your provider's library
		fmt.Println(to, body[6:])
		return nil
	}
	sender := sms.Func(func(ctx context.Context, m sms.Message) error {
		err := text(ctx, m.To, m.Text, m.ID) // m.ID: the idempotency key, if it takes one
		if err != nil && err.Error() == "no such number" {
			return fmt.Errorf("provider: %w", sms.ErrRejected) // never try that number again
		}
		return err // anything else: another try may work
	})
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), sender, threepid.Options{Messages: threepid.Messages{Brand: "Example"}, Logger: slogDiscard()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()
	postJSON(router, "/_api/client/v3/account/3pid/msisdn/requestToken",
		`{"client_secret":"s3cret","country":"GB","phone_number":"07700900001","send_attempt":1}`)
	// Output: +447700900001  is your Example code.
}

// postJSON posts JSON, as a client does.
func postJSON(router http.Handler, path, body string) map[string]any {
	w := httptest.NewRecorder()
	router.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	var answer map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &answer)
	return answer
}

// validate validates 07700 900001 as a client does, and returns the sid.
func validate(router http.Handler, texts *smstest.Recorder, requestToken string) string {
	return validateAs(router, texts, "s3cret", requestToken)
}

func validateAs(router http.Handler, texts *smstest.Recorder, secret, requestToken string) string {
	asked := postJSON(router, requestToken,
		fmt.Sprintf(`{"client_secret":%q,"country":"GB","phone_number":"07700900001","send_attempt":1}`, secret))
	sid, _ := asked["sid"].(string)
	text, _ := texts.Last()
	postJSON(router, "/_api/client/v3/account/3pid/msisdn/submitToken",
		fmt.Sprintf(`{"client_secret":%q,"sid":%q,"token":%q}`, secret, sid, smstest.Token(text)))
	return sid
}
