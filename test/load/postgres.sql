-- The statements of one fresh request, for pgbench: what PostgreSQL can do at
-- most with no HTTP, no parsing of numbers and no Go. The tables are those of
-- the program, so run it on the same database first.
--
--   pgbench -n -M prepared -c 24 -j 2 -T 5 -f test/load/postgres.sql DATABASE

\set n random(1, 100000000)
\set k random(1, 1000000000000)
SELECT user_id FROM threepid_associations WHERE msisdn = :n::text;
SELECT sid, msisdn, attempt, version, nonce FROM threepid_sessions WHERE session_key = int8send(:k);
SELECT sid, msisdn, attempt, version, nonce FROM threepid_sessions WHERE session_key = int8send(:k);
INSERT INTO threepid_sessions (session_key, sid, msisdn, country, purpose, next_link, attempt, claim_id, claim_attempt, lease_until, outcome, nonce, token_expires_at, wrong_tries, validated_at, redeemed_at, created_at, expires_at, version) VALUES (int8send(:k), 's' || :k::text, :n::text, 'GB', 'add', '', -1, 'abcdefabcdefabcdefabcdefabcdef12', 1, 100, '', int8send(:k), 100, 0, 0, 0, 100, 100000, 1);
SELECT sid, msisdn, attempt, version, nonce FROM threepid_sessions WHERE sid = 's' || :k::text;
UPDATE threepid_sessions SET attempt = 1, lease_until = 0, outcome = 'accepted', version = 2 WHERE sid = 's' || :k::text AND version = 1;
