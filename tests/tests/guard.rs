//! Statements that fire an event trigger and create or expose an unsafe SECURITY DEFINER routine
//! are rejected; all others pass. The codes, such as A01, are those of docs/internals.md.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, ServerError, attempt, column, provide_extension};
use postgres::Client;

/// Roles and routines for the routes: `app_owner` creates objects, `mallory` is untrusted.
/// `api.good` is safe, `api.old` was unsafe before the guard was installed.
const WORLD: &str = "
    DO $$ BEGIN
      IF to_regrole('app_owner') IS NULL THEN
        CREATE ROLE app_owner CREATEROLE; CREATE ROLE mallory; CREATE ROLE anon; CREATE ROLE \
        trigger_owner;
      END IF;
    END $$;
    CREATE SCHEMA api AUTHORIZATION app_owner; CREATE SCHEMA hostile AUTHORIZATION mallory;
    GRANT USAGE, CREATE ON SCHEMA hostile TO PUBLIC;
    SELECT set_config('dragonfly_guard.mode', 'off', false);
    SET ROLE app_owner;
    CREATE FUNCTION api.good() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = api, \
    pg_temp AS 'SELECT 1';
    CREATE PROCEDURE api.good_p() LANGUAGE sql SECURITY DEFINER SET search_path = api, pg_temp AS \
    'SELECT 1';
    CREATE FUNCTION api.old() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
    CREATE FUNCTION api.worse() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
    missing, pg_temp AS 'SELECT 1';
    CREATE FUNCTION api.plain(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE PROCEDURE api.plain_p() LANGUAGE sql AS 'SELECT 1';
    CREATE TABLE api.t (id int, body text);
    RESET ROLE;
    SET dragonfly_guard.mode = block;";

fn world(cluster: &Cluster, database: &str) -> Client {
    let mut client = cluster.guarded(database);
    client.batch_execute(WORLD).unwrap();
    client
}

/// Returns the rejection of a statement, which must be the guard's.
fn rejection(client: &mut Client, sql: &str) -> ServerError {
    match attempt(client, sql) {
        Err(rejected)
            if rejected.code == "42P13" && rejected.message.contains("SECURITY DEFINER") =>
        {
            rejected
        }
        other => panic!("{sql}\nshould be rejected by the guard: {other:?}"),
    }
}

fn rejects(cluster: &Cluster, database: &str, routes: &[(&str, &str)]) {
    let mut client = world(cluster, database);
    for (route, sql) in routes {
        let before = unsafe_routines(&mut client);
        let rejected = rejection(&mut client, sql);
        assert!(
            !rejected.hint.is_empty()
                && rejected.detail.contains("Rule security_definer_search_path"),
            "{route}: {rejected:?}"
        );
        let _ = client.batch_execute("ROLLBACK");
        client.batch_execute("RESET ALL; RESET SESSION AUTHORIZATION").unwrap();
        assert_eq!(unsafe_routines(&mut client), before, "{route}: something unsafe is left");
    }
}

fn unsafe_routines(client: &mut Client) -> Vec<String> {
    column(
        client,
        "SELECT schema_name || '.' || routine_name FROM ops.security_definer_functions() WHERE \
         verdict <> 'safe'",
    )
}

/// Runs SQL with the guard off, which only a superuser can do.
fn unguarded(client: &mut Client, sql: &str) {
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; {sql}; RESET dragonfly_guard.mode"
        ))
        .unwrap();
}

fn passes(client: &mut Client, statements: &[&str]) {
    for sql in statements {
        attempt(client, sql).unwrap_or_else(|rejected| panic!("{sql}\nshould pass: {rejected:?}"));
    }
}

#[test]
fn create_and_alter_of_an_unsafe_routine_are_rejected() {
    let cluster = Cluster::start();
    let of = |rest: &str| {
        format!(
            "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER {rest} AS 'SELECT 1'"
        )
    };
    let created = [
        ("A01 no path", ""),
        ("A26 another setting", "SET work_mem = '1MB'"),
        ("A27 one pair of quotes", "SET search_path = 'public, pg_temp'"),
        ("A35 SET SCHEMA", "SET SCHEMA 'public'"),
        ("the empty path", "SET search_path = ''"),
        ("a schema in which every role can create objects", "SET search_path = hostile, pg_temp"),
        ("... at any position", "SET search_path = pg_catalog, api, hostile, pg_temp"),
        ("pg_temp first", "SET search_path = pg_temp, api"),
        ("$user", "SET search_path = \"$user\", api, pg_temp"),
        ("a missing schema", "SET search_path = nowhere, api, pg_temp"),
        ("a numbered temporary schema", "SET search_path = api, pg_temp_3, pg_temp"),
        ("pg_catalog last", "SET search_path = api, pg_catalog, pg_temp"),
        ("A34 a key in mixed case", "SET \"Search_Path\" = api"),
    ];
    let created: Vec<(&str, String)> =
        created.iter().map(|(route, rest)| (*route, of(rest))).collect();
    let created: Vec<(&str, &str)> =
        created.iter().map(|(route, sql)| (*route, sql.as_str())).collect();
    rejects(&cluster, "created", &created);
    rejects(
        &cluster,
        "altered",
        &[
            ("A02", "CREATE PROCEDURE api.p() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"),
            (
                "A03",
                "CREATE OR REPLACE FUNCTION api.good() RETURNS int LANGUAGE sql SECURITY DEFINER \
                 AS 'SELECT 1'",
            ),
            ("A04", "ALTER FUNCTION api.plain(int) SECURITY DEFINER"),
            ("A05", "ALTER PROCEDURE api.plain_p() EXTERNAL SECURITY DEFINER"),
            ("A05", "ALTER ROUTINE api.plain(int) EXTERNAL SECURITY DEFINER"),
            ("A06", "ALTER FUNCTION api.good() RESET search_path"),
            ("A06 procedure", "ALTER ROUTINE api.good_p() RESET search_path"),
            ("A07", "ALTER FUNCTION api.good() RESET ALL"),
            ("A08", "ALTER FUNCTION api.good() SET search_path TO DEFAULT"),
            (
                "A09",
                "SET search_path = hostile, public; ALTER FUNCTION api.good() SET search_path FROM \
                 CURRENT",
            ),
            (
                "A33",
                "SELECT set_config('search_path', E'api, pg_temp\\u00a0', false); ALTER FUNCTION \
                 api.good() SET search_path FROM CURRENT",
            ),
            (
                "A33",
                "SELECT set_config('search_path', '$user, api, pg_temp', false); ALTER FUNCTION \
                 api.good() SET search_path FROM CURRENT",
            ),
            ("A35", "ALTER FUNCTION api.good() SET SCHEMA 'public'"),
            ("A10", "ALTER FUNCTION api.good() OWNER TO trigger_owner"),
            ("A10 to a superuser", "ALTER FUNCTION api.good() OWNER TO root_su"),
            (
                "A19",
                "CREATE FUNCTION api.c(text) RETURNS text LANGUAGE internal SECURITY DEFINER AS \
                 'upper'",
            ),
            (
                "A25",
                "CREATE FUNCTION api.w() RETURNS bigint LANGUAGE internal WINDOW SECURITY DEFINER \
                 AS 'window_row_number'",
            ),
            (
                "A20",
                "CREATE FUNCTION api.a() RETURNS int SECURITY DEFINER BEGIN ATOMIC SELECT 1; END",
            ),
            ("E19", "ALTER FUNCTION pg_catalog.now() SECURITY DEFINER"),
            (
                "SET ROLE",
                "SET ROLE app_owner; CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY \
                 DEFINER AS 'SELECT 1'",
            ),
        ],
    );
}

