package gateway

import "net/url"

// Kannel is for the sendsms service of a Kannel smsbox, such as
// http://127.0.0.1:13013/cgi-bin/sendsms, as its user guide describes it:
// https://www.kannel.org/download/kannel-userguide-snapshot/userguide.html#AEN4623.
func Kannel(sendsms, user, password, from string) Options {
	return Options{
		URL: sendsms + "?username=" + literal(user) + "&password=" + literal(password) +
			"&from={{query .From}}&to={{query .To}}&text={{query .Text}}&charset=UTF-8{{if .Unicode}}&coding=2{{end}}",
		From:          from,
		Accepted:      Match{Status: []int{202}, Body: `^(0|3): `},
		Rejected:      Match{Body: `Not routable|denied by white- and/or black-lists`},
		Misconfigured: Match{Body: `Authorization failed|Sender missing|Empty|rejected|not allowed`},
		Temporary:     Match{Body: `Temporal failure|Temporary failure`},
	}
}

// Jasmin is for the HTTP API of a Jasmin gateway, such as
// http://127.0.0.1:1401/send: https://docs.jasminsms.com/en/latest/apis/ja-http.
func Jasmin(send, user, password, from string) Options {
	return Options{
		URL: send + "?username=" + literal(user) + "&password=" + literal(password) +
			"&from={{query .From}}&to={{query .Digits}}{{if .Unicode}}&coding=8&hex-content={{utf16hex .Text}}{{else}}&coding=0&content={{query .Text}}{{end}}",
		From:          from,
		Accepted:      Match{Status: []int{200}, Body: `^Success`},
		Misconfigured: Match{Status: []int{400, 403, 404, 412}},
		Temporary:     Match{Status: []int{500, 503}},
	}
}

// literal is a value in a query that no template is read from.
func literal(value string) string { return url.QueryEscape(value) }
