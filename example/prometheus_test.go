package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const monitoring = "deploy/prometheus"

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// expressions returns the queries of the dashboard.
func expressions(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, monitoring, "dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	if len(all) == 0 {
		t.Fatal("the dashboard has no queries")
	}
	return all
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool := needProgram(t, "THREEPID_TEST_PROMTOOL", "apt-get install prometheus", "promtool")
	if output, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

// TestAlertRules runs the unit tests of the alert rules with promtool.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", filepath.Join(monitoring, "threepid.test.yml"), filepath.Join(monitoring, "threepid.weeks.test.yml"))
}

// TestDashboard checks that promtool can parse each query of the dashboard.
func TestDashboard(t *testing.T) {
	t.Parallel()
	rules := "groups: [{name: dashboard, rules: [\n"
	for i, expr := range expressions(t) {
		rules += fmt.Sprintf("  {record: 'panel:%d', expr: %q},\n", i, expr)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules+"]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// TestMonitoringIsDocumented checks that docs/OPERATIONS.md lists exactly the metrics that exist and
// has a playbook for each alert, and that the dashboard and the alert rules use only these metrics.
func TestMonitoringIsDocumented(t *testing.T) {
	t.Parallel()
	manual := readFile(t, "..", "docs", "OPERATIONS.md")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(threepid_[a-z_]+)`").FindAllStringSubmatch(manual, -1) {
		documented[m[1]] = true
	}
	source := readFile(t, "..", "observe", "prometheus", "prometheus.go")
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`"(threepid_[a-z_]+)"`).FindAllStringSubmatch(source, -1) {
		exported[m[1]] = true
		if !documented[m[1]] {
			t.Errorf("%s is not in docs/OPERATIONS.md", m[1])
		}
	}
	for name := range documented {
		if !exported[name] {
			t.Errorf("docs/OPERATIONS.md lists %s, which does not exist", name)
		}
	}
	rules := readFile(t, monitoring, "threepid.rules.yml")
	for _, text := range append(expressions(t), rules, manual) {
		for _, name := range regexp.MustCompile(`threepid_[a-z_]+`).FindAllString(text, -1) {
			base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
			if !exported[name] && !exported[base] {
				t.Errorf("%s is used but does not exist", name)
			}
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		anchor := "docs/OPERATIONS.md#" + strings.ToLower(m[1])
		if !strings.Contains(manual, "### "+m[1]+"\n") || !strings.Contains(rules, anchor) {
			t.Errorf("%s has no playbook", m[1])
		}
	}
}

// TestPrometheus checks that a real Prometheus scrapes the example, loads the alert rules and returns
// the expected results of queries.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the test waits for scrapes")
	}
	program := needProgram(t, "THREEPID_TEST_PROMETHEUS", "apt-get install prometheus", "prometheus")
	s, ops := startOps(t, "-ops-token", "scraper")
	const base = "/_api/client/v3/account/3pid/msisdn/"
	_, fields := s.post(s.url+base+"requestToken", body)
	code := s.stdout.find(t, `(\d{6}) is your`)
	s.post(s.url+base+"submitToken", `{"client_secret":"my-secret","sid":"`+fields["sid"].(string)+`","token":"`+code+`"}`)

	rules, err := filepath.Abs(filepath.Join(monitoring, "threepid.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, address := t.TempDir(), "127.0.0.1:"+freePorts(t, 1)[0]
	conf := fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [%q]
scrape_configs:
  - {job_name: threepid, authorization: {credentials: scraper}, static_configs: [{targets: [%q]}]}
`, rules, strings.TrimPrefix(ops, "http://"))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	output := &lines{}
	cmd := exec.CommandContext(ctx, program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	for query, want := range map[string]string{
		`up{job="threepid"}`: `"1"`,
		`sum by (provider, country, outcome) (threepid_sms_total)`:    `{"country":"GB","outcome":"accepted","provider":"console"}`,
		`sum by (country, purpose) (threepid_validations_total) == 1`: `{"country":"GB","purpose":"add"}`,
	} {
		address := "http://" + address + "/api/v1/query?query=" + url.QueryEscape(query)
		got := ""
		for end := time.Now().Add(30 * time.Second); !strings.Contains(got, want); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the result of query %s does not contain %s: %s\n%s", query, want, got, output)
			}
			if res, err := http.Get(address); err == nil {
				content, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				got = string(content)
			}
		}
	}
	res, err := http.Get("http://" + address + "/api/v1/rules")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(content), `"health":"ok"`); n != strings.Count(readFile(t, rules), "- alert:") || n == 0 {
		t.Errorf("%d rules are healthy, want all: %s", n, content)
	}
}
