package threepid

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
)

// sentence returns the sentence for the page that GET submitToken shows: it explains the
// error, or reports success if err is nil.
func sentence(p texts.Page, err error) string {
	var refusal *verify.Error
	switch {
	case err == nil:
		return p.Confirmed
	case !errors.As(err, &refusal):
		return p.Failed
	}
	switch refusal.Code {
	case verify.MissingParam:
		return p.IncompleteLink
	case verify.InvalidParam:
		return p.InvalidLink
	case verify.TokenIncorrect:
		if refusal.TriesLeft == 0 {
			return p.LastTry
		}
		return strings.ReplaceAll(p.WrongCode, "{tries}", strconv.Itoa(refusal.TriesLeft))
	case verify.SessionExpired:
		return p.Expired
	case verify.Limited:
		return strings.ReplaceAll(p.Limited, "{wait}", roundForHumans(p, refusal.RetryAfter))
	case verify.TooLarge, verify.NotJSON, verify.BadJSON, verify.InvalidNumber, verify.Denied, verify.InUse, verify.NotAssociated,
		verify.DestinationRejected, verify.SendFailed, verify.ServerNotTrusted, verify.MissingToken, verify.UnknownToken, verify.AuthFailed,
		verify.AuthFailedLegacy, verify.CheckFailed: // errors of other endpoints, of request bodies, or internal
	}
	return p.Failed
}

// roundForHumans returns a waiting time in hours or minutes, rounded up.
func roundForHumans(p texts.Page, wait time.Duration) string {
	if wait > 2*time.Hour {
		return fmt.Sprintf("%.0f %s", math.Ceil(wait.Hours()), p.Hours)
	}
	return fmt.Sprintf("%.0f %s", math.Ceil(wait.Minutes()), p.Minutes)
}
