package threepid

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/phone"
	"example.com/threepid/internal/texts"
)

// warn logs a warning at start for each setting that an operator may have overlooked.
func (o Options) warn(router gin.IRouter, catalog *texts.Catalog) {
	if o.PublicURL == "" {
		o.Logger.Warn("threepid: Options.PublicURL is not set: submit_url repeats the Host header of each request")
	}
	if len(o.Policy.AllowCountries) == 0 {
		o.Logger.Warn("threepid: Options.Policy.AllowCountries is not set: SMS are sent to every country, including the most expensive")
	}
	if engine, ok := router.(*gin.Engine); ok && o.ClientKey == nil && trustsEverybody(engine) {
		o.Logger.Warn("threepid: the router trusts X-Forwarded-For from any client, so clients can evade their limits: " +
			"call SetTrustedProxies before Register, with nil if there is no proxy")
	}
	for _, n := range o.Policy.TestNumbers {
		o.Logger.Warn("threepid: anybody who knows the code of a test number can validate it",
			"number", phone.Mask(n.Number), "until", until(n.Until))
	}
	if o.Limits.Disabled {
		o.Logger.Warn("threepid: Options.Limits.Disabled is set: a client can send any number of SMS")
	}
	if long := o.longTexts(catalog); long != "" {
		o.Logger.Warn("threepid: these texts need more than one SMS each: one SMS holds 160 characters as GSM-7, or 70 as UCS-2",
			"texts", long)
	}
}

// until returns when a test number expires, for the log.
func until(t time.Time) any {
	if t.IsZero() {
		return "removed from the configuration"
	}
	return t
}

// trustsEverybody reports whether the router takes a client's address from a header
// that any client can send. Gin does so until SetTrustedProxies is called.
func trustsEverybody(engine *gin.Engine) bool {
	const stranger, claimed = "192.0.2.1:1", "198.51.100.1" // addresses for documentation: RFC 5737
	c := gin.CreateTestContextOnly(nil, engine)
	header := http.Header{}
	for _, name := range engine.RemoteIPHeaders {
		header.Set(name, claimed)
	}
	c.Request = &http.Request{RemoteAddr: stranger, Header: header}
	return c.ClientIP() == claimed
}

// longTexts lists the texts that are billed as more than one SMS.
func (o Options) longTexts(catalog *texts.Catalog) string {
	var long []string
	for _, size := range catalog.Sizes() {
		if size.Segments > 1 && (size.Kind.HasToken() || o.ConcealAccounts) {
			long = append(long, size.String())
		}
	}
	return strings.Join(long, ", ")
}
