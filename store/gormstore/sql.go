package gormstore

import (
	"fmt"
	"slices"
	"strings"
)

// The SQL of each dialect. Names and rows are passed as JSON, in one parameter for each table, so
// that one statement serves batches of any size on any driver. Each key is looked up in its index,
// whatever the planner assumes about the size of a table.

// kind is the type of a column, and how JSON represents it.
type kind int

const (
	text   kind = iota
	number      // 64 bits
	binary      // in hexadecimal digits
)

// column is a column of a table, and the JSON field that holds its value.
type column struct {
	name, field string
	kind        kind
}

// table is a table whose rows have versions.
type table struct {
	name, index string // index: of its key, for MySQL
	columns     []column
}

// key is the column that identifies a row.
func (t table) key() column { return t.columns[0] }

func sessionTable() table {
	return table{"threepid_sessions", "threepid_sessions_session_key", []column{
		{"session_key", "Key", binary},
		{"sid", "SID", text},
		{"msisdn", "MSISDN", text},
		{"country", "Country", text},
		{"purpose", "Purpose", text},
		{"next_link", "NextLink", text},
		{"attempt", "Attempt", number},
		{"claim_id", "ClaimID", text},
		{"claim_attempt", "ClaimAttempt", number},
		{"lease_until", "LeaseUntil", number},
		{"outcome", "Outcome", text},
		{"nonce", "Nonce", binary},
		{"token_expires_at", "TokenExpiresAt", number},
		{"wrong_tries", "WrongTries", number},
		{"decoy", "Decoy", number},
		{"texts", "Texts", number},
		{"client", "Client", text},
		{"client_texts", "ClientTexts", number},
		{"handle", "DelegateID", text},
		{"proof", "AcceptedTokenDigest", text},
		{"epoch", "Epoch", text},
		{"key_id", "KeyID", text},
		{"attempt_purpose", "AttemptPurpose", text},
		{"provider", "Provider", text},
		{"validated_at", "ValidatedAt", number},
		{"redeemed_at", "RedeemedAt", number},
		{"created_at", "CreatedAt", number},
		{"expires_at", "ExpiresAt", number},
		{"version", "Version", number},
	}}
}

func recordTable() table {
	return table{"threepid_records", "PRIMARY", []column{
		{"record_key", "Key", binary}, {"state", "State", text}, {"expires_at", "ExpiresAt", number}, {"version", "Version", number},
	}}
}

func tables() [2]table { return [2]table{sessionTable(), recordTable()} }

// dialect is the SQL of a database.
//
// read takes sessions by key, sessions by sid, and records, each as a JSON array of strings. It
// returns one row for each that exists: 0 for a session or 1 for a record, the key, the version,
// the expiry, and the session as JSON or the record's state.
//
// The statements that write take JSON arrays of rows. In each row, Was is the required version, 0
// if the row must be absent, and Version is the new version.
type dialect struct {
	read string

	// readLatest is like read, but also sees what was committed after the transaction began. Empty:
	// use read.
	readLatest string

	// write stores all sessions and records, or none. It returns one row: the keys of the sessions
	// and of the records that prevented the write, comma-separated. A locked row prevents write;
	// writeWaiting waits for it.
	write, writeWaiting string

	// block returns the text of write, for databases that need a new text for each write.
	block func(rows [2]string) string

	// Databases without write use a transaction. lock locks rows and returns the keys of those that
	// do not have the required version. put then stores rows, and fails if a row has appeared in
	// the meantime.
	lock func(t table, param, into string, waiting bool) string
	put  func(t table, param string) []string

	// begin takes the write lock in a transaction, so that no row can change. putOne stores one row
	// with its values as parameters. updateOne stores one whose indexed columns do not change:
	// SQLite rewrites the index entry of each indexed column that a statement names, and each is
	// another page to sync.
	begin             string
	putOne, updateOne [2]string
	fields            [2]fields

	expire func(table string) string // deletes the rows that expired at or before a time, at most a number of them
}

func list(columns []column, each func(column) string) string {
	var parts []string
	for _, c := range columns {
		parts = append(parts, each(c))
	}
	return strings.Join(parts, ", ")
}

func columnName(c column) string { return c.name }

