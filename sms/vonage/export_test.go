package vonage

import "example.com/threepid/sms/httpsend"

// ClassOf lets a test compare the codes with docs/PROVIDERS.md.
func ClassOf(status int) (class httpsend.Class, known bool) { return classOf(status) }
