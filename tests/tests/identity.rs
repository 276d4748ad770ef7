//! The identity of a declared routine is its name and its argument types, each read from the state
//! of the catalog that it belongs to. What leaves the contract's routine missing is rejected.

use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;

/// `app.f` to `app.t` are declared with a type of schema `ty` as their argument, `app.n` with types
/// of the server.
const WORLD: &str = "
    SELECT set_config('dragonfly_guard.mode', 'off', false);
    CREATE ROLE app_owner; CREATE ROLE anon;
    CREATE SCHEMA app AUTHORIZATION app_owner; CREATE SCHEMA ty AUTHORIZATION app_owner;
    GRANT CREATE ON SCHEMA public TO app_owner; GRANT USAGE ON SCHEMA app TO anon;
    GRANT CREATE ON DATABASE identity TO app_owner;
    SET ROLE app_owner;
    CREATE TYPE ty.e AS ENUM ('a'); CREATE TYPE ty.c AS (a int); CREATE DOMAIN ty.d AS int;
    CREATE TABLE ty.r (a int);
    CREATE FUNCTION app.e(ty.e[]) RETURNS void LANGUAGE sql AS 'SELECT';
    CREATE FUNCTION app.c(ty.c) RETURNS void LANGUAGE sql AS 'SELECT';
    CREATE FUNCTION app.d(ty.d) RETURNS void LANGUAGE sql AS 'SELECT';
    CREATE FUNCTION app.r(ty.r) RETURNS void LANGUAGE sql AS 'SELECT';
    CREATE FUNCTION app.n(bigint, varchar) RETURNS void LANGUAGE sql SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp AS 'SELECT';
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA app FROM PUBLIC;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA app TO anon;
    RESET ROLE; RESET dragonfly_guard.mode;
    SELECT FROM ops.load_contract(ops.infer_contract('{app}'), 'inferred');";

/// A function with this signature, which only anon can execute.
fn function(signature: &str, security: &str) -> String {
    format!(
        "CREATE FUNCTION app.{signature} RETURNS void LANGUAGE sql {security} AS 'SELECT'; REVOKE \
         EXECUTE ON FUNCTION app.{signature} FROM PUBLIC; GRANT EXECUTE ON FUNCTION \
         app.{signature} TO anon"
    )
}

/// As [`function`], SECURITY DEFINER with a safe search_path.
fn definer(signature: &str) -> String {
    function(signature, "SECURITY DEFINER SET search_path = pg_catalog, pg_temp")
}

fn findings(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT rule || ' ' || object FROM ops.audit_security(min_severity => 'warning')",
    )
}

/// Runs SQL as the owner, in whatever transactions it begins, and returns the message of the error.
fn message(client: &mut Client, sql: &str) -> Option<String> {
    let result = attempt(client, &format!("SET ROLE app_owner; {sql}"));
    client.batch_execute("ROLLBACK; RESET ALL; RESET ROLE").unwrap();
    result.err().map(|e| {
        assert_eq!(e.code, "2BP01", "{sql}: {e:?}");
        e.message
    })
}

#[test]
fn change_that_leaves_a_declared_routine_missing_is_rejected() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("identity");
    client.batch_execute(WORLD).unwrap();
    assert_eq!(findings(&mut client), [""; 0]);
    let other =
        |from: &str, to: &str| format!("BEGIN; DROP FUNCTION app.n; {}; {to}COMMIT", definer(from));
    let n = "app.n(bigint, character varying)";
    let cases: Vec<(&str, String)> = vec![
        // Types that are renamed, moved or dropped.
        ("app.e(ty.e[])", "ALTER TYPE ty.e RENAME TO x".into()),
        ("app.e(ty.e[])", "ALTER TYPE ty.e SET SCHEMA public".into()),
        ("app.c(ty.c)", "ALTER TYPE ty.c RENAME TO x".into()),
        ("app.c(ty.c)", "ALTER TYPE ty.c SET SCHEMA public".into()),
        ("app.d(ty.d)", "ALTER DOMAIN ty.d RENAME TO x".into()),
        ("app.d(ty.d)", "ALTER DOMAIN ty.d SET SCHEMA public".into()),
        ("app.r(ty.r)", "ALTER TABLE ty.r RENAME TO x".into()),
        ("app.r(ty.r)", "ALTER TABLE ty.r SET SCHEMA public".into()),
        ("app.c(ty.c)", "ALTER SCHEMA ty RENAME TO x".into()),
        ("app.e(ty.e[])", "DROP TYPE ty.e CASCADE".into()),
        ("app.d(ty.d)", "DROP DOMAIN ty.d CASCADE".into()),
        ("app.r(ty.r)", "BEGIN; DROP TABLE ty.r CASCADE; CREATE TABLE ty.r (a int); COMMIT".into()),
        ("app.c(ty.c)", "DROP SCHEMA ty CASCADE".into()),
        (
            "app.e(ty.e[])",
            "BEGIN; ALTER TYPE ty.e RENAME TO x; CREATE TYPE ty.e AS ENUM ('b'); \
                           COMMIT"
                .into(),
        ),
        // Another signature.
        (n, "DROP FUNCTION app.n".into()),
        (n, other("n(integer, varchar)", "")),
        (n, other("n(bigint, text)", "")),
        (n, other("n(bigint, varchar[])", "")),
        (n, other("n(bigint, VARIADIC varchar[])", "")),
        (n, other("n(bigint, varchar, boolean)", "")),
        (n, other("n(varchar, bigint)", "")),
        (n, other("n(bigint, varchar)", "ALTER FUNCTION app.n RENAME TO m; ")),
        // An overload first, in statements of their own.
        (n, format!("{}; DROP FUNCTION app.n(bigint, varchar)", definer("n(text)"))),
        // Subtransactions that are rolled back, and nested blocks.
        (
            n,
            format!(
                "BEGIN; SAVEPOINT s; DROP FUNCTION app.n; {}; ROLLBACK TO s; {}; DROP FUNCTION \
                     app.n(bigint, varchar); COMMIT",
                definer("n(bigint, varchar)"),
                definer("n(text)")
            ),
        ),
        (
            n,
            format!(
                "DO $$ BEGIN BEGIN DROP FUNCTION app.n; {0}; RAISE 'x'; EXCEPTION WHEN \
                     raise_exception THEN END; DO $d$ BEGIN {1}; DROP FUNCTION app.n(bigint, \
                     varchar); END $d$; END $$",
                definer("n(bigint, varchar)"),
                definer("n(text)")
            ),
        ),
        (n, format!("SET dragonfly_guard.check_at = commit; {}", other("n(text)", ""))),
    ];
    for (missing, sql) in cases {
        let expected = format!(
            " violates the security contract: required_object_missing on \
                                function {missing}"
        );
        let message = message(&mut client, &sql);
        assert!(message.as_ref().is_some_and(|m| m.contains(&expected)), "{sql}: {message:?}");
        // The overload is left where it was created in a transaction of its own.
        client.batch_execute("DROP FUNCTION IF EXISTS app.n(text)").unwrap();
        assert_eq!(findings(&mut client), [""; 0], "{sql}");
    }
}

