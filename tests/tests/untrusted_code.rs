//! Code of a role that the contract does not name, which declared objects execute: the guard
//! rejects each way to attach it, and the audit reports it.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, with_reason};
use postgres::Client;

/// A database with a declared table, a declared partitioned table and a declared routine of
/// `app_owner`, and a schema of `mallory` with routines and a domain.
fn world(cluster: &Cluster) -> Client {
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE app_owner; CREATE ROLE mallory; CREATE ROLE member;
             CREATE SCHEMA app AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA app TO member;
             CREATE SCHEMA mal AUTHORIZATION mallory; GRANT USAGE ON SCHEMA mal TO app_owner;
             SET ROLE app_owner;
             CREATE DOMAIN app.positive AS int;
             CREATE TABLE app.t (id int, owned text, n app.positive);
             ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON app.t TO member USING (owned = current_user);
             GRANT SELECT, INSERT ON app.t TO member;
             CREATE TABLE app.p (id int) PARTITION BY RANGE (id);
             CREATE FUNCTION app.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER mine BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.mine();
             SET ROLE mallory;
             CREATE FUNCTION mal.stamp() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN RETURN NEW; END';
             CREATE FUNCTION mal.event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE FUNCTION mal.ok(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION mal.next() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION mal.apart(int, int) RETURNS float8 IMMUTABLE LANGUAGE sql
                 AS 'SELECT 1.0::float8';
             CREATE DOMAIN mal.number AS int;
             CREATE TYPE mal.pair AS (a mal.number);
             CREATE TABLE mal.part (id int);
             RESET ROLE;
             CREATE TABLE mal.middle (id int) PARTITION BY RANGE (id);
             CREATE TABLE mal.leaf PARTITION OF mal.middle FOR VALUES FROM (10) TO (15);
             ALTER TABLE mal.middle OWNER TO app_owner; ALTER TABLE mal.leaf OWNER TO mallory;
             CREATE EXTENSION dragonfly_guard;
             INSERT INTO dragonfly_guard.contract (id, document) VALUES (2, '{\"version\": \
             \"2.0.0\", \"name\": \"app\", \"roles\": [{\"name\": \"member\", \"kind\": \
             \"client\"}, {\"name\": \"app_owner\", \"kind\": \"owner\"}], \"trusted_roles\": \
             [\"app_owner\"], \"schemas\": [{\"name\": \"app\", \"usage\": [\"member\"]}], \
             \"tables\": [{\"schema\": \"app\", \"name\": \"t\", \"row_security\": true, \
             \"grants\": {\"member\": [\"SELECT\", \"INSERT\"]}, \"policies\": {\"member\": \
             [\"ALL\"]}}, {\"schema\": \"app\", \"name\": \"p\"}], \
             \"security_definer\": {\"search_path\": [\"pg_catalog\", \"pg_temp\"]}}')",
        )
        .unwrap();
    client
}

const AUDIT: &str = "SELECT severity || ' ' || object || ': ' || detail FROM ops.audit_security()
    WHERE rule = 'untrusted_code' ORDER BY 1";

