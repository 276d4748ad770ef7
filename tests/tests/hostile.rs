//! Hostile names, schemas, sessions and encodings: they execute no code, disable no check and crash
//! nothing.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, wait_for};

const DEFINER: &str = "LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";

#[test]
fn name_is_quoted_in_generated_sql_and_escaped_in_messages() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("names");
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE TABLE public.judgments (id int); SET \
                          dragonfly_guard.mode = off",
        )
        .unwrap();
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
                "CREATE ROLE {quoted}; CREATE SCHEMA {quoted}; CREATE TYPE {quoted}.{quoted} AS (a \
                 int);
                 CREATE FUNCTION {quoted}.{quoted}(int, {quoted}.{quoted}) RETURNS int {DEFINER};
                 CREATE PROCEDURE public.{quoted}() {DEFINER};
                 CREATE TABLE public.{quoted} ({quoted} int); ALTER TABLE public.{quoted} ENABLE \
                 ROW LEVEL SECURITY;
                 GRANT UPDATE ({quoted}), SELECT ON public.{quoted} TO anon;
                 CREATE POLICY {quoted} ON public.{quoted} TO anon USING (true);
                 GRANT CREATE ON SCHEMA public TO {quoted};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {quoted} IN SCHEMA public GRANT SELECT ON \
                 TABLES TO anon"
            ))
            .unwrap_or_else(|e| panic!("{name:?}: {e:?}"));
    }
    let findings = "SELECT count(*)::text FROM ops.audit_security()
        WHERE rule IN ('security_definer_search_path', 'schema_create', 'direct_write', \
        'column_privileges', 'table_privileges',
                       'rls_policy_always_true', 'default_privileges') AND severity = 'error'";
    let before: usize = column(&mut client, findings)[0].parse().unwrap();
    assert!(before >= names.len() * 6, "{before}");
    let raw = "SELECT detail FROM ops.audit_security() WHERE detail ~ E'[\\x01-\\x1f\\u202e]' OR \
               fix ~ E'[\\x01-\\x09\\x0b-\\x1f\\u202e]'";
    assert_eq!(column(&mut client, raw), [""; 0]);
    client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    for _round in 0..3 {
        for fix in column(
            &mut client,
            "SELECT fix FROM ops.audit_security() WHERE fix IS NOT NULL AND rule <> \
             'required_object_missing'",
        ) {
            attempt(&mut client, &fix).unwrap_or_else(|e| panic!("{fix}\n{e:?}"));
        }
    }
    assert_eq!(column(&mut client, findings), ["0"]);
    assert_eq!(column(&mut client, "SELECT to_regclass('public.judgments')::text"), ["judgments"]);
    // The same for rejections.
    for name in names {
        let quoted = quote(name);
        for sql in [
            format!("CREATE FUNCTION {quoted}.f({quoted}.{quoted}) RETURNS int {DEFINER}"),
            format!(
                "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
                 search_path = {quoted}, missing AS 'SELECT 1'"
            ),
        ] {
            let rejected = attempt(&mut client, &sql).unwrap_err();
            assert_eq!(rejected.code, "42P13");
            let text = [rejected.message, rejected.detail, rejected.hint].concat();
            // Violations and statements stand on lines of their own.
            let is_hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.chars().any(is_hidden), "{text:?}");
            assert!(!name.contains('\n') || !text.contains(name), "{text:?}");
        }
    }
    let long = vec!["\"a very long name indeed\""; 5_000].join(", ");
    client.batch_execute("SET client_min_messages = error").unwrap();
    client.execute("SELECT set_config('search_path', $1, false)", &[&long]).unwrap();
    let rejected = attempt(
        &mut client,
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path FROM \
         CURRENT AS 'SELECT 1'",
    )
    .unwrap_err();
    assert!(rejected.detail.len() < 4_000, "{}", rejected.detail.len());
}

