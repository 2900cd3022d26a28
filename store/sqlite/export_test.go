package sqlite

import "database/sql"

// Pools returns the connection pools of s to the tests.
func Pools(s *Store) (writer, reader *sql.DB) { return s.writer, s.reader }
