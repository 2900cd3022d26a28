package sqlite

import "database/sql"

// Pools shows the tests the connections of s.
func Pools(s *Store) (writer, reader *sql.DB) { return s.writer, s.reader }
