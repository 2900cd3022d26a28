package threepid

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/phone"
	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// config is what the domain is given of the options.
func (o Options) config(st store.Store, sender sms.Sender, catalog *texts.Catalog) verify.Config {
	c := verify.Config{
		Store:           st,
		Accounts:        o.Accounts,
		Sender:          sender,
		Logger:          o.Logger,
		Now:             o.Now,
		Random:          o.Random,
		Text:            textFrom(catalog),
		TokenDigits:     o.TokenDigits,
		TokenLifetime:   o.TokenLifetime,
		SessionLifetime: o.SessionLifetime,
		SendTimeout:     o.SendTimeout,
		SweepInterval:   sweepInterval,
		RequireValid:    o.RequireValidNumbers,
		NextLinkHosts:   o.NextLinkHosts,
		Policy:          o.Policy.rules(),
		Limits:          o.Limits,
		Guard:           o.Guard,
		Conceal:         o.ConcealAccounts,
		TestNumbers:     testNumberRules(o.TestNumbers),
		Delegate:        o.Delegate,
		ServerKeys:      o.ServerKeys,
	}
	return c
}

// warn tells at start what an operator may have overlooked.
func (o Options) warn(router gin.IRouter) {
	if o.PublicURL == "" {
		o.Logger.Warn("threepid: Options.PublicURL is not set: submit_url repeats the Host header of each request")
	}
	if len(o.Policy.AllowCountries) == 0 {
		o.Logger.Warn("threepid: Options.Policy.AllowCountries is not set: texts go to every country, also to the dearest")
	}
	if engine, ok := router.(*gin.Engine); ok && o.Client == nil && trustsEverybody(engine) {
		o.Logger.Warn("threepid: the router believes anybody's X-Forwarded-For, so that clients can escape their limits: " +
			"call SetTrustedProxies before Register, with nil if there is no proxy")
	}
	for _, n := range o.TestNumbers {
		o.Logger.Warn("threepid: a test number is validated by everybody who knows its code, and never texted",
			"number", phone.Mask(n.Number), "until", until(n.Until))
	}
	if o.Limits.Disabled {
		o.Logger.Warn("threepid: Options.Limits.Disabled is set: anybody can have any number of SMS sent")
	}
}

// until is a test number's end, for the log.
func until(t time.Time) any {
	if t.IsZero() {
		return "it is taken out"
	}
	return t
}

// trustsEverybody tries whether the router takes a stranger's word for where a
// request comes from. Gin does unless it is told its proxies.
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
