package verify

import (
	"time"

	"example.com/threepid/store"
)

// TestNumber is a number that is sent no SMS: its token is always the same.
type TestNumber struct {
	Token string
	Until time.Time // zero: without end
}

// testNumber returns the test number that msisdn is at this time.
func (s *Service) testNumber(msisdn string) (TestNumber, bool) {
	n, ok := s.TestNumbers[msisdn]
	if !ok || !n.Until.IsZero() && !s.Now().Before(n.Until) {
		return TestNumber{}, false
	}
	return n, true
}

// code is the token of a session, or empty if its server key is unknown.
func (s *Service) code(sess store.Session, clientSecret string) string {
	if n, ok := s.testNumber(sess.MSISDN); ok {
		return n.Token
	}
	key, known := s.keys.of(sess)
	if !known {
		return "" // which is never right: see right
	}
	return token(key, sess, clientSecret, s.TokenDigits)
}
