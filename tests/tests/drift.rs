//! Drift: differences from a frozen schema or another database, and the fingerprint of a schema.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, program};
use postgres::Client;
use std::process::{Command, Stdio};

const FINGERPRINT: &str = "SELECT ops.schema_fingerprint('{app}')";

/// Returns a superuser's connection, with the guard off, to the document's database with one object
/// of each kind in schema `app`.
fn database(cluster: &Cluster) -> Client {
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE one").unwrap();
    cluster.psql_file("one", "fixtures/document.sql");
    cluster.psql_file("one", "fixtures/drift.sql");
    cluster.connect("one", SUPERUSER).batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    let mut client = cluster.connect("one", SUPERUSER);
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    client
}

fn fingerprint(client: &mut Client) -> String {
    column(client, FINGERPRINT).remove(0)
}

/// Returns drift as lines: `change type object property`.
fn drift(client: &mut Client, from: &str) -> Vec<String> {
    column(
        client,
        &format!("SELECT concat_ws(' ', change, object_type, object, property) FROM {from}"),
    )
}

/// One change of each kind, the statement that undoes it, and the expected drift.
const CHANGES: &[(&str, &str, &[&str])] = &[
    // Schemas.
    ("GRANT CREATE ON SCHEMA app TO anon", "REVOKE CREATE ON SCHEMA app FROM \
        anon", &["changed schema app grants to anon"]),
    ("ALTER SCHEMA app OWNER TO postgres", "ALTER SCHEMA app OWNER TO root_su", &["changed schema \
        app owner"]),
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO anon",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE SELECT ON TABLES FROM anon",
        &["changed default acl for role root_su in schema app on tables grants to anon"],
    ),
    (
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO anon",
        "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM anon",
        &["added default acl for role root_su on tables"],
    ),
    // Tables.
    ("CREATE TABLE app.n (id serial PRIMARY KEY, x int CHECK (x > 0))", "DROP TABLE \
        app.n", &["added table app.n"]),
    (
        "DROP TABLE app.to_days",
        "CREATE TABLE app.to_days (n int); CREATE RULE quiet AS ON DELETE TO app.to_days DO \
         INSTEAD NOTHING",
        &["removed table app.to_days"],
    ),
    (
        "ALTER TABLE app.to_days RENAME TO other",
        "ALTER TABLE app.other RENAME TO to_days",
        &["added table app.other", "removed table app.to_days"],
    ),
    (
        "ALTER TABLE app.t OWNER TO postgres",
        "ALTER TABLE app.t OWNER TO root_su",
        &["changed table app.t owner", "changed sequence app.t_id_seq owner"],
    ),
    ("GRANT DELETE ON app.t TO anon", "REVOKE DELETE ON app.t FROM anon", &["changed table app.t \
        grants to anon"]),
    (
        "GRANT SELECT ON app.t TO anon WITH GRANT OPTION",
        "REVOKE GRANT OPTION FOR SELECT ON app.t FROM anon",
        &["changed table app.t grants to anon"],
    ),
    ("GRANT SELECT ON app.t TO PUBLIC", "REVOKE SELECT ON app.t FROM PUBLIC", &["changed table \
        app.t grants to PUBLIC"]),
    ("REVOKE DELETE ON app.t FROM root_su", "GRANT DELETE ON app.t TO root_su", &["changed table \
        app.t grants to its owner"]),
    (
        "REVOKE SELECT ON app.t FROM anon, service_role",
        "GRANT SELECT ON app.t TO service_role, anon",
        &["changed table app.t grants to anon", "changed table app.t grants to service_role"],
    ),
    (
        "ALTER TABLE app.t DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY",
        &["changed table app.t row security"],
    ),
    (
        "ALTER TABLE app.t FORCE ROW LEVEL SECURITY",
        "ALTER TABLE app.t NO FORCE ROW LEVEL SECURITY",
        &["changed table app.t force row security"],
    ),
    (
        "ALTER TABLE app.t SET (toast.autovacuum_enabled = false)",
        "ALTER TABLE app.t RESET (toast.autovacuum_enabled)",
        &["changed table app.t toast options"],
    ),
    (
        "CREATE OR REPLACE AGGREGATE app.longest(text) (SFUNC = app.longer, STYPE = text, MSFUNC = \
         app.longer, MINVFUNC = app.longer, MSTYPE = text,
           MINITCOND = 'a')",
        "CREATE OR REPLACE AGGREGATE app.longest(text) (SFUNC = app.longer, STYPE = text, MSFUNC = \
         app.longer, MINVFUNC = app.longer, MSTYPE = text)",
        &["changed aggregate app.longest(pg_catalog.text) moving initial value"],
    ),
    ("ALTER TABLE app.of_duo NOT OF", "ALTER TABLE app.of_duo OF app.duo", &["changed table \
        app.of_duo of type"]),
    (
        "GRANT SELECT (ctid) ON app.kid TO anon",
        "REVOKE SELECT (ctid) ON app.kid FROM anon",
        &["changed table app.kid grants to anon of ctid"],
    ),
    ("ALTER TABLE app.kid SET UNLOGGED", "ALTER TABLE app.kid SET LOGGED", &["changed table \
        app.kid unlogged"]),
    ("ALTER TABLE app.kid SET (fillfactor = 70)", "ALTER TABLE app.kid RESET \
        (fillfactor)", &["changed table app.kid options"]),
    (
        "ALTER TABLE app.kid NO INHERIT app.base",
        "ALTER TABLE app.kid INHERIT app.base",
        &["changed table app.kid inherits"],
    ),
    (
        "ALTER TABLE app.t REPLICA IDENTITY FULL",
        "ALTER TABLE app.t REPLICA IDENTITY DEFAULT",
        &["changed table app.t replica identity"],
    ),
    (
        "ALTER TABLE app.days DETACH PARTITION app.days_2027",
        "ALTER TABLE app.days ATTACH PARTITION app.days_2027 FOR VALUES FROM ('2027-01-01') TO \
         ('2028-01-01')",
        &["changed table app.days_2027 partition bound", "changed table app.days_2027 partition \
            of"],
    ),
    (
        "ALTER TABLE app.t DISABLE TRIGGER ALL",
        "ALTER TABLE app.t ENABLE TRIGGER ALL",
        &["changed table app.t foreign key triggers", "changed trigger stamp on app.t enabled"],
    ),
    // Columns.
    ("ALTER TABLE app.t ADD COLUMN extra int", "ALTER TABLE app.t DROP COLUMN \
        extra", &["added table column app.t.extra"]),
    (
        "ALTER TABLE app.t DROP COLUMN note",
        "ALTER TABLE app.t ADD COLUMN note text COLLATE \"C\"; GRANT UPDATE (note) ON app.t TO \
         authenticated",
        &["removed table column app.t.note"],
    ),
    (
        "ALTER TABLE app.t RENAME note TO remark",
        "ALTER TABLE app.t RENAME remark TO note",
        &["removed table column app.t.note", "added table column app.t.remark"],
    ),
    (
        "ALTER TABLE app.t ALTER note TYPE varchar(20) COLLATE \"C\"",
        "ALTER TABLE app.t ALTER note TYPE text COLLATE \"C\"",
        &["changed table column app.t.note type"],
    ),
    (
        "ALTER TABLE app.t ALTER note TYPE text COLLATE \"POSIX\"",
        "ALTER TABLE app.t ALTER note TYPE text COLLATE \"C\"",
        &["changed table column app.t.note collation"],
    ),
    (
        "ALTER TABLE app.t ALTER mood SET NOT NULL",
        "ALTER TABLE app.t ALTER mood DROP NOT NULL",
        &["changed table column app.t.mood not null"],
    ),
    (
        "ALTER TABLE app.t ALTER word SET DEFAULT 'y'",
        "ALTER TABLE app.t ALTER word SET DEFAULT 'x'",
        &["changed table column app.t.word default"],
    ),
    (
        "ALTER TABLE app.t ALTER id SET GENERATED BY DEFAULT",
        "ALTER TABLE app.t ALTER id SET GENERATED ALWAYS",
        &["changed table column app.t.id identity"],
    ),
    (
        "ALTER TABLE app.t ALTER doubled DROP EXPRESSION",
        "ALTER TABLE app.t DROP COLUMN doubled, DROP COLUMN note; ALTER TABLE app.t ADD doubled \
         numeric GENERATED ALWAYS AS (amount * 2) STORED, ADD note text COLLATE \"C\"; GRANT \
         UPDATE (note) ON app.t TO authenticated",
        &["changed table column app.t.doubled default", "changed table column app.t.doubled \
            generated"],
    ),
    (
        "GRANT SELECT (note) ON app.t TO anon",
        "REVOKE SELECT (note) ON app.t FROM anon",
        &["changed table column app.t.note grants to anon"],
    ),
    ("GRANT SELECT (word) ON app.v TO anon", "REVOKE SELECT (word) ON app.v FROM \
        anon", &["added view column app.v.word"]),
    // Constraints, indexes.
    (
        "ALTER TABLE app.part_of_t DROP CONSTRAINT to_t",
        "ALTER TABLE app.part_of_t ADD CONSTRAINT to_t FOREIGN KEY (t) REFERENCES app.t ON DELETE \
         CASCADE",
        &["removed table constraint to_t on app.part_of_t"],
    ),
    (
        "ALTER TABLE app.part_of_t ALTER CONSTRAINT to_t DEFERRABLE",
        "ALTER TABLE app.part_of_t ALTER CONSTRAINT to_t NOT DEFERRABLE",
        &["changed table constraint to_t on app.part_of_t definition"],
    ),
    (
        "ALTER TABLE app.t DROP CONSTRAINT words, ADD CONSTRAINT words CHECK (word IN ('a', 'b', \
         'y'))",
        "ALTER TABLE app.t DROP CONSTRAINT words, ADD CONSTRAINT words CHECK (word IN ('a', 'b', \
         'x'))",
        &["changed table constraint words on app.t definition"],
    ),
    (
        "ALTER TABLE app.t DROP CONSTRAINT words, ADD CONSTRAINT words CHECK (word IN ('a', 'b', \
         'x')) NOT VALID",
        "ALTER TABLE app.t VALIDATE CONSTRAINT words",
        &["changed table constraint words on app.t definition"],
    ),
    (
        "DROP INDEX app.t_word",
        "CREATE INDEX t_word ON app.t (lower(word), (word IN ('a', 'b'))) WHERE word IN ('a', 'b')",
        &["removed index app.t_word"],
    ),
    ("CREATE UNIQUE INDEX one_note ON app.t (note)", "DROP INDEX app.one_note", &["added index \
        app.one_note"]),
    // Views.
    (
        "CREATE OR REPLACE VIEW app.v WITH (security_barrier = on) AS SELECT id, word, amount > \
         1.5 AS rich FROM app.t WHERE word IN ('a', 'c')",
        "CREATE OR REPLACE VIEW app.v WITH (security_barrier = true) AS SELECT id, word, amount > \
         1.5 AS rich FROM app.t WHERE word IN ('a', 'b')",
        &["changed view app.v definition"],
    ),
    (
        "ALTER VIEW app.v SET (security_invoker = on)",
        "ALTER VIEW app.v RESET (security_invoker)",
        &["changed view app.v security_invoker"],
    ),
    ("ALTER VIEW app.v SET (check_option = local)", "ALTER VIEW app.v RESET \
        (check_option)", &["changed view app.v options"]),
    (
        "DROP MATERIALIZED VIEW app.m",
        "CREATE MATERIALIZED VIEW app.m AS SELECT count(*) AS n FROM app.t; CREATE INDEX m_n ON \
         app.m (n)",
        &["removed materialized view app.m"],
    ),
    // Types.
    ("CREATE TYPE app.other AS ENUM ()", "DROP TYPE app.other", &["added type app.other"]),
    (
        "ALTER TYPE app.size RENAME VALUE 'm' TO 'l'",
        "ALTER TYPE app.size RENAME VALUE 'l' TO 'm'",
        &["changed type app.size labels"],
    ),
    ("ALTER DOMAIN app.code SET DEFAULT 'b'", "ALTER DOMAIN app.code SET DEFAULT \
        'a'", &["changed type app.code default"]),
    (
        "ALTER DOMAIN app.code DROP CONSTRAINT known",
        "ALTER DOMAIN app.code ADD CONSTRAINT known CHECK (VALUE IN ('a', 'b'))",
        &["changed type app.code constraint known"],
    ),
    ("ALTER TYPE app.pair ADD ATTRIBUTE c int", "ALTER TYPE app.pair DROP ATTRIBUTE \
        c", &["changed type app.pair attributes"]),
    (
        "REVOKE USAGE ON TYPE app.mood FROM PUBLIC",
        "GRANT USAGE ON TYPE app.mood TO PUBLIC",
        &["changed type app.mood grants to PUBLIC"],
    ),
    ("ALTER TYPE app.span OWNER TO postgres", "ALTER TYPE app.span OWNER TO \
        root_su", &["changed type app.span owner"]),
    // Routines.
    (
        "CREATE OR REPLACE FUNCTION app.f(a int DEFAULT 1, b text DEFAULT 'x') RETURNS int \
         LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT a + 1'",
        "CREATE OR REPLACE FUNCTION app.f(a int DEFAULT 1, b text DEFAULT 'x') RETURNS int \
         LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT a'",
        &["changed function app.f(integer,pg_catalog.text) body"],
    ),
    (
        "CREATE OR REPLACE FUNCTION app.f(a int DEFAULT 2, b text DEFAULT 'x') RETURNS int \
         LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT a'",
        "CREATE OR REPLACE FUNCTION app.f(a int DEFAULT 1, b text DEFAULT 'x') RETURNS int \
         LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT a'",
        &["changed function app.f(integer,pg_catalog.text) arguments"],
    ),
    (
        "ALTER FUNCTION app.f SECURITY DEFINER",
        "ALTER FUNCTION app.f SECURITY INVOKER",
        &["changed function app.f(integer,pg_catalog.text) security"],
    ),
    (
        "ALTER FUNCTION app.f SET search_path = app",
        "ALTER FUNCTION app.f SET search_path = pg_catalog, pg_temp",
        &["changed function app.f(integer,pg_catalog.text) search_path"],
    ),
    (
        "ALTER FUNCTION app.f SET work_mem = '1MB'",
        "ALTER FUNCTION app.f RESET work_mem",
        &["changed function app.f(integer,pg_catalog.text) setting work_mem"],
    ),
    (
        "ALTER FUNCTION app.f VOLATILE",
        "ALTER FUNCTION app.f STABLE",
        &["changed function app.f(integer,pg_catalog.text) volatility"],
    ),
    (
        "ALTER FUNCTION app.f STRICT",
        "ALTER FUNCTION app.f CALLED ON NULL INPUT",
        &["changed function app.f(integer,pg_catalog.text) strict"],
    ),
    (
        "ALTER FUNCTION app.f LEAKPROOF",
        "ALTER FUNCTION app.f NOT LEAKPROOF",
        &["changed function app.f(integer,pg_catalog.text) leakproof"],
    ),
    (
        "ALTER FUNCTION app.f PARALLEL SAFE",
        "ALTER FUNCTION app.f PARALLEL UNSAFE",
        &["changed function app.f(integer,pg_catalog.text) parallel"],
    ),
    (
        "ALTER FUNCTION app.f OWNER TO postgres",
        "ALTER FUNCTION app.f OWNER TO root_su",
        &["changed function app.f(integer,pg_catalog.text) owner"],
    ),
    (
        "GRANT EXECUTE ON FUNCTION app.f TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION app.f FROM PUBLIC",
        &["changed function app.f(integer,pg_catalog.text) grants to PUBLIC"],
    ),
    (
        "CREATE OR REPLACE FUNCTION app.parsed() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT \
         count(*) FROM app.base; END",
        "CREATE OR REPLACE FUNCTION app.parsed() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT \
         count(*) FROM app.t; END",
        &["changed function app.parsed() body"],
    ),
    (
        "CREATE FUNCTION app.f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION app.f(int)",
        &["added function app.f(integer)"],
    ),
    (
        "DROP PROCEDURE app.p",
        "CREATE PROCEDURE app.p(INOUT a int) LANGUAGE sql AS 'SELECT a'",
        &["removed procedure app.p(integer)"],
    ),
    (
        "CREATE OR REPLACE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '1')",
        "CREATE OR REPLACE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
        &["changed aggregate app.total(integer) initial value"],
    ),
    // Policies.
    (
        "ALTER POLICY mine ON app.t USING (true)",
        "ALTER POLICY mine ON app.t USING (word IN ('a', 'b') AND id IN (SELECT t FROM \
         app.part_of_t))",
        &["changed policy mine on app.t using"],
    ),
    (
        "ALTER POLICY mine ON app.t TO PUBLIC",
        "ALTER POLICY mine ON app.t TO authenticated, anon",
        &["changed policy mine on app.t roles"],
    ),
    (
        "ALTER POLICY never ON app.t WITH CHECK (true)",
        "ALTER POLICY never ON app.t WITH CHECK (false)",
        &["changed policy never on app.t with check"],
    ),
    (
        "DROP POLICY never ON app.t; CREATE POLICY never ON app.t FOR INSERT WITH CHECK (false)",
        "DROP POLICY never ON app.t; CREATE POLICY never ON app.t AS RESTRICTIVE FOR UPDATE WITH \
         CHECK (false)",
        &["changed policy never on app.t command", "changed policy never on app.t kind"],
    ),
    ("CREATE POLICY more ON app.t USING (true)", "DROP POLICY more ON app.t", &["added policy more \
        on app.t"]),
    // Triggers, rules, sequences.
    (
        "DROP TRIGGER stamp ON app.t",
        "CREATE TRIGGER stamp BEFORE UPDATE ON app.t FOR EACH ROW WHEN (new.word IN ('a', 'b') \
         AND old.word <> 'x') EXECUTE FUNCTION app.touch()",
        &["removed trigger stamp on app.t"],
    ),
    (
        "CREATE OR REPLACE TRIGGER stamp BEFORE UPDATE ON app.t FOR EACH ROW WHEN (new.word IN \
         ('a', 'c') AND old.word <> 'x') EXECUTE FUNCTION app.touch()",
        "CREATE OR REPLACE TRIGGER stamp BEFORE UPDATE ON app.t FOR EACH ROW WHEN (new.word IN \
         ('a', 'b') AND old.word <> 'x') EXECUTE FUNCTION app.touch()",
        &["changed trigger stamp on app.t definition"],
    ),
    (
        "ALTER TABLE app.t DISABLE TRIGGER stamp",
        "ALTER TABLE app.t ENABLE TRIGGER stamp",
        &["changed trigger stamp on app.t enabled"],
    ),
    (
        "CREATE OR REPLACE RULE quiet AS ON DELETE TO app.to_days DO ALSO NOTHING",
        "CREATE OR REPLACE RULE quiet AS ON DELETE TO app.to_days DO INSTEAD NOTHING",
        &["changed rule quiet on app.to_days definition"],
    ),
    (
        "ALTER SEQUENCE app.counter INCREMENT 7",
        "ALTER SEQUENCE app.counter INCREMENT 5",
        &["changed sequence app.counter increment"],
    ),
    (
        "ALTER SEQUENCE app.counter OWNED BY app.t.id",
        "ALTER SEQUENCE app.counter OWNED BY NONE",
        &["changed sequence app.counter owned by"],
    ),
    (
        "GRANT USAGE ON SEQUENCE app.counter TO anon",
        "REVOKE USAGE ON SEQUENCE app.counter FROM anon",
        &["changed sequence app.counter grants to anon"],
    ),
];

