//! SECURITY DEFINER routines whose callers choose a type: what a client can execute through them,
//! and what judge_search_path(), the audit and the guard say about them.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// A database with a governed schema of `app_owner` in which `anon` may execute every routine, and
/// a table that `anon` cannot read.
fn world(cluster: &Cluster) -> Client {
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE app_owner; CREATE ROLE anon;
             CREATE SCHEMA app AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA app TO anon;
             SET ROLE app_owner;
             CREATE TABLE app.log (t text);
             CREATE TABLE app.safe (secret text); INSERT INTO app.safe VALUES ('12-34-56');
             RESET ROLE;
             CREATE EXTENSION dragonfly_guard;
             INSERT INTO dragonfly_guard.contract (id, document) VALUES (2, '{\"version\": \
             \"2.0.0\", \"name\": \"app\", \"roles\": [{\"name\": \"anon\", \"kind\": \
             \"client\"}, {\"name\": \"app_owner\", \"kind\": \"owner\"}], \"trusted_roles\": \
             [\"app_owner\"], \"schemas\": [{\"name\": \"app\", \"usage\": [\"anon\"], \
             \"execute_on_routines\": [\"anon\"]}], \"security_definer\": {\"search_path\": \
             [\"pg_catalog\", \"pg_temp\"]}}')",
        )
        .unwrap();
    client
}

/// Types of a client in its temporary schema, whose casts and checks raise an error with the name
/// of the role that executes them and what only the owner of the routines can read.
const TYPES: &str = "
    CREATE FUNCTION pg_temp.run() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'code of anon runs as %: %', current_user,
            (SELECT secret FROM app.safe); END $$;
    CREATE TYPE pg_temp.e AS ENUM ('a', 'b');
    CREATE TYPE pg_temp.c AS (a int);
    CREATE TYPE pg_temp.holder AS (c pg_temp.e);
    CREATE TYPE pg_temp.r AS RANGE (subtype = int);
    CREATE FUNCTION pg_temp.e_json(pg_temp.e) RETURNS json LANGUAGE sql
        AS 'SELECT pg_temp.run()::json';
    CREATE FUNCTION pg_temp.e_text(pg_temp.e) RETURNS text LANGUAGE sql AS 'SELECT pg_temp.run()';
    CREATE FUNCTION pg_temp.r_json(pg_temp.r) RETURNS json LANGUAGE sql
        AS 'SELECT pg_temp.run()::json';
    CREATE FUNCTION pg_temp.c_int(pg_temp.c) RETURNS int LANGUAGE sql
        AS 'SELECT pg_temp.run()::int';
    CREATE FUNCTION pg_temp.int_e(int) RETURNS pg_temp.e LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_temp.run(); END';
    CREATE FUNCTION pg_temp.allows(text) RETURNS boolean LANGUAGE plpgsql
        AS 'BEGIN IF current_user <> session_user THEN PERFORM pg_temp.run(); END IF;
            RETURN true; END';
    CREATE DOMAIN pg_temp.d AS text CHECK (pg_temp.allows(VALUE));
    CREATE TYPE pg_temp.in_record AS (a pg_temp.d);
    CREATE CAST (pg_temp.e AS json) WITH FUNCTION pg_temp.e_json(pg_temp.e);
    CREATE CAST (pg_temp.r AS json) WITH FUNCTION pg_temp.r_json(pg_temp.r);
    CREATE CAST (pg_temp.c AS int) WITH FUNCTION pg_temp.c_int(pg_temp.c) AS IMPLICIT;
    CREATE CAST (int AS pg_temp.e) WITH FUNCTION pg_temp.int_e(int) AS ASSIGNMENT;";

/// How the cast from `pg_temp.e` to text is created.
const EXPLICIT: &str = "CREATE CAST (pg_temp.e AS text) WITH FUNCTION pg_temp.e_text(pg_temp.e)";
const IMPLICIT: &str =
    "CREATE CAST (pg_temp.e AS text) WITH FUNCTION pg_temp.e_text(pg_temp.e) AS IMPLICIT";

