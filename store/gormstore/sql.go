package gormstore

import (
	"fmt"
	"slices"
	"strings"
)

// The SQL of each dialect. Names and rows travel as JSON, one parameter for each
// table, so that one text serves every size of a batch on any driver. Each key is
// looked up in its index, whatever the planner believes about the size of a table.

// kind is what a column holds, and how it travels.
type kind int

const (
	text   kind = iota
	number      // 64 bits
	binary      // in hexadecimal digits
)

// column is a column of a table, with the field of the JSON that holds it.
type column struct {
	name, field string
	kind        kind
}

// table is a table of rows with versions.
type table struct {
	name, index string // and the index of its key, for MySQL
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
// read takes sessions by key, sessions by sid and records, as JSON arrays of
// strings, and returns one row for each that is there: 0 or 1 for session or
// record, key, version, expiry, and the session as JSON or the state.
//
// The statements that write take JSON arrays of rows. Of each, Was is the version
// that it must have, 0 if it must be absent, and Version the one that it gets.
type dialect struct {
	read string

	// readLatest is read of what is committed, in a transaction that otherwise reads
	// what was committed when it began. Empty: read is that.
	readLatest string

	// write stores sessions and records, or nothing. It returns the keys of sessions
	// and of records that prevented that, comma-separated, in a row. A row that is
	// locked prevents it, or with writeWaiting is waited for.
	write, writeWaiting string

	// block is write without parameters, if it is not a single statement.
	block func(rows [2]string) string

	// Databases without write have a transaction. lock locks rows and returns the
	// keys of those that are not as they must be; put stores rows after that, and fails
	// if one has appeared.
	lock func(t table, param, into string, waiting bool) string
	put  func(t table, param string) []string

	// begin begins to write, in a transaction in which no row can change. putOne
	// stores one row, with its values as parameters, and updateOne one whose columns
	// in indexes stay as they are: SQLite rewrites the entry of each indexed column
	// that a statement names, and each is another page to make durable.
	begin             string
	putOne, updateOne [2]string
	fields            [2]fields

	expire func(table string) string // deletes rows that have expired at a time, at most a number of them
}

func list(columns []column, each func(column) string) string {
	var parts []string
	for _, c := range columns {
		parts = append(parts, each(c))
	}
	return strings.Join(parts, ", ")
}

func columnName(c column) string { return c.name }

// readText joins the three look-ups of a read.
func readText(object string, look func(t table, by column, n int) string) string {
	s, r := sessionTable(), recordTable()
	return "SELECT 0, t.session_key, t.version, t.expires_at, " + object + " FROM " + look(s, s.key(), 1) +
		" UNION ALL SELECT 0, t.session_key, t.version, t.expires_at, " + object + " FROM " + look(s, s.columns[1], 2) +
		" UNION ALL SELECT 1, t.record_key, t.version, t.expires_at, t.state FROM " + look(r, r.key(), 3)
}

// objectOf is the session as a JSON object.
func objectOf(function, hex string) string {
	return function + "(" + list(sessionTable().columns, func(c column) string {
		if c.kind == binary {
			return "'" + c.field + "', " + fmt.Sprintf(hex, "t."+c.name)
		}
		return "'" + c.field + "', t." + c.name
	}) + ")"
}

// postgres has the dialect of PostgreSQL and databases that speak it. Its
// statements call functions, which Migrate creates.
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

// postgresFunctions are the functions that read and write. A function is planned
// once for each connection, and only a function can say how: without sequential
// scans, which would be best for a table that is tiny at that moment.
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

// postgresWrite is a transaction by itself: so a client that stops anywhere holds no
// lock. It locks the rows that are there and compares their versions. If all are
// right it inserts and updates them. If the number of rows then is wrong, because
// another transaction has just inserted one, it fails, and all of it is undone.
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

// mysql has the dialect of MySQL 8 and MariaDB 10.6.
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
			size := 255 // the server keeps rows of the full size
			if c.field == "NextLink" || c.field == "State" {
				size = 2048
			}
			return fmt.Sprintf("`%[1]s` VARCHAR(%[2]d) CHARACTER SET utf8mb4 PATH '$.%[1]s'", c.field, size)
		}) + ")) AS n"
	}
	// By the primary key: to lock a row by another index locks a gap there, too.
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
				// In a host's transaction, under its isolation, to lock an absent row locks
				// the gap where others insert theirs.
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

// mariaDBBlock is a whole transaction as one statement, which the server runs by
// itself: a client that stops anywhere holds no lock.
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

// beginWrite begins to write without writing anything. A transaction that begins by
// reading can find, when it comes to write, that another process has written in
// between; SQLite then fails at once instead of waiting. This makes a deferred
// transaction, which is what most hosts have, an immediate one.
const beginWrite = "UPDATE threepid_schema SET version = version WHERE 0 = 1"

// sqlite has the dialect of SQLite. Its writer is alone in the database.
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

// sqliteUpdate has the parameters of sqlitePut.
func sqliteUpdate(t table) string {
	var sets []string
	for i, c := range t.columns[1:] {
		if c.name != "sid" && c.name != "expires_at" {
			sets = append(sets, fmt.Sprintf("%s = ?%d", c.name, i+2))
		}
	}
	return fmt.Sprintf("UPDATE %s SET %s WHERE %s = ?1", t.name, strings.Join(sets, ", "), t.key().name)
}

// prepared are the statements that run often, those of readers first.
func (d *dialect) prepared() []string {
	texts := []string{d.read}
	switch {
	case d.write != "":
		return append(texts, d.write)
	case d.begin != "":
		return append(texts, d.begin, d.putOne[0], d.putOne[1], d.updateOne[0], d.updateOne[1])
	case d.block != nil:
		return texts // which takes no parameters
	}
	for _, t := range tables() {
		texts = append(append(texts, d.lock(t, "?", "", false)), d.put(t, "?")...)
	}
	return texts
}