/// Statements that attach code of `mallory`, and the part that the message names.
const ATTACHED: [(&str, &str); 22] = [
    (
        "CREATE TRIGGER s BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION mal.stamp()",
        "Trigger s on app.t executes function mal.stamp()",
    ),
    (
        "CREATE POLICY r ON app.t AS RESTRICTIVE TO member USING (mal.ok(id))",
        "Policy r on app.t executes function mal.ok(integer)",
    ),
    (
        "ALTER POLICY own ON app.t USING (owned = current_user AND mal.ok(id))",
        "Policy own on app.t",
    ),
    ("ALTER TABLE app.t ADD CONSTRAINT c CHECK (mal.ok(id))", "Constraint c on app.t"),
    ("ALTER TABLE app.t ALTER id SET DEFAULT mal.next()", "The default of column app.t.id"),
    ("ALTER TABLE app.t ADD g bool GENERATED ALWAYS AS (mal.ok(id)) STORED", "Generated column"),
    ("CREATE INDEX i ON app.t (id) WHERE mal.ok(id)", "Index i on app.t"),
    ("CREATE STATISTICS app.s ON mal.ok(id), id FROM app.t", "Statistics s on app.t"),
    ("CREATE RULE r AS ON INSERT TO app.t WHERE mal.ok(1) DO ALSO NOTHING", "Rule r on app.t"),
    ("ALTER DOMAIN app.positive ADD CHECK (mal.ok(VALUE))", "A column type of app.t executes"),
    ("ALTER DOMAIN app.positive OWNER TO mallory", "A column type of app.t is type app.positive"),
    ("ALTER TABLE app.t ADD m mal.number", "A column type of app.t is type mal.number"),
    ("ALTER TABLE app.t ADD m mal.pair[]", "A column type of app.t is type mal.pair"),
    (
        "CREATE TYPE app.span AS RANGE (subtype = int, subtype_diff = mal.apart);
         ALTER TABLE app.t ADD s app.span",
        "A column type of app.t executes function mal.apart(integer, integer)",
    ),
    (
        "CREATE TYPE app.pair AS (a mal.number); ALTER TABLE app.t ADD p app.pair",
        "A column type of app.t is type mal.number",
    ),
    (
        "CREATE TYPE app.pair AS (a mal.number); ALTER TABLE app.t ADD p app.pair[]",
        "A column type of app.t is type mal.number",
    ),
    ("ALTER TABLE app.t ALTER id TYPE mal.number", "A column type of app.t is type mal.number"),
    (
        "ALTER FUNCTION app.mine() OWNER TO mallory",
        "Trigger mine on app.t executes function app.mine()",
    ),
    (
        "ALTER TABLE app.p ATTACH PARTITION mal.part FOR VALUES FROM (1) TO (9)",
        "Table mal.part, a partition of table app.p, is owned by role \"mallory\"",
    ),
    (
        "ALTER TABLE app.p ATTACH PARTITION mal.middle FOR VALUES FROM (10) TO (20)",
        "Table mal.leaf, a partition of table app.p, is owned by role \"mallory\"",
    ),
    (
        "CREATE FUNCTION app.calls() RETURNS bool LANGUAGE sql RETURN mal.ok(1);
         CREATE POLICY r ON app.t AS RESTRICTIVE TO member USING (app.calls())",
        "Policy r on app.t executes function mal.ok(integer)",
    ),
    (
        "CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES FROM (1) TO (9);
         CREATE TRIGGER s BEFORE INSERT ON app.p1 FOR EACH ROW EXECUTE FUNCTION mal.stamp()",
        "Trigger s on app.p1 executes function mal.stamp()",
    ),
];

#[test]
fn code_of_an_undeclared_role_that_a_declared_object_executes_is_rejected_and_reported() {
    let cluster = Cluster::start();
    let mut client = world(&cluster);
    assert_eq!(column(&mut client, AUDIT), [""; 0]);
    for (statements, expected) in ATTACHED {
        let error = attempt(&mut client, statements).expect_err(statements);
        assert!(error.detail.contains(expected), "{statements}: {error:?}");
        let exempt = "exempt it: SELECT ops.exempt(rule => 'untrusted_code', object => 'app.";
        assert!(error.hint.contains(exempt), "{statements}: {error:?}");
        assert!(error.hint.contains("\nOtherwise, read the code. "), "{statements}: {error:?}");
        client
            .batch_execute(&format!("BEGIN; SET LOCAL dragonfly_guard.mode = off; {statements}"))
            .unwrap();
        let found = column(&mut client, AUDIT);
        client.batch_execute("ROLLBACK").unwrap();
        assert!(found.iter().any(|f| f.contains(expected)), "{statements}: {found:?}");
    }
}

