package gateway

import (
	"net/http"
	"net/url"
)

// Kannel is for the sendsms service of a Kannel smsbox, such as
// http://127.0.0.1:13013/cgi-bin/sendsms, as its user guide describes it:
// https://www.kannel.org/download/kannel-userguide-snapshot/userguide.html#AEN4623.
// from is empty when the smsbox has a sender of its own.
func Kannel(sendsms, user, password, from string) Options {
	return Options{
		URL: sendsms + "?username=" + literal(user) + "&password=" + literal(password) +
			"{{with .From}}&from={{.}}{{end}}&to={{.To}}&text={{.Text}}&charset=UTF-8&coding={{if .Unicode}}2{{else}}0{{end}}" +
			"{{with .ValidityMinutes}}&validity={{.}}{{end}}",
		From:     from,
		Accepted: Match{Status: []int{http.StatusAccepted}, Body: `^(0: |3: |Sent\.)`},
		Rejected: Match{
			Status: []int{http.StatusBadRequest, http.StatusForbidden},
			Body:   `^(Not routable\.|Number\(s\) has/have been denied)`,
		},
	}
}

// Jasmin is for the HTTP API of a Jasmin gateway, such as
// http://127.0.0.1:1401/send: https://docs.jasminsms.com/en/latest/apis/ja-http.
// from is empty when the user has a default source address. What needs UCS-2
// goes as hex-content, which the user must be authorized to set.
func Jasmin(send, user, password, from string) Options {
	return Options{
		URL: send + "?username=" + literal(user) + "&password=" + literal(password) +
			"{{with .From}}&from={{.}}{{end}}&to={{.Digits}}" +
			"{{if .Unicode}}&coding=8&hex-content={{utf16hex .Text}}{{else}}&coding=0&content={{.Text}}{{end}}" +
			"{{with .ValidityMinutes}}&validity-period={{.}}{{end}}",
		From:     from,
		Accepted: Match{Status: []int{http.StatusOK}, Body: `^Success "`},
		Rejected: Match{Status: []int{http.StatusBadRequest}, Body: `\(destination_address filter mismatch\)`},
		// By their statuses alone, these would be for the operator to fix.
		Temporary: Match{
			Status: []int{http.StatusForbidden, http.StatusPreconditionFailed},
			Body:   `^Error "(User throughput exceeded|Failover route has no bound connectors)`,
		},
	}
}

// literal is a value in a query that no template is read from.
func literal(value string) string { return url.QueryEscape(value) }
