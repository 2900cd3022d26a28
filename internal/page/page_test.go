package page_test

import (
	"strings"
	"testing"

	"example.com/threepid/internal/page"
	"example.com/threepid/internal/texts"
)

// TestRenderEscapes checks that no text on the page is interpreted as markup.
func TestRenderEscapes(t *testing.T) {
	t.Parallel()
	p, err := page.New()
	if err != nil {
		t.Fatal(err)
	}
	const evil = `"><script>alert(1)</script>`
	words := texts.Page{Language: evil, Direction: evil, ConfirmedTitle: evil, FailedTitle: evil}
	for _, done := range []bool{true, false} {
		var b strings.Builder
		if err := p.Render(&b, words, done, evil); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "<script") || strings.Contains(b.String(), `lang="">`) || strings.Count(b.String(), "&lt;script&gt;") != 5 {
			t.Errorf("%s", b.String())
		}
	}
}