#[test]
fn every_change_is_reported_until_it_is_undone() {
    let cluster = Cluster::start();
    let mut client = database(&cluster);
    client.batch_execute("SELECT ops.freeze_schema('before', '{app}')").unwrap();
    let before = fingerprint(&mut client);
    client.batch_execute("SELECT ops.freeze_schema('more', '{app, public}')").unwrap();
    let of_app = "ops.check_schema_consistency('more', '{app}') WHERE source = 'frozen more'";
    assert_eq!(drift(&mut client, of_app), [""; 0]);
    let frozen = "ops.check_schema_consistency('before') WHERE source = 'frozen before'";
    let mut wrong = Vec::new();
    for (change, undo, expected) in CHANGES {
        client.batch_execute(change).unwrap_or_else(|e| panic!("{change}: {e:?}"));
        let (mut found, mut expected) = (drift(&mut client, frozen), expected.to_vec());
        found.sort();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!("{change}\n  found {found:?}\n  expected {expected:?}"));
        }
        if fingerprint(&mut client) == before {
            wrong.push(format!("{change}\n  has the same fingerprint"));
        }
        client.batch_execute(undo).unwrap_or_else(|e| panic!("{undo}: {e:?}"));
        let left = drift(&mut client, frozen);
        if !left.is_empty() || fingerprint(&mut client) != before {
            wrong.push(format!("{undo}\n  leaves {left:?}"));
            client
                .batch_execute("SELECT ops.freeze_schema('before', '{app}', replace => true)")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fingerprint_does_not_depend_on_role_or_settings() {
    let cluster = Cluster::start();
    let mut client = database(&cluster);
    let before = fingerprint(&mut client);
    for setting in [
        "search_path = app, public",
        "search_path = ''",
        "quote_all_identifiers = on",
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -15",
        "timezone = 'Asia/Tokyo'",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
        "array_nulls = off",
        "xmloption = document",
        "role = service_role",
        "role = pg_monitor",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'repeatable read'",
    ] {
        let mut client = cluster.connect("one", SUPERUSER);
        client.batch_execute(&format!("SET {setting}")).unwrap();
        assert_eq!(fingerprint(&mut client), before, "{setting}");
    }
    // Changes of rows, and objects that were dropped and created again, do not matter.
    client
        .batch_execute(
            "INSERT INTO app.t (word) VALUES ('a'); SELECT nextval('app.counter'); ANALYZE; \
             REFRESH MATERIALIZED VIEW app.m;
             CREATE TEMP TABLE mine (a int); COMMENT ON TABLE app.t IS 'x'",
        )
        .unwrap();
    client.batch_execute("VACUUM FULL app.t").unwrap();
    assert_eq!(fingerprint(&mut client), before);
}

/// Restores a dump into a database as `user`. Every statement must succeed.
fn restore(cluster: &Cluster, database: &str, user: &str, dump: &[u8]) {
    use std::io::Write;
    let mut child = Command::new(program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-d", database, "-U", user])
        .env("PGHOST", cluster.folder())
        .env_remove("PGOPTIONS")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(dump).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn restored_database_has_the_same_fingerprint() {
    let cluster = Cluster::start();
    let mut client = database(&cluster);
    client
        .batch_execute("SELECT ops.freeze_schema('all'); SELECT ops.freeze_schema('app', '{app}')")
        .unwrap();
    for statement in
        ["CREATE ROLE other_su LOGIN SUPERUSER", "CREATE DATABASE two", "CREATE DATABASE three"]
    {
        client.batch_execute(statement).unwrap();
    }
    let frozen = "SELECT label || ' ' || frozen_by || ' ' || fingerprint || ' ' || schemas::text \
        FROM ops.v_frozen_schemas";
    let (whole, kept) =
        (column(&mut client, "SELECT ops.schema_fingerprint()"), column(&mut client, frozen));
    let before = fingerprint(&mut client);
    // It is restored by a superuser that does not own the objects, so that the OIDs differ.
    for (database, dumper, user) in
        [("two", SUPERUSER, "other_su"), ("three", "other_su", SUPERUSER)]
    {
        let dump = cluster.client_program("pg_dump", &["-d", "one", "-U", dumper]);
        assert!(dump.status.success());
        restore(&cluster, database, user, &dump.stdout);
        let mut there = cluster.connect(database, SUPERUSER);
        let nothing = [""; 0];
        assert_eq!(
            drift(&mut there, "ops.check_schema_consistency('app') WHERE source = 'frozen app'"),
            nothing,
            "{database}"
        );
        assert_eq!(
            drift(&mut there, "ops.check_schema_consistency('all') WHERE source = 'frozen all'"),
            nothing,
            "{database}"
        );
        assert_eq!(
            (column(&mut there, "SELECT ops.schema_fingerprint()"), column(&mut there, frozen)),
            (whole.clone(), kept.clone())
        );
        assert_eq!(fingerprint(&mut there), before);
        assert_eq!(column(&mut there, "SELECT count(*)::text FROM ops.audit_guard()"), ["0"]);
    }
    // The snapshots of both databases are compared with each other.
    let snapshot = column(&mut client, "SELECT ops.schema_snapshot('{app}')::text").remove(0);
    let mut there = cluster.connect("two", SUPERUSER);
    there
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE app.t DISABLE ROW LEVEL \
        SECURITY; DROP VIEW app.v; CREATE TABLE app.new (id int)",
        )
        .unwrap();
    let rows = there
        .query(
            "SELECT concat_ws(' ', source, change, object_type, object, property, expected, \
             actual) \
             FROM ops.compare_schema($1::text::jsonb)",
            &[&snapshot],
        )
        .unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        lines,
        [
            "snapshot added table app.new",
            "snapshot changed table app.t row security enabled disabled",
            "snapshot removed view app.v"
        ]
    );
}

/// Characters that stand for invalid bytes do not affect other characters. Privileges on the
/// functions that the server creates for a range type do not matter, because no dump contains them.
#[test]
fn private_characters_and_functions_of_ranges_are_handled() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("one");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE SCHEMA zz; CREATE TABLE zz.\"Äé\" (id int); \
             CREATE TABLE zz.\"\u{10ffff}\" (id int);
             CREATE TYPE zz.span AS RANGE (subtype = int); CREATE ROLE reader; GRANT EXECUTE ON \
                 ALL FUNCTIONS IN SCHEMA zz TO reader",
        )
        .unwrap();
    assert_eq!(drift(&mut client, "ops.compare_schema(ops.schema_snapshot('{zz}'))"), [""; 0]);
    let fingerprint = "SELECT ops.schema_fingerprint('{zz}')";
    let before = column(&mut client, fingerprint);
    client.batch_execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA zz FROM reader").unwrap();
    assert_eq!(column(&mut client, fingerprint), before);
    client
        .batch_execute(
            "DROP TYPE zz.span; CREATE TYPE zz.span AS RANGE (subtype = text, \
            subtype_opclass = text_ops)",
        )
        .unwrap();
    let before = column(&mut client, fingerprint);
    client
        .batch_execute(
            "DROP TYPE zz.span; CREATE TYPE zz.span AS RANGE (subtype = text, \
            subtype_opclass = text_pattern_ops)",
        )
        .unwrap();
    assert_ne!(column(&mut client, fingerprint), before);
}