#[test]
fn session_settings_and_objects_do_not_disable_the_guard() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("blind");
    admin
        .batch_execute(
            "CREATE ROLE mallory LOGIN; CREATE SCHEMA hers AUTHORIZATION mallory;
             REVOKE SELECT ON pg_catalog.pg_proc, pg_catalog.pg_namespace, pg_catalog.pg_roles \
             FROM PUBLIC",
        )
        .unwrap();
    let mut mallory = cluster.connect("blind", "mallory");
    mallory
        .batch_execute(
            "CREATE TEMP TABLE pg_proc (LIKE pg_catalog.pg_class); CREATE TEMP TABLE contract (id \
             int, document jsonb);
             CREATE FUNCTION hers.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
             SET search_path = pg_temp, hers, pg_catalog; SET statement_timeout = '10s'; SET \
             client_min_messages = error;
             SET default_transaction_isolation = 'repeatable read'; SET check_function_bodies = \
             off",
        )
        .unwrap();
    assert_eq!(
        attempt(&mut mallory, &format!("CREATE FUNCTION hers.f() RETURNS int {DEFINER}"))
            .unwrap_err()
            .code,
        "42P13"
    );
    assert_eq!(
        attempt(&mut mallory, "SELECT * FROM ops.audit_security()").unwrap_err().code,
        "42501"
    );
    assert_eq!(
        attempt(&mut mallory, "SELECT dragonfly_guard.ddl_command_end()").unwrap_err().code,
        "42501"
    );
    // A role's own schema is safe only for routines of that role.
    let own = "CREATE FUNCTION hers.g() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path \
               = hers, pg_temp AS 'SELECT 1'";
    attempt(&mut mallory, own).unwrap();
    assert_eq!(
        attempt(&mut admin, "ALTER FUNCTION hers.g() OWNER TO root_su").unwrap_err().code,
        "42P13"
    );
}

#[test]
fn old_snapshot_does_not_hide_later_changes() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded("race");
    admin
        .batch_execute(
            "CREATE ROLE app_owner LOGIN; CREATE ROLE mallory; CREATE SCHEMA app \
                         AUTHORIZATION app_owner",
        )
        .unwrap();
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let mut owner = cluster.connect("race", "app_owner");
        owner
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM pg_class"))
            .unwrap();
        admin.batch_execute("GRANT CREATE ON SCHEMA app TO mallory").unwrap();
        let create = "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET \
                      search_path = app, pg_temp AS 'SELECT 1'";
        assert_eq!(attempt(&mut owner, create).unwrap_err().code, "42P13", "{level}");
        admin.batch_execute("REVOKE CREATE ON SCHEMA app FROM mallory").unwrap();
    }
}

