package identityserver_test

import (
	"fmt"
	"log/slog"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/delegate/identityserver"
	"example.com/threepid/store/memstore"
)

// With Options.Delegate there is no sender: the recipe of docs/RECIPES.md.
func ExampleNew() {
	service, err := identityserver.New(identityserver.Options{
		BaseURL: "https://id.example.org", AccessToken: "the-nodes-own",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	plugin, err := threepid.Register(gin.New(), memstore.New(), nil, threepid.Options{
		Delegate: service, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()
	fmt.Println(service.MatchesServer("id.example.org"), service.MatchesServer("another.example.org"))
	// Output: true false
}