#[test]
fn fingerprint_does_not_depend_on_creation_order() {
    let cluster = Cluster::start();
    let statements = [
        "CREATE TYPE app.mood AS ENUM ('a')",
        "CREATE TABLE app.a (id int PRIMARY KEY, m text, CONSTRAINT x CHECK (id > 0), CONSTRAINT y \
         CHECK (id > 1))",
        "CREATE TABLE app.b (id int)",
        "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION app.g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE VIEW app.v AS SELECT 1 AS a",
    ];
    let granted = [
        "GRANT SELECT ON app.a TO anon",
        "GRANT INSERT ON app.a TO authenticated",
        "CREATE INDEX i ON app.a (m)",
        "CREATE INDEX j ON app.a (m)",
    ];
    let mut found = Vec::new();
    for database in ["one", "two"] {
        let mut client = cluster.guarded(database);
        client.batch_execute("SET dragonfly_guard.mode = off; CREATE SCHEMA app").unwrap();
        if database == "one" {
            client.batch_execute("CREATE ROLE anon; CREATE ROLE authenticated").unwrap();
        }
        for list in [&statements[..], &granted[..]] {
            let mut list = list.to_vec();
            if database == "two" {
                list.reverse();
            }
            client.batch_execute(&list.join(";")).unwrap();
        }
        found.push(fingerprint(&mut client));
    }
    assert_eq!(found[0], found[1]);
}

