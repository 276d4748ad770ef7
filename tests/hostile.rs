//! Hostile names, schemas, sessions and encodings: nothing of theirs is run, nothing of theirs blinds the guard, nothing crashes.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};

const DEFINER: &str = "LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";

#[test]
fn no_name_changes_generated_sql_or_reaches_a_message_raw() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("names");
    client.batch_execute("CREATE ROLE anon; CREATE TABLE public.judgments (id int); SET dragonfly_guard.mode = off").unwrap();
    let names = [
        "x\"; DROP TABLE public.judgments; --",
        "line\nbreak",
        "\u{1b}[31mred",
        "rtl \u{202e} cod",
        "back\\slash",
        "it's",
        "select",
        "Größe",
        "%s %I $1",
        &"é".repeat(31),
        &"x".repeat(63),
    ];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for name in names {
        let quoted = quote(name);
        client
            .batch_execute(&format!(
                "CREATE ROLE {quoted}; CREATE SCHEMA {quoted}; CREATE TYPE {quoted}.{quoted} AS (a int);
                 CREATE FUNCTION {quoted}.{quoted}(int, {quoted}.{quoted}) RETURNS int {DEFINER};
                 CREATE PROCEDURE public.{quoted}() {DEFINER};
                 CREATE TABLE public.{quoted} ({quoted} int); ALTER TABLE public.{quoted} ENABLE ROW LEVEL SECURITY;
                 GRANT UPDATE ({quoted}), SELECT ON public.{quoted} TO anon;
                 CREATE POLICY {quoted} ON public.{quoted} TO anon USING (true);
                 GRANT CREATE ON SCHEMA public TO {quoted};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {quoted} IN SCHEMA public GRANT SELECT ON TABLES TO anon"
            ))
            .unwrap_or_else(|e| panic!("{name:?}: {e:?}"));
    }
    let findings = "SELECT count(*)::text FROM ops.audit_security()
        WHERE rule IN ('security_definer_search_path', 'schema_create', 'direct_write', 'column_privileges', 'table_privileges',
                       'rls_policy_always_true', 'default_privileges') AND severity = 'error'";
    let before: usize = column(&mut client, findings)[0].parse().unwrap();
    assert!(before >= names.len() * 6, "{before}");
    let raw = "SELECT detail FROM ops.audit_security() WHERE detail ~ E'[\\x01-\\x1f\\u202e]' OR fix ~ E'[\\x01-\\x09\\x0b-\\x1f\\u202e]'";
    assert_eq!(column(&mut client, raw), [""; 0]);
    client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    for _round in 0..2 {
        for fix in column(
            &mut client,
            "SELECT fix FROM ops.audit_security() WHERE fix IS NOT NULL AND rule <> 'required_object_missing'",
        ) {
            attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}\n{e:?}"));
        }
    }
    assert_eq!(column(&mut client, findings), ["0"]);
    assert_eq!(column(&mut client, "SELECT to_regclass('public.judgments')::text"), ["judgments"]);
    // Refusals too.
    for name in names {
        let quoted = quote(name);
        for sql in [
            format!("CREATE FUNCTION {quoted}.f({quoted}.{quoted}) RETURNS int {DEFINER}"),
            format!(
                "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = {quoted}, missing AS 'SELECT 1'"
            ),
        ] {
            let refused = attempt(&mut client, &sql).unwrap_err();
            assert_eq!(refused.code, "42P13");
            let said = [refused.message, refused.detail, refused.hint].concat();
            assert!(!said.chars().any(|c| c.is_control() || c == '\u{202e}'), "{said:?}");
        }
    }
    let long = vec!["\"a very long name indeed\""; 5_000].join(", ");
    client.batch_execute("SET client_min_messages = error").unwrap();
    client.execute("SELECT set_config('search_path', $1, false)", &[&long]).unwrap();
    let refused = attempt(
        &mut client,
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS 'SELECT 1'",
    )
    .unwrap_err();
    assert!(refused.detail.len() < 4_000, "{}", refused.detail.len());
}