/// A hostile schema `ops`, with objects that unqualified names of the install script could resolve
/// to. Each raises an error with the current user.
const HOSTILE_OPS: &str = "
    CREATE ROLE mallory; CREATE ROLE anon; CREATE ROLE service_role;
    CREATE SCHEMA ops AUTHORIZATION mallory;
    SET ROLE mallory;
    CREATE FUNCTION ops.caught() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught \
    as %', current_user; END $$;
    CREATE FUNCTION ops.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT \
    ops.caught()::text';
    CREATE FUNCTION ops.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE FUNCTION ops.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT ops.caught()::text';
    CREATE FUNCTION ops.aclexplode(aclitem[]) RETURNS text LANGUAGE sql AS 'SELECT \
    ops.caught()::text';
    CREATE FUNCTION ops.eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM \
    ops.caught(); RETURN true; END $$;
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
fn hostile_schema_ops_does_not_affect_create_extension() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE hostile").unwrap();
    let mut client = cluster.connect("hostile", SUPERUSER);
    client.batch_execute(HOSTILE_OPS).unwrap();
    client
        .batch_execute(
            "SET search_path = ops, pg_catalog; CREATE EXTENSION dragonfly_guard; \
                          RESET search_path",
        )
        .unwrap();
    let open =
        "SELECT format('%s %s %s', o.name, item.privilege_type, item.grantee::regrole) FROM (
          SELECT p.oid::regprocedure::text AS name, p.proowner AS owner, p.proacl AS acl, \
          'f'::\"char\" AS kind, p.oid, 'pg_proc'::regclass AS class FROM pg_proc p
          UNION ALL SELECT c.oid::regclass::text, c.relowner, c.relacl, 'r', c.oid, 'pg_class' \
          FROM pg_class c WHERE relkind IN ('r', 'v')
        ) o JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dragonfly_guard',
        LATERAL aclexplode(coalesce(o.acl, acldefault(o.kind, o.owner))) item
        WHERE item.grantee <> o.owner AND item.grantee NOT IN (to_regrole('service_role'), \
        to_regrole('pg_monitor')) ORDER BY 1";
    // Only the owner of the database can read, and only what pg_dump reads.
    assert_eq!(
        column(&mut client, open),
        [
            "dragonfly_guard.contract SELECT pg_database_owner",
            "dragonfly_guard.exemption SELECT pg_database_owner",
            "dragonfly_guard.frozen_schema SELECT pg_database_owner",
        ]
    );
    let private =
        "SELECT item.grantee::regrole::text FROM pg_namespace n, LATERAL aclexplode(n.nspacl) item
        WHERE nspname = 'dragonfly_guard' AND item.grantee <> n.nspowner";
    assert_eq!(column(&mut client, private), ["pg_database_owner"]);
    client
        .batch_execute(
            "SELECT * FROM ops.audit_security(); SELECT * FROM ops.v_security_findings; SELECT * \
             FROM ops.rls_policies()",
        )
        .unwrap();
    // Only the extension's own objects are members; the schema keeps its owner.
    assert_eq!(
        column(
            &mut client,
            "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'ops'"
        ),
        ["mallory"]
    );
    // A routine that shadows one of the extension's is reported if the guard was off.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; SET ROLE mallory;
             CREATE FUNCTION ops.audit_security(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; RESET \
             ROLE; RESET dragonfly_guard.mode",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, "SELECT detail || ' => ' || fix FROM ops.audit_guard()"),
        ["Function ops.audit_security(integer) conflicts with a function of extension \
             dragonfly_guard. \
          => DROP ROUTINE ops.audit_security(integer);"]
    );
}

/// Returns the rows as soon as they satisfy `wanted`, or after ten seconds.
fn eventually(
    client: &mut postgres::Client,
    sql: &str,
    wanted: impl Fn(&[String]) -> bool,
) -> Vec<String> {
    wait_for(client, sql, std::time::Duration::from_secs(10), wanted)
}

