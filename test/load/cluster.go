package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// cluster is one or several nodes of the example over one database, and the provider that receives
// their SMS.
type cluster struct {
	nodes    []*server
	provider *provider
	delays   []*delay
}

// startCluster starts the nodes with their limits on (default) or off. With "+ops" they also
// produce events and metrics, and with "+quiet" they keep no history.
func startCluster(ctx context.Context, cfg config, limits string) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.provider, err = startProvider(); err != nil {
		return c, err
	}
	for i := range cfg.nodes {
		db, err := c.database(cfg, i, limits)
		if err != nil {
			return c, err
		}
		setting, ops := strings.CutSuffix(limits, "+ops")
		setting, quiet := strings.CutSuffix(setting, "+quiet")
		args := []string{"-db", db, "-limits", setting, "-guard", cfg.guard, "-sms", "webhook:" + c.provider.url, "-trusted-proxies", "127.0.0.1"}
		if ops {
			args = append(args, "-ops-listen", "127.0.0.1:0")
		}
		if quiet {
			args = append(args, "-statistics-lifetime", "0", "-journal-lifetime", "0")
		}
		node, err := startExample(ctx, cfg.dir, args...)
		if err != nil {
			return c, err
		}
		c.nodes = append(c.nodes, node)
	}
	return c, nil
}

// database returns the -db of node i. If the flag contains several URLs, each node uses its own, as
// in a cluster of databases.
func (c *cluster) database(cfg config, i int, limits string) (string, error) {
	if cfg.db == "" {
		return filepath.Join(cfg.dir, fmt.Sprintf("%s-%d.db", limits, time.Now().UnixNano())), nil
	}
	urls := strings.Split(cfg.db, ",")
	db := urls[i%len(urls)]
	if cfg.roundTrip == 0 {
		return db, nil
	}
	u, err := url.Parse(db)
	if err != nil || u.Host == "" {
		return "", errors.New("-round-trip needs a -db with a server")
	}
	d, err := startDelay(u.Host, cfg.roundTrip)
	if err != nil {
		return "", err
	}
	c.delays = append(c.delays, d)
	return strings.Replace(db, u.Host, d.addr, 1), nil
}

func (c *cluster) addrs() []string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

func (c *cluster) stop() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.stop())
	}
	for _, d := range c.delays {
		errs = append(errs, d.stop())
	}
	if c.provider != nil {
		errs = append(errs, c.provider.stop())
	}
	return errors.Join(errs...)
}