#[test]
fn ddl_inside_other_statements_is_rejected() {
    let cluster = Cluster::start();
    let evil = "EXECUTE 'CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS \
                ''SELECT 1'''";
    let body = |name: &str, returns: &str, result: &str| {
        format!(
            "CREATE FUNCTION api.{name}() RETURNS {returns} LANGUAGE plpgsql AS $$ BEGIN {evil}; \
             {result} END $$;"
        )
    };
    let matview = body("evil", "int", "RETURN 1;");
    let routes = [
        ("A11 DO", format!("DO $$ BEGIN {evil}; END $$")),
        (
            "A18 trigger",
            format!(
                "{} CREATE TRIGGER x BEFORE INSERT ON api.t EXECUTE FUNCTION \
                                 api.trg(); INSERT INTO api.t VALUES \
                                 (1)",
                body("trg", "trigger", "RETURN NULL;")
            ),
        ),
        ("C18 function body", format!("{} SELECT api.body()", body("body", "int", "RETURN 1;"))),
        (
            "D01 REFRESH MATERIALIZED VIEW",
            format!(
                "{matview} CREATE MATERIALIZED VIEW api.m AS SELECT api.evil() WITH NO DATA; \
                     REFRESH MATERIALIZED VIEW api.m"
            ),
        ),
        (
            "D01b the same by an ordinary role",
            format!(
                "SET ROLE app_owner; {matview} CREATE MATERIALIZED VIEW api.m AS SELECT \
                     api.evil() WITH NO DATA; REFRESH MATERIALIZED VIEW api.m"
            ),
        ),
        (
            "D05 another event trigger",
            format!(
                "{} CREATE EVENT TRIGGER zzz ON ddl_command_end WHEN TAG IN ('COMMENT') \
                     EXECUTE FUNCTION api.et(); COMMENT ON TABLE api.t IS \
                     'x'",
                body("et", "event_trigger", "")
            ),
        ),
        (
            "C20 grant, create, revoke",
            "BEGIN; GRANT CREATE ON SCHEMA api TO mallory; CREATE \
                                       FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER \
                                       SET search_path = api, pg_temp AS 'SELECT 1'"
                .into(),
        ),
        (
            "C10 unsafe and fixed later",
            "BEGIN; CREATE FUNCTION api.f() RETURNS int LANGUAGE sql \
                                        SECURITY DEFINER AS 'SELECT 1'"
                .into(),
        ),
        (
            "C01 replica",
            "SET session_replication_role = replica; CREATE FUNCTION api.f() RETURNS \
                         int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"
                .into(),
        ),
        (
            "A32 before PREPARE TRANSACTION",
            "BEGIN; CREATE FUNCTION api.f() RETURNS int LANGUAGE \
            sql SECURITY DEFINER AS 'SELECT 1'; PREPARE TRANSACTION 'x'"
                .into(),
        ),
    ];
    let routes: Vec<(&str, &str)> =
        routes.iter().map(|(route, sql)| (*route, sql.as_str())).collect();
    rejects(&cluster, "hidden", &routes);

    // C17: CALL that commits between, which a batch cannot.
    let mut client = world(&cluster, "committing");
    client
        .batch_execute(&format!(
            "CREATE PROCEDURE api.step() LANGUAGE plpgsql AS $$ BEGIN PERFORM \
                                 1; COMMIT; {evil}; END $$"
        ))
        .unwrap();
    rejection(&mut client, "CALL api.step()");

    // A31: the error can be caught, but the routine has been rolled back.
    passes(&mut client, &[&format!("DO $$ BEGIN {evil}; EXCEPTION WHEN OTHERS THEN NULL; END $$")]);
    assert_eq!(unsafe_routines(&mut client), ["api.old", "api.worse"]);
    // State of the failed command in memory does not affect the next command.
    passes(&mut client, &["CREATE TABLE api.next (id int)", "ALTER FUNCTION api.good() COST 10"]);
}

/// The routine itself is not changed, but becomes unsafe.
#[test]
fn statement_that_makes_unchanged_routines_unsafe_is_rejected() {
    let cluster = Cluster::start();
    provide_extension(
        "guard_a14b",
        "default_version = '1'\nrelocatable = true\n",
        "1",
        "CREATE FUNCTION x_f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = api, \
         pg_temp AS 'SELECT 1';",
    );
    let lib = "CREATE SCHEMA lib AUTHORIZATION app_owner; SET ROLE app_owner; CREATE FUNCTION \
               api.f() RETURNS int LANGUAGE sql SECURITY DEFINER
         SET search_path = lib, pg_temp AS 'SELECT 1'; RESET ROLE; COMMIT";
    let drop_lib = format!("BEGIN; {lib}; DROP SCHEMA lib");
    rejects(
        &cluster,
        "around",
        &[
            ("B01", "GRANT CREATE ON SCHEMA api TO mallory"),
            ("B01 ALL", "GRANT ALL ON SCHEMA api TO PUBLIC"),
            (
                "B01 by the owner",
                "SET ROLE app_owner; GRANT CREATE ON SCHEMA api TO mallory WITH \
                                  GRANT OPTION",
            ),
            ("B02 OWNER", "ALTER SCHEMA api OWNER TO mallory"),
            ("B02 RENAME", "ALTER SCHEMA api RENAME TO api_v2"),
            (
                "B02 another of that name",
                "BEGIN; ALTER SCHEMA api RENAME TO api_v2; CREATE SCHEMA \
                api AUTHORIZATION mallory; COMMIT",
            ),
            ("B02 into the platform's names", "ALTER SCHEMA api RENAME TO realtime_api"),
            ("B03 DROP and CREATE", &drop_lib),
            (
                "B07 a schema that is open by default privileges",
                "ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO mallory; CREATE SCHEMA opened;
                 CREATE FUNCTION opened.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
                 search_path = opened, pg_temp AS 'SELECT 1'",
            ),
            (
                "A14 the extension moves, the path stays",
                "CREATE EXTENSION guard_a14b SCHEMA api; \
                ALTER SCHEMA api RENAME TO api_v2",
            ),
            (
                "C20 opened and closed",
                "BEGIN; GRANT CREATE ON SCHEMA api TO mallory; REVOKE CREATE \
                                       ON SCHEMA api FROM mallory; COMMIT",
            ),
            (
                "D01 hidden",
                "CREATE FUNCTION api.g() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'GRANT \
                 CREATE ON SCHEMA api TO mallory'; RETURN 1; END $$;
                 CREATE MATERIALIZED VIEW api.m AS SELECT api.g() WITH NO DATA; REFRESH \
                 MATERIALIZED VIEW api.m",
            ),
            (
                "changed before",
                "BEGIN; ALTER FUNCTION api.good() COST 99; SAVEPOINT a; ALTER FUNCTION api.good() \
                 COST 98; ROLLBACK TO a;
                 GRANT CREATE ON SCHEMA api TO PUBLIC; COMMIT",
            ),
            (
                "changed before, checked at commit",
                "SET dragonfly_guard.check_at = commit; BEGIN; ALTER FUNCTION api.good() COST 99; \
                 GRANT CREATE ON SCHEMA api TO PUBLIC; COMMIT",
            ),
            // A missing schema of a path is created by an untrusted role, in a statement that also
            // changes the routine.
            (
                "the missing schema is created",
                "SET dragonfly_guard.mode = off; GRANT CREATE ON \
                DATABASE around TO mallory; GRANT USAGE ON SCHEMA api TO mallory;
                 SET dragonfly_guard.mode = block;
                 SET ROLE mallory; CREATE SCHEMA missing GRANT EXECUTE ON FUNCTION api.worse() TO \
                 mallory",
            ),
            // SP090: an object of another role is moved into the schema.
            (
                "SP090 a function moves in",
                "SET ROLE mallory; CREATE FUNCTION hostile.lower(name) RETURNS text LANGUAGE sql \
                 AS 'SELECT $1::text'; RESET ROLE;
                 ALTER FUNCTION hostile.lower(name) SET SCHEMA api",
            ),
            (
                "SP090 a domain moves in",
                "SET ROLE mallory; CREATE DOMAIN hostile.d AS int; RESET \
                ROLE; ALTER DOMAIN hostile.d SET SCHEMA api",
            ),
            (
                "SP090 a domain over an array moves in",
                "SET ROLE mallory; CREATE DOMAIN hostile.da \
                AS int[]; RESET ROLE; ALTER DOMAIN hostile.da SET SCHEMA api",
            ),
            (
                "SP090 a type moves in",
                "SET ROLE mallory; CREATE TYPE hostile.ty AS (a int); RESET \
                                       ROLE; ALTER TYPE hostile.ty SET SCHEMA api",
            ),
            (
                "SP090 an operator moves in",
                "SET ROLE mallory; CREATE OPERATOR hostile.+ (LEFTARG = text, RIGHTARG = int4, \
                 FUNCTION = pg_catalog.repeat); RESET ROLE;
                 ALTER OPERATOR hostile.+ (text, int4) SET SCHEMA api",
            ),
            (
                "SP091 planted while it was open",
                "SET dragonfly_guard.check_at = commit; BEGIN; GRANT CREATE ON SCHEMA api TO \
                 mallory; SET ROLE mallory;
                 CREATE FUNCTION api.lower(name) RETURNS text LANGUAGE sql AS 'SELECT $1::text'; \
                 RESET ROLE;
                 REVOKE CREATE ON SCHEMA api FROM mallory; COMMIT",
            ),
        ],
    );
    let mut client = world(&cluster, "aftermath");
    let rejected = rejection(&mut client, "GRANT CREATE ON SCHEMA api TO mallory");
    assert_eq!(
        rejected.message,
        "GRANT would make 2 SECURITY DEFINER routines unsafe: api.good() and api.good_p()"
    );
    passes(
        &mut client,
        &[
            // A schema that no path contains may be opened to any role, and dropped.
            "CREATE SCHEMA free; GRANT ALL ON SCHEMA free TO PUBLIC; ALTER SCHEMA free OWNER TO \
             mallory; ALTER SCHEMA free RENAME TO freed; DROP SCHEMA freed",
            "GRANT USAGE ON SCHEMA api TO mallory; ALTER SCHEMA api OWNER TO app_owner; COMMENT ON \
             SCHEMA api IS 'x'",
            // A temporary function that no other session can execute, with a trigger of a temporary
            // table.
            "CREATE FUNCTION pg_temp.own() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             'begin return new; end';
             CREATE TEMP TABLE mine (id int); CREATE TRIGGER t BEFORE INSERT ON mine FOR EACH ROW \
             EXECUTE FUNCTION pg_temp.own()",
            // A schema that is renamed together with the paths; one that is dropped and created
            // again.
            "CREATE SCHEMA lib AUTHORIZATION app_owner; SET ROLE app_owner; CREATE FUNCTION \
             lib.f() RETURNS int LANGUAGE sql SECURITY DEFINER
               SET search_path = lib, pg_temp AS 'SELECT 1'; RESET ROLE",
            "BEGIN; ALTER SCHEMA lib RENAME TO lib_v2; ALTER FUNCTION lib_v2.f() SET search_path = \
             lib_v2, pg_temp; COMMIT",
            "BEGIN; ALTER FUNCTION lib_v2.f() SET SCHEMA api; DROP SCHEMA lib_v2; CREATE SCHEMA \
             lib_v2 AUTHORIZATION app_owner; COMMIT; DROP FUNCTION api.f()",
            // In two statements of one transaction, with check_at = commit.
            "SET dragonfly_guard.check_at = commit; BEGIN; GRANT CREATE ON SCHEMA api TO mallory; \
             REVOKE CREATE ON SCHEMA api FROM mallory; COMMIT",
            "RESET dragonfly_guard.check_at",
        ],
    );
    // check_at may change within a transaction; what is checked does not.
    let definer =
        "CREATE FUNCTION api.mixed() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    for mixed in [
        format!(
            "BEGIN; CREATE TABLE api.t1 (id int); SET LOCAL dragonfly_guard.check_at = commit; \
             {definer}; COMMIT"
        ),
        format!(
            "BEGIN; SET LOCAL dragonfly_guard.check_at = commit; {definer}; SET LOCAL \
             dragonfly_guard.check_at = statement; CREATE TABLE api.t1 (id int); COMMIT"
        ),
    ] {
        rejection(&mut client, &mixed);
        client.batch_execute("ROLLBACK").unwrap();
    }
    // With hundreds of routines the message names three, and the number of the others.
    passes(
        &mut client,
        &["DO $$ BEGIN SET LOCAL ROLE app_owner; FOR i IN 1..300 LOOP
             EXECUTE format('CREATE FUNCTION api.m%s() RETURNS int LANGUAGE sql SECURITY DEFINER \
             SET search_path = api, pg_temp AS ''SELECT 1''', i);
           END LOOP; END $$"],
    );
    let rejected = rejection(&mut client, "GRANT CREATE ON SCHEMA api TO mallory");
    assert_eq!(
        rejected.message,
        "GRANT would make 302 SECURITY DEFINER routines unsafe: api.good(), api.good_p(), api.m1() \
         and 299 others"
    );
    assert!(
        rejected
            .hint
            .starts_with("Use another schema for role \"mallory\", or remove schema \"api\""),
        "{rejected:?}"
    );
}