#[test]
fn tampering_is_reported_and_fixed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("tampered");
    client
        .batch_execute("CREATE ROLE mallory; CREATE ROLE anon; SET dragonfly_guard.mode = off")
        .unwrap();
    let found = "SELECT detail FROM ops.audit_guard()";
    assert_eq!(column(&mut client, found), [""; 0]);
    let end = "zz_dragonfly_guard_end";
    let filtered = format!(
        "ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER {end}; DROP EVENT TRIGGER {end};
         CREATE EVENT TRIGGER {end} ON ddl_command_end WHEN TAG IN ('CREATE CAST') EXECUTE \
         FUNCTION dragonfly_guard.ddl_command_end();
         ALTER EVENT TRIGGER {end} ENABLE ALWAYS; ALTER EXTENSION dragonfly_guard ADD EVENT \
         TRIGGER {end}"
    );
    for (tamper, detail) in [
        (filtered.as_str(), "fires for some commands only"),
        (
            &filtered.replace(
                "WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION dragonfly_guard.ddl_command_end",
                "EXECUTE FUNCTION dragonfly_guard.ddl_command_start",
            ),
            "does not call the guard",
        ),
        ("ALTER EVENT TRIGGER zz_dragonfly_guard_start DISABLE", "is disabled"),
        (
            "ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER zz_dragonfly_guard_end",
            "is not a member of the extension and can be dropped",
        ),
        (
            "ALTER FUNCTION dragonfly_guard.ddl_command_end() SET dragonfly_guard.mode = off",
            "has been altered",
        ),
        (
            "ALTER FUNCTION ops.audit_security(text[], name[], text, boolean) STRICT",
            "has been altered",
        ),
        (
            "ALTER FUNCTION ops.audit_guard() OWNER TO mallory",
            "is owned by role \"mallory\", which is not a superuser",
        ),
        (
            "GRANT EXECUTE ON FUNCTION ops.audit_security(text[], name[], text, boolean) TO PUBLIC",
            "can be executed by PUBLIC",
        ),
        (
            "ALTER VIEW ops.v_security_findings OWNER TO mallory",
            "is owned by role \"mallory\", which is not a superuser",
        ),
        (
            "ALTER TABLE dragonfly_guard.contract OWNER TO mallory",
            "is owned by role \"mallory\", which is not a superuser",
        ),
        (
            "GRANT UPDATE (document) ON dragonfly_guard.contract TO mallory",
            "grants UPDATE (document) to role \"mallory\"",
        ),
        ("GRANT USAGE ON SCHEMA dragonfly_guard TO anon", "grants USAGE to role \"anon\""),
        ("ALTER SCHEMA dragonfly_guard RENAME TO elsewhere", "has been renamed to \"elsewhere\""),
        ("ALTER ROLE mallory SET session_replication_role = replica", "has the setting"),
        (
            "GRANT SET ON PARAMETER session_replication_role TO mallory WITH GRANT OPTION",
            "grants SET to role \"mallory\"",
        ),
        (
            "ALTER SYSTEM SET dragonfly_guard.mode = off; SELECT pg_reload_conf()",
            "is 'off' for every session",
        ),
    ] {
        client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
        for sql in tamper.split_inclusive(';') {
            attempt(&mut client, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
        // A reload of the configuration takes a moment.
        let details =
            eventually(&mut client, found, |details| details.iter().any(|d| d.contains(detail)));
        assert!(details.iter().any(|d| d.contains(detail)), "{tamper}: {details:?}");
        for _round in 0..2 {
            for fix in column(&mut client, "SELECT fix FROM ops.audit_guard()") {
                for sql in fix.lines() {
                    attempt(&mut client, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                }
            }
        }
        assert_eq!(eventually(&mut client, found, <[String]>::is_empty), [""; 0], "{tamper}");
    }
    // Tampering without a fix is reported as well.
    for (tamper, detail) in [
        (
            "ALTER EXTENSION dragonfly_guard DROP FUNCTION ops.audit_rls(); DROP FUNCTION \
             ops.audit_rls()",
            "Function ops.audit_rls() is missing from the extension.",
        ),
        (
            "CREATE TABLE public.leak (a int); ALTER EXTENSION dragonfly_guard ADD TABLE \
             public.leak",
            "Extension dragonfly_guard has the member public.leak, which CREATE EXTENSION did not \
             create.",
        ),
        (
            "CREATE OR REPLACE FUNCTION ops.audit_roles() RETURNS TABLE (rule text, severity text, \
             object_type text, schema_name name, object text, role_name name, detail text, \
             evidence jsonb, fix text, contract_section text, fingerprint text) LANGUAGE sql AS \
             'SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL::jsonb, NULL, NULL, NULL'",
            "Function ops.audit_roles() has been replaced.",
        ),
        (
            "ALTER TABLE dragonfly_guard.contract DROP CONSTRAINT is_contract",
            "does not have the constraint is_contract",
        ),
    ] {
        attempt(&mut client, tamper).unwrap();
        let details = column(&mut client, found);
        assert!(details.iter().any(|d| d.contains(detail)), "{tamper}: {details:?}");
    }
}

#[test]
fn altered_contract_table_is_an_error_and_no_crash() {
    let cluster = Cluster::start();
    let definer = format!("CREATE FUNCTION public.f() RETURNS int {DEFINER}");
    for (i, change) in [
        "ALTER TABLE dragonfly_guard.contract RENAME TO c2; CREATE VIEW dragonfly_guard.contract \
         AS SELECT * FROM dragonfly_guard.c2",
        "ALTER TABLE dragonfly_guard.contract RENAME TO c2; CREATE TABLE dragonfly_guard.contract \
         (id int, document jsonb) PARTITION BY RANGE (id)",
        "ALTER EXTENSION dragonfly_guard DROP VIEW ops.contract_history; DROP VIEW \
         ops.contract_history; ALTER TABLE dragonfly_guard.contract DROP CONSTRAINT is_contract, \
         DROP CONSTRAINT shipped_stays_as_it_is; ALTER TABLE dragonfly_guard.contract ALTER \
         document TYPE int USING 3",
        "ALTER EXTENSION dragonfly_guard DROP VIEW ops.contract_history; ALTER TABLE \
         dragonfly_guard.contract DROP COLUMN document CASCADE",
        "ALTER EXTENSION dragonfly_guard DROP VIEW ops.contract_history; DROP VIEW \
         ops.contract_history; ALTER TABLE dragonfly_guard.contract DROP CONSTRAINT \
         shipped_is_the_first; ALTER TABLE dragonfly_guard.contract ALTER id TYPE text",
        "DELETE FROM dragonfly_guard.contract",
    ]
    .iter()
    .enumerate()
    {
        let mut client = cluster.guarded(&format!("shape{i}"));
        client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
        for sql in change.split("; ") {
            client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
        client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
        let table = "CREATE TABLE public.t (id int)";
        for sql in [
            "SELECT * FROM ops.audit_security()",
            "SELECT \
            ops.contract()",
            definer.as_str(),
            table,
        ] {
            let rejected = attempt(&mut client, sql).unwrap_err();
            assert_eq!(rejected.code, "55000", "{change}: {sql}: {rejected:?}");
            assert!(
                !rejected.hint.is_empty() && !rejected.detail.contains("backtrace"),
                "{rejected:?}"
            );
        }
        attempt(
            &mut client,
            "CREATE TEMP TABLE unrelated (id int); COMMENT ON SCHEMA public IS \
                              NULL",
        )
        .unwrap();
        attempt(&mut client, &format!("SET dragonfly_guard.mode = off; {definer}")).unwrap();
    }
}

#[test]
fn create_extension_fails_if_a_name_is_taken() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("CREATE ROLE mallory").unwrap();
    for (database, prepared, message) in [
        (
            "impostor",
            "CREATE SCHEMA ops; CREATE FUNCTION ops.contract(int) RETURNS int LANGUAGE sql AS \
             'SELECT 1'",
            "function ops.contract(integer) conflicts with a function of extension dragonfly_guard",
        ),
        (
            "same",
            "CREATE SCHEMA ops; CREATE FUNCTION ops.contract() RETURNS int LANGUAGE sql AS 'SELECT \
             1'",
            "function \"contract\" already exists with same argument types",
        ),
        (
            "taken",
            "CREATE SCHEMA dragonfly_guard AUTHORIZATION mallory",
            "schema \"dragonfly_guard\" already exists",
        ),
        (
            "open",
            "CREATE SCHEMA dragonfly_guard; CREATE TYPE dragonfly_guard.name AS (a int)",
            "schema \"dragonfly_guard\" already exists",
        ),
    ] {
        admin.batch_execute(&format!("CREATE DATABASE {database}")).unwrap();
        let mut client = cluster.connect(database, SUPERUSER);
        client.batch_execute(prepared).unwrap();
        assert_eq!(
            attempt(&mut client, "CREATE EXTENSION dragonfly_guard").unwrap_err().message,
            message
        );
        assert_eq!(column(&mut client, "SELECT evtname::text FROM pg_event_trigger"), [""; 0]);
    }
}

#[test]
fn database_of_another_encoding_is_guarded() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    for (database, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII")] {
        admin
            .batch_execute(&format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' \
                 TEMPLATE template0"
            ))
            .unwrap();
        let mut client = cluster.connect(database, SUPERUSER);
        client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
        let rejected = attempt(
            &mut client,
            &format!("CREATE FUNCTION public.\"grün\"() RETURNS int {DEFINER}"),
        )
        .unwrap_err();
        // Messages of pgrx are in UTF-8; results are in the client's encoding.
        let name = if encoding == "LATIN1" { "gr\\u00FCn" } else { "grün" };
        assert_eq!(
            rejected.message,
            format!("SECURITY DEFINER function public.\"{name}\"() has no safe search_path"),
            "{encoding}"
        );
        client
            .batch_execute(&format!(
                "SET dragonfly_guard.mode = off; CREATE FUNCTION \
                                     public.\"grün\"() RETURNS int {DEFINER}; RESET \
                                     dragonfly_guard.mode"
            ))
            .unwrap();
        let fix = column(
            &mut client,
            "SELECT fix FROM ops.audit_functions() WHERE rule = 'security_definer_search_path'",
        );
        assert_eq!(
            fix,
            ["ALTER ROUTINE public.\"grün\"() SET search_path = public, pg_temp;"],
            "{encoding}"
        );
        attempt(&mut client, &fix[0]).unwrap();
        assert_eq!(
            column(&mut client, "SELECT verdict FROM ops.security_definer_functions()"),
            ["safe"]
        );
    }
}

