package threepid

import (
	"example.com/threepid/internal/texts"
)

// Messages configure the text of the SMS.
type Messages struct {
	// Brand is the name of your service in the SMS, at most 40 characters long:
	// "123456 is your Example code." Defaults to none: "123456 is your verification code."
	Brand string

	// Language is the language of SMS and pages for a client whose Accept-Language
	// header names no available language. It is the BCP 47 tag of a built-in language
	// (docs/TEXTS.md) or of a language in Templates. Defaults to "en".
	Language string

	// Templates replace built-in texts, or add languages, by BCP 47 tag. Register returns
	// an error for an invalid template, and logs a warning if a text needs more than one
	// SMS. Defaults to the built-in texts.
	Templates map[string]Templates

	// WebOTPDomain appends a line such as "@example.com #123456" to an SMS with a code.
	// Browsers then fill the code in on that site only:
	// https://wicg.github.io/sms-one-time-codes/. It is a host name in lower case.
	// Defaults to none.
	WebOTPDomain string

	// AndroidAppHash appends a line with this hash to an SMS with a code. Android's SMS
	// Retriever then passes the SMS to the app with that hash. It has 11 characters. The
	// line of WebOTPDomain, if any, follows it. Defaults to none.
	AndroidAppHash string
}

// Templates are the texts of one language, in the syntax of package text/template. An
// empty template keeps the built-in text; docs/TEXTS.md lists the built-in texts.
//
// Add, Register and Password have three fields: .Token is the code, and must be used
// unchanged; .Brand may be empty; .Minutes is how long the code is valid. The other
// templates carry no code and have only .Brand. The only control character allowed is a
// line feed.
type Templates struct {
	Add      string // a number is added to an account
	Register string // an account is registered
	Password string // a password is reset, and the text should say so

	// These SMS are sent only if Options.ConcealAccounts is set: TakenAdd and TakenRegister
	// if an account already has the number to add or register; Unknown if a password is to
	// be reset, but no account has the number.
	TakenAdd      string
	TakenRegister string
	Unknown       string
}

// catalog parses the templates.
func (o Options) catalog() (*texts.Catalog, error) {
	m := o.Messages
	custom := make(map[string]map[texts.Kind]string, len(m.Templates))
	for tag, t := range m.Templates {
		custom[tag] = map[texts.Kind]string{
			texts.Add: t.Add, texts.Register: t.Register, texts.Password: t.Password,
			texts.TakenAdd: t.TakenAdd, texts.TakenRegister: t.TakenRegister, texts.Unknown: t.Unknown,
		}
	}
	return texts.New(texts.Config{
		Language: m.Language, Brand: m.Brand, Custom: custom,
		Digits: o.TokenDigits, Minutes: max(1, int(o.TokenLifetime.Minutes())),
		WebOTPDomain: m.WebOTPDomain, AndroidAppHash: m.AndroidAppHash,
	})
}