#[test]
fn unsafe_routine_of_an_extension_script_is_rejected_unless_managed() {
    let cluster = Cluster::start();
    let unsafe_sql =
        "CREATE FUNCTION x_f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';";
    let safe_sql = "CREATE FUNCTION x_f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
                    search_path = pg_catalog, pg_temp AS 'SELECT 1';";
    let control = "default_version = '1'\nrelocatable = true\n";
    let trusted = "default_version = '1'\nrelocatable = true\nsuperuser = true\ntrusted = true\n";
    provide_extension("guard_a12", control, "1", unsafe_sql);
    provide_extension("guard_a36", trusted, "1", unsafe_sql);
    provide_extension("guard_a13", control, "1", safe_sql);
    provide_extension("guard_a13", control, "1--2", "ALTER FUNCTION x_f() RESET search_path;");
    provide_extension(
        "guard_a14",
        control,
        "1",
        "CREATE FUNCTION x_f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path FROM \
         CURRENT AS 'SELECT 1';",
    );
    provide_extension("supabase_vault", control, "1", unsafe_sql);
    rejects(
        &cluster,
        "extensions",
        &[
            ("A12", "CREATE EXTENSION guard_a12 SCHEMA api"),
            (
                "A36",
                "GRANT CREATE ON DATABASE extensions TO app_owner; SET ROLE app_owner; CREATE \
                 EXTENSION guard_a36 SCHEMA api",
            ),
            (
                "A13",
                "CREATE EXTENSION guard_a13 SCHEMA api; ALTER EXTENSION guard_a13 UPDATE TO \
                     '2'",
            ),
            ("A14 frozen hostile path", "CREATE EXTENSION guard_a14 SCHEMA hostile"),
            (
                "A15 laundering",
                "CREATE EXTENSION guard_a13 SCHEMA api; CREATE FUNCTION api.l() RETURNS int \
                 LANGUAGE sql AS 'SELECT 1';
                 ALTER EXTENSION guard_a13 ADD FUNCTION api.l(); ALTER FUNCTION api.l() SECURITY \
                 DEFINER",
            ),
        ],
    );
    let mut client = world(&cluster, "managed");
    // Objects of the platform are not blocked: a declared extension of a superuser, a managed
    // schema.
    passes(
        &mut client,
        &[
            "CREATE SCHEMA vault; CREATE EXTENSION supabase_vault SCHEMA vault",
            "CREATE SCHEMA auth; CREATE FUNCTION auth.f() RETURNS int LANGUAGE sql SECURITY \
             DEFINER AS 'SELECT 1'",
            "ALTER FUNCTION vault.x_f() SECURITY DEFINER; ALTER FUNCTION vault.x_f() SET \
             search_path = vault",
        ],
    );
    // The audit reports them.
    let noted = "SELECT severity || ' ' || object FROM ops.audit_functions() WHERE rule = \
                 'security_definer_search_path'
                  AND evidence ? 'managed_by' ORDER BY object";
    assert_eq!(column(&mut client, noted), ["info auth.f()", "info vault.x_f()"]);
    // A schema or extension with such a name is checked if its owner is not trusted.
    passes(&mut client, &["CREATE SCHEMA graphql_x AUTHORIZATION app_owner"]);
    rejection(
        &mut client,
        "CREATE FUNCTION graphql_x.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    );
    provide_extension("pgmq", trusted, "1", unsafe_sql);
    provide_extension(
        "pgsodium",
        trusted,
        "1",
        "CREATE FUNCTION x_s() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    passes(&mut client, &["GRANT CREATE ON DATABASE managed TO app_owner"]);
    rejection(&mut client, "SET ROLE app_owner; CREATE EXTENSION pgmq SCHEMA api");
    // So are objects that the owner of a managed extension adds to it, and a schema of the
    // migration role with a name of the platform.
    passes(
        &mut client,
        &["RESET ROLE; CREATE ROLE postgres; GRANT CREATE ON DATABASE managed TO postgres; \
             CREATE SCHEMA lib AUTHORIZATION postgres"],
    );
    passes(
        &mut client,
        &["SET ROLE postgres; CREATE EXTENSION pgsodium SCHEMA lib; CREATE FUNCTION lib.g() \
             RETURNS int LANGUAGE sql AS 'SELECT 1'"],
    );
    passes(&mut client, &["ALTER EXTENSION pgsodium ADD FUNCTION lib.g()"]);
    rejection(&mut client, "ALTER FUNCTION lib.g() SECURITY DEFINER");
    passes(&mut client, &["CREATE SCHEMA supabase_mine"]);
    rejection(
        &mut client,
        "CREATE FUNCTION supabase_mine.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    );
    passes(&mut client, &["CREATE SCHEMA cron"]);
    rejection(
        &mut client,
        "CREATE FUNCTION cron.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    );
    rejection(&mut client, "RESET ROLE; ALTER SCHEMA auth OWNER TO postgres");
}

#[test]
fn statement_without_a_regression_passes() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "regressions");
    assert_eq!(unsafe_routines(&mut client), ["api.old", "api.worse"]);
    passes(
        &mut client,
        &[
            // Unrelated DDL.
            "CREATE TABLE api.u (id int PRIMARY KEY, body text); ALTER TABLE api.u ADD COLUMN n \
             int; DROP TABLE api.u",
            "CREATE FUNCTION api.invoker() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION api.safe() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path \
             = pg_catalog, pg_temp AS 'SELECT 1'",
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "CREATE AGGREGATE api.agg(int) (SFUNC = int4pl, STYPE = int)",
            // An earlier violation may stay.
            "ALTER FUNCTION api.old() COST 10; ALTER FUNCTION api.old() RENAME TO older; ALTER \
             FUNCTION api.older() RENAME TO old",
            "CREATE OR REPLACE FUNCTION api.old() RETURNS int LANGUAGE sql SECURITY DEFINER AS \
             'SELECT 2'",
            "ALTER FUNCTION api.old() SET SCHEMA hostile; ALTER FUNCTION hostile.old() SET SCHEMA \
             api",
            // Fixing one of two reasons, in steps.
            "ALTER FUNCTION api.old() SET search_path = hostile, api",
            "ALTER FUNCTION api.old() SET search_path = hostile, api, pg_temp",
            "ALTER FUNCTION api.old() SET search_path = api, pg_temp",
            // Renaming a safe routine.
            "ALTER FUNCTION api.good() RENAME TO better; ALTER FUNCTION api.better() RENAME TO \
             good",
        ],
    );
    assert_eq!(unsafe_routines(&mut client), ["api.worse"]);
    // A fixed routine must stay safe, and exploitable is worse than fragile.
    rejection(&mut client, "ALTER FUNCTION api.old() RESET ALL");
    rejection(&mut client, "ALTER FUNCTION api.worse() SET search_path = hostile, pg_temp");
    passes(
        &mut client,
        &[
            "ALTER FUNCTION api.worse() SECURITY INVOKER",
            "DROP FUNCTION api.worse()",
            "DROP FUNCTION api.old()",
        ],
    );
    // Another text with the same meaning.
    passes(
        &mut client,
        &["SELECT set_config('search_path', E' API\\t,\\n \"pg_temp\" ', false); ALTER FUNCTION \
             api.good() SET search_path FROM CURRENT"],
    );
    assert_eq!(unsafe_routines(&mut client), [""; 0]);
}

#[test]
fn nested_command_does_not_hide_the_outer_one() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "nested");
    client.batch_execute("ALTER ROLE mallory LOGIN").unwrap();
    let mut mallory = cluster.connect("nested", "mallory");
    // CREATE FUNCTION parses the body of an SQL function and reads its literals. The check of a
    // domain is a user's code: it runs after the routine has been changed, and before the command
    // ends.
    let nested = |inner: &str| {
        format!(
            "DROP TYPE IF EXISTS hostile.c; DROP DOMAIN IF EXISTS hostile.d;
             CREATE OR REPLACE FUNCTION hostile.evil(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
               BEGIN {inner}; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN true; END $$;
             CREATE DOMAIN hostile.d AS int CHECK (hostile.evil(VALUE)); CREATE TYPE hostile.c AS \
             (x hostile.d)"
        )
    };
    let create = "CREATE FUNCTION hostile.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ \
                  SELECT '(1)'::hostile.c; SELECT 1 $$";
    for inner in [
        "EXECUTE 'COMMENT ON SCHEMA hostile IS NULL'",
        "EXECUTE 'ALTER FUNCTION hostile.f() SET search_path = pg_catalog, pg_temp'; RAISE \
         EXCEPTION 'undone'",
        "BEGIN EXECUTE 'ALTER FUNCTION hostile.f() SET search_path = pg_catalog, pg_temp'; RAISE \
         'x'; EXCEPTION WHEN OTHERS THEN NULL; END",
    ] {
        passes(&mut mallory, &[&nested(inner)]);
        rejection(&mut mallory, create);
    }
    // The same without intent: another event trigger that runs DDL and ignores errors.
    passes(
        &mut client,
        &["CREATE FUNCTION api.et() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF tg_tag = \
           'CREATE FUNCTION' THEN
             BEGIN EXECUTE 'COMMENT ON SCHEMA api IS NULL'; EXCEPTION WHEN OTHERS THEN NULL; END; \
             END IF; END $$;
           CREATE EVENT TRIGGER aaa ON ddl_command_end EXECUTE FUNCTION api.et()"],
    );
    rejection(
        &mut client,
        "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    );
    passes(&mut client, &["DROP EVENT TRIGGER aaa"]);
    // A change that was rolled back to a savepoint excuses no later one.
    rejection(
        &mut client,
        "BEGIN; SAVEPOINT s; ALTER FUNCTION api.good() SET search_path = api, pg_temp; ROLLBACK TO \
         s; ALTER FUNCTION api.good() RESET ALL",
    );
    passes(&mut client, &["ROLLBACK"]);
    rejection(
        &mut client,
        "BEGIN; SAVEPOINT s; ALTER FUNCTION api.good() COST 7; RELEASE s; ALTER FUNCTION \
         api.good() RESET ALL",
    );
    passes(&mut client, &["ROLLBACK"]);
    // A warning in place of an error stands for what it says, and not for what is rolled back.
    let violation = "GRANT CREATE ON SCHEMA api TO mallory";
    let warned = format!("SET LOCAL dragonfly_guard.mode = warn; {violation}");
    for sql in [
        format!("BEGIN; SAVEPOINT s; {warned}; ROLLBACK TO s; {violation}"),
        format!("BEGIN; SAVEPOINT s; SAVEPOINT t; {warned}; RELEASE t; ROLLBACK TO s; {violation}"),
        format!(
            "BEGIN; SAVEPOINT s; {warned}; ROLLBACK TO s; SET LOCAL dragonfly_guard.check_at = \
             commit; {violation}; COMMIT"
        ),
        format!(
            "BEGIN; {warned}; SET LOCAL dragonfly_guard.mode = block; GRANT CREATE ON SCHEMA api \
             TO PUBLIC"
        ),
    ] {
        let rejected = attempt(&mut client, &sql).unwrap_err();
        assert!(rejected.message.contains("GRANT") || rejected.message.contains("COMMIT"), "{sql}");
        assert!(rejected.code == "42P13" || rejected.code == "0LP01", "{sql}: {rejected:?}");
        passes(&mut client, &["ROLLBACK"]);
    }
    passes(
        &mut client,
        &[
            &format!(
                "BEGIN; {warned}; SET LOCAL dragonfly_guard.mode = block; CREATE TABLE \
                    api.more (); COMMIT"
            ),
            "REVOKE CREATE ON SCHEMA api FROM mallory; DROP TABLE api.more",
        ],
    );
    // Creating thousands of functions in one transaction takes linear time.
    passes(
        &mut client,
        &["DO $$ BEGIN FOR i IN 1..5000 LOOP BEGIN EXECUTE format('CREATE FUNCTION api.m%s() \
           RETURNS int LANGUAGE sql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp AS ''SELECT 1''', i); EXCEPTION WHEN \
             division_by_zero THEN NULL; END; END LOOP; END $$"],
    );
}

/// Executes a transaction that grants something undeclared, which the guard rejects.
fn assert_grant_is_rejected(client: &mut Client, sql: &str) {
    let error = attempt(client, sql).expect_err(sql);
    assert_eq!(error.code, "0LP01", "{sql}: {error:?}");
    let _ = client.batch_execute("ROLLBACK");
}

#[test]
fn statement_that_changes_nothing_of_a_table_hides_no_other_one() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("beside");
    client
        .batch_execute(
            "SET client_min_messages = error; CREATE ROLE anon; CREATE ROLE other;
             CREATE TABLE public.t (id int); CREATE TEMP TABLE aside (id int)",
        )
        .unwrap();
    let open = "CREATE TABLE public.n (id int); GRANT SELECT ON public.n TO anon";
    let beside = [
        "ALTER TABLE public.n SET (fillfactor = 90)",
        "CREATE INDEX ON public.n (id)",
        "CREATE TEMP TABLE more (id int)",
        "TRUNCATE public.n",
        "COMMENT ON TABLE public.n IS 'new'",
        // What a subtransaction takes back, its rollback restores.
        "SAVEPOINT s; DROP TABLE public.n; CREATE INDEX ON aside (id); ROLLBACK TO s",
        "SAVEPOINT s; REVOKE SELECT ON public.n FROM anon; ALTER TABLE public.n SET (fillfactor = \
         90); ROLLBACK TO s",
        "SAVEPOINT s; ALTER TABLE public.n SET (fillfactor = 90); RELEASE s",
    ];
    for statement in beside {
        assert_grant_is_rejected(&mut client, &format!("BEGIN; {open}; {statement}; COMMIT"));
    }
    // The same of a table that existed, where the row of the table is the one before.
    for statement in [
        "SAVEPOINT s; REVOKE SELECT ON public.t FROM anon; ROLLBACK TO s",
        "SAVEPOINT s; ALTER TABLE public.t SET (fillfactor = 90); ROLLBACK TO s",
    ] {
        let sql = format!(
            "BEGIN; SET LOCAL dragonfly_guard.check_at = commit; GRANT SELECT ON public.t TO anon; \
             {statement}; COMMIT"
        );
        assert_grant_is_rejected(&mut client, &sql);
    }
    // A default, a policy and a trigger are parts of a table whose row stays the same.
    for part in [
        "ALTER TABLE public.t ALTER id SET DEFAULT 1",
        "CREATE POLICY p ON public.t USING (id > 0)",
        "ALTER TABLE public.t ADD CHECK (id > 0)",
        "CREATE INDEX ON public.t ((id + 1))",
    ] {
        passes(&mut client, &[part]);
    }
}

#[test]
fn later_changes_of_other_schemas_do_not_hide_an_earlier_one() {
    let cluster = Cluster::start();
    rejects(
        &cluster,
        "other_schemas",
        &[
            (
                "left for the commit",
                "BEGIN; ALTER SCHEMA api RENAME TO api_v2; CREATE SCHEMA other; CREATE SCHEMA \
                 more; COMMIT",
            ),
            (
                "opened after others have been checked",
                "BEGIN; CREATE SCHEMA other; CREATE SCHEMA more; GRANT CREATE ON SCHEMA api TO \
                 mallory",
            ),
            (
                "opened after a rollback",
                "BEGIN; GRANT USAGE ON SCHEMA api TO mallory; SAVEPOINT s; REVOKE USAGE ON SCHEMA \
                 api FROM mallory; CREATE SCHEMA more; ROLLBACK TO s; CREATE SCHEMA more; GRANT \
                 CREATE ON SCHEMA api TO mallory",
            ),
            (
                "changed twice",
                "BEGIN; CREATE SCHEMA other AUTHORIZATION app_owner; SET ROLE app_owner; CREATE \
                 FUNCTION other.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
                 other, pg_temp AS 'SELECT 1'; GRANT CREATE ON SCHEMA other TO mallory",
            ),
        ],
    );
}

#[test]
fn temporary_grant_does_not_excuse_a_later_statement() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "staged");
    unguarded(&mut client, "GRANT CREATE ON SCHEMA api TO PUBLIC");
    rejection(&mut client, "ALTER FUNCTION api.good() SET search_path = nope, pg_temp");
    passes(&mut client, &["REVOKE TEMP ON DATABASE staged FROM PUBLIC"]);
    rejection(&mut client, "ALTER FUNCTION api.good() SET search_path = pg_catalog");
    // A path of a hundred thousand names is checked twice within the timeout.
    let path: Vec<String> = (0..100_000).map(|i| format!("n{i}")).collect();
    client.execute("SELECT set_config('search_path', $1, false)", &[&path.join(", ")]).unwrap();
    passes(
        &mut client,
        &[
            "SET dragonfly_guard.mode = off; ALTER FUNCTION api.good() SET search_path FROM \
             CURRENT; RESET dragonfly_guard.mode",
            "SET search_path = public; SET statement_timeout = '8s'; ALTER FUNCTION api.good() \
             COST 7; RESET statement_timeout",
        ],
    );
}