/// Characters that stand for raw bytes, characters that change the direction of a line, and bytes
/// that are not characters.
#[test]
fn plan_runs_for_objects_with_unusual_names() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("CREATE ROLE anon").unwrap();
    for encoding in ["UTF8", "SQL_ASCII"] {
        admin
            .batch_execute(&format!(
                "CREATE DATABASE d{encoding} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' \
                 TEMPLATE template0"
            ))
            .unwrap();
        let mut client = cluster.connect(&format!("d{encoding}").to_lowercase(), SUPERUSER);
        client
            .batch_execute("CREATE EXTENSION dragonfly_guard; SET dragonfly_guard.mode = off")
            .unwrap();
        for name in ["a\u{10ffe9}", "\u{10ff80}\u{10ffff}é", "\u{202e}x", "é\n", "\u{85}"] {
            client
                .batch_execute(&format!(
                    "CREATE TABLE public.\"{name}\" (\"{name}\" int); GRANT UPDATE (\"{name}\") ON \
                     public.\"{name}\" TO anon"
                ))
                .unwrap();
        }
        if encoding == "SQL_ASCII" {
            client
                .batch_execute(
                    "DO $$ BEGIN EXECUTE format('CREATE TABLE public.\"%1$s\" (); GRANT \
                                DELETE ON public.\"%1$s\" TO anon', chr(233) || chr(10)); END $$",
                )
                .unwrap();
        }
        let applied = "SELECT count(*)::text FROM ops.apply_golden_sql(false) WHERE outcome = \
                       'done' AND statement ~ '^REVOKE (UPDATE|DELETE)'";
        let expected = if encoding == "SQL_ASCII" { "6" } else { "5" };
        assert_eq!(column(&mut client, applied), [expected], "{encoding}");
        assert_eq!(
            column(
                &mut client,
                "SELECT count(*)::text FROM ops.audit_security() WHERE role_name = 'anon'"
            ),
            ["0"],
            "{encoding}"
        );
    }
}