#[test]
fn no_session_blinds_the_guard() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("blind");
    admin
        .batch_execute(
            "CREATE ROLE mallory LOGIN; CREATE SCHEMA hers AUTHORIZATION mallory;
             REVOKE SELECT ON pg_catalog.pg_proc, pg_catalog.pg_namespace, pg_catalog.pg_roles FROM PUBLIC",
        )
        .unwrap();
    let mut mallory = cluster.connect("blind", "mallory");
    mallory
        .batch_execute(
            "CREATE TEMP TABLE pg_proc (LIKE pg_catalog.pg_class); CREATE TEMP TABLE contract (id int, document jsonb);
             CREATE FUNCTION hers.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
             SET search_path = pg_temp, hers, pg_catalog; SET statement_timeout = '10s'; SET client_min_messages = error;
             SET default_transaction_isolation = 'repeatable read'; SET check_function_bodies = off",
        )
        .unwrap();
    assert_eq!(attempt(&mut mallory, &format!("CREATE FUNCTION hers.f() RETURNS int {DEFINER}")).unwrap_err().code, "42P13");
    assert_eq!(attempt(&mut mallory, "SELECT * FROM ops.audit_security()").unwrap_err().code, "42501");
    assert_eq!(attempt(&mut mallory, "SELECT dragonfly_guard.ddl_command_end()").unwrap_err().code, "42501");
    // Her own path is safe for her, and hers alone.
    let own =
        "CREATE FUNCTION hers.g() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = hers, pg_temp AS 'SELECT 1'";
    attempt(&mut mallory, own).unwrap();
    assert_eq!(attempt(&mut admin, "ALTER FUNCTION hers.g() OWNER TO root_su").unwrap_err().code, "42P13");
}

#[test]
fn an_old_snapshot_does_not_hide_what_has_happened_since() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("race");
    admin.batch_execute("CREATE ROLE app_owner LOGIN; CREATE ROLE mallory; CREATE SCHEMA app AUTHORIZATION app_owner").unwrap();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let mut owner = cluster.connect("race", "app_owner");
        owner.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class")).unwrap();
        admin.batch_execute("GRANT CREATE ON SCHEMA app TO mallory").unwrap();
        let create =
            "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT 1'";
        assert_eq!(attempt(&mut owner, create).unwrap_err().code, "42P13", "{level}");
        admin.batch_execute("REVOKE CREATE ON SCHEMA app FROM mallory").unwrap();
    }
}

/// A hostile `ops`: everything in it that an unqualified name of the install script could reach, each telling who ran it.
const HOSTILE_OPS: &str = "
    CREATE ROLE mallory; CREATE ROLE anon; CREATE ROLE service_role;
    CREATE SCHEMA ops AUTHORIZATION mallory;
    SET ROLE mallory;
    CREATE FUNCTION ops.caught() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught as %', current_user; END $$;
    CREATE FUNCTION ops.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE FUNCTION ops.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE FUNCTION ops.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE FUNCTION ops.aclexplode(aclitem[]) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE FUNCTION ops.eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM ops.caught(); RETURN true; END $$;
    CREATE OPERATOR ops.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = ops.eq);
    CREATE FUNCTION ops.cat(text, text) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE OPERATOR ops.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = ops.cat);
    CREATE TABLE ops.event_log (id int);
    RESET ROLE;
    ALTER DEFAULT PRIVILEGES IN SCHEMA ops GRANT ALL ON FUNCTIONS TO anon, PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA ops GRANT ALL ON TABLES TO anon;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO service_role, anon;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon;";