#[test]
fn two_sessions_that_violate_together_are_rejected() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "sessions");
    provide_extension(
        "timescaledb",
        "default_version = '1'\nrelocatable = true\n",
        "1",
        "CREATE FUNCTION cron_f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    let safe = "RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS \
                'SELECT 1'";
    passes(
        &mut client,
        &[
            &format!(
                "CREATE SCHEMA auth; CREATE FUNCTION auth.s() {safe}; CREATE FUNCTION api.k() \
                 {safe}"
            ),
            "CREATE EXTENSION timescaledb SCHEMA api; ALTER EXTENSION timescaledb ADD FUNCTION \
             api.k(); ALTER FUNCTION api.k() OWNER TO root_su",
        ],
    );
    for (first, second) in [
        ("ALTER EXTENSION timescaledb DROP FUNCTION api.k()", "ALTER FUNCTION api.k() RESET ALL"),
        ("ALTER SCHEMA auth RENAME TO app", "ALTER FUNCTION auth.s() RESET ALL"),
    ] {
        let mut one = cluster.connect("sessions", dragonfly_tests::SUPERUSER);
        passes(&mut one, &["BEGIN", first]);
        // Each is correct by itself, and no session waits: the one that commits last is rejected.
        passes(&mut client, &[second]);
        assert_eq!(attempt(&mut one, "COMMIT").unwrap_err().code, "42P13", "{second}");
    }
    // A routine that another session fixes during a transaction must stay safe.
    client.batch_execute("ALTER ROLE app_owner LOGIN").unwrap();
    let mut owner = cluster.connect("sessions", "app_owner");
    passes(&mut owner, &["BEGIN", "ALTER SCHEMA api OWNER TO app_owner"]);
    passes(&mut client, &["ALTER FUNCTION api.old() SET search_path = pg_catalog, pg_temp"]);
    rejection(&mut owner, "ALTER FUNCTION api.old() RESET ALL");
}

