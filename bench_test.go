package threepid_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/internal/plugintest"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store/memstore"
)

// stores are the stores that need no service, by name.
func stores() map[string]func(testing.TB) plugintest.Store {
	return map[string]func(testing.TB) plugintest.Store{
		"memstore": func(testing.TB) plugintest.Store { return memstore.New() },
		"sqlite": func(tb testing.TB) plugintest.Store {
			tb.Helper()
			return openSQLite(tb, tb.TempDir())
		},
	}
}

// BenchmarkRequestToken measures the handler without a network. It compares a bare Gin
// handler that decodes the same JSON, a request that is refused for its number, a retry
// of an attempt that was sent, and a new attempt, which is stored before and after its SMS.
func BenchmarkRequestToken(b *testing.B) {
	b.Run("bare", benchmarkBare)
	for name, open := range stores() {
		b.Run(name, func(b *testing.B) {
			router := gin.New()
			accept := sms.Func(func(context.Context, sms.Message) error { return nil })
			plugin, err := threepid.Register(router, open(b), accept, threepid.Options{
				PublicURL: "https://example.org", Logger: slogDiscard(),
				Limits: limits.Limits{Disabled: true}, Guard: limits.Guard{Disabled: true},
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = plugin.Close() })
			var fresh atomic.Int64
			for _, path := range []struct {
				name   string
				status int
				body   func() string
			}{
				{"refused", http.StatusBadRequest, func() string { return benchBody("same", "12") }},
				{"retry", http.StatusOK, func() string { return benchBody("same", spoken) }},
				{"fresh", http.StatusOK, func() string { return benchBody(fmt.Sprint("s", fresh.Add(1)), spoken) }},
			} {
				b.Run(path.name, func(b *testing.B) { benchmarkPath(b, router, path.status, path.body) })
				b.Run(path.name+"-32", func(b *testing.B) { benchmarkParallel(b, router, path.status, path.body) })
			}
		})
	}
}

func benchBody(clientSecret, number string) string {
	return `{"client_secret":"` + clientSecret + `","country":"GB","phone_number":"` + number + `","send_attempt":1}`
}

func benchmarkBare(b *testing.B) {
	router := gin.New()
	router.POST(addPath, func(c *gin.Context) {
		var body struct {
			ClientSecret string `json:"client_secret"`
			Country      string `json:"country"`
			PhoneNumber  string `json:"phone_number"`
			SendAttempt  int64  `json:"send_attempt"`
		}
		if err := c.ShouldBindJSON(&body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		c.JSON(http.StatusOK, gin.H{"sid": "sid", "submit_url": "https://example.org"})
	})
	benchmarkPath(b, router, http.StatusOK, func() string { return benchBody("same", spoken) })
}

func benchmarkPath(b *testing.B, router http.Handler, status int, body func() string) {
	b.Helper()
	post(b, router, status, addPath, body())
	b.ReportAllocs()
	for b.Loop() {
		post(b, router, status, addPath, body())
	}
}

// benchmarkParallel calls the handler from many goroutines at once: 32 on two processors.
func benchmarkParallel(b *testing.B, router http.Handler, status int, body func() string) {
	b.Helper()
	post(b, router, status, addPath, body())
	b.ReportAllocs()
	b.SetParallelism(16) // times the number of processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			post(b, router, status, addPath, body())
		}
	})
}

// BenchmarkObserver measures what events add to a fresh request, with an Observer that counts
// them.
func BenchmarkObserver(b *testing.B) {
	for name, open := range stores() {
		for _, setting := range []string{"off", "on"} {
			router := gin.New()
			var counted atomic.Int64
			opts := threepid.Options{
				PublicURL: "https://example.org", Logger: slogDiscard(),
				Limits: limits.Limits{Disabled: true}, Guard: limits.Guard{Disabled: true},
			}
			if setting == "on" {
				opts.Observer = observe.Func(func(context.Context, observe.Event) { counted.Add(1) })
			}
			plugin, err := threepid.Register(router, open(b), sms.Func(func(context.Context, sms.Message) error { return nil }), opts)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = plugin.Close() })
			var asked atomic.Int64
			fresh := func() string { return benchBody(fmt.Sprint("s", asked.Add(1)), spoken) }
			b.Run(name+"/"+setting+"/fresh", func(b *testing.B) { benchmarkPath(b, router, http.StatusOK, fresh) })
			b.Run(name+"/"+setting+"/fresh-32", func(b *testing.B) { benchmarkParallel(b, router, http.StatusOK, fresh) })
		}
	}
}

// BenchmarkLimits measures what the limits and the guard add to a new attempt, and a request that
// they refuse. Each request is by another client, for a number in another range.
func BenchmarkLimits(b *testing.B) {
	for name, open := range stores() {
		for _, setting := range []string{"off", "on"} {
			router := gin.New()
			var asked atomic.Int64
			plugin, err := threepid.Register(router, open(b), sms.Func(func(context.Context, sms.Message) error { return nil }), threepid.Options{
				PublicURL: "https://example.org", Logger: slogDiscard(),
				Limits: limits.Limits{Disabled: setting == "off"}, Guard: limits.Guard{Disabled: setting == "off", DryRun: true},
				ClientKey: func(*gin.Context) string { return fmt.Sprint("client", asked.Load()) },
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = plugin.Close() })
			fresh := func() string {
				n := asked.Add(1)
				return benchBody(fmt.Sprint("s", n), fmt.Sprintf("+4474%08d", n*10_007%100_000_000))
			}
			b.Run(name+"/"+setting+"/fresh", func(b *testing.B) { benchmarkPath(b, router, http.StatusOK, fresh) })
			b.Run(name+"/"+setting+"/fresh-32", func(b *testing.B) { benchmarkParallel(b, router, http.StatusOK, fresh) })
			if setting == "off" {
				continue
			}
			const victim = "+447911123456"
			one := func() string { return benchBody(fmt.Sprint("v", asked.Add(1)), victim) }
			for range 6 {
				post(b, router, http.StatusOK, addPath, one())
			}
			b.Run(name+"/"+setting+"/refused", func(b *testing.B) { benchmarkPath(b, router, http.StatusTooManyRequests, one) })
			b.Run(name+"/"+setting+"/refused-32", func(b *testing.B) { benchmarkParallel(b, router, http.StatusTooManyRequests, one) })
		}
	}
}