#[test]
fn a_hostile_ops_captures_nothing() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE hostile").unwrap();
    let mut client = cluster.connect("hostile", SUPERUSER);
    client.batch_execute(HOSTILE_OPS).unwrap();
    client.batch_execute("SET search_path = ops, pg_catalog; CREATE EXTENSION dragonfly_guard; RESET search_path").unwrap();
    let open = "SELECT format('%s %s %s', o.name, item.privilege_type, item.grantee::regrole) FROM (
          SELECT p.oid::regprocedure::text AS name, p.proowner AS owner, p.proacl AS acl, 'f'::\"char\" AS kind, p.oid, 'pg_proc'::regclass AS class FROM pg_proc p
          UNION ALL SELECT c.oid::regclass::text, c.relowner, c.relacl, 'r', c.oid, 'pg_class' FROM pg_class c WHERE relkind IN ('r', 'v')
        ) o JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dragonfly_guard',
        LATERAL aclexplode(coalesce(o.acl, acldefault(o.kind, o.owner))) item
        WHERE item.grantee <> o.owner AND item.grantee NOT IN (to_regrole('service_role'), to_regrole('pg_monitor'))";
    assert_eq!(column(&mut client, open), [""; 0]);
    let private = "SELECT item.grantee::regrole::text FROM pg_namespace n, LATERAL aclexplode(n.nspacl) item
        WHERE nspname = 'dragonfly_guard' AND item.grantee <> n.nspowner";
    assert_eq!(column(&mut client, private), [""; 0]);
    client
        .batch_execute(
            "SELECT * FROM ops.audit_security(); SELECT * FROM ops.v_security_findings; SELECT * FROM ops.rls_policies()",
        )
        .unwrap();
    // Members are only ours; the schema stays hers, and its tables.
    assert_eq!(column(&mut client, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'ops'"), ["mallory"]);
    // What she adds later in the way of ours is found.
    client
        .batch_execute("SET ROLE mallory; CREATE FUNCTION ops.audit_security() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        .unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    assert_eq!(
        column(&mut client, "SELECT detail FROM ops.audit_guard()"),
        ["Function ops.audit_security has the name of one of the extension's own and would be called in its place."]
    );
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("CREATE ROLE mallory").unwrap();
    for (database, prepared, message) in [
        (
            "impostor",
            "CREATE SCHEMA ops; CREATE FUNCTION ops.contract(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "function ops.contract(integer) stands in the way of one of the extension's own",
        ),
        (
            "same",
            "CREATE SCHEMA ops; CREATE FUNCTION ops.contract() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "function \"contract\" already exists with same argument types",
        ),
        ("taken", "CREATE SCHEMA dragonfly_guard AUTHORIZATION mallory", "schema \"dragonfly_guard\" is not free"),
        (
            "open",
            "CREATE SCHEMA dragonfly_guard; CREATE TYPE dragonfly_guard.name AS (a int)",
            "schema \"dragonfly_guard\" is not free",
        ),
    ] {
        admin.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
        let mut client = cluster.connect(database, SUPERUSER);
        client.batch_execute(prepared).unwrap();
        assert_eq!(attempt(&mut client, "CREATE EXTENSION dragonfly_guard").unwrap_err().message, message);
        assert_eq!(column(&mut client, "SELECT evtname::text FROM pg_event_trigger"), [""; 0]);
    }
}

#[test]
fn other_encodings() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    for (database, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII")] {
        admin
            .batch_execute(&format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            ))
            .unwrap();
        let mut client = cluster.connect(database, SUPERUSER);
        client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
        let refused = attempt(&mut client, &format!("CREATE FUNCTION public.\"grün\"() RETURNS int {DEFINER}")).unwrap_err();
        // pgrx speaks UTF-8 in messages; results are in the client's encoding as always.
        let name = if encoding == "LATIN1" { "gr\\u00FCn" } else { "grün" };
        assert_eq!(
            refused.message,
            format!("SECURITY DEFINER function public.\"{name}\"() has no safe search_path"),
            "{encoding}"
        );
        client
            .batch_execute(&format!("SET dragonfly_guard.mode = off; CREATE FUNCTION public.\"grün\"() RETURNS int {DEFINER}; RESET dragonfly_guard.mode"))
            .unwrap();
        let fix = column(&mut client, "SELECT fix FROM ops.audit_functions() WHERE rule = 'security_definer_search_path'");
        assert_eq!(fix, ["ALTER ROUTINE public.\"grün\"() SET search_path = public, pg_temp;"], "{encoding}");
        attempt(&mut client, &fix[0]).unwrap();
        assert_eq!(column(&mut client, "SELECT verdict FROM ops.security_definer_functions()"), ["safe"]);
    }
}

#[test]
fn a_role_that_is_gone_is_named_by_its_number() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("dangling");
    client
        .batch_execute(
            "CREATE ROLE gone; CREATE ROLE anon; CREATE SCHEMA api; GRANT CREATE ON SCHEMA api TO gone; GRANT anon TO gone;
             CREATE TABLE public.t (id int); ALTER TABLE public.t OWNER TO gone; GRANT SELECT ON public.t TO anon;
             CREATE FUNCTION api.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION api.f() OWNER TO gone;
             DELETE FROM pg_authid WHERE rolname = 'gone'",
        )
        .unwrap();
    client
        .batch_execute("SELECT * FROM ops.audit_security(); SELECT * FROM ops.role_matrix(); SELECT * FROM ops.rls_coverage()")
        .unwrap();
    let refused = attempt(&mut client, "ALTER FUNCTION api.f() SECURITY DEFINER").unwrap_err();
    assert_eq!(refused.code, "42P13");
}

#[test]
fn a_cancelled_audit_ends() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("cancelled");
    let refused = attempt(
        &mut client,
        "SET statement_timeout = '50ms'; SELECT count(*) FROM generate_series(1, 100000) g, LATERAL ops.audit_security() a",
    )
    .unwrap_err();
    assert_eq!(refused.code, "57014");
    client.batch_execute("SET statement_timeout = 0; SELECT * FROM ops.audit_security()").unwrap();
}