#[test]
fn routine_that_leaves_a_managed_schema_or_extension_is_checked() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "excuses");
    let definer = "RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    // Routines of a managed schema are not blocked, until they leave it.
    passes(&mut client, &[&format!("CREATE SCHEMA auth; CREATE FUNCTION auth.f() {definer}")]);
    rejection(&mut client, "ALTER FUNCTION auth.f() SET SCHEMA api");
    rejection(&mut client, "ALTER SCHEMA auth RENAME TO app");
    rejection(&mut client, "ALTER SCHEMA auth OWNER TO mallory");
    // A temporary schema that is renamed is checked.
    passes(&mut client, &[&format!("CREATE FUNCTION pg_temp.tf() {definer}")]);
    let own: String = client
        .query_one("SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()", &[])
        .unwrap()
        .get(0);
    rejection(&mut client, &format!("ALTER SCHEMA {own} RENAME TO laundered"));
    // The same for a managed extension.
    provide_extension(
        "pgjwt",
        "default_version = '1'\nrelocatable = true\n",
        "1",
        "CREATE FUNCTION j() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    );
    passes(
        &mut client,
        &[
            "CREATE EXTENSION pgjwt SCHEMA api",
            "CREATE FUNCTION api.e() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
             pg_catalog, pg_temp AS 'SELECT 1'",
            "ALTER EXTENSION pgjwt ADD FUNCTION api.e(); ALTER FUNCTION api.e() RESET ALL",
        ],
    );
    rejection(&mut client, "ALTER EXTENSION pgjwt DROP FUNCTION api.e()");
    passes(
        &mut client,
        &["ALTER FUNCTION api.e() SET search_path = pg_catalog, pg_temp; ALTER EXTENSION pgjwt \
             DROP FUNCTION api.e()"],
    );
    // An unsafe routine must not get a more powerful owner, but may get a less powerful one.
    passes(
        &mut client,
        &["SET dragonfly_guard.mode = off; ALTER FUNCTION api.old() OWNER TO mallory; RESET \
             dragonfly_guard.mode"],
    );
    rejection(&mut client, "ALTER FUNCTION api.old() OWNER TO root_su");
    rejection(&mut client, "ALTER FUNCTION api.old() OWNER TO app_owner");
    passes(
        &mut client,
        &[
            "SET dragonfly_guard.mode = off; ALTER FUNCTION api.old() OWNER TO root_su;
             ALTER FUNCTION api.old() SET search_path = nope, public; RESET dragonfly_guard.mode",
            "ALTER FUNCTION api.old() OWNER TO app_owner",
        ],
    );
    // A setting of the routine that disables the guard.
    let rejected = attempt(
        &mut client,
        "CREATE FUNCTION api.off() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = \
         pg_catalog, pg_temp
           SET dragonfly_guard.mode = off AS 'SELECT 1'",
    )
    .unwrap_err();
    assert_eq!(
        rejected.message,
        "SECURITY DEFINER function api.off() sets dragonfly_guard.mode to \"off\""
    );
    // A routine that shadows one of the extension's.
    passes(
        &mut client,
        &["SET dragonfly_guard.mode = off; ALTER SCHEMA ops OWNER TO mallory; RESET \
             dragonfly_guard.mode; CREATE FUNCTION hostile.audit_security() RETURNS int LANGUAGE \
             sql AS 'SELECT 1'"],
    );
    for sql in [
        "SET ROLE mallory; CREATE FUNCTION ops.judge_search_path(text) RETURNS int LANGUAGE sql AS \
         'SELECT 1'",
        "ALTER FUNCTION hostile.audit_security() SET SCHEMA ops",
        "CREATE PROCEDURE ops.assert_security() LANGUAGE sql AS 'SELECT 1'",
    ] {
        let rejected = attempt(&mut client, &format!("RESET ROLE; {sql}")).unwrap_err();
        assert!(
            rejected
                .message
                .ends_with("would conflict with a function of extension dragonfly_guard"),
            "{rejected:?}"
        );
    }
    passes(
        &mut client,
        &["RESET ROLE; CREATE FUNCTION ops.audit_everything() RETURNS int LANGUAGE sql AS \
             'SELECT 1'"],
    );
}