#[test]
fn missing_declared_objects_are_drift_from_the_contract() {
    let cluster = Cluster::start();
    drop(cluster.guarded_document("one"));
    let mut client = cluster.connect("one", SUPERUSER);
    assert_eq!(drift(&mut client, "ops.check_schema_consistency()"), [""; 0]);
    client.batch_execute("SELECT ops.freeze_schema('release 1')").unwrap();
    assert_eq!(drift(&mut client, "ops.check_schema_consistency()"), [""; 0]);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; DROP VIEW ops.v_reaper_status; ALTER FUNCTION \
             api.get_ceo_metrics() SECURITY INVOKER;
             DROP TABLE public.plaintiff_contacts; CREATE VIEW public.plaintiff_contacts AS SELECT \
                 1 AS id",
        )
        .unwrap();
    let lines = "SELECT concat_ws(' ', source, change, object_type, object, property, expected, \
        actual) FROM ops.check_schema_consistency";
    assert_eq!(
        column(&mut client, &format!("{lines}() WHERE source = 'contract' ORDER BY object")),
        [
            "contract changed function api.get_ceo_metrics() security DEFINER INVOKER",
            "contract removed view ops.v_reaper_status",
            "contract changed table public.plaintiff_contacts kind table view",
        ]
    );
    assert_eq!(
        column(
            &mut client,
            &format!("{lines}(schemas => '{{public, api}}') WHERE source <> 'contract'")
        ),
        [
            "frozen release 1 changed function api.get_ceo_metrics() security DEFINER INVOKER",
            "frozen release 1 removed table public.plaintiff_contacts",
            "frozen release 1 added view public.plaintiff_contacts",
        ]
    );
}