#[test]
fn declared_routine_that_is_created_again_with_its_signature_passes() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("identity");
    client.batch_execute(WORLD).unwrap();
    for sql in [
        // The identity counts, not the OID, nor how its types are written or found.
        format!(
            "BEGIN; DROP FUNCTION app.n; {}; COMMIT",
            definer("n(int8, pg_catalog.varchar(3))")
        ),
        format!(
            "SET search_path = ty; BEGIN; ALTER TYPE e RENAME TO x; CREATE TYPE e AS ENUM ('b'); \
             DROP FUNCTION app.e; {}; DROP TYPE x; COMMIT",
            function("e(e[])", "")
        ),
        format!(
            "SET dragonfly_guard.check_at = commit; BEGIN; DROP TYPE ty.d CASCADE; CREATE DOMAIN \
             ty.d AS text; {}; COMMIT",
            function("d(ty.d)", "")
        ),
        // Both names change twice in one transaction.
        "BEGIN; ALTER SCHEMA ty RENAME TO x; ALTER TYPE x.c RENAME TO y; ALTER TYPE x.y RENAME TO \
         c; ALTER SCHEMA x RENAME TO ty; COMMIT"
            .into(),
        "BEGIN; SAVEPOINT s; ALTER TYPE ty.c RENAME TO x; ROLLBACK TO s; ALTER TYPE ty.c ADD \
         ATTRIBUTE b int; COMMIT"
            .into(),
    ] {
        assert_eq!(message(&mut client, &sql), None, "{sql}");
        assert_eq!(findings(&mut client), [""; 0], "{sql}");
    }
}

#[test]
fn argument_types_of_the_contract_are_compared_by_meaning() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("identity");
    client.batch_execute(WORLD).unwrap();
    client
        .batch_execute(
            "SELECT FROM ops.load_contract(replace(replace(ops.contract()::text, 'bigint, \
             character varying', 'INT8,varchar(9)'), 'ty.e[]', '\\\"ty\\\".E [ ]')::jsonb || \
             '{\"version\": \"7.0.0\"}', 'other names')",
        )
        .unwrap();
    assert_eq!(findings(&mut client), [""; 0]);
    let missing = message(&mut client, "DROP FUNCTION app.n");
    assert!(missing.is_some_and(|m| m.contains("app.n(INT8, varchar(9))")));
}

/// The earlier state of a policy contains functions and operators that the transaction has dropped.
#[test]
fn dropping_a_function_with_its_policies_is_rejected_for_the_policies() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("identity");
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE SCHEMA auth; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO \
             anon; SET dragonfly_guard.mode = off;
             CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql STRICT AS 'SELECT 1';
             CREATE FUNCTION app.same(int, int) RETURNS bool LANGUAGE sql STRICT AS 'SELECT $1 = \
             $2'; CREATE OPERATOR app.=== (FUNCTION = app.same, LEFTARG = int, RIGHTARG = int);
             CREATE TABLE app.t (a int); ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON app.t TO anon USING (a = auth.uid() OR a OPERATOR(app.===) 1);
             GRANT SELECT ON app.t TO anon; RESET dragonfly_guard.mode;
             SELECT FROM ops.load_contract(ops.infer_contract('{app}'), 'inferred')",
        )
        .unwrap();
    for sql in ["DROP FUNCTION auth.uid() CASCADE", "DROP FUNCTION app.same CASCADE"] {
        let rejected = attempt(&mut client, sql).unwrap_err();
        let missing = "No policy on table app.t allows role \"anon\" to SELECT";
        assert!(rejected.detail.contains(missing), "{rejected:?}");
    }
}