/// Argument, result, language, body, call, and the cast that the client needs.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const E: &str = "SELECT app.f('a'::pg_temp.e)";
const C: &str = "SELECT app.f(row(1)::pg_temp.c)";
const D: &str = "SELECT app.f('a'::pg_temp.d)";
const P: &str = "BEGIN; DECLARE c CURSOR FOR SELECT pg_temp.run(); SELECT app.f('c')";

/// Bodies that execute code of the client.
const EXECUTE: [Case; 32] = [
    ("x anyelement", "jsonb", "sql", "select to_jsonb(x)", E, EXPLICIT),
    ("x anyelement", "jsonb", "sql", "select jsonb_build_object('x', coalesce($1))", E, EXPLICIT),
    ("x anyelement", "text", "sql", "select x::text", E, EXPLICIT),
    ("x anyelement", "text", "sql", "select cast(f.x as text)", E, EXPLICIT),
    ("x anynonarray", "text", "sql", "select 'a' || x", E, EXPLICIT),
    ("x anyelement", "text", "sql", "select quote_literal(x)", E, EXPLICIT),
    ("x anyelement", "text", "sql", "select lower(x)", E, IMPLICIT),
    ("x anyelement", "bool", "sql", "select x = 'a'", E, IMPLICIT),
    ("x anyenum", "bool", "plpgsql", "begin return x = 'a'; end", E, IMPLICIT),
    ("x anyelement", "int", "sql", "select x + 1", C, EXPLICIT),
    ("x anyelement", "bool", "sql", "select x in (1, 2)", C, EXPLICIT),
    ("x anyelement", "bool", "sql", "select x between 1 and 2", C, EXPLICIT),
    ("x anyelement", "numeric", "sql", "select abs(x)", C, EXPLICIT),
    ("x anyelement", "text", "sql", "select x", E, IMPLICIT),
    ("x anyelement", "void", "sql", "insert into app.log select x", E, IMPLICIT),
    ("x anyelement", "void", "plpgsql", "begin insert into app.log values (x); end", E, IMPLICIT),
    ("x anyelement", "text", "plpgsql", "begin return x; end", E, IMPLICIT),
    ("x anyelement", "text", "plpgsql", "declare t text; begin t := x; return t; end", E, IMPLICIT),
    (
        "x anyelement",
        "void",
        "plpgsql",
        "begin execute 'select $1::text' using x; end",
        E,
        EXPLICIT,
    ),
    ("x anyelement", "void", "plpgsql", "declare v x%type; begin v := x; end", D, EXPLICIT),
    (
        "x anyelement, j jsonb",
        "anyelement",
        "sql",
        "select jsonb_populate_record(x, j)",
        "SELECT app.f(null::pg_temp.in_record, '{\"a\": \"x\"}')",
        EXPLICIT,
    ),
    ("x anycompatible", "jsonb", "sql", "select to_jsonb(x)", E, EXPLICIT),
    ("variadic x anyarray", "jsonb", "sql", "select to_jsonb(x)", E, EXPLICIT),
    ("x anyrange", "jsonb", "sql", "select to_jsonb(x)", "SELECT app.f(pg_temp.r(1, 2))", EXPLICIT),
    (
        "x record",
        "jsonb",
        "plpgsql",
        "begin return to_jsonb(x); end",
        "SELECT app.f(row('a'::pg_temp.e))",
        EXPLICIT,
    ),
    (
        "x record",
        "text",
        "plpgsql",
        "begin return x.c::text; end",
        "SELECT app.f(row('a')::pg_temp.holder)",
        EXPLICIT,
    ),
    (
        "",
        "record",
        "sql",
        "select 1, 2",
        "SELECT * FROM app.f() AS t(a int, b pg_temp.e)",
        EXPLICIT,
    ),
    ("", "setof record", "sql", "select 1", "SELECT * FROM app.f() AS t(a pg_temp.e)", EXPLICIT),
    ("x refcursor", "void", "plpgsql", "declare r record; begin fetch x into r; end", P, EXPLICIT),
    ("x refcursor", "void", "plpgsql", "begin move next from $1; end", P, EXPLICIT),
    (
        "x refcursor",
        "void",
        "plpgsql",
        "declare c refcursor := x; r record; begin fetch c into r; end",
        P,
        EXPLICIT,
    ),
    ("x refcursor", "void", "plpgsql", "begin execute 'fetch ' || x::text; end", P, EXPLICIT),
];

