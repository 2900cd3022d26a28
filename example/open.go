package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/sqlite"
)

// poolSize is the maximum number of connections to a database server.
const poolSize = 24

// closingStore is a store with connections or files that Close closes.
type closingStore interface {
	store.Store
	store.Accounts
	Close() error
}

// openStore opens the database of -db and creates or migrates its tables.
func openStore(ctx context.Context, name string) (closingStore, error) {
	var dialector gorm.Dialector
	var err error
	switch scheme, _, _ := strings.Cut(name, "://"); scheme {
	case name:
		return sqlite.Open(name)
	case "postgres", "postgresql":
		dialector = postgres.Open(name)
	case "mysql":
		dialector, err = openMySQL(name)
	default:
		err = fmt.Errorf("unknown database %q; use a file name, or a postgres:// or mysql:// URL", scheme+"://")
	}
	if err != nil {
		return nil, fmt.Errorf("-db: %w", err)
	}
	return openServer(ctx, dialector)
}

// serverStore is a store on a database server.
type serverStore struct {
	*gormstore.Store
	close func() error
}

func (s serverStore) Close() error { return s.close() }

func openServer(ctx context.Context, dialector gorm.Dialector) (closingStore, error) {
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return nil, fmt.Errorf("-db: open %s: %w", dialector.Name(), withoutURL(err))
	}
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("-db: %w", err)
	}
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	st, err := gormstore.New(db, gormstore.Options{})
	if err == nil {
		err = st.Migrate(ctx)
	}
	if err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("-db: open %s: %w", dialector.Name(), withoutURL(err))
	}
	return serverStore{Store: st, close: pool.Close}, nil
}

// openMySQL returns a dialector for a mysql:// URL.
func openMySQL(name string) (gorm.Dialector, error) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, errors.New("cannot parse the mysql:// URL")
	}
	cfg := mysqldriver.NewConfig()
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	if u.Port() == "" {
		cfg.Addr += ":3306"
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.Params = map[string]string{}
	for name, values := range u.Query() {
		cfg.Params[name] = values[0]
	}
	return mysql.Open(cfg.FormatDSN()), nil
}

// withoutURL removes the URL, which may contain a password, from an error.
func withoutURL(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return parse.Err
	}
	return err
}