// readText returns the three look-ups of a read as one query.
func readText(object string, look func(t table, by column, n int) string) string {
	s, r := sessionTable(), recordTable()
	return "SELECT 0, t.session_key, t.version, t.expires_at, " + object + " FROM " + look(s, s.key(), 1) +
		" UNION ALL SELECT 0, t.session_key, t.version, t.expires_at, " + object + " FROM " + look(s, s.columns[1], 2) +
		" UNION ALL SELECT 1, t.record_key, t.version, t.expires_at, t.state FROM " + look(r, r.key(), 3)
}

// objectOf returns SQL for a session as a JSON object.
func objectOf(function, hex string) string {
	return function + "(" + list(sessionTable().columns, func(c column) string {
		if c.kind == binary {
			return "'" + c.field + "', " + fmt.Sprintf(hex, "t."+c.name)
		}
		return "'" + c.field + "', t." + c.name
	}) + ")"
}

// postgres returns the dialect of PostgreSQL and compatible databases. Its statements call
// functions, which Migrate creates.
func postgres() dialect {
	return dialect{
		read:         fmt.Sprintf("SELECT * FROM threepid_read_%d($1, $2, $3)", schemaVersion),
		write:        fmt.Sprintf("SELECT * FROM threepid_write_%d($1, $2, false)", schemaVersion),
		writeWaiting: fmt.Sprintf("SELECT * FROM threepid_write_%d($1, $2, true)", schemaVersion),
		expire: func(table string) string {
			return fmt.Sprintf("SELECT FROM %s_expire_%d($1, $2)", table, schemaVersion)
		},
	}
}

// postgresFunctions are the functions that read, write and delete. PostgreSQL plans a function once
// for each connection, and only a function can set the options for that: no sequential scans, which
// would be best only while a table is tiny.
func postgresFunctions() []string {
	const plan = " LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$\n#variable_conflict use_column\n"
	look := func(t table, by column, n int) string {
		value := "n.k"
		if by.kind == binary {
			value = "decode(n.k, 'hex')"
		}
		return fmt.Sprintf("json_array_elements_text($%d::json) AS n(k) CROSS JOIN LATERAL (SELECT * FROM %s WHERE %s = %s OFFSET 0) AS t",
			n, t.name, by.name, value)
	}
	read := fmt.Sprintf("CREATE OR REPLACE FUNCTION threepid_read_%d(text, text, text)"+
		" RETURNS TABLE (kind int, key bytea, version bigint, expires_at bigint, content text)%sBEGIN RETURN QUERY %s; END $$",
		schemaVersion, plan, readText(objectOf("json_build_object", "encode(%s, 'hex')")+"::text", look))
	functions := []string{read, postgresWrite(plan)}
	for _, table := range tablesThatExpire() {
		functions = append(functions, fmt.Sprintf("CREATE OR REPLACE FUNCTION %[1]s_expire_%[2]d(bigint, bigint) RETURNS SETOF int%[3]sBEGIN RETURN QUERY"+
			" DELETE FROM %[1]s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %[1]s WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))"+
			" RETURNING 1; END $$", table, schemaVersion, plan))
	}
	return functions
}