#[test]
fn labels_of_frozen_schemas_are_unique_and_checked() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("one");
    client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    let mut error = |sql: &str| {
        let error = attempt(&mut client, sql).unwrap_err();
        (error.code, error.message)
    };
    let wrong = |message: &str| ("22023".to_owned(), message.to_owned());
    assert_eq!(
        error("SELECT * FROM ops.check_schema_consistency('a')"),
        wrong("frozen schema \"a\" does not exist")
    );
    assert_eq!(
        error("SELECT ops.freeze_schema(NULL)"),
        ("22004".to_owned(), "label must not be null".to_owned())
    );
    assert_eq!(
        error("SELECT ops.freeze_schema('a', '{nowhere}')"),
        wrong("unrecognized schema \"nowhere\"")
    );
    assert_eq!(
        error("SELECT ops.schema_fingerprint('{pg_catalog}')"),
        wrong("unrecognized schema \"pg_catalog\"")
    );
    // Without schemas there would never be any drift.
    for call in [
        "ops.freeze_schema('a', '{}')",
        "ops.schema_fingerprint('{}')",
        "ops.schema_snapshot('{}')",
    ] {
        assert_eq!(error(&format!("SELECT {call}")), wrong("schemas must not be empty"), "{call}");
    }
    assert_eq!(
        error("SELECT * FROM ops.check_schema_consistency(NULL, '{}')"),
        wrong("schemas must not be empty")
    );
    for call in [
        "ops.freeze_schema('a', '{NULL}')",
        "ops.golden_sql('{api,NULL}')",
        "ops.audit_security(schemas => '{NULL}')",
    ] {
        let null = ("22004".to_owned(), "schemas must not contain nulls".to_owned());
        assert_eq!(error(&format!("SELECT * FROM {call}")), null, "{call}");
    }
    let read_only = error("BEGIN READ ONLY; SELECT ops.freeze_schema('a')");
    assert_eq!(
        read_only,
        (
            "25006".to_owned(),
            "cannot execute a change of the frozen schemas in a read-only transaction".to_owned()
        )
    );
    error("ROLLBACK; SELECT 1/0");
    assert_eq!(
        error("SELECT ops.unfreeze_schema('a')"),
        wrong("frozen schema \"a\" does not exist")
    );
    error("SELECT ops.freeze_schema('a', '{api}'); SELECT 1/0");
    client.batch_execute("SELECT ops.freeze_schema('a', '{api}')").unwrap();
    let mut error = |sql: &str| {
        let error = attempt(&mut client, sql).unwrap_err();
        (error.code, error.message)
    };
    assert_eq!(error("SELECT ops.freeze_schema('a')"), wrong("frozen schema \"a\" already exists"));
    assert_eq!(
        error("SELECT * FROM ops.check_schema_consistency('a', '{public}')"),
        wrong("frozen schema \"a\" does not contain schema \"public\"")
    );
    for (snapshot, detail) in [
        ("null", "$: expected an object, found null."),
        ("{\"format\": 7}", "$.format: format 7 is not supported; supported: 1."),
        (
            "{\"format\": 1, \"server\": 15, \"schemas\": [], \"objects\": [{\"type\": 1}]}",
            "$.objects[0]: invalid type: integer `1`, expected a string.",
        ),
    ] {
        let error =
            attempt(&mut client, &format!("SELECT * FROM ops.compare_schema('{snapshot}')"))
                .unwrap_err();
        assert_eq!(
            (&*error.code, &*error.message, &*error.detail),
            ("22023", "invalid schema snapshot", detail)
        );
    }
    assert_eq!(
        attempt(&mut client, "SELECT * FROM ops.compare_schema(NULL)").unwrap_err().code,
        "22004"
    );
    let nothing = r#"SELECT * FROM ops.compare_schema(
        '{"format": 1, "server": 15, "schemas": [], "objects": []}')"#;
    assert_eq!(attempt(&mut client, nothing).unwrap_err().message, "schemas must not be empty");
    // A dropped schema can still be checked.
    client
        .batch_execute(
            "CREATE SCHEMA short; CREATE TABLE short.t (id int); SELECT \
        ops.freeze_schema('c', '{short}'); DROP SCHEMA short CASCADE",
        )
        .unwrap();
    let gone = "ops.check_schema_consistency('c', '{short}')";
    assert_eq!(drift(&mut client, gone), ["removed schema short", "removed table short.t"]);
    client.batch_execute("SELECT ops.unfreeze_schema('c')").unwrap();
    // The latest frozen schema is used, unless a label is given.
    client
        .batch_execute("CREATE TABLE public.later (id int); SELECT ops.freeze_schema('b')")
        .unwrap();
    assert_eq!(
        drift(&mut client, "ops.check_schema_consistency() WHERE source LIKE 'frozen%'"),
        [""; 0]
    );
    client.batch_execute("DROP TABLE public.later").unwrap();
    assert_eq!(
        drift(&mut client, "ops.check_schema_consistency() WHERE source = 'frozen b'"),
        ["removed table public.later"]
    );
    assert_eq!(
        drift(&mut client, "ops.check_schema_consistency('a') WHERE source = 'frozen a'"),
        [""; 0]
    );
    client
        .batch_execute(
            "SELECT ops.freeze_schema('b', replace => true); SELECT ops.unfreeze_schema('a')",
        )
        .unwrap();
    assert_eq!(column(&mut client, "SELECT label FROM ops.v_frozen_schemas"), ["b"]);
    assert_eq!(drift(&mut client, "ops.check_schema_consistency()"), [""; 0]);
}

