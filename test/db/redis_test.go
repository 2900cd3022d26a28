package db_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// TestRedis runs the checks over the store of redisstore_test.go.
func TestRedis(t *testing.T) {
	t.Parallel()
	address := os.Getenv("THREEPID_TEST_REDIS")
	if address == "" {
		t.Skip("set THREEPID_TEST_REDIS to the URL of a Redis database to run this; see CONTRIBUTING.md")
	}
	options, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		client := redis.NewClient(options)
		tb.Cleanup(func() {
			if err := client.Close(); err != nil {
				tb.Error(err)
			}
		})
		prefix := fmt.Sprintf("threepid:%016x:", rand.Uint64())
		tb.Cleanup(func() {
			names, err := client.Keys(context.Background(), prefix+"*").Result()
			if err == nil && len(names) > 0 {
				err = client.Del(context.Background(), names...).Err()
			}
			if err != nil {
				tb.Error(err)
			}
		})
		return &redisStore{client: client, prefix: prefix}
	})
}
