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

// Errors that Options.Authenticate returns. They may be wrapped.
var (
	// ErrMissingToken means that the request has no access token: 401 M_MISSING_TOKEN.
	ErrMissingToken = errors.New("threepid: no access token")

	// ErrUnknownToken means that the access token is invalid, or no longer valid:
	// 401 M_UNKNOWN_TOKEN.
	ErrUnknownToken = errors.New("threepid: unknown access token")
)

// errResponded means that the host has written the response itself.
var errResponded = errors.New("threepid: the host has responded")

// forUser identifies the user, calls serve, and writes the result of serve.
func (h *handler) forUser(serve func(ctx context.Context, userID string, body []byte) (any, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		response, err := h.serveUser(c, serve)
		switch {
		case errors.Is(err, errResponded):
		case err != nil:
			h.service.ObserveRefusal(c.Request.Context(), err, "", "")
			h.refuse(c, err)
		default:
			writeJSON(c, http.StatusOK, response)
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
		// Authenticate may read the body too: the fields of user-interactive authentication are in it.
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
	}
	userID, err := h.user(c)
	if err != nil {
		return nil, err
	}
	response, err := serve(c.Request.Context(), userID, body)
	if errors.Is(err, store.ErrUnsupported) {
		err = fmt.Errorf("%w: Options.Accounts only looks numbers up; leave the account's endpoints out with Options.OmitEndpoints", err)
	}
	return response, err
}

// user returns the ID of the user who makes the request.
func (h *handler) user(c *gin.Context) (string, error) {
	userID, err := h.opts.Authenticate(c)
	switch {
	case c.Writer.Written(), c.IsAborted() && c.Writer.Status() != http.StatusOK:
		return "", errResponded
	case errors.Is(err, ErrUnknownToken):
		return "", verify.Errorf(verify.UnknownToken, "You are not logged in any more. Log in again.")
	case errors.Is(err, ErrMissingToken), err == nil && userID == "":
		return "", verify.Errorf(verify.MissingToken, "Log in first: the request has no access token")
	case err != nil:
		// Not wrapped: the host's error must not match a sentinel of this package.
		return "", fmt.Errorf("threepid: Options.Authenticate: %v", err) //nolint:errorlint // see above
	case c.IsAborted():
		return "", errors.New("threepid: Options.Authenticate aborted the request without setting a status")
	}
	if err := checkUserID(userID); err != nil {
		return "", fmt.Errorf("threepid: Options.Authenticate: %w", err)
	}
	return userID, nil
}

// numbersBody is the response of GET /account/3pid.
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

// addNumberLegacy serves the deprecated POST /account/3pid, which responds to a missing
// validation with a different status.
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

// deleteNumber serves POST /account/3pid/delete. It contacts no identity server, because the
// number was never bound to one.
func (h *handler) deleteNumber(ctx context.Context, userID string, body []byte) (any, error) {
	removal, err := wire.Removal(body)
	if err != nil {
		return nil, err
	}
	return gin.H{"id_server_unbind_result": "no-support"}, h.service.Remove(ctx, userID, removal)
}