/// Bodies that execute no code of the client.
const DO_NOT: [Case; 8] = [
    ("x anyelement", "text", "sql", "select format('%s', x)", E, IMPLICIT),
    ("x anyelement", "text", "sql", "select concat('a', x)", E, IMPLICIT),
    ("x anyelement", "bigint", "sql", "select count(x)", E, IMPLICIT),
    ("x anyelement", "regtype", "sql", "select pg_typeof(x)", E, IMPLICIT),
    ("x anyelement", "void", "plpgsql", "begin raise notice '%', x; end", E, IMPLICIT),
    (
        "x anyarray",
        "anyarray",
        "sql",
        "select array(select e from unnest(x) as e order by e)",
        "SELECT app.f(array['a'::pg_temp.e])",
        IMPLICIT,
    ),
    (
        "x anyarray",
        "text",
        "sql",
        "select array_to_string(x, ',')",
        "SELECT app.f(array['a'::pg_temp.e])",
        IMPLICIT,
    ),
    (
        "x record",
        "text",
        "plpgsql",
        "begin return x::text; end",
        "SELECT app.f(row('a'::pg_temp.e))",
        IMPLICIT,
    ),
];

/// Creates the routine of a case as its owner, and returns what a client gets that calls it.
fn call(cluster: &Cluster, admin: &mut Client, case: &Case) -> Result<(), String> {
    let (arguments, result, language, body, call, cast) = *case;
    admin
        .batch_execute(&format!(
            "DROP ROUTINE IF EXISTS app.f; SET ROLE app_owner;
             CREATE FUNCTION app.f({arguments}) RETURNS {result} LANGUAGE {language} SECURITY \
             DEFINER SET search_path = pg_catalog, pg_temp AS $body$ {body} $body$; RESET ROLE"
        ))
        .unwrap_or_else(|e| panic!("{body}: {e:?}"));
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute("SET SESSION AUTHORIZATION anon").unwrap();
    client.batch_execute(&format!("{TYPES} {cast}")).unwrap();
    attempt(&mut client, call).map(drop).map_err(|error| error.message)
}

const VERDICT: &str = "SELECT verdict || ' ' || array_to_string(reasons, ' ')
    FROM pg_proc, ops.judge_search_path(pg_proc.oid) WHERE proname = 'f' AND \
    pronamespace = 'app'::regnamespace";

#[test]
fn bodies_that_execute_code_of_the_caller_are_exploitable_and_others_are_not() {
    let cluster = Cluster::start();
    let mut admin = world(&cluster);
    admin.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    for case in &EXECUTE {
        let error = call(&cluster, &mut admin, case).unwrap_err();
        assert_eq!(error, "code of anon runs as app_owner: 12-34-56", "{case:?}");
        assert_eq!(column(&mut admin, VERDICT), ["exploitable CALLER_TYPES:anon"], "{case:?}");
    }
    for case in &DO_NOT {
        assert_eq!(call(&cluster, &mut admin, case), Ok(()), "{case:?}");
        assert_eq!(column(&mut admin, VERDICT), ["fragile CALLER_TYPES:anon"], "{case:?}");
    }
}

const FOUND: &str = "SELECT severity || ' ' || object || ' ' || (evidence #>> \
    '{reasons,0,reason}') FROM ops.audit_security(rules => '{security_definer_search_path}') \
    ORDER BY 1";

#[test]
fn roles_that_cannot_call_the_routine_or_create_a_type_do_not_make_it_exploitable() {
    let cluster = Cluster::start();
    let mut admin = world(&cluster);
    admin.batch_execute("SET dragonfly_guard.mode = off").unwrap();
    let case = &EXECUTE[0];
    call(&cluster, &mut admin, case).unwrap_err();
    assert_eq!(column(&mut admin, FOUND), ["error app.f(pg_catalog.anyelement) CALLER_TYPES"]);
    for (change, verdict, found) in [
        (
            "REVOKE EXECUTE ON FUNCTION app.f FROM PUBLIC; GRANT EXECUTE ON FUNCTION app.f TO anon",
            "exploitable CALLER_TYPES:anon",
            &["error app.f(pg_catalog.anyelement) CALLER_TYPES"][..],
        ),
        (
            "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC",
            "fragile CALLER_TYPES:anon",
            &["warning app.f(pg_catalog.anyelement) CALLER_TYPES"],
        ),
        (
            "CREATE SCHEMA playground; GRANT CREATE ON SCHEMA playground TO anon",
            "exploitable CALLER_TYPES:anon",
            &["error app.f(pg_catalog.anyelement) CALLER_TYPES"],
        ),
        ("REVOKE EXECUTE ON FUNCTION app.f FROM anon", "safe ", &[]),
        (
            "GRANT EXECUTE ON FUNCTION app.f TO anon; REVOKE USAGE ON SCHEMA app FROM anon",
            "safe ",
            &[],
        ),
    ] {
        admin.batch_execute(change).unwrap();
        assert_eq!(column(&mut admin, VERDICT), [verdict], "{change}");
        assert_eq!(column(&mut admin, FOUND), found, "{change}");
    }
}

