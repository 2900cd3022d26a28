package vonage

import "example.com/threepid/internal/httpcall"

// ClassOf lets a test compare the codes with docs/PROVIDERS.md.
func ClassOf(status int) (class httpcall.Class, known bool) { return classOf(status) }