#[test]
fn name_is_truncated_as_in_the_database() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute("CREATE ROLE app_owner; CREATE ROLE mallory").unwrap();
    admin
        .batch_execute(
            "CREATE DATABASE cut ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        )
        .unwrap();
    let mut client = cluster.connect("cut", SUPERUSER);
    // 40 bytes in LATIN1, but 80 in UTF-8, which would be truncated to another name.
    let (long, short) = ("é".repeat(40), "é".repeat(31));
    client
        .batch_execute(&format!(
            "CREATE EXTENSION dragonfly_guard; CREATE SCHEMA \"{short}\" AUTHORIZATION app_owner; \
             CREATE SCHEMA \"{long}\" AUTHORIZATION mallory"
        ))
        .unwrap();
    let create = format!(
        "SET ROLE app_owner; CREATE FUNCTION \"{short}\".t() RETURNS int LANGUAGE sql SECURITY \
         DEFINER SET search_path = \"{long}\", pg_temp AS 'SELECT 1'"
    );
    assert_eq!(attempt(&mut client, &create).unwrap_err().code, "42P13");
    attempt(&mut client, &create.replace(&long, &short)).unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    let verdict =
        format!("SELECT verdict FROM ops.judge_search_path('\"{long}\", pg_temp', 'app_owner')");
    assert_eq!(column(&mut client, &verdict), ["exploitable"]);
}

