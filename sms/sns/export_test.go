package sns

import "example.com/threepid/internal/httpcall"

// ClassOf lets a test compare the codes with docs/PROVIDERS.md.
func ClassOf(code, words string) (class httpcall.Class, known bool) { return classOf(code, words) }
