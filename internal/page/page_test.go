package page_test

import (
	"strings"
	"testing"

	"example.com/threepid/internal/page"
)

// TestPageEscapes has a sentence with markup in it be shown, not run.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	p, err := page.New()
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	if err := p.Render(&shown, false, `<script>alert("1")</script>`); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown.String(), "<script") || !strings.Contains(shown.String(), "&lt;script&gt;") {
		t.Errorf("page %s", shown.String())
	}
}