// postgresWrite returns the function that writes. Each call is a transaction of its own, so a
// client that stops at any point holds no lock. The function locks the existing rows and compares
// their versions. If all match, it inserts and updates the rows. If the number of written rows is
// wrong, because another transaction has just inserted one of them, it raises an error, which
// undoes all changes.
func postgresWrite(plan string) string {
	s, r := sessionTable(), recordTable()
	given := func(t table, n int) string {
		return fmt.Sprintf(`json_to_recordset($%d::json) AS n(%s, "Was" bigint)`, n, list(t.columns, func(c column) string {
			if c.kind == number {
				return `"` + c.field + `" bigint`
			}
			return `"` + c.field + `" text`
		}))
	}
	lock := func(t table, n int, into, skip string) string {
		return fmt.Sprintf(`SELECT string_agg(l."Key", ',') INTO %s FROM (SELECT n."Key", n."Was", t.version FROM %s`+
			` LEFT JOIN LATERAL (SELECT version FROM %s WHERE %s = decode(n."Key", 'hex') FOR UPDATE%s) AS t ON true) AS l`+
			` WHERE coalesce(l.version, 0) <> l."Was"; `, into, given(t, n), t.name, t.key().name, skip)
	}
	put := func(t table, n int) string {
		return fmt.Sprintf("INSERT INTO %[1]s (%[2]s) SELECT %[3]s FROM %[4]s"+
			" ON CONFLICT (%[5]s) DO UPDATE SET %[6]s WHERE %[1]s.version = excluded.version - 1;"+
			" GET DIAGNOSTICS put = ROW_COUNT; IF put <> json_array_length($%[7]d::json) THEN RAISE serialization_failure; END IF; ",
			t.name, list(t.columns, columnName), list(t.columns, func(c column) string {
				if c.kind == binary {
					return `decode(n."` + c.field + `", 'hex')`
				}
				return `n."` + c.field + `"`
			}), given(t, n), t.key().name, list(t.columns[1:], func(c column) string { return c.name + " = excluded." + c.name }), n)
	}
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION threepid_write_%d(text, text, waiting boolean, OUT lost_sessions text, OUT lost_records text)%s"+
		"DECLARE put bigint; BEGIN IF waiting THEN ", schemaVersion, plan) +
		lock(s, 1, "lost_sessions", "") + lock(r, 2, "lost_records", "") +
		"ELSE PERFORM set_config('lock_timeout', '500ms', true); " +
		lock(s, 1, "lost_sessions", " SKIP LOCKED") + lock(r, 2, "lost_records", " SKIP LOCKED") +
		"END IF; IF lost_sessions IS NULL AND lost_records IS NULL THEN " + put(s, 1) + put(r, 2) + "END IF; END $$"
}

// mysql returns the dialect of MySQL 8 and MariaDB 10.6.
func mysql(mariaDB bool) dialect {
	look := func(t table, by column, _ int) string {
		value, index := "n.k COLLATE utf8mb4_bin", "PRIMARY"
		if by.kind == binary {
			value, index = "UNHEX(n.k)", t.index
		}
		return fmt.Sprintf("JSON_TABLE(?, '$[*]' COLUMNS (k VARCHAR(255) CHARACTER SET utf8mb4 PATH '$')) AS n STRAIGHT_JOIN %s AS t FORCE INDEX (%s) ON t.%s = %s",
			t.name, index, by.name, value)
	}
	given := func(t table, param string) string {
		columns := slices.Concat(t.columns, []column{{"", "Was", number}, {"", "WasSID", text}})
		return "JSON_TABLE(" + param + ", '$[*]' COLUMNS (" + list(columns, func(c column) string {
			if c.kind == number {
				return fmt.Sprintf("`%[1]s` BIGINT PATH '$.%[1]s'", c.field)
			}
			size := 255 // the server allocates rows of the full size
			if c.field == "NextLink" || c.field == "State" {
				size = 2048
			}
			return fmt.Sprintf("`%[1]s` VARCHAR(%[2]d) CHARACTER SET utf8mb4 PATH '$.%[1]s'", c.field, size)
		}) + ")) AS n"
	}
	// Lock by the primary key: locking a row by another index also locks a gap there.
	found := func(t table) string {
		if t.index == "PRIMARY" {
			return fmt.Sprintf("%s AS t FORCE INDEX (PRIMARY) ON t.%s = UNHEX(n.`Key`)", t.name, t.key().name)
		}
		return t.name + " AS t FORCE INDEX (PRIMARY) ON t.sid = n.WasSID COLLATE utf8mb4_bin"
	}
	value := func(c column) string {
		if c.kind == binary {
			return "UNHEX(n.`" + c.field + "`)"
		}
		return "n.`" + c.field + "`"
	}
	d := dialect{
		read: readText("CONVERT("+objectOf("JSON_OBJECT", "HEX(%s)")+" USING utf8mb4) COLLATE utf8mb4_bin", look),
		lock: func(t table, param, into string, waiting bool) string {
			skip, present := " SKIP LOCKED", ""
			if waiting {
				// In a host's transaction, with its isolation level, locking an absent row locks
				// the gap into which others insert theirs.
				skip, present = "", " WHERE n.Was <> 0"
			}
			return fmt.Sprintf("SELECT GROUP_CONCAT(IF(COALESCE(t.version, 0) <> n.Was, n.`Key`, NULL))%s FROM %s LEFT JOIN %s%s FOR UPDATE%s",
				into, given(t, param), found(t), present, skip)
		},
		// Not INSERT ... ON DUPLICATE KEY UPDATE, which locks gaps too.
		put: func(t table, param string) []string {
			return []string{
				fmt.Sprintf("UPDATE %s STRAIGHT_JOIN %s SET %s WHERE n.Was <> 0", given(t, param), found(t),
					list(t.columns[1:], func(c column) string { return "t." + c.name + " = " + value(c) })),
				fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE n.Was = 0",
					t.name, list(t.columns, columnName), list(t.columns, value), given(t, param)),
			}
		},
		expire: func(table string) string {
			return fmt.Sprintf("DELETE FROM %s WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", table)
		},
	}
	d.readLatest = strings.ReplaceAll("("+d.read+" FOR UPDATE)", " UNION ALL ", " FOR UPDATE) UNION ALL (")
	if mariaDB {
		d.block = d.mariaDBBlock
	}
	return d
}

