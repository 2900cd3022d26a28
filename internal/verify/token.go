package verify

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"example.com/threepid/store"
)

const (
	nonceSize = 32 // bytes
	sidRandom = 18 // random bytes of a sid, beyond its time: 144 bits

	// maxTypedToken is in bytes. It leaves room for what a clipboard adds to a code.
	maxTypedToken = 255
)

// token derives the code of a session: the first decimal digits of
// HMAC-SHA256(server key ‖ nonce, purpose ‖ client_secret ‖ sid), truncated as HOTP
// does (RFC 4226, section 5.3). The row alone does not determine it, because client_secret
// is not stored. The client alone cannot compute it, because the nonce is never sent.
// Both together can, unless there is a server key.
//
// The purpose is part of it, so that a code which somebody gave away to "add a number" does
// not reset a password.
func token(key []byte, s store.Session, clientSecret string, digits int) string {
	mac := hmac.New(sha256.New, key)
	// NUL occurs in none of the parts.
	_, _ = io.WriteString(mac, "token\x00"+string(s.Purpose)+"\x00"+clientSecret+"\x00"+s.SID)
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0x0f
	n := uint64(binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff)
	mod := uint64(1)
	for range digits {
		mod *= 10
	}
	code := strconv.FormatUint(n%mod, 10)
	return strings.Repeat("0", digits-len(code)) + code
}

// messageID names the SMS of one attempt. It depends on the nonce, as the token does, so
// that a gateway that deduplicates by ID never drops an SMS with a new token.
func messageID(s store.Session, attempt int64) string {
	mac := hmac.New(sha256.New, s.Nonce)
	_, _ = io.WriteString(mac, "message\x00"+string(s.Purpose)+"\x00"+s.SID+"\x00"+strconv.FormatInt(attempt, 10))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// sameToken compares what a person typed with the token, in constant time.
func sameToken(typed, want string) bool {
	return subtle.ConstantTimeCompare([]byte(normalizeToken(typed)), []byte(want)) == 1
}

// normalizeToken undoes what keyboards, clipboards and typesetting do to a code: it removes
// spaces, hyphens and invisible marks, and turns any script's decimal digits into ASCII. What
// is too long for a code becomes empty, which is never right.
func normalizeToken(typed string) string {
	if len(typed) > maxTypedToken {
		return ""
	}
	return strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9':
			return r
		case unicode.IsSpace(r), unicode.Is(unicode.Pd, r), unicode.Is(unicode.Cf, r):
			return -1
		case unicode.Is(unicode.Nd, r):
			return asciiDigit(r)
		default:
			return r
		}
	}, typed)
}

// asciiDigit maps a decimal digit of any script to ASCII. Unicode encodes the ten digits of
// each script in order, next to nothing but other such tens, so the number of digits before
// one, modulo ten, is its value.
func asciiDigit(r rune) rune {
	before := rune(0)
	for unicode.Is(unicode.Nd, r-before-1) {
		before++
	}
	return '0' + before%10
}

// secrets are the random values that a claim may need, drawn before the store's lock.
type secrets struct {
	sid     string
	nonce   []byte
	claimID string
	keys    serverKeys
}

func drawSecrets(random io.Reader, now time.Time) (secrets, error) {
	buf := make([]byte, nonceSize+sidRandom+16)
	if _, err := io.ReadFull(random, buf); err != nil {
		return secrets{}, fmt.Errorf("threepid: read randomness: %w", err)
	}
	nonce, rest := buf[:nonceSize], buf[nonceSize:]
	return secrets{
		sid:     newSID(now, rest[:sidRandom]),
		nonce:   nonce,
		claimID: hex.EncodeToString(rest[sidRandom:]),
	}, nil
}

// newSID puts the time before the random part, so that successive rows are adjacent in the
// index. The alphabet keeps that order, and has one case for databases that ignore case.
func newSID(now time.Time, random []byte) string {
	raw := make([]byte, 8, 8+len(random))
	binary.BigEndian.PutUint64(raw, uint64(now.UnixMilli()))
	raw = append(raw[2:], random...)
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
}

// code returns the token of a session, or an empty one, which is never right, if its
// server key is unknown.
func (s *Service) code(sess store.Session, clientSecret string) string {
	if n, ok := s.testNumber(sess.MSISDN); ok {
		return n.Code
	}
	key, known := s.keys.of(sess)
	if !known {
		return ""
	}
	return token(key, sess, clientSecret, s.TokenDigits)
}