#[test]
fn tables_of_untrusted_roles_in_a_search_path_are_a_warning() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "shared");
    unguarded(
        &mut client,
        "CREATE SCHEMA own AUTHORIZATION app_owner; CREATE SCHEMA mixed AUTHORIZATION app_owner;
         CREATE TABLE mixed.theirs (id int); ALTER TABLE mixed.theirs OWNER TO mallory;
         CREATE TABLE own.moved (id int); CREATE SEQUENCE own.numbers",
    );
    let send = |sql: &str| {
        let output = cluster.client_program("psql", &["-X", "-q", "-d", "shared", "-c", sql]);
        assert!(output.status.success(), "{sql}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let owned = |schema: &str| {
        format!(
            "would be exploitable: schema \"{schema}\" contains objects owned by role \"mallory\""
        )
    };
    let create = |path: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION own.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
             search_path = {path}, pg_temp AS 'SELECT 1'"
        )
    };
    let audited = "SELECT detail FROM ops.audit_security(ARRAY['security_definer_search_path']) \
                   WHERE object = 'own.f()'";
    let as_owner = |sql: &str| format!("SET ROLE app_owner; {sql}");
    for (sql, schema, hint) in [
        (as_owner(&create("own, mixed")), "mixed", "Drop the objects of role \"mallory\""),
        ("ALTER FUNCTION own.f() SET search_path = own, pg_temp".into(), "", ""),
        (
            "ALTER FUNCTION own.f() SET search_path = mixed, pg_temp".into(),
            "mixed",
            "Or run: ALTER ROUTINE",
        ),
        // It was so before.
        (as_owner(&create("own, mixed")), "", ""),
        ("ALTER FUNCTION own.f() SET search_path = own, pg_temp".into(), "", ""),
        ("ALTER TABLE own.moved OWNER TO mallory".into(), "own", "change their owner"),
        ("ALTER SEQUENCE own.numbers OWNER TO mallory".into(), "", ""),
        (
            "ALTER TABLE own.moved OWNER TO app_owner; ALTER SEQUENCE own.numbers OWNER TO \
             app_owner"
                .into(),
            "",
            "",
        ),
        ("ALTER TABLE mixed.theirs SET SCHEMA own".into(), "own", "change their owner"),
    ] {
        let warned = send(&sql);
        if schema.is_empty() {
            assert!(!warned.contains("exploitable"), "{sql}: {warned}");
        } else {
            assert!(warned.contains(&owned(schema)) && warned.contains(hint), "{sql}: {warned}");
            assert_eq!(column(&mut client, audited).len(), 1, "{sql}");
        }
    }
    // A routine of the same role can be executed by the body, and is rejected.
    let planted = "CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT \
                   $1::text'; ALTER FUNCTION public.lower(varchar) OWNER TO mallory; \
                   ALTER FUNCTION public.lower(varchar) SET SCHEMA own";
    let rejected = rejection(&mut client, planted);
    assert!(rejected.message.contains("own.f()"), "{rejected:?}");
}

#[test]
fn objects_of_untrusted_roles_count_after_the_revoke() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "planted");
    let create = "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
                  search_path = api, pg_temp AS 'SELECT 1'";
    let plant = |what: &str| {
        format!(
            "GRANT CREATE ON SCHEMA api TO mallory; SET ROLE mallory; {what}; RESET ROLE; REVOKE \
             CREATE ON SCHEMA api FROM mallory"
        )
    };
    let many = "DO $$ BEGIN FOR i IN 1..1100 LOOP
        EXECUTE format('CREATE FUNCTION api.many%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', \
        i); END LOOP; END $$";
    for planted in [
        "CREATE FUNCTION api.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT $1::text'",
        "CREATE TYPE api.text AS (a int)",
        "CREATE DOMAIN api.int AS pg_catalog.int4",
        "CREATE OPERATOR api.+ (LEFTARG = text, RIGHTARG = int4, FUNCTION = pg_catalog.repeat)",
    ] {
        unguarded(&mut client, &plant(planted));
        let found = "schema \"api\" contains objects owned by role \"mallory\"";
        let rejected = rejection(&mut client, &format!("SET ROLE app_owner; {create}"));
        assert!(rejected.detail.contains(found), "{planted}: {rejected:?}");
        // The same with too many objects to check one by one.
        let rejected = rejection(
            &mut client,
            &format!("RESET ROLE; BEGIN; {many}; SET ROLE app_owner; {create}"),
        );
        assert!(rejected.detail.contains(found), "{planted}: {rejected:?}");
        passes(
            &mut client,
            &[
                "ROLLBACK; RESET ROLE",
                "DROP OWNED BY mallory CASCADE; CREATE SCHEMA hostile AUTHORIZATION mallory",
            ],
        );
    }
    passes(&mut client, &[&format!("SET ROLE app_owner; {create}")]);
    // Tables of other roles in a shared schema are common, and only a warning.
    let own_tables = plant("CREATE TABLE api.theirs (id int)");
    passes(
        &mut client,
        &[
            "DROP FUNCTION api.f(); RESET ROLE; SET dragonfly_guard.mode = off",
            &own_tables,
            "RESET dragonfly_guard.mode",
            &format!("SET ROLE app_owner; {create}; RESET ROLE"),
        ],
    );
    assert_eq!(
        unsafe_routines(&mut client),
        ["api.f", "api.good", "api.good_p", "api.old", "api.worse"]
    );
}