#[test]
fn type_of_a_client_is_reported_where_the_client_can_call_the_routine() {
    let cluster = Cluster::start();
    let mut admin = world(&cluster);
    admin
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE TYPE app.note AS ENUM ('a'); ALTER TYPE app.note OWNER TO anon;
             SET ROLE app_owner;
             CREATE FUNCTION app.f(x app.note) RETURNS text LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT x::text'; RESET ROLE",
        )
        .unwrap();
    assert_eq!(column(&mut admin, VERDICT), ["exploitable CALLER_TYPES:anon"]);
    let mut anon = cluster.connect("postgres", SUPERUSER);
    anon.batch_execute(
        "SET SESSION AUTHORIZATION anon;
         CREATE FUNCTION pg_temp.run(app.note) RETURNS text LANGUAGE sql AS 'SELECT secret FROM \
         app.safe';
         CREATE CAST (app.note AS text) WITH FUNCTION pg_temp.run(app.note)",
    )
    .unwrap();
    assert_eq!(column(&mut anon, "SELECT app.f('a')"), ["12-34-56"]);
    admin.batch_execute("ALTER TYPE app.note OWNER TO app_owner").unwrap();
    assert_eq!(column(&mut admin, VERDICT), ["safe "]);
}

#[test]
fn routine_that_opens_the_cursor_that_it_returns_is_safe() {
    let cluster = Cluster::start();
    let mut admin = world(&cluster);
    let body = "declare r record; begin open x for select 1; fetch x into r; return x; end";
    let case = ("x refcursor", "refcursor", "plpgsql", body, "BEGIN; SELECT app.f('c')", EXPLICIT);
    assert_eq!(call(&cluster, &mut admin, &case), Ok(()));
    assert_eq!(column(&mut admin, VERDICT), ["safe "]);
}

/// Changes that make a routine exploitable without changing it, after what precedes them: each is
/// rejected.
const OPENING: [(&str, &str); 11] = [
    ("", "ALTER TYPE app.e OWNER TO outsider"),
    ("", "ALTER TYPE app.c OWNER TO outsider"),
    ("", "ALTER TABLE app.holder OWNER TO outsider"),
    ("", "ALTER TYPE app.c ADD ATTRIBUTE b ground.foreign"),
    ("", "ALTER TYPE app.c ALTER ATTRIBUTE a TYPE ground.foreign[]"),
    ("", "ALTER TABLE app.holder ADD COLUMN b ground.foreign"),
    (
        "",
        "ALTER TABLE app.empty ADD COLUMN b app.c; ALTER TYPE app.c ADD ATTRIBUTE b ground.foreign",
    ),
    ("", "ALTER TABLE app.above ADD COLUMN b ground.foreign"),
    ("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC", "GRANT CREATE ON SCHEMA ground TO anon"),
    ("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC", "ALTER SCHEMA ground OWNER TO anon"),
    ("REVOKE USAGE ON SCHEMA app FROM anon", "GRANT USAGE ON SCHEMA app TO anon"),
];

