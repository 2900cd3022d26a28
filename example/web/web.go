// Package web is the page of the example, on which a user adds a phone number to a
// guest account. If SMS go to the console, the page also shows them on a drawing of a
// phone.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/nyaruka/phonenumbers"

	"example.com/threepid"
)

//go:embed index.html app.css icon.svg *.js
var files embed.FS

// policy is the Content-Security-Policy: the page can load and call only its own server.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// tokenBytes is the length of a guest's access token, which nobody can guess.
const tokenBytes = 32

// Site is the page with its files and endpoints.
type Site struct {
	basePath string
	phone    *Phone
	config   func() config
}

// New returns the site for a plugin at basePath. If phone is nil, the page shows no phone.
func New(basePath string, phone *Phone) *Site {
	s := &Site{basePath: basePath, phone: phone}
	s.config = sync.OnceValue(s.newConfig) // it takes some milliseconds, for 245 example numbers
	return s
}

// Mount serves the page at /, its files below /web/ and its endpoints below /demo/.
func (s *Site) Mount(router gin.IRouter) error {
	names, err := fs.Glob(files, "*")
	if err != nil {
		return err
	}
	for _, name := range names {
		path := "/web/" + name
		if name == "index.html" {
			path = "/"
		}
		router.GET(path, headers, func(c *gin.Context) { s.serveFile(c, name) })
	}
	router.GET("/demo/config", headers, func(c *gin.Context) { writeJSON(c, http.StatusOK, s.config()) })
	if s.phone != nil {
		router.GET("/demo/texts", headers, s.phone.serve)
	}
	return nil
}

func (s *Site) serveFile(c *gin.Context, name string) {
	// FileFromFS would redirect index.html to its folder.
	content, err := files.ReadFile(name)
	if err != nil {
		c.Status(http.StatusNotFound)
		return
	}
	kinds := map[string]string{"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
	_, extension, _ := strings.Cut(name, ".")
	c.Data(http.StatusOK, kinds[extension]+"; charset=utf-8", content)
}

// writeJSON sends application/json without the charset that Gin adds, as the plugin does.
func writeJSON(c *gin.Context, status int, body any) {
	c.Header("Content-Type", "application/json")
	c.JSON(status, body)
}

func headers(c *gin.Context) {
	c.Header("Content-Security-Policy", policy)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("Cross-Origin-Opener-Policy", "same-origin")
	c.Header("Cross-Origin-Resource-Policy", "same-origin")
	c.Header("Cache-Control", "no-store")
}

// config is the data about the server that the page needs.
type config struct {
	BasePath  string             `json:"base_path"`
	Phone     bool               `json:"phone"`
	Countries map[string]country `json:"countries"` // by two-letter code
}

type country struct {
	Code    int    `json:"code"` // calling code
	Example string `json:"example,omitempty"`
}

func (s *Site) newConfig() config {
	cfg := config{BasePath: s.basePath, Phone: s.phone != nil, Countries: map[string]country{}}
	for region := range phonenumbers.GetSupportedRegions() {
		c := country{Code: phonenumbers.GetCountryCodeForRegion(region)}
		if number := phonenumbers.GetExampleNumberForType(region, phonenumbers.MOBILE); number != nil {
			c.Example = phonenumbers.Format(number, phonenumbers.NATIONAL)
		}
		cfg.Countries[region] = c
	}
	return cfg
}

// Authenticate implements threepid.Options.Authenticate. It accepts any token of 32 bytes
// as that of a guest; the page generates a random one. The name of the guest's account is
// derived from a hash of the token, so the server stores no guests, and a guest keeps the
// account after a restart. This is only a demonstration: a real host has its own sessions.
func (s *Site) Authenticate(c *gin.Context) (string, error) {
	scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		return "", threepid.ErrMissingToken
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenBytes {
		return "", threepid.ErrUnknownToken
	}
	sum := sha256.Sum256(raw)
	return "guest-" + hex.EncodeToString(sum[:16]), nil
}