#[test]
fn only_superusers_can_change_the_mode() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "modes");
    let definer = "CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    passes(
        &mut client,
        &[
            "SET dragonfly_guard.mode = warn",
            definer,
            "DROP FUNCTION api.f()",
            "SET dragonfly_guard.mode = off",
            definer,
        ],
    );
    assert!(
        cluster
            .log()
            .contains("WARNING:  SECURITY DEFINER function api.f() has no safe search_path")
    );
    assert!(cluster.log().contains("LOG:  {\"dragonfly_guard\":\"unchecked\""));
    assert_eq!(
        attempt(&mut client, "SET dragonfly_guard.mode = sometimes").unwrap_err().code,
        "22023"
    );

    // E07: an ordinary role can set the placeholder before the library is loaded, without effect.
    client.batch_execute("DROP FUNCTION api.f(); ALTER ROLE app_owner LOGIN").unwrap();
    let mut ordinary = cluster.connect("modes", "app_owner");
    attempt(&mut ordinary, "SET dragonfly_guard.mode = off").unwrap();
    rejection(&mut ordinary, definer);
    assert_eq!(column(&mut ordinary, "SHOW dragonfly_guard.mode"), ["block"]);
    assert_eq!(attempt(&mut ordinary, "SET dragonfly_guard.mode = off").unwrap_err().code, "42501");
}

#[test]
fn rejection_names_problem_reason_and_next_action() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("words");
    client
        .batch_execute(
            "CREATE ROLE worker; CREATE FUNCTION public.g() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        )
        .unwrap();
    let create = |clause: &str| {
        format!(
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER {clause} AS \
             'SELECT 1'"
        )
    };
    let rejected = rejection(&mut client, &create(""));
    assert_eq!(rejected.message, "SECURITY DEFINER function public.f() has no safe search_path");
    assert!(
        rejected.detail.starts_with(
            "The function would be exploitable: no search_path is set, so names in \
                          its body are looked up in the caller's search_path. Rule \
                          security_definer_search_path, contract \
                          dragonfly_civil 1.0.0, section 6."
        ),
        "{}",
        rejected.detail
    );
    assert_eq!(
        rejected.hint,
        "Create the function with SECURITY DEFINER SET search_path = public, pg_temp."
    );

    let rejected = rejection(&mut client, "ALTER FUNCTION public.g() SECURITY DEFINER");
    assert_eq!(
        rejected.hint,
        "Set a safe search_path in the same statement or before it: ALTER ROUTINE public.g() SET \
         search_path = public, pg_temp;"
    );
    for (clause, explained) in [
        (
            "SET search_path = ''",
            "search_path = '' looks strict, but pg_temp is then searched first for tables and \
             types",
        ),
        (
            "SET search_path = 'public, pg_temp'",
            "Quotes around the whole list make it one schema named \"public, pg_temp\"",
        ),
        (
            "SET SCHEMA 'public'",
            "does not move the function: it is another way to write SET search_path",
        ),
    ] {
        let rejected = rejection(&mut client, &create(clause));
        assert!(rejected.detail.contains(explained), "{}", rejected.detail);
    }

    // If the schema is the cause, the hint fixes the schema.
    unguarded(&mut client, "GRANT CREATE ON SCHEMA public TO worker");
    let rejected = rejection(&mut client, &create("SET search_path = public, pg_temp"));
    assert!(
        rejected.detail.contains("role \"worker\" can create objects in schema \"public\""),
        "{}",
        rejected.detail
    );
    assert_eq!(
        rejected.hint,
        "The cause is the schema, not the routine. Run: REVOKE CREATE ON SCHEMA public FROM worker;"
    );

    // A superuser's routine in a database of another role: the hint names the better owner.
    client
        .batch_execute(
            "REVOKE CREATE ON SCHEMA public FROM worker; CREATE ROLE postgres; ALTER DATABASE \
             words OWNER TO postgres",
        )
        .unwrap();
    let rejected = rejection(&mut client, &create("SET search_path = public, pg_temp"));
    assert_eq!(
        rejected.hint,
        "A superuser's function must not search schemas in which other roles can create objects. \
         Create \
         it as role \"postgres\" with SET search_path = public, pg_temp, or use SET search_path = \
         pg_catalog, pg_temp. To restore a dump, run SET dragonfly_guard.mode = warn; and audit \
         the database afterwards."
    );
    client.batch_execute("ALTER DATABASE words OWNER TO root_su").unwrap();

    // A contract that accepts the empty path, and one that accepts only its own path.
    client
        .batch_execute(
            "INSERT INTO dragonfly_guard.contract (id, document)
             SELECT 2, jsonb_set(document, '{security_definer,accept_empty}', 'true') FROM \
             dragonfly_guard.contract",
        )
        .unwrap();
    passes(&mut client, &[&create("SET search_path = ''"), "DROP FUNCTION public.f()"]);
    client
        .batch_execute(
            "INSERT INTO dragonfly_guard.contract (id, document)
             SELECT 3, jsonb_set(document, '{security_definer,accept}', '\"canonical\"') FROM \
             dragonfly_guard.contract WHERE id = 1",
        )
        .unwrap();
    let rejected = rejection(&mut client, &create("SET search_path = pg_catalog, pg_temp"));
    assert_eq!(
        rejected.message,
        "SECURITY DEFINER function public.f() does not have the contract's search_path"
    );
    passes(
        &mut client,
        &[
            &create("SET search_path = public, pg_temp"),
            &create("SET search_path = public, pg_temp").replace("CREATE", "CREATE OR REPLACE"),
        ],
    );
}