#[test]
fn snapshot_executes_no_user_code() {
    let cluster = Cluster::start();
    let mut client = database(&cluster);
    // Parsing the literal again would execute code of the domain's owner as the current role.
    client
        .batch_execute(
            "CREATE ROLE mallory; GRANT CREATE, USAGE ON SCHEMA app TO mallory; SET ROLE mallory;
             CREATE FUNCTION app.trap(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; \
                 END';
             CREATE DOMAIN app.bait AS int CHECK (app.trap(VALUE));
             CREATE VIEW app.lure AS SELECT '{1}'::app.bait[] AS a, 'ok'::app.mood AS m, 'x' IN \
                 ('a', 'b') AS b;
             CREATE TYPE app.row_of_bait AS (a app.bait);
             CREATE TABLE app.lures (a app.row_of_bait DEFAULT '(1)', b app.bait[] CHECK (b <> \
                 '{2}'));
             CREATE OR REPLACE FUNCTION app.trap(int) RETURNS boolean LANGUAGE plpgsql AS $$
               BEGIN RAISE WARNING 'caught %', current_user; PERFORM 1 / 0; RETURN true; END $$;
             RESET ROLE",
        )
        .unwrap();
    assert_eq!(attempt(&mut client, "SELECT '{1}'::app.bait[]").unwrap_err().code, "22012");
    client
        .batch_execute(
            "SELECT ops.freeze_schema('a', '{app}'); SELECT ops.schema_snapshot('{app}')",
        )
        .unwrap();
    assert_eq!(
        drift(&mut client, "ops.check_schema_consistency('a') WHERE source = 'frozen a'"),
        [""; 0]
    );
    // Once, by the statement above.
    assert_eq!(cluster.log().matches("WARNING:  caught").count(), 1, "{}", cluster.log());
}

#[test]
fn only_authorized_roles_read_and_freeze() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("one");
    client.batch_execute("SELECT ops.freeze_schema('a')").unwrap();
    let reading = [
        "SELECT ops.schema_fingerprint()",
        "SELECT ops.schema_snapshot()",
        "SELECT * FROM ops.check_schema_consistency()",
        "SELECT * FROM ops.compare_schema(ops.schema_snapshot())",
        "SELECT * FROM ops.v_frozen_schemas",
    ];
    for role in ["anon", "authenticated", "service_role", "pg_monitor", "postgres"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        for call in reading {
            let outcome = attempt(&mut client, call).map_err(|error| error.code);
            let expected = if matches!(role, "anon" | "authenticated") {
                Err("42501".to_owned())
            } else {
                Ok(())
            };
            assert_eq!(outcome, expected, "{role}: {call}");
        }
        for call in ["SELECT ops.freeze_schema('b')", "SELECT ops.unfreeze_schema('a')"] {
            assert_eq!(attempt(&mut client, call).unwrap_err().code, "42501", "{role}: {call}");
        }
        // The owner of schema public may dump the database.
        let read = attempt(&mut client, "SELECT * FROM dragonfly_guard.frozen_schema");
        assert_eq!(read.is_ok(), role == "postgres", "{role}: {read:?}");
        client.batch_execute("RESET ROLE").unwrap();
    }
    client
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION ops.freeze_schema(text, name[], boolean) TO \
        service_role; SET ROLE service_role; SELECT ops.freeze_schema('b'); RESET ROLE",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, "SELECT label || ' ' || frozen_by FROM ops.v_frozen_schemas"),
        ["a root_su", "b root_su"]
    );
    // A read-only transaction can read but not freeze.
    client.batch_execute("BEGIN READ ONLY").unwrap();
    for call in reading {
        attempt(&mut client, call).unwrap();
    }
    assert_eq!(attempt(&mut client, "SELECT ops.freeze_schema('c')").unwrap_err().code, "25006");
    client.batch_execute("ROLLBACK").unwrap();
    // No lock remains on the objects that were read.
    let mut client = cluster.connect("one", SUPERUSER);
    client.batch_execute("BEGIN; SELECT ops.schema_fingerprint()").unwrap();
    let locked =
        "SELECT count(*)::text FROM pg_locks WHERE relation >= 16384 AND pid = pg_backend_pid()";
    assert_eq!(column(&mut client, locked), ["0"]);
}

