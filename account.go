package threepid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/verify"
	"example.com/threepid/internal/wire"
	"example.com/threepid/store"
)

// Errors that Options.Authenticate returns, also wrapped.
var (
	// ErrMissingToken means that the request names no user: 401 M_MISSING_TOKEN.
	ErrMissingToken = errors.New("threepid: no access token")

	// ErrUnknownToken means that the request's token is not, or no longer, any
	// user's: 401 M_UNKNOWN_TOKEN.
	ErrUnknownToken = errors.New("threepid: unknown access token")
)

// errAnswered ends a request that the host has answered.
var errAnswered = errors.New("threepid: the host has answered")

// forUser identifies the user, calls serve, and writes what it returns.
func (h *handler) forUser(serve func(ctx context.Context, userID string, body []byte) (any, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		answer, err := h.serveUser(c, serve)
		switch {
		case errors.Is(err, errAnswered):
		case err != nil:
			h.refuse(c, err)
		default:
			writeJSON(c, http.StatusOK, answer)
		}
	}
}

func (h *handler) serveUser(c *gin.Context, serve func(context.Context, string, []byte) (any, error)) (any, error) {
	var body []byte
	if c.Request.Method == http.MethodPost {
		var err error
		if body, err = h.readBody(c); err != nil {
			return nil, err
		}
		// The host reads it too: user-interactive authentication has its part of it.
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
	}
	userID, err := h.user(c)
	if err != nil {
		return nil, err
	}
	answer, err := serve(c.Request.Context(), userID, body)
	if errors.Is(err, store.ErrUnsupported) {
		err = fmt.Errorf("%w: Options.Accounts only looks numbers up; leave the account's endpoints out with Options.OmitEndpoints", err)
	}
	return answer, err
}

// user asks the host who makes the request.
func (h *handler) user(c *gin.Context) (string, error) {
	userID, err := h.opts.Authenticate(c)
	switch {
	case c.Writer.Written(), c.IsAborted() && c.Writer.Status() != http.StatusOK:
		return "", errAnswered
	case errors.Is(err, ErrUnknownToken):
		return "", verify.Errorf(verify.UnknownToken, "You are not logged in any more. Log in again.")
	case errors.Is(err, ErrMissingToken), err == nil && userID == "":
		return "", verify.Errorf(verify.MissingToken, "Log in first: the request has no access token")
	case err != nil:
		// Not wrapped: what the host's error is to others, it is not to us.
		return "", fmt.Errorf("threepid: Options.Authenticate: %v", err) //nolint:errorlint // see above
	case c.IsAborted():
		return "", errors.New("threepid: Options.Authenticate has aborted the request without a status")
	}
	if err := checkUserID(userID); err != nil {
		return "", fmt.Errorf("threepid: Options.Authenticate: %w", err)
	}
	return userID, nil
}

// numbersBody answers GET /account/3pid.
type numbersBody struct {
	ThreePIDs []numberBody `json:"threepids"`
}

// numberBody is one number of an account. Times are Unix milliseconds.
type numberBody struct {
	Medium      string `json:"medium"`
	Address     string `json:"address"`
	ValidatedAt int64  `json:"validated_at"`
	AddedAt     int64  `json:"added_at"`
}

// listNumbers serves GET /account/3pid: Matrix client-server API, "Adding
// Account Administrative Contact Information".
func (h *handler) listNumbers(ctx context.Context, userID string, _ []byte) (any, error) {
	list, err := h.service.Numbers(ctx, userID)
	answer := numbersBody{ThreePIDs: make([]numberBody, 0, len(list))}
	for _, a := range list {
		answer.ThreePIDs = append(answer.ThreePIDs, numberBody{
			Medium: verify.MediumMSISDN, Address: a.MSISDN, ValidatedAt: a.ValidatedAt, AddedAt: a.AddedAt,
		})
	}
	return answer, err
}

// addNumber serves POST /account/3pid/add.
func (h *handler) addNumber(ctx context.Context, userID string, body []byte) (any, error) {
	addition, err := wire.Addition(body)
	if err != nil {
		return nil, err
	}
	return struct{}{}, h.service.Add(ctx, userID, addition)
}

// addNumberLegacy serves the deprecated POST /account/3pid, whose specification has
// another status for a validation that does not count.
func (h *handler) addNumberLegacy(ctx context.Context, userID string, body []byte) (any, error) {
	addition, err := wire.LegacyAddition(body)
	if err != nil {
		return nil, err
	}
	err = h.service.Add(ctx, userID, addition)
	var refusal *verify.Error
	if errors.As(err, &refusal) && refusal.Code == verify.AuthFailed {
		err = &verify.Error{Code: verify.AuthFailedLegacy, Message: refusal.Message}
	}
	return struct{}{}, err
}

// deleteNumber serves POST /account/3pid/delete. No identity server is told:
// the number was never bound to one.
func (h *handler) deleteNumber(ctx context.Context, userID string, body []byte) (any, error) {
	removal, err := wire.Removal(body)
	if err != nil {
		return nil, err
	}
	return gin.H{"id_server_unbind_result": "no-support"}, h.service.Remove(ctx, userID, removal)
}