#[test]
fn name_in_another_encoding_is_no_error() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", SUPERUSER);
    // Roles are shared by databases of all encodings.
    admin.batch_execute("CREATE ROLE \"Á\"; CREATE ROLE anon").unwrap();
    for (i, encoding) in ["WIN1252", "SQL_ASCII", "EUC_JP", "UTF8"].iter().enumerate() {
        let database = format!("enc{i}");
        admin
            .batch_execute(&format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' \
                 TEMPLATE template0"
            ))
            .unwrap();
        let mut client = cluster.connect(&database, SUPERUSER);
        client
            .batch_execute("SET client_encoding = 'SQL_ASCII'; CREATE EXTENSION dragonfly_guard")
            .unwrap_or_else(|e| panic!("{encoding}: {e:?}"));
        if *encoding == "SQL_ASCII" {
            client
                .batch_execute(
                    "DO $$ BEGIN EXECUTE 'CREATE SCHEMA \"q' || chr(233) || '\"'; \
                                  EXECUTE 'CREATE ROLE \"r' || chr(233) || '\"'; END $$",
                )
                .unwrap();
        }
        client
            .batch_execute("SELECT * FROM ops.audit_security()")
            .unwrap_or_else(|e| panic!("{encoding}: {e:?}"));
        if *encoding == "SQL_ASCII" {
            // A byte that is not a character, and four characters that look like its escape, are
            // two names.
            client
                .batch_execute(
                    "CREATE ROLE tenant; CREATE ROLE mallory;
                     DO $$ BEGIN EXECUTE 'CREATE SCHEMA \"' || chr(233) || '\" AUTHORIZATION \
                     tenant'; END $$;
                     CREATE SCHEMA \"\\xE9\" AUTHORIZATION mallory",
                )
                .unwrap();
            let verdict = "SELECT reasons[1] FROM ops.judge_search_path('\"' || chr(233) || '\", \
                           pg_temp', 'mallory')";
            assert_eq!(column(&mut client, verdict), ["WRITABLE:\\u10FFE9:tenant"]);
        }
        attempt(
            &mut client,
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER \
                              SET search_path = pg_catalog, pg_temp AS 'SELECT 1'",
        )
        .unwrap_or_else(|e| panic!("{encoding}: {e:?}"));
    }
}

#[test]
fn dropped_role_in_an_acl_is_named_by_its_oid() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("dangling");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE gone; CREATE ROLE anon; CREATE SCHEMA \
             api; GRANT CREATE ON SCHEMA api TO gone; GRANT anon TO gone;
             CREATE TABLE public.t (id int); ALTER TABLE public.t OWNER TO gone; GRANT SELECT ON \
             public.t TO anon;
             CREATE FUNCTION api.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION \
             api.f() OWNER TO gone;
             DELETE FROM pg_authid WHERE rolname = 'gone'; RESET dragonfly_guard.mode",
        )
        .unwrap();
    client
        .batch_execute(
            "SELECT * FROM ops.audit_security(); SELECT * FROM ops.role_matrix(); \
                        SELECT * FROM ops.rls_coverage()",
        )
        .unwrap();
    let rejected = attempt(&mut client, "ALTER FUNCTION api.f() SECURITY DEFINER").unwrap_err();
    assert_eq!(rejected.code, "42P13");
}

#[test]
fn audit_can_be_canceled() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("cancelled");
    // An audit for each of 100,000 rows: the argument depends on the row.
    let rejected = attempt(
        &mut client,
        "SET statement_timeout = '50ms'; SELECT count(*) FROM generate_series(1, 100000) g, \
         LATERAL ops.audit_security(include_exempted => g > 0) a",
    )
    .unwrap_err();
    assert_eq!(rejected.code, "57014");
    client.batch_execute("SET statement_timeout = 0; SELECT * FROM ops.audit_security()").unwrap();
}