#[test]
fn guard_rejects_what_makes_an_unchanged_routine_exploitable() {
    let cluster = Cluster::start();
    let mut admin = world(&cluster);
    admin
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE SCHEMA ground; CREATE ROLE outsider;
             CREATE TYPE ground.foreign AS ENUM ('a'); ALTER TYPE ground.foreign OWNER TO outsider;
             SET ROLE app_owner;
             CREATE TYPE app.e AS ENUM ('a'); CREATE DOMAIN app.over_e AS app.e;
             CREATE TYPE app.c AS (a int); CREATE TABLE app.holder (a int);
             CREATE TABLE app.empty ();
             CREATE FUNCTION app.of_e(x app.over_e[]) RETURNS text LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT x::text';
             CREATE FUNCTION app.of_c(x app.c) RETURNS jsonb LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT to_jsonb(x)';
             CREATE TABLE app.above (a int); CREATE TABLE app.under () INHERITS (app.above);
             CREATE FUNCTION app.of_under(x app.under) RETURNS jsonb LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT to_jsonb(x)';
             CREATE FUNCTION app.of_empty(x app.empty) RETURNS jsonb LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT to_jsonb(x)';
             CREATE FUNCTION app.of_holder(x app.holder) RETURNS jsonb LANGUAGE sql SECURITY \
             DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT to_jsonb(x)';
             CREATE FUNCTION app.of_any(x anyelement) RETURNS jsonb LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'SELECT to_jsonb(x)'; RESET ROLE",
        )
        .unwrap();
    for (before, change) in OPENING {
        let mut client = cluster.connect("postgres", SUPERUSER);
        client.batch_execute(&format!("SET dragonfly_guard.mode = off; {before}")).unwrap();
        client.batch_execute("RESET dragonfly_guard.mode").unwrap();
        let error = attempt(&mut client, change).unwrap_err();
        assert_eq!(error.code, "42P13", "{change}: {error:?}");
        assert!(error.message.contains("that its callers choose"), "{change}: {error:?}");
        let restore = "SET dragonfly_guard.mode = off;
            GRANT TEMPORARY ON DATABASE postgres TO PUBLIC; GRANT USAGE ON SCHEMA app TO anon";
        client.batch_execute(restore).unwrap();
    }
}

#[test]
fn guard_rejects_a_routine_that_executes_code_of_its_callers() {
    let cluster = Cluster::start();
    let mut admin = world(&cluster);
    admin.batch_execute("SET ROLE app_owner").unwrap();
    let create = |name: &str, body: &str| {
        format!(
            "CREATE FUNCTION app.{name}(x anyelement) RETURNS jsonb LANGUAGE sql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS $$ {body} $$"
        )
    };
    let error = attempt(&mut admin, &create("log_event", "select to_jsonb(x)")).unwrap_err();
    assert_eq!(error.code, "42P13");
    assert_eq!(
        error.message,
        "SECURITY DEFINER function app.log_event(anyelement) executes code of types that its \
         callers choose"
    );
    assert!(error.detail.contains("to_jsonb(x) executes code of the type"), "{}", error.detail);
    assert!(error.hint.contains("such as jsonb or text"), "{}", error.hint);
    // Without EXECUTE for others, it is allowed; a later GRANT is not.
    let revoke = "REVOKE EXECUTE ON FUNCTION app.log_event FROM PUBLIC";
    let both = format!("BEGIN; {}; {revoke}; COMMIT", create("log_event", "select to_jsonb(x)"));
    admin.batch_execute(&both).unwrap();
    let grant = "GRANT EXECUTE ON FUNCTION app.log_event TO anon";
    assert_eq!(attempt(&mut admin, grant).unwrap_err().code, "42P13");
    // A use that is not recognized is a warning.
    attempt(&mut admin, &create("shown", "select jsonb_build_object('t', pg_typeof(x))")).unwrap();
    let replaced = create("shown", "select to_jsonb(x)").replace("CREATE", "CREATE OR REPLACE");
    assert_eq!(attempt(&mut admin, &replaced).unwrap_err().code, "42P13");
    admin.batch_execute("RESET ROLE").unwrap();
    assert_eq!(
        column(&mut admin, FOUND),
        ["warning app.shown(pg_catalog.anyelement) CALLER_TYPES"]
    );
    let exempt = "SELECT ops.exempt(rule => 'security_definer_search_path', \
        object => 'app.shown(pg_catalog.anyelement)', reason => 'Reviewed')";
    admin.batch_execute(exempt).unwrap();
    assert_eq!(column(&mut admin, FOUND), [""; 0]);
}
