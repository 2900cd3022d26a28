package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuides checks that all flags in the guides, the systemd unit and its environment file exist.
func TestGuides(t *testing.T) {
	t.Parallel()
	output, _ := command(t.Context(), t, "-help").CombinedOutput()
	flags := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(string(output), -1) {
		flags[m[1]] = true
	}
	if !flags["listen"] {
		t.Fatalf("the output of -help lists no flags:\n%s", output)
	}
	for _, file := range []string{"../docs/SYNAPSE.md", "deploy/threepid.service", "deploy/env", "../README.md", "../docs/SCALING.md"} {
		content, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if !strings.Contains(line, "threepid ") && !strings.Contains(line, "FLAGS=") && !strings.Contains(line, "./example ") {
				continue
			}
			line, _, _ = strings.Cut(line, "$THREEPID_FLAGS")
			for _, m := range regexp.MustCompile(` -([a-z][a-z-]+)`).FindAllStringSubmatch(line, -1) {
				if !flags[m[1]] && !strings.Contains(line, "install ") && !strings.Contains(line, "go build") {
					t.Errorf("%s uses -%s, which does not exist: %s", file, m[1], line)
				}
			}
		}
	}
}
