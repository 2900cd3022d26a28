package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
)

// tokenList is the value of a flag that may be repeated. "@file" reads a token from a file, so that
// it does not appear in the list of processes.
type tokenList []string

func (l *tokenList) String() string { return "" }

// Set implements flag.Value.
func (l *tokenList) Set(value string) error {
	if name, isFile := strings.CutPrefix(value, "@"); isFile {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		value = strings.TrimSpace(string(content))
	}
	if value == "" {
		return errors.New("it is empty")
	}
	*l = append(*l, value)
	return nil
}

// listenIdentity opens the listener of -identity-listen and returns a server for it, which serves only
// the identity service. It sets PrivateListener, because an operator who sets -identity-listen
// confirms that only homeservers can reach the address.
func listenIdentity(cfg config, plugin *threepid.Plugin, logger *slog.Logger) (endpoint, error) {
	router, err := newRouter(nil, logger)
	if err != nil {
		return endpoint{}, err
	}
	options := threepid.IdentityOptions{PrivateListener: true, AccessTokens: cfg.identityTokens}
	if err := plugin.MountIdentity(router, options); err != nil {
		return endpoint{}, err
	}
	router.NoRoute(func(c *gin.Context) {
		c.JSON(http.StatusNotFound, gin.H{"errcode": "M_UNRECOGNIZED", "error": "This listener serves only the identity service"})
	})
	listener, err := net.Listen("tcp", cfg.identityListen)
	if err != nil {
		return endpoint{}, fmt.Errorf("-identity-listen: %w", err)
	}
	if loopbackURL(listener.Addr()) == "" {
		logger.Warn("-identity-listen is not a loopback address: its v1 paths have no authentication, so make sure that only homeservers reach it",
			"address", listener.Addr())
	}
	return endpoint{newServer(router), listener, false}, nil
}
