package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/admin"
	"example.com/threepid/sms/console"
	"example.com/threepid/store/memstore"
)

// user and userOf represent the host's own sessions.
type user struct {
	name    string
	support bool
}

func userOf(*http.Request) (user, bool) { return user{}, false }

// A host mounts the page behind its own authorization.
func ExampleNew() {
	gin.SetMode(gin.TestMode)
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), console.New(os.Stderr), threepid.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()
	page, err := admin.New(plugin, admin.Options{
		Prefix: "/admin",
		Authorize: func(r *http.Request) (string, admin.Access) {
			user, ok := userOf(r) // from the host's own sessions
			switch {
			case !ok:
				return "", admin.None
			case user.support:
				return user.name, admin.Read
			}
			return user.name, admin.Write
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	router.Any("/admin/*path", gin.WrapH(page))

	response := httptest.NewRecorder()
	router.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/admin/", http.NoBody))
	fmt.Println(response.Code)
	// Output: 403
}