/// Runs SQL with psql, and returns what it prints and what the server says besides.
fn psql(cluster: &Cluster, database: &str, sql: &str) -> (String, String) {
    let output =
        cluster.client_program("psql", &["-X", "-q", "-A", "-t", "-d", database, "-c", sql]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn definitions_that_are_nested_too_deeply_are_named_and_the_others_compared() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("deep");
    let deep = format!("1{}", "+1".repeat(9_000));
    client
        .batch_execute(&format!(
            "SET max_stack_depth = '7MB'; CREATE SCHEMA app; CREATE TABLE app.plain (a int);
             CREATE VIEW app.view AS SELECT {deep} AS a;
             CREATE TABLE app.t (a int DEFAULT {deep}, CHECK (a > {deep}));
             CREATE POLICY p ON app.t USING (a < {deep});
             CREATE FUNCTION app.f() RETURNS int LANGUAGE sql RETURN {deep}"
        ))
        .unwrap();
    let freeze = "SELECT ops.freeze_schema('deep', '{app}', replace => true)";
    let named = [
        "function app.f()",
        "policy p on app.t",
        "table column app.t.a",
        "table constraint t_a_check on app.t",
        "view app.view",
    ];
    let warning = format!(
        "WARNING:  5 objects are nested too deeply to be printed\nDETAIL:  {}\nTheir definitions \
         are \
         not compared: a change is no difference.\nHINT:  Increase max_stack_depth, or rewrite the \
         definition with less nesting.",
        named.join("\n")
    );
    for sql in [
        freeze,
        "SELECT ops.schema_fingerprint('{app}')",
        "SELECT ops.schema_snapshot('{app}') IS NOT NULL",
        "SELECT count(*) FROM ops.check_schema_consistency('deep')",
        "SELECT count(*) FROM ops.compare_schema((SELECT snapshot FROM \
         dragonfly_guard.frozen_schema))",
    ] {
        let (printed, said) = psql(&cluster, "deep", sql);
        assert!(said.starts_with(&warning), "{sql}: {said}");
        assert!(!printed.is_empty(), "{sql}");
    }
    client.batch_execute("ALTER TABLE app.plain ADD b int; DROP VIEW app.view").unwrap();
    let (printed, said) = psql(
        &cluster,
        "deep",
        "SELECT change, object FROM ops.check_schema_consistency('deep') WHERE source <> \
         'contract'",
    );
    assert_eq!(printed, "added|app.plain.b\nremoved|app.view");
    assert!(said.starts_with("WARNING:  4 objects are nested too deeply to be printed"), "{said}");
    // With enough stack, all of them are printed.
    client.batch_execute("SET max_stack_depth = '7MB'").unwrap();
    let deep = "SELECT count(*) FROM ops.check_schema_consistency('deep') WHERE source <> \
                'contract' AND change = 'changed'";
    assert_eq!(client.query_one(deep, &[]).unwrap().get::<_, i64>(0), 4);
    client
        .batch_execute(
            "DROP FUNCTION app.f(); DROP POLICY p ON app.t; ALTER TABLE app.t DROP CONSTRAINT \
         t_a_check",
        )
        .unwrap();
    let (_, said) = psql(&cluster, "deep", "SELECT ops.schema_fingerprint('{app}')");
    let alone = "WARNING:  table column app.t.a is nested too deeply to be printed\nDETAIL:  Its \
                 definition is not compared: a change is no difference.";
    assert!(said.starts_with(alone), "{said}");
}

#[test]
fn snapshot_of_another_minor_release_is_compared_with_a_notice() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("minor");
    client.batch_execute("CREATE SCHEMA app; CREATE TABLE app.t (a int)").unwrap();
    let here = "SELECT current_setting('server_version_num')";
    let here: u32 = column(&mut client, here).remove(0).parse().unwrap();
    let release = |number: u32| format!("{}.{}", number / 10_000, number % 10_000);
    let stored = "SELECT ops.schema_snapshot('{app}')->>'server'";
    assert_eq!(column(&mut client, stored), [here.to_string()]);
    let compared = |server: u32| {
        let sql = format!(
            "SELECT count(*) FROM ops.compare_schema(jsonb_set(ops.schema_snapshot('{{app}}'), \
             '{{server}}', '{server}'))"
        );
        let (printed, said) = psql(&cluster, "minor", &sql);
        assert_eq!(printed, "0");
        said
    };
    assert_eq!(compared(here), "");
    assert_eq!(compared(here / 10_000), "", "an earlier version stored the major version");
    for other in [here + 1, here - 1, here + 10_000] {
        let notice = format!(
            "NOTICE:  the snapshot was taken on PostgreSQL {}, and this server is PostgreSQL {}\n\
             DETAIL:  Another release can print the same definition differently, which is then \
             reported as a change.",
            release(other),
            release(here)
        );
        assert_eq!(compared(other), notice);
    }
    assert!(compared(14).starts_with("NOTICE:  the snapshot was taken on PostgreSQL 14, and"));
}

