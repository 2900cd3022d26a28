package gateway

import (
	"net/http"
	"net/url"
)

// Kannel returns Options for the sendsms service of a Kannel smsbox, such as
// http://127.0.0.1:13013/cgi-bin/sendsms, as its user guide describes it:
// https://www.kannel.org/download/kannel-userguide-snapshot/userguide.html#AEN4623.
// from is empty if the smsbox has a default sender.
func Kannel(sendsms, user, password, from string) Options {
	return Options{
		URL: sendsms + "?username=" + queryEscape(user) + "&password=" + queryEscape(password) +
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

// Jasmin returns Options for the HTTP API of a Jasmin gateway, such as
// http://127.0.0.1:1401/send: https://docs.jasminsms.com/en/latest/apis/ja-http.
// from is empty if the user has a default source address. Texts that need UCS-2 are sent as
// hex-content, which the user must be authorized to set.
func Jasmin(send, user, password, from string) Options {
	return Options{
		URL: send + "?username=" + queryEscape(user) + "&password=" + queryEscape(password) +
			"{{with .From}}&from={{.}}{{end}}&to={{.Digits}}" +
			"{{if .Unicode}}&coding=8&hex-content={{utf16hex .Text}}{{else}}&coding=0&content={{.Text}}{{end}}" +
			"{{with .ValidityMinutes}}&validity-period={{.}}{{end}}",
		From:     from,
		Accepted: Match{Status: []int{http.StatusOK}, Body: `^Success "`},
		Rejected: Match{Status: []int{http.StatusBadRequest}, Body: `\(destination_address filter mismatch\)`},
		// By their status alone, these would be misconfigured.
		Temporary: Match{
			Status: []int{http.StatusForbidden, http.StatusPreconditionFailed},
			Body:   `^Error "(User throughput exceeded|Failover route has no bound connectors)`,
		},
	}
}

// queryEscape escapes a value for a query, and so also its template actions.
func queryEscape(value string) string { return url.QueryEscape(value) }