/// `pg_catalog` is searched by every routine, whether its path names it or not, and no object
/// depends on it.
#[test]
fn change_that_lets_others_into_pg_catalog_is_rejected() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "catalog");
    unguarded(
        &mut client,
        "CREATE FUNCTION hostile.lower(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
         ALTER FUNCTION hostile.lower OWNER TO mallory;
         CREATE TYPE hostile.ty AS (a int); ALTER TYPE hostile.ty OWNER TO mallory;
         CREATE DOMAIN hostile.dom AS int; ALTER DOMAIN hostile.dom OWNER TO mallory;
         CREATE OPERATOR hostile.### (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int);
         ALTER OPERATOR hostile.### (int, int) OWNER TO mallory;
         CREATE TABLE hostile.tab (a int); ALTER TABLE hostile.tab OWNER TO mallory;
         CREATE FUNCTION pg_catalog.added(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    for sql in [
        "GRANT CREATE ON SCHEMA pg_catalog TO mallory",
        "GRANT ALL ON SCHEMA pg_catalog TO PUBLIC",
        "ALTER SCHEMA pg_catalog OWNER TO mallory",
        "ALTER FUNCTION hostile.lower SET SCHEMA pg_catalog",
        "ALTER TYPE hostile.ty SET SCHEMA pg_catalog",
        "ALTER DOMAIN hostile.dom SET SCHEMA pg_catalog",
        "ALTER OPERATOR hostile.### (int, int) SET SCHEMA pg_catalog",
        "ALTER TABLE hostile.tab SET SCHEMA pg_catalog",
        "ALTER FUNCTION pg_catalog.added OWNER TO mallory",
        "SET dragonfly_guard.check_at = commit; BEGIN; CREATE SCHEMA unrelated; ALTER FUNCTION \
         hostile.lower SET SCHEMA pg_catalog; COMMIT",
        // Another changed schema does not hide where an object has been moved to.
        "BEGIN; CREATE SCHEMA unrelated; ALTER FUNCTION hostile.lower SET SCHEMA api; COMMIT",
    ] {
        let rejected = rejection(&mut client, sql);
        let _ = client.batch_execute("ROLLBACK");
        client.batch_execute("RESET ALL").unwrap();
        let (message, what) = (rejected.message, "SECURITY DEFINER routines unsafe");
        assert!(message.contains(what) && message.contains("api.good_p()"), "{sql}: {message}");
    }
    let schema = attempt(&mut client, "GRANT CREATE ON SCHEMA information_schema TO mallory");
    assert!(schema.unwrap_err().message.contains("schema_create on schema information_schema"));
    passes(
        &mut client,
        &[
            "ALTER FUNCTION pg_catalog.added(int) RENAME TO renamed",
            "GRANT USAGE ON SCHEMA pg_catalog TO mallory",
        ],
    );
    // With the guard off: the audit, the verdict on a path and the next routine show it.
    unguarded(&mut client, "ALTER FUNCTION hostile.lower SET SCHEMA pg_catalog");
    let verdict = "SELECT reasons::text FROM ops.judge_search_path('api, pg_temp', 'app_owner')";
    assert_eq!(column(&mut client, verdict), ["{FOREIGN_OBJECTS:pg_catalog:mallory}"]);
    let unsafe_now = "SELECT object FROM ops.audit_security() WHERE rule = \
                      'security_definer_search_path' AND detail LIKE '%pg_catalog%' ORDER BY 1";
    assert_eq!(column(&mut client, unsafe_now), ["api.good()", "api.good_p()", "api.worse()"]);
    let created = rejection(
        &mut client,
        "SET ROLE app_owner; CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
         search_path = api, pg_temp AS 'SELECT 1'",
    );
    assert!(created.detail.contains("\"pg_catalog\" contains objects"), "{created:?}");
    client.batch_execute("RESET ROLE").unwrap();
    unguarded(
        &mut client,
        "ALTER FUNCTION pg_catalog.lower(int) SET SCHEMA hostile; GRANT CREATE ON SCHEMA \
         pg_catalog TO mallory",
    );
    let created = "SELECT fix FROM ops.audit_security() WHERE rule = 'schema_create' AND object = \
                   'pg_catalog'";
    assert_eq!(column(&mut client, created), ["REVOKE CREATE ON SCHEMA pg_catalog FROM mallory;"]);
}

#[test]
fn objects_in_pg_catalog_of_an_owner_of_many_objects_count_for_a_new_routine() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "many");
    unguarded(
        &mut client,
        "DO $$ BEGIN FOR i IN 1..250 LOOP
           EXECUTE format('CREATE DOMAIN hostile.d%s AS int', i);
           EXECUTE format('ALTER DOMAIN hostile.d%s OWNER TO mallory', i);
         END LOOP; END $$;
         CREATE FUNCTION hostile.lower(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
         ALTER FUNCTION hostile.lower OWNER TO mallory;
         ALTER FUNCTION hostile.lower SET SCHEMA pg_catalog",
    );
    let create = "SET ROLE app_owner; CREATE FUNCTION api.f() RETURNS int LANGUAGE sql SECURITY \
                  DEFINER SET search_path = api, pg_temp AS 'SELECT 1'; RESET ROLE";
    let created = rejection(&mut client, create);
    assert!(created.detail.contains("\"pg_catalog\" contains objects"), "{created:?}");
    client.batch_execute("RESET ROLE").unwrap();
    unguarded(&mut client, "DROP FUNCTION pg_catalog.lower(int)");
    client.batch_execute(create).unwrap();
}

#[test]
fn statement_that_renames_the_schemas_of_the_extension_is_rejected() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "renamed");
    for schema in ["ops", "dragonfly_guard"] {
        let rename = format!("ALTER SCHEMA {schema} RENAME TO another");
        let rejected = attempt(&mut client, &rename).expect_err(&rename);
        assert_eq!(rejected.code, "42939", "{rename}: {rejected:?}");
        assert!(rejected.hint.contains("SET dragonfly_guard.mode = off;"), "{rejected:?}");
    }
    unguarded(&mut client, "ALTER SCHEMA ops RENAME TO another");
    let found = "SELECT DISTINCT rule FROM another.audit_security(rules => '{guard_tampered}')";
    assert_eq!(column(&mut client, found), ["guard_tampered"]);
    client.batch_execute("ALTER SCHEMA another RENAME TO ops").unwrap();
}

/// A new schema that no search_path names changes no verdict, and is not looked for in all of them;
/// one that a search_path names is noticed, whichever way it is named.
#[test]
fn schema_is_noticed_where_a_search_path_names_it() {
    let cluster = Cluster::start();
    let mut client = world(&cluster, "named");
    client.batch_execute("CREATE ROLE tenant; CREATE ROLE other_owner").unwrap();
    unguarded(
        &mut client,
        "GRANT CREATE ON SCHEMA api TO tenant, other_owner;
         SET ROLE tenant; CREATE FUNCTION api.by_user() RETURNS int LANGUAGE sql SECURITY DEFINER
           SET search_path = \"$user\", pg_temp AS 'SELECT 1';
         SET ROLE other_owner; CREATE FUNCTION api.by_other_user() RETURNS int LANGUAGE sql
           SECURITY DEFINER SET search_path = \"$user\", pg_temp AS 'SELECT 1'; RESET ROLE;
         ALTER ROLE app_owner SET search_path = of_role, pg_temp;
         ALTER DATABASE named SET search_path = of_database, pg_temp;
         SET search_path = of_role, pg_temp;
         CREATE FUNCTION api.by_role() RETURNS int LANGUAGE sql SECURITY DEFINER
           SET search_path FROM CURRENT AS 'SELECT 1';
         SET search_path = of_database, pg_temp;
         CREATE FUNCTION api.by_database() RETURNS int LANGUAGE sql SECURITY DEFINER
           SET search_path FROM CURRENT AS 'SELECT 1';
         ALTER FUNCTION api.by_role() OWNER TO app_owner;
         ALTER FUNCTION api.by_database() OWNER TO app_owner; RESET search_path",
    );
    for (schema, routine) in [
        ("missing", "api.worse()"),
        ("tenant", "api.by_user()"),
        ("of_role", "api.by_role()"),
        ("of_database", "api.by_database()"),
    ] {
        let create = format!("CREATE SCHEMA {schema} AUTHORIZATION mallory");
        let rejected = rejection(&mut client, &create);
        assert!(rejected.message.contains(routine), "{create}: {rejected:?}");
        // In a transaction that has created other schemas, and by a later GRANT.
        let owner = if schema == "tenant" { "tenant" } else { "app_owner" };
        let grant = format!(
            "BEGIN; CREATE SCHEMA unrelated; CREATE SCHEMA {schema} AUTHORIZATION {owner};
             GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT CREATE ON SCHEMA {schema} TO mallory"
        );
        let rejected = rejection(&mut client, &grant);
        client.batch_execute("ROLLBACK").unwrap();
        assert!(rejected.message.contains(routine), "{grant}: {rejected:?}");
        let rename = format!(
            "BEGIN; CREATE SCHEMA unrelated AUTHORIZATION mallory;
             ALTER SCHEMA unrelated RENAME TO {schema}"
        );
        let rejected = rejection(&mut client, &rename);
        client.batch_execute("ROLLBACK").unwrap();
        assert!(rejected.message.contains(routine), "{rename}: {rejected:?}");
    }
    // "$user" is the owner of the routine, and no search_path names this schema.
    passes(
        &mut client,
        &["CREATE SCHEMA unrelated AUTHORIZATION mallory; GRANT ALL ON SCHEMA unrelated TO PUBLIC"],
    );
}

#[test]
fn table_whose_defaults_call_routines_can_be_dropped() {
    for settings in [&[][..], &["shared_preload_libraries=dragonfly_guard"]] {
        let cluster = Cluster::start_with(settings);
        let mut client = cluster.guarded("defaults");
        client
            .batch_execute(
                "CREATE FUNCTION public.number(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT \
                 $1'; CREATE SEQUENCE public.s; CREATE TABLE public.t (id serial, a int DEFAULT \
                 nextval('public.s'), b int DEFAULT public.number(1), c int GENERATED ALWAYS AS \
                 (public.number(2)) STORED); CREATE TABLE public.u (LIKE public.t INCLUDING ALL)",
            )
            .unwrap();
        for sql in [
            "ALTER TABLE public.u DROP COLUMN b, DROP COLUMN a",
            "BEGIN; ALTER TABLE public.t DROP COLUMN c; DROP TABLE public.t, public.u; COMMIT",
            "DROP FUNCTION public.number; DROP SEQUENCE public.s",
        ] {
            attempt(&mut client, sql).unwrap_or_else(|e| panic!("{settings:?}: {sql}: {e:?}"));
        }
    }
}