#[test]
fn statement_that_attaches_code_passes_after_the_call_in_the_hint() {
    let cluster = Cluster::start();
    let mut client = world(&cluster);
    let (statement, _) = ATTACHED[0];
    let error = attempt(&mut client, statement).unwrap_err();
    let (_, call) = error.hint.split_once("exempt it: ").unwrap();
    attempt(&mut client, &with_reason(call.lines().next().unwrap())).unwrap();
    attempt(&mut client, statement).unwrap();
    assert_eq!(column(&mut client, AUDIT), [""; 0]);
}

#[test]
fn function_of_a_range_type_in_use_that_is_given_to_an_undeclared_role_is_rejected() {
    let cluster = Cluster::start();
    let mut client = world(&cluster);
    client
        .batch_execute(
            "SET ROLE app_owner;
             CREATE FUNCTION app.apart(int, int) RETURNS float8 IMMUTABLE LANGUAGE sql
                 AS 'SELECT 1.0::float8';
             CREATE TYPE app.span AS RANGE (subtype = int, subtype_diff = app.apart);
             ALTER TABLE app.t ADD s app.span; RESET ROLE",
        )
        .unwrap();
    let error =
        attempt(&mut client, "ALTER FUNCTION app.apart(int, int) OWNER TO mallory").unwrap_err();
    let expected = "A column type of app.t executes function app.apart(integer, integer)";
    assert!(error.detail.contains(expected), "{error:?}");
}

#[test]
fn trusted_code_is_attached_without_a_message() {
    let cluster = Cluster::start();
    let mut client = world(&cluster);
    client
        .batch_execute(
            "GRANT USAGE ON SCHEMA mal TO mallory; SET ROLE app_owner;
             CREATE FUNCTION app.ok(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 > 0';
             ALTER TABLE app.t ADD CONSTRAINT c CHECK (app.ok(id));
             CREATE INDEX i ON app.t (id) WHERE app.ok(id);
             ALTER DOMAIN app.positive ADD CHECK (app.ok(VALUE));
             CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES FROM (1) TO (9);
             RESET ROLE;
             SET ROLE mallory;
             CREATE TABLE mal.own (id mal.number CHECK (mal.ok(id)));
             CREATE TRIGGER s BEFORE INSERT ON mal.own FOR EACH ROW EXECUTE FUNCTION mal.stamp();
             RESET ROLE;",
        )
        .unwrap();
    assert_eq!(column(&mut client, AUDIT), [""; 0]);
}

#[test]
fn event_trigger_with_a_function_of_an_undeclared_role_is_reported() {
    let cluster = Cluster::start();
    let mut client = world(&cluster);
    client
        .batch_execute("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION mal.event()")
        .unwrap();
    assert_eq!(
        column(&mut client, AUDIT),
        ["error e: Event trigger e executes function mal.event(), which is owned by role \
          \"mallory\", which the contract does not name."]
    );
}

#[test]
fn attached_code_that_was_there_before_does_not_block_other_changes() {
    let cluster = Cluster::start();
    let mut client = world(&cluster);
    client
        .batch_execute(
            "BEGIN; SET LOCAL dragonfly_guard.mode = off;
             ALTER TABLE app.t ADD CONSTRAINT c CHECK (mal.ok(id)); COMMIT;
             ALTER TABLE app.t ADD more int;
             CREATE INDEX i ON app.t (more);
             CREATE OR REPLACE FUNCTION mal.ok(int) RETURNS bool IMMUTABLE LANGUAGE sql
                 AS 'SELECT $1 > 0';
             ALTER TABLE app.t RENAME CONSTRAINT c TO d",
        )
        .unwrap();
    assert_eq!(column(&mut client, AUDIT).len(), 1);
    client.batch_execute("ALTER FUNCTION mal.ok(int) OWNER TO app_owner").unwrap();
    assert_eq!(column(&mut client, AUDIT), [""; 0]);
}