// mariaDBBlock returns a complete transaction as one statement, which the server runs by itself: a
// client that stops at any point holds no lock.
func (d dialect) mariaDBBlock(rows [2]string) string {
	var locks, puts strings.Builder
	for i, t := range tables() {
		if rows[i] == "[]" {
			continue
		}
		param := fmt.Sprintf("CONVERT(x'%x' USING utf8mb4)", rows[i])
		locks.WriteString(d.lock(t, param, " INTO "+[]string{"ls", "lr"}[i], false) + "; ")
		for _, put := range d.put(t, param) {
			puts.WriteString("SET STATEMENT innodb_lock_wait_timeout = 1 FOR " + put + "; ")
		}
	}
	return "BEGIN NOT ATOMIC DECLARE ls, lr LONGTEXT; DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END;" +
		" SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION; " + locks.String() +
		"IF ls IS NULL AND lr IS NULL THEN " + puts.String() + "COMMIT; ELSE ROLLBACK; END IF; SELECT ls, lr; END"
}

// beginWrite takes the write lock without writing anything. If a transaction begins by reading and
// another process writes before it does, SQLite fails its first write at once instead of waiting.
// This statement makes a deferred transaction, which most hosts use, an immediate one.
const beginWrite = "UPDATE threepid_schema SET version = version WHERE 0 = 1"

// sqlite returns the dialect of SQLite, in which a writer has the database to itself.
func sqlite() dialect {
	return dialect{
		read: readText(objectOf("json_object", "hex(%s)"), func(t table, by column, _ int) string {
			value := "n.value"
			if by.kind == binary {
				value = "unhex(n.value)"
			}
			return fmt.Sprintf("json_each(?) AS n CROSS JOIN %s AS t ON t.%s = %s", t.name, by.name, value)
		}),
		putOne:    [2]string{sqlitePut(sessionTable()), sqlitePut(recordTable())},
		updateOne: [2]string{sqliteUpdate(sessionTable()), sqliteUpdate(recordTable())},
		fields:    [2]fields{fieldsOf[sessionDoc](sessionTable()), fieldsOf[recordDoc](recordTable())},
		begin:     beginWrite,
		expire: func(table string) string {
			return fmt.Sprintf("DELETE FROM %[1]s WHERE rowid IN (SELECT rowid FROM %[1]s WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)", table)
		},
	}
}

func sqlitePut(t table) string {
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s",
		t.name, list(t.columns, columnName), list(t.columns, func(column) string { return "?" }), t.key().name,
		list(t.columns[1:], func(c column) string { return c.name + " = excluded." + c.name }))
}

// sqliteUpdate takes the same parameters as sqlitePut.
func sqliteUpdate(t table) string {
	var sets []string
	for i, c := range t.columns[1:] {
		if c.name != "sid" && c.name != "expires_at" {
			sets = append(sets, fmt.Sprintf("%s = ?%d", c.name, i+2))
		}
	}
	return fmt.Sprintf("UPDATE %s SET %s WHERE %s = ?1", t.name, strings.Join(sets, ", "), t.key().name)
}

// prepared returns the statements that run often, those of readers first.
func (d *dialect) prepared() []string {
	texts := []string{d.read}
	switch {
	case d.write != "":
		return append(texts, d.write)
	case d.begin != "":
		return append(texts, d.begin, d.putOne[0], d.putOne[1], d.updateOne[0], d.updateOne[1])
	case d.block != nil:
		return texts // block takes no parameters
	}
	for _, t := range tables() {
		texts = append(append(texts, d.lock(t, "?", "", false)), d.put(t, "?")...)
	}
	return texts
}
