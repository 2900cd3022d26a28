// Package synapse looks up in the database of a Synapse homeserver which numbers have an
// account. It only reads: Synapse itself adds and removes numbers.
//
// Use it where a reverse proxy routes the requestToken endpoints of clients to threepid
// instead of Synapse: see docs/SYNAPSE.md. Give it a database user that may read nothing but
// one table:
//
//	CREATE ROLE threepid LOGIN PASSWORD '…';
//	GRANT SELECT ON user_threepids TO threepid;
package synapse

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"example.com/threepid/store"
)

// Accounts returns a look-up of numbers in Synapse's table user_threepids, on PostgreSQL or
// SQLite, for Options.Accounts. Set Options.OmitEndpoints, or leave Options.Authenticate nil:
// Synapse serves the endpoints for an account's numbers.
func Accounts(db *gorm.DB) store.OwnerFunc {
	return func(ctx context.Context, msisdn string) (userID string, err error) {
		var users []string
		err = db.WithContext(ctx).Table("user_threepids").
			Where("medium = ? AND address = ?", "msisdn", msisdn).Limit(1).Pluck("user_id", &users).Error
		if err != nil {
			return "", fmt.Errorf("synapse: look up the number: %w", err)
		}
		if len(users) == 0 {
			return "", store.ErrNotFound
		}
		return users[0], nil
	}
}
