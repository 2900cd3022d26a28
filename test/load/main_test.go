package main

import (
	"bytes"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary start itself as the server of -timing.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
	}
	m.Run()
}

// TestRuns runs each mode briefly. Every response is checked and counted.
func TestRuns(t *testing.T) {
	t.Parallel()
	if os.Getenv("THREEPID_TEST_LONG") == "" {
		t.Skip("set THREEPID_TEST_LONG=1 to measure for half a minute")
	}
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"all work", []string{"-rounds", "1", "-guard", "observe", "-work", strings.Join(workNames(), ",")}, `(?m)^ *verification +default +2 +([0-9]+) `},
		{"timing", []string{"-timing", "-rounds", "1", "-samples", "30"}, `(?m)^ *submit, wrong secret +([0-9]+)`},
		{"growth", []string{"-growth", "-rounds", "1", "-sessions", "11000"}, `2 callers: ([0-9]+) requests/s with 10000 sessions`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			args := append([]string{"-dir", t.TempDir(), "-callers", "1,2", "-duration", "200ms"}, row.args...)
			if err := run(t.Context(), args, &out); err != nil {
				t.Fatal(err)
			}
			found := regexp.MustCompile(row.want).FindStringSubmatch(out.String())
			if found == nil {
				t.Fatalf("nothing matches %s in\n%s", row.want, out.String())
			}
			if n, err := strconv.Atoi(found[1]); err != nil || n < 1 {
				t.Errorf("%s requests a second", found[1])
			}
		})
	}
}

func TestFlagsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-db", "postgres://192.0.2.1:5432/x"},
		{"-db", "mysql://example.org:3306/x"},
		{"-db", "postgres://127.0.0.1/x,postgres://localhost.example.org/x"},
		{"-nodes", "2"},
		{"-db", "postgres://127.0.0.1/x", "-nodes", "99"},
		{"-db", "postgres://127.0.0.1/x", "-freeze"},
		{"-work", "verification,sleep"},
		{"-callers", "0"},
		{"-callers", "1,many"},
		{"-callers", "5000"},
		{"-duration", "0s"},
		{"-duration", "1h"},
		{"-rounds", "0"},
		{"-samples", "0"},
		{"-sessions", "1000000000"},
	} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
	if _, err := parseFlags([]string{"-db", "postgres://[::1]:5432/x", "-nodes", "3"}); err != nil {
		t.Error(err)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, row := range []struct {
		sorted []time.Duration
		p      int
		want   time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 50, 7},
		{[]time.Duration{7}, 99, 7},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{[]time.Duration{1, 2, 3}, 50, 2},
	} {
		if got := percentile(row.sorted, row.p); got != row.want {
			t.Errorf("%d of a hundred of %d values is %d, want %d", row.p, len(row.sorted), got, row.want)
		}
	}
	if got := median([]int{3, 1, 2}); got != 2 {
		t.Errorf("median %d", got)
	}
}

// TestTests checks that the two statistical tests find a difference if and only if there is one.
func TestTests(t *testing.T) {
	t.Parallel()
	series := func(n, from, step int) []time.Duration {
		values := make([]time.Duration, n)
		for i := range values {
			values[i] = time.Duration(from + i*step)
		}
		return values
	}
	for _, row := range []struct {
		name   string
		a, b   []time.Duration
		z      float64 // computed by hand: (U - nm/2) / √(nm(n+m+1)/12)
		differ bool
	}{
		{"the same", series(200, 0, 2), series(200, 0, 2), 0, false},
		{"one between the other", series(200, 0, 2), series(200, 1, 2), -0.0865, false},
		{"greater", series(200, 1000, 1), series(200, 0, 1), 17.2987, true},
		{"less", series(200, 0, 1), series(200, 1000, 1), -17.2987, true},
		{"all equal", series(50, 7, 0), series(50, 7, 0), 0, false},
	} {
		z, p := mannWhitney(row.a, row.b)
		if math.Abs(z-row.z) > 0.001 || (p < 0.01) != row.differ {
			t.Errorf("%s: z %.4f, p %.4f", row.name, z, p)
		}
		if p := kolmogorovSmirnov(row.a, row.b); (p < 0.01) != row.differ {
			t.Errorf("%s: p of K-S %.4f", row.name, p)
		}
	}
	// With equal medians, only one of the two tests finds the difference.
	wide, narrow := series(201, 0, 10), series(201, 900, 1)
	if _, p := mannWhitney(wide, narrow); p < 0.01 {
		t.Errorf("p of U %.4f", p)
	}
	if p := kolmogorovSmirnov(wide, narrow); p > 0.0001 {
		t.Errorf("p of K-S %.4f", p)
	}
}