#[test]
fn not_null_that_is_not_valid_differs_from_not_null() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("valid");
    client
        .batch_execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (v int, w int); INSERT INTO app.t \
                        VALUES (NULL, 1)",
        )
        .unwrap();
    let changes = "ops.check_schema_consistency('nv') WHERE source <> 'contract'";
    let freeze = "SELECT ops.freeze_schema('nv', '{app}', replace => true)";
    for constraint in ["CHECK (v IS NOT NULL)", "FOREIGN KEY (v) REFERENCES app.p", "NOT NULL v"] {
        let is_known = constraint != "NOT NULL v" || {
            let version = "SELECT current_setting('server_version_num')";
            column(&mut client, version).remove(0).parse::<u32>().unwrap() >= 180_000
        };
        if !is_known {
            continue;
        }
        client
            .batch_execute(&format!(
                "CREATE TABLE IF NOT EXISTS app.p (id int PRIMARY KEY); INSERT INTO app.p VALUES \
                 (1) ON CONFLICT DO NOTHING; UPDATE app.t SET v = NULL; ALTER TABLE app.t ADD \
                 CONSTRAINT c {constraint} NOT VALID"
            ))
            .unwrap();
        client.batch_execute(freeze).unwrap();
        client
            .batch_execute("UPDATE app.t SET v = 1; ALTER TABLE app.t VALIDATE CONSTRAINT c")
            .unwrap();
        let expected = if constraint == "NOT NULL v" {
            "changed table column app.t.v not null"
        } else {
            "changed table constraint c on app.t definition"
        };
        assert_eq!(drift(&mut client, changes), [expected], "{constraint}");
        client.batch_execute("ALTER TABLE app.t DROP CONSTRAINT c").unwrap();
    }
}
