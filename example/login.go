package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/threepid/admin"
)

const (
	loginCookie = "threepid_ops"

	// loginLifetime is how long a browser stays logged in. The cookie has no expiry, so that closing
	// the browser logs it out too.
	loginLifetime = 12 * time.Hour

	// maxLogins is the maximum number of browsers that are logged in at once.
	maxLogins = 1000

	// maxWrongLogins and maxWrongTokens limit the wrong tokens of each client per minute, in the form
	// and in the Authorization header. After that, all tokens of the client are refused for the rest
	// of the minute without being compared.
	maxWrongLogins = 10
	maxWrongTokens = 60

	// loginPolicy is the Content-Security-Policy of the login form. It allows the stylesheet of the
	// operator's page.
	loginPolicy = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

// operators authorizes requests with one of the tokens in the Authorization header, and requests from
// browsers that have logged in with one. If there are no tokens, every request may read.
type operators struct {
	tokens []string
	now    func() time.Time

	typed, sent *guesses // tokens in the form, and in the Authorization header

	mu     sync.Mutex
	logins map[[sha256.Size]byte]login // by the SHA-256 digest of the cookie
}

// login is a browser that has logged in.
type login struct {
	operator string // the name entered in the form; may be empty
	until    time.Time
}

func newOperators(tokens []string, now func() time.Time) *operators {
	return &operators{
		tokens: tokens, now: now, logins: make(map[[sha256.Size]byte]login),
		typed: newGuesses(maxWrongLogins, now), sent: newGuesses(maxWrongTokens, now),
	}
}

// known reports in constant time whether token is one of o.tokens.
func (o *operators) known(token string) bool {
	given, match := sha256.Sum256([]byte(token)), 0
	for _, known := range o.tokens {
		sum := sha256.Sum256([]byte(known))
		match |= subtle.ConstantTimeCompare(given[:], sum[:])
	}
	return match == 1
}

// loggedIn returns the login of the browser that sent a request.
func (o *operators) loggedIn(r *http.Request) (found login, ok bool) {
	cookie, err := r.Cookie(loginCookie)
	if err != nil {
		return login{}, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	found = o.logins[sha256.Sum256([]byte(cookie.Value))]
	return found, o.now().Before(found.until)
}

// visitor is the sender of a request.
type visitor struct {
	operator string
	access   admin.Access
	guessed  bool // the client sent too many wrong tokens, so its token was not compared
}

// check returns the visitor who sent a request: a browser that has logged in, or a client with a token.
// If there are no tokens, every visitor may read and none may write.
func (o *operators) check(r *http.Request) visitor {
	if len(o.tokens) == 0 {
		return visitor{access: admin.Read}
	}
	if login, ok := o.loggedIn(r); ok {
		return visitor{operator: login.operator, access: admin.Write}
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		return visitor{}
	}
	switch right, compared := o.sent.try(r, func() bool { return o.known(token) }); {
	case !compared:
		return visitor{guessed: true}
	case !right:
		return visitor{}
	}
	return visitor{operator: "API", access: admin.Write}
}

// authorize implements admin.Options.Authorize.
func (o *operators) authorize(r *http.Request) (string, admin.Access) {
	v := o.check(r)
	return v.operator, v.access
}

// only passes authorized requests to next. It redirects page requests of browsers to the login form,
// and refuses all other requests.
func (o *operators) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/style.css" { // the login form needs it
			next.ServeHTTP(w, r)
			return
		}
		switch v := o.check(r); {
		case v.access != admin.None:
			next.ServeHTTP(w, r)
		case v.guessed:
			w.Header().Set("Retry-After", "60")
			refuse(w, r, http.StatusTooManyRequests, "There were too many wrong tokens. Try again in a minute.")
		case r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html"):
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, r, http.StatusUnauthorized, "A token is required. Send the header Authorization: Bearer TOKEN.")
		}
	})
}

// refuse writes an error: as JSON below /api/, and otherwise as plain text.
func refuse(w http.ResponseWriter, r *http.Request, status int, message string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
		return
	}
	http.Error(w, message, status)
}

// login serves the login form and handles its POST requests.
func (o *operators) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		showLogin(w, http.StatusOK, "")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	token := r.PostFormValue("token") // read before try, which makes other logins wait
	switch right, compared := o.typed.try(r, func() bool { return o.known(token) }); {
	case !compared:
		w.Header().Set("Retry-After", "60")
		showLogin(w, http.StatusTooManyRequests, "There were too many wrong tokens. Try again in a minute.")
	case !right:
		showLogin(w, http.StatusUnauthorized, "That is not the token.")
	default:
		http.SetCookie(w, newLoginCookie(r, o.remember(strings.TrimSpace(r.PostFormValue("name")))))
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// remember stores a new login and returns the value of its cookie. If there are maxLogins already, it
// deletes the oldest.
func (o *operators) remember(operator string) string {
	value := rand.Text() + rand.Text()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	oldest := [sha256.Size]byte{}
	for digest, login := range o.logins {
		if !now.Before(login.until) {
			delete(o.logins, digest)
		} else if first, ok := o.logins[oldest]; !ok || login.until.Before(first.until) {
			oldest = digest
		}
	}
	if len(o.logins) >= maxLogins {
		delete(o.logins, oldest)
	}
	o.logins[sha256.Sum256([]byte(value))] = login{operator, now.Add(loginLifetime)}
	return value
}

// newLoginCookie returns a cookie for the browser that sent a request. If the browser uses TLS, also
// to a proxy that terminates it, the cookie is marked Secure. X-Forwarded-Proto needs no trusted
// proxy: a client that forges it changes only its own cookie.
func newLoginCookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{
		Name: loginCookie, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	}
}

// logoutPath returns the path to which the page's logout button posts, or an empty string if there are
// no tokens and so no logins.
func (o *operators) logoutPath() string {
	if len(o.tokens) == 0 {
		return ""
	}
	return "/logout"
}

// logout deletes the login of the browser that sent the request, and its cookie.
func (o *operators) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(loginCookie); err == nil {
		o.mu.Lock()
		delete(o.logins, sha256.Sum256([]byte(cookie.Value)))
		o.mu.Unlock()
	}
	expired := newLoginCookie(r, "")
	expired.MaxAge = -1
	http.SetCookie(w, expired)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func showLogin(w http.ResponseWriter, status int, problem string) {
	form := template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · threepid</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="data:,">
</head>
<body>
<header><p class="brand">threepid</p></header>
<main>
<h1>Log in</h1>
{{with .}}<p class="problem" role="alert">{{.}}</p>{{end}}
<form class="search" method="post" action="/login">
<label for="token">Token (set with -ops-token)</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<label for="name">Your name, for the audit log (optional)</label>
<div class="row"><input id="name" name="name" autocomplete="username" maxlength="60"><button>Log in</button></div>
</form>
</main>
</body>
</html>
`))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", loginPolicy)
	w.Header().Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	_ = form.Execute(w, problem)
}
