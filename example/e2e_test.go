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

// TestBrowser has the page used in Chromium, by the tests in e2e/browser.
func TestBrowser(t *testing.T) {
	t.Parallel()
	needPackages(t, "playwright-core", "axe-core")
	chromium := needProgram(t, "THREEPID_TEST_CHROMIUM", "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	runNode(t, "browser",
		"THREEPID_CHROMIUM="+chromium,
		"THREEPID_URL="+start(t).url+"/",
		"THREEPID_LIMITED_URL="+start(t, "-limits", "default").url+"/")
}

// TestClients has clients talk to the example: matrix-js-sdk, as Element does, and
// one that knows the endpoint's document and nothing else. They start it
// themselves, since the codes are on its console.
func TestClients(t *testing.T) {
	t.Parallel()
	needPackages(t, "matrix-js-sdk")
	self, err := os.Executable() // which is the example as well: see TestMain
	if err != nil {
		t.Fatal(err)
	}
	runNode(t, "client", "THREEPID_EXAMPLE="+self, asExample+"=1")
}

// needPackages skips when packages of npm are missing.
func needPackages(t *testing.T, packages ...string) {
	t.Helper()
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join("e2e", "node_modules", name)); err != nil {
			t.Skipf("%s is missing: cd example/e2e && npm ci", name)
		}
	}
}

// needProgram returns the path that the variable has, or of the first program
// that is there, and skips when none is.
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
	t.Skipf("no %s: %s, or say where it is with %s", programs[0], remedy, variable)
	return ""
}

// runNode runs the tests of a folder of e2e, one file after the other: they share
// the servers that the environment tells them of.
func runNode(t *testing.T, folder string, env ...string) {
	t.Helper()
	node := needProgram(t, "THREEPID_TEST_NODE", "install Node.js 20 or newer", "node")
	files, err := filepath.Glob(filepath.Join("e2e", folder, "*.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--test", "--test-concurrency=1", "--test-reporter=spec"}
	for _, file := range files {
		// go test runs this again when a file that it has seen opened has changed.
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
		t.Errorf("not all of it was tested:\n%s", output)
	}
}
