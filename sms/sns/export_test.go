package sns

import "example.com/threepid/sms/httpsend"

// ClassOf lets a test compare the codes with docs/PROVIDERS.md.
func ClassOf(code, words string) (class httpsend.Class, known bool) { return classOf(code, words) }
