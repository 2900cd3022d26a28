package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestBrowser runs the tests in e2e/browser, which use the page in Chromium.
func TestBrowser(t *testing.T) {
	t.Parallel()
	needPackages(t, "playwright-core", "axe-core")
	chromium := needProgram(t, "THREEPID_TEST_CHROMIUM", "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	runNode(t, "browser",
		"THREEPID_CHROMIUM="+chromium,
		"THREEPID_URL="+start(t).url+"/",
		"THREEPID_LIMITED_URL="+start(t, "-limits", "default").url+"/")
}

// TestClients runs the tests in e2e/client: matrix-js-sdk, which Element uses, and a
// client that relies only on the documentation of the endpoints. They start the example
// themselves, because they read the codes from its console.
func TestClients(t *testing.T) {
	t.Parallel()
	needPackages(t, "matrix-js-sdk")
	self, err := os.Executable() // it can also run as the example: see TestMain
	if err != nil {
		t.Fatal(err)
	}
	runNode(t, "client", "THREEPID_EXAMPLE="+self, asExample+"=1")
}

// needPackages skips the test if an npm package is missing.
func needPackages(t *testing.T, packages ...string) {
	t.Helper()
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join("e2e", "node_modules", name)); err != nil {
			t.Skipf("%s is missing: cd example/e2e && npm ci", name)
		}
	}
}

// needProgram returns the value of the environment variable or, if that is not set, the
// path of the first program that is installed. It skips the test if there is none.
func needProgram(t *testing.T, variable, remedy string, programs ...string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	t.Skipf("%s is missing: %s, or set its path in %s", programs[0], remedy, variable)
	return ""
}

// runNode runs the tests in a folder of e2e. It runs one file after the other, because
// they share the servers whose URLs are in the environment.
func runNode(t *testing.T, folder string, env ...string) {
	t.Helper()
	node := needProgram(t, "THREEPID_TEST_NODE", "install Node.js 20 or newer", "node")
	files, err := filepath.Glob(filepath.Join("e2e", folder, "*.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--test", "--test-concurrency=1", "--test-reporter=spec"}
	for _, file := range files {
		// Reading the file makes go test run this test again after the file has changed.
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if match, _ := filepath.Match("*.test.mjs", filepath.Base(file)); match {
			args = append(args, file)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, output)
	}
	t.Logf("%s", output)
	if !regexp.MustCompile(`pass [1-9]`).Match(output) || !bytes.Contains(output, []byte("skipped 0")) {
		t.Errorf("no test passed, or some were skipped:\n%s", output)
	}
}
