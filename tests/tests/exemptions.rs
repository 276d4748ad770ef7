//! Exemptions: an accepted finding is hidden and not blocked until the finding or its object
//! changes.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// Returns a connection to the document's database with a routine that was unsafe before the guard
/// was installed.
fn with_legacy(cluster: &Cluster) -> Client {
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    cluster.psql_file("app", "fixtures/document.sql");
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute(&format!("SET ROLE postgres; {LEGACY}; RESET ROLE")).unwrap();
    cluster.connect("app", SUPERUSER).batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    cluster.connect("app", SUPERUSER)
}

const LEGACY: &str =
    "CREATE FUNCTION enforcement.legacy() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
    REVOKE EXECUTE ON FUNCTION enforcement.legacy() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION enforcement.legacy() TO service_role";

const FOUND: &str =
    "SELECT object FROM ops.audit_security(rules => '{security_definer_search_path}')";

const ACCEPT: &str =
    "SELECT ops.exempt(fingerprint, 'Ticket 7: rewritten in May') FROM ops.audit_security()
    WHERE object = 'enforcement.legacy()' AND rule = 'security_definer_search_path'";

const STATUS: &str = "SELECT status || ' ' || finding_count FROM ops.v_exemptions ORDER BY id";

#[test]
fn exempted_finding_is_hidden_and_listed_on_request() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    assert_eq!(column(&mut client, FOUND), ["enforcement.legacy()"]);
    assert_eq!(attempt(&mut client, "SELECT ops.assert_security()").unwrap_err().code, "P0004");
    assert_eq!(client.query_one(ACCEPT, &[]).unwrap().get::<_, i32>(0), 1);
    assert_eq!(column(&mut client, FOUND), [""; 0]);
    attempt(&mut client, "SELECT ops.assert_security()").unwrap();
    let everywhere = "SELECT count(*)::text FROM (SELECT object FROM ops.audit_functions() UNION \
        ALL SELECT object FROM ops.v_security_findings
        UNION ALL SELECT object FROM ops.audit_contract(ops.contract())) AS f WHERE object = \
            'enforcement.legacy()'";
    assert_eq!(column(&mut client, everywhere), ["0"]);
    // On request it is shown with the details of the exemption.
    let shown = "SELECT evidence #>> '{exemption,reason}' || ' - ' || (evidence #>> \
        '{exemption,exempted_by}')
        FROM ops.audit_security(include_exempted => true) WHERE evidence ? 'exemption'";
    assert_eq!(column(&mut client, shown), ["Ticket 7: rewritten in May - root_su"]);
    let shown = "SELECT rule || ' ' || object || ' ' || finding_count || ' ' || \
        (findings->0->>'object') \
        FROM ops.v_exemptions";
    assert_eq!(
        column(&mut client, shown),
        ["security_definer_search_path enforcement.legacy() 1 enforcement.legacy()"]
    );
    let error = attempt(
        &mut client,
        "SELECT ops.exempt(fingerprint, 'again') FROM \
        ops.audit_security(include_exempted => true) WHERE object = 'enforcement.legacy()'",
    )
    .unwrap_err();
    assert_eq!(error.message, "already exempted by exemption 1");
    // After the withdrawal it is reported again; the exemption remains in the list.
    assert_eq!(client.query_one("SELECT ops.unexempt(id => 1)", &[]).unwrap().get::<_, i32>(0), 1);
    assert_eq!(column(&mut client, FOUND), ["enforcement.legacy()"]);
    let record = "SELECT status || ' ' || withdrawn_by || ' ' || (withdrawn_at >= exempted_at) \
        FROM ops.v_exemptions";
    assert_eq!(column(&mut client, record), ["withdrawn root_su true"]);
}

#[test]
fn notice_says_what_is_missing_what_does_not_expire_and_what_is_back() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    attempt(
        &mut client,
        "SET dragonfly_guard.mode = off; GRANT SELECT ON public.plaintiffs TO anon",
    )
    .unwrap();
    let notice = |sql: &str| {
        let output = cluster.client_program("psql", &["-X", "-d", "app", "-c", sql]);
        String::from_utf8(output.stderr).unwrap()
    };
    let exempt = |object: &str| {
        notice(&format!(
            "SELECT ops.exempt(rule => 'table_privileges', object => '{object}', reason => 'x')"
        ))
    };
    let missing = |object: &str| {
        format!(
            "DETAIL:  There is no object \"{object}\" now. The exemption applies to one that is \
             created later or gets this name.\n"
        )
    };
    assert_eq!(
        exempt("public.plaintifs"),
        format!(
            "NOTICE:  exemption 1 hides 0 findings and does not expire\n{}HINT:  Did you mean \
             \"public.plaintiffs\"? To withdraw it, run SELECT ops.unexempt(id => 1);\n",
            missing("public.plaintifs")
        )
    );
    assert_eq!(
        exempt("publik.*"),
        format!(
            "NOTICE:  exemption 2 hides 0 findings and does not expire\n{}HINT:  Did you mean \
             \"public.*\"? To withdraw it, run SELECT ops.unexempt(id => 2);\n",
            missing("publik.*")
        )
    );
    // An object without a finding is there.
    assert_eq!(
        exempt("public.judgments"),
        "NOTICE:  exemption 3 hides 0 findings and does not expire\n"
    );
    assert_eq!(exempt("public.*"), "NOTICE:  exemption 4 hides 1 finding and does not expire\n");
    assert_eq!(
        exempt("public.plaintiffs"),
        "NOTICE:  exemption 5 hides 0 findings and does not expire\nDETAIL:  It also covers 1 \
         finding that another exemption hides.\n"
    );
    let withdraw = |id: i32| notice(&format!("SELECT ops.unexempt(id => {id})"));
    // The other one still hides it.
    assert_eq!(withdraw(5), "NOTICE:  exemption 5 is withdrawn: 0 findings are back\n");
    assert_eq!(withdraw(4), "NOTICE:  exemption 4 is withdrawn: 1 finding is back\n");
}

#[test]
fn exemption_for_a_role_leaves_the_findings_of_others_and_counts_what_it_hides() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let exempt = |role: &str, object: &str| {
        format!(
            "SELECT ops.exempt(rule => 'table_privileges', object => '{object}'{role},
                               reason => 'Ticket 1')"
        )
    };
    let of_role = |name: &str| format!(", role_name => '{name}'");
    attempt(&mut client, &exempt(&of_role("anon"), "public.*")).unwrap();
    attempt(&mut client, "GRANT SELECT ON public.plaintiffs TO anon").unwrap();
    for grantee in ["authenticated", "PUBLIC", "anon, authenticated"] {
        let grant = format!("GRANT SELECT ON public.job_queue TO {grantee}");
        assert_eq!(attempt(&mut client, &grant).unwrap_err().code, "0LP01", "{grant}");
    }
    attempt(&mut client, &exempt(&of_role("public"), "public.job_queue")).unwrap();
    let shown = "SELECT concat_ws(' ', object, role_name, finding_count) FROM ops.v_exemptions
        ORDER BY id";
    assert_eq!(column(&mut client, shown), ["public.* anon 1", "public.job_queue PUBLIC 0"]);
    // What is hidden already is not counted again.
    let notice = |client: &mut Client, sql: &str| {
        attempt(
            client,
            "SET dragonfly_guard.mode = off; GRANT SELECT ON public.job_queue TO \
                         authenticated; RESET dragonfly_guard.mode",
        )
        .unwrap();
        let output = cluster.client_program("psql", &["-X", "-d", "app", "-c", sql]);
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        notice(&mut client, &exempt("", "public.*")),
        "NOTICE:  exemption 3 hides 1 finding and does not expire\nDETAIL:  It also covers 1 \
         finding that another exemption hides.\n"
    );
    let error = attempt(&mut client, &exempt(&of_role("anon"), "public.*")).unwrap_err();
    assert_eq!(error.message, "already exempted by exemption 1");
    let error = attempt(&mut client, &exempt(&of_role("annon"), "public.*")).unwrap_err();
    assert_eq!(error.message, "unrecognized role \"annon\"");
    assert!(error.hint.starts_with("Did you mean \"anon\"?"), "{error:?}");
    let both = "SELECT ops.exempt('abc', 'Ticket 1', role_name => 'anon')";
    let error = attempt(&mut client, both).unwrap_err();
    assert_eq!(error.message, "must specify either fingerprint, or rule and object");
}

#[test]
fn change_of_the_routine_resurfaces_finding() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    client
        .batch_execute(
            "CREATE ROLE other_owner; GRANT CREATE, USAGE ON SCHEMA enforcement TO other_owner",
        )
        .unwrap_err();
    client.batch_execute("CREATE ROLE other_owner; SET dragonfly_guard.mode = off").unwrap();
    client.batch_execute(ACCEPT).unwrap();
    let as_it_was = "CREATE OR REPLACE FUNCTION enforcement.legacy() RETURNS int LANGUAGE sql \
        SECURITY DEFINER AS 'SELECT 1'";
    for change in [
        "CREATE OR REPLACE FUNCTION enforcement.legacy() RETURNS int LANGUAGE sql SECURITY DEFINER \
         AS 'SELECT 2'",
        "ALTER FUNCTION enforcement.legacy() OWNER TO other_owner",
        "ALTER FUNCTION enforcement.legacy() SET search_path = public",
        "ALTER FUNCTION enforcement.legacy() SET work_mem = '1MB'",
        "CREATE OR REPLACE FUNCTION enforcement.legacy() RETURNS int LANGUAGE plpgsql SECURITY \
         DEFINER AS 'BEGIN RETURN 1; END'",
        "CREATE OR REPLACE FUNCTION enforcement.legacy() RETURNS int LANGUAGE sql SECURITY DEFINER \
         BEGIN ATOMIC SELECT 1; END",
    ] {
        assert_eq!(column(&mut client, FOUND), [""; 0], "before {change}");
        client.batch_execute(change).unwrap();
        let said = "SELECT substring(detail from ' It was exempt.*') FROM ops.audit_security(rules \
            => '{security_definer_search_path}')";
        assert_eq!(
            column(&mut client, said),
            [" It was exempt until the object changed. Reason of the exemption: Ticket 7: \
              rewritten in \
                May"],
            "{change}"
        );
        assert_eq!(column(&mut client, STATUS), ["changed 0"], "{change}");
        client
            .batch_execute(&format!(
                "{as_it_was}; ALTER FUNCTION enforcement.legacy() OWNER TO postgres"
            ))
            .unwrap();
    }
    // The references of a parsed body matter, but not how it is deparsed for the session.
    client
        .batch_execute(
            "CREATE TABLE public.jobs (id int); CREATE SCHEMA aside; CREATE TABLE aside.jobs (id \
             int);
             CREATE OR REPLACE FUNCTION enforcement.legacy() RETURNS int LANGUAGE sql SECURITY \
                 DEFINER BEGIN ATOMIC SELECT id FROM public.jobs; END;
             SELECT ops.unexempt(id => 1)",
        )
        .unwrap();
    client.batch_execute(ACCEPT).unwrap();
    for path in ["public", "aside", "''", "pg_temp, aside, public"] {
        client.batch_execute(&format!("SET search_path = {path}")).unwrap();
        assert_eq!(column(&mut client, FOUND), [""; 0], "{path}");
    }
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION enforcement.legacy() RETURNS int LANGUAGE sql SECURITY \
             DEFINER BEGIN ATOMIC SELECT id FROM aside.jobs; END",
        )
        .unwrap();
    assert_eq!(column(&mut client, FOUND), ["enforcement.legacy()"]);
}

#[test]
fn expired_exemption_resurfaces_finding() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    client
        .batch_execute(
            "SELECT ops.exempt(fingerprint, 'For a moment', now() + interval '3 seconds')
               FROM ops.audit_security() WHERE object = 'enforcement.legacy()' AND rule = \
                   'security_definer_search_path'",
        )
        .unwrap();
    assert_eq!(column(&mut client, FOUND), [""; 0]);
    // It also expires within a transaction that began before.
    client.batch_execute("BEGIN; SELECT pg_sleep(3.2)").unwrap();
    let said = "SELECT detail FROM ops.audit_security(rules => '{security_definer_search_path}')";
    let detail = column(&mut client, said).remove(0);
    assert!(
        detail.contains(" It was exempt until 20") && detail.ends_with(": For a moment"),
        "{detail}"
    );
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(column(&mut client, STATUS), ["expired 0"]);
    // Another exemption renews it.
    client.batch_execute(ACCEPT).unwrap();
    assert_eq!(column(&mut client, FOUND), [""; 0]);
    assert_eq!(column(&mut client, STATUS), ["expired 0", "active 1"]);
}

#[test]
fn guard_allows_exempted_finding() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    let mut migrations = cluster.connect("app", "postgres");
    client.batch_execute(ACCEPT).unwrap();
    // The routine is dropped and created again, in separate transactions.
    attempt(&mut migrations, "DROP FUNCTION enforcement.legacy()").unwrap();
    let another = LEGACY.replace("SELECT 1", "SELECT 2");
    let error = attempt(&mut migrations, &another).unwrap_err();
    assert!(error.message.contains("has no safe search_path"), "{error:?}");
    attempt(&mut migrations, LEGACY).unwrap();
    // A pattern applies to new tables but not to new routines.
    for rule in ["security_definer_search_path", "table_privileges", "direct_write"] {
        let pattern =
            format!("SELECT ops.exempt(rule => '{rule}', object => 'public.*', reason => 'Pilot')");
        client.batch_execute(&pattern).unwrap();
    }
    attempt(&mut migrations, "GRANT SELECT, UPDATE ON public.plaintiffs TO anon").unwrap();
    let error =
        attempt(&mut migrations, "GRANT SELECT ON intake.simplicity_raw TO anon").unwrap_err();
    assert!(error.message.contains("violates the security contract"), "{error:?}");
    let new =
        "CREATE FUNCTION public.new() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'";
    assert!(attempt(&mut migrations, new).unwrap_err().message.contains("has no safe search_path"));
    let hidden = "SELECT string_agg(h->>'detail', '|' ORDER BY h->>'detail') FROM \
        ops.v_exemptions, jsonb_array_elements(findings) AS h WHERE object = 'public.*'";
    assert_eq!(
        column(&mut client, hidden),
        ["Role \"anon\" has SELECT on table public.plaintiffs, which the contract does not \
          declare.|Role \"anon\" has UPDATE on table public.plaintiffs, which the contract does \
          not declare."]
    );
    // An exemption that is withdrawn before commit does not apply to the check at commit.
    attempt(&mut migrations, "REVOKE ALL ON public.plaintiffs FROM anon").unwrap();
    client.batch_execute("SELECT ops.unexempt(id => i) FROM generate_series(2, 4) AS i").unwrap();
    let swap = "BEGIN; SELECT ops.exempt(rule => 'table_privileges', object => '*', reason => 'x');
        GRANT SELECT ON public.plaintiffs TO anon; SELECT ops.unexempt(id => 5); COMMIT";
    let error = attempt(&mut client, swap).unwrap_err();
    assert!(error.message.contains("violates the security contract"), "{error:?}");
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT has_table_privilege('anon', 'public.plaintiffs', 'SELECT')::text"
        ),
        ["false"]
    );
}

#[test]
fn pattern_covers_a_routine_before_it_has_a_finding_while_it_is_unchanged() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    let mut migrations = cluster.connect("app", "postgres");
    let create = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION public.count_open() RETURNS int LANGUAGE sql \
             AS 'SELECT {body}'"
        )
    };
    let revoke = "REVOKE EXECUTE ON FUNCTION public.count_open() FROM PUBLIC";
    attempt(&mut migrations, &format!("BEGIN; {}; {revoke}; COMMIT", create("1"))).unwrap();
    let grant = "GRANT EXECUTE ON FUNCTION public.count_open() TO anon";
    let exempt = |object: &str| {
        format!(
            "SELECT ops.exempt(rule => 'routine_privileges', object => '{object}', \
             role_name => 'anon', reason => 'Ticket 8')"
        )
    };
    let error = attempt(&mut migrations, grant).unwrap_err();
    assert!(error.hint.contains("rule => 'routine_privileges', object => 'public.count_open()'"));
    attempt(&mut client, &exempt("public.count_open()")).unwrap();
    attempt(&mut migrations, grant).unwrap();
    let found = "SELECT rule || ' ' || object FROM ops.audit_security(rules =>
        '{routine_privileges}') WHERE role_name = 'anon' AND object LIKE 'public.%'";
    assert_eq!(column(&mut client, found), [""; 0]);
    // What another body executes was not accepted.
    attempt(&mut migrations, &create("2")).unwrap();
    assert_eq!(column(&mut client, found), ["routine_privileges public.count_open()"]);
    attempt(&mut migrations, &create("1")).unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    // A pattern covers the routines of that time, and none that is created later.
    attempt(&mut client, "SELECT ops.unexempt(id => 1)").unwrap();
    attempt(&mut client, "REVOKE EXECUTE ON FUNCTION public.count_open() FROM anon").unwrap();
    attempt(&mut client, &exempt("public.*")).unwrap();
    attempt(&mut migrations, grant).unwrap();
    let later = |sql: &str| sql.replace("count_open", "count_closed");
    let both = format!("BEGIN; {}; {}; COMMIT", later(&create("1")), later(revoke));
    attempt(&mut migrations, &both).unwrap();
    assert!(attempt(&mut migrations, &later(grant)).is_err());
}

#[test]
fn exemption_of_an_aggregate_ends_where_it_calls_another_function() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    let mut migrations = cluster.connect("app", "postgres");
    let aggregate = |function: &str| {
        format!(
            "CREATE OR REPLACE AGGREGATE public.total(int) (SFUNC = {function}, STYPE = int, \
             INITCOND = '0')"
        )
    };
    let steps = [
        "CREATE FUNCTION public.plus(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b'",
        "REVOKE EXECUTE ON FUNCTION public.plus(int, int) FROM PUBLIC",
        &format!(
            "BEGIN; {}; REVOKE EXECUTE ON FUNCTION public.total(int) FROM PUBLIC; COMMIT",
            aggregate("pg_catalog.int4pl")
        ),
    ];
    for step in steps {
        attempt(&mut migrations, step).unwrap_or_else(|error| panic!("{step}: {error:?}"));
    }
    let exempt = "SELECT ops.exempt(rule => 'routine_privileges', object => \
                  'public.total(integer)', role_name => 'anon', reason => 'Ticket 10')";
    attempt(&mut client, exempt).unwrap();
    attempt(&mut migrations, "GRANT EXECUTE ON FUNCTION public.total(int) TO anon").unwrap();
    let found = "SELECT object FROM ops.audit_security(rules => '{routine_privileges}')
        WHERE role_name = 'anon' AND object LIKE 'public.total%'";
    assert_eq!(column(&mut client, found), [""; 0]);
    attempt(&mut migrations, &aggregate("public.plus")).unwrap();
    assert_eq!(column(&mut client, found).len(), 1);
    attempt(&mut migrations, &aggregate("pg_catalog.int4pl")).unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    // The function that it calls counts as well.
    attempt(&mut migrations, &aggregate("public.plus")).unwrap();
    attempt(&mut client, "SELECT ops.unexempt(id => 1)").unwrap();
    attempt(&mut client, exempt).unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    let other = "CREATE OR REPLACE FUNCTION public.plus(a int, b int) RETURNS int LANGUAGE sql
        AS 'SELECT a - b'";
    attempt(&mut migrations, other).unwrap();
    assert_eq!(column(&mut client, found).len(), 1);
}

#[test]
fn routine_finding_about_two_roles_is_covered_by_one_exemption_of_each() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    attempt(&mut client, "SET client_min_messages = error").unwrap();
    attempt(
        &mut client,
        "BEGIN; SET LOCAL dragonfly_guard.mode = off;
         CREATE FUNCTION public.of(who uuid) RETURNS SETOF public.plaintiffs LANGUAGE sql
             SECURITY DEFINER SET search_path = public, pg_temp
             AS 'SELECT * FROM public.plaintiffs';
         REVOKE EXECUTE ON FUNCTION public.of(uuid) FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION public.of(uuid) TO anon, authenticated; COMMIT",
    )
    .unwrap();
    let found = "SELECT DISTINCT rule FROM ops.audit_security() WHERE object LIKE 'public.of(%'
        AND evidence->'grantees' @> '[\"anon\", \"authenticated\"]'";
    let rules = column(&mut client, found);
    assert!(!rules.is_empty(), "a finding about both roles");
    for (rule, role) in rules.iter().flat_map(|rule| [(rule, "anon"), (rule, "authenticated")]) {
        let object = "(SELECT object FROM ops.audit_security() WHERE object LIKE 'public.of(%' \
                      LIMIT 1)";
        let exempt = format!(
            "SELECT ops.exempt(rule => '{rule}', object => {object}, role_name => '{role}', \
             reason => 'Ticket 9')"
        );
        attempt(&mut client, &exempt).unwrap();
    }
    assert_eq!(column(&mut client, found), [""; 0]);
}

#[test]
fn change_of_a_view_definition_resurfaces_finding() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET client_min_messages = error;
             CREATE VIEW public.v_new AS SELECT id FROM public.plaintiffs; ALTER VIEW public.v_new \
                 OWNER TO postgres;
             GRANT ALL ON public.v_new TO service_role; GRANT SELECT ON public.v_new TO anon;
             SELECT ops.exempt(fingerprint, 'Only ids') FROM ops.audit_security(rules => \
                 '{undeclared_view_readable}')",
        )
        .unwrap();
    let found = "SELECT object FROM ops.audit_security(rules => '{undeclared_view_readable}')";
    assert_eq!(column(&mut client, found), [""; 0]);
    client
        .batch_execute(
            "CREATE OR REPLACE VIEW public.v_new AS SELECT id, name FROM public.plaintiffs",
        )
        .unwrap();
    assert_eq!(column(&mut client, found), ["public.v_new"]);
}

#[test]
fn invalid_exemption_is_an_error() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    for (call, message) in [
        ("ops.exempt()", "an exemption requires a reason"),
        ("ops.exempt('x', '  ')", "an exemption requires a reason"),
        ("ops.exempt('x', '...')", "reason says nothing: '...'"),
        ("ops.exempt(NULL, 'why')", "must specify either fingerprint, or rule and object"),
        (
            "ops.exempt('x', 'why', rule => 'direct_write', object => '*')",
            "must specify either fingerprint, or rule and object",
        ),
        (
            "ops.exempt(reason => 'why', rule => 'direct_write')",
            "must specify either fingerprint, or rule and object",
        ),
        ("ops.exempt('x', 'why')", "finding with fingerprint \"x\" does not exist"),
        (
            "ops.exempt(E'x\\u202E\\n', 'why')",
            "finding with fingerprint \"x\\u202E\\u000A\" does not exist",
        ),
        ("ops.exempt('x', 'why', '2001-01-01')", "expires_at must be in the future"),
        ("ops.exempt('x', 'why', '-infinity')", "expires_at must be in the future"),
        (
            "ops.exempt(reason => 'why', rule => 'none', object => '*')",
            "unrecognized rule \"none\"",
        ),
        (
            "ops.exempt(reason => 'why', rule => 'direct_write', object => '')",
            "object must not be empty",
        ),
        (
            "ops.exempt(reason => 'why', rule => 'direct_write', object => repeat('*a', 501))",
            "object must be 1 to 1000 bytes long",
        ),
        (
            "ops.exempt(reason => 'why', rule => 'guard_tampered', object => '*')",
            "findings of rule \"guard_tampered\" cannot be exempted by pattern",
        ),
        ("ops.unexempt()", "must specify either fingerprint or id"),
        ("ops.unexempt('x')", "exemption does not exist"),
        ("ops.unexempt(id => 7)", "exemption does not exist"),
    ] {
        let error = attempt(&mut client, &format!("SELECT {call}")).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("22023", message), "{call}");
    }
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM dragonfly_guard.exemption"), ["0"]);
    // An exemption may expire at infinity.
    client
        .batch_execute(
            "SELECT ops.exempt(reason => 'why', rule => 'direct_write', object => '*', \
            expires_at => 'infinity')",
        )
        .unwrap();
    assert_eq!(column(&mut client, STATUS), ["active 0"]);
    // Another session is changing the exemptions.
    let mut other = cluster.connect("app", SUPERUSER);
    client.batch_execute(&format!("BEGIN; {ACCEPT}")).unwrap();
    assert_eq!(attempt(&mut other, ACCEPT).unwrap_err().code, "55P03");
    client.batch_execute("ROLLBACK").unwrap();
    attempt(&mut other, ACCEPT).unwrap();
    // If the table of exemptions was altered, no exemption applies, and changes are errors.
    other
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER TABLE dragonfly_guard.exemption \
        ALTER basis TYPE text",
        )
        .unwrap();
    assert_eq!(column(&mut client, FOUND), ["enforcement.legacy()"]);
    assert_eq!(attempt(&mut client, "SELECT ops.unexempt(id => 1)").unwrap_err().code, "55000");
}

#[test]
fn change_of_any_dependency_resurfaces_finding() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET client_min_messages = error; SET dragonfly_guard.mode = warn;
             CREATE VIEW enforcement.v_inner AS SELECT id, status FROM public.plaintiffs;
             CREATE VIEW public.v_outer AS SELECT * FROM enforcement.v_inner;
             CREATE FUNCTION enforcement.whoami(bigint) RETURNS text LANGUAGE sql STRICT SECURITY \
                 DEFINER AS 'SELECT name FROM public.plaintiffs';
             CREATE TABLE public.lookup (code int); ALTER TABLE public.lookup ENABLE ROW LEVEL \
                 SECURITY;
             CREATE POLICY own ON public.lookup FOR SELECT TO anon USING (code = 7);
             CREATE POLICY not_eight ON public.lookup AS RESTRICTIVE USING (code <> 8);
             CREATE FUNCTION enforcement.watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN \
                 new; END';
             REVOKE EXECUTE ON FUNCTION enforcement.watch() FROM PUBLIC; GRANT EXECUTE ON FUNCTION \
                 enforcement.watch() TO service_role;
             CREATE TRIGGER watch BEFORE INSERT ON public.lookup FOR EACH ROW EXECUTE FUNCTION \
                 enforcement.watch();
             CREATE FOREIGN DATA WRAPPER files; CREATE SERVER far FOREIGN DATA WRAPPER files;
             CREATE FOREIGN TABLE enforcement.far (id int) SERVER far OPTIONS (name 'harmless');
             CREATE VIEW public.v_far AS SELECT id FROM enforcement.far;
             GRANT SELECT ON public.lookup, public.v_outer, public.v_far TO anon;
             GRANT CREATE ON SCHEMA intake TO service_role;
             SELECT ops.exempt(fingerprint, 'Accepted') FROM ops.audit_security(min_severity => \
                 'warning')",
        )
        .unwrap();
    let found = "SELECT rule || ' ' || object FROM ops.audit_security(min_severity => 'warning') \
        ORDER BY 1";
    assert_eq!(column(&mut client, found), [""; 0]);
    for (change, back, shown) in [
        (
            "ALTER POLICY own ON public.lookup USING (code IS NOT NULL)",
            "ALTER POLICY own ON public.lookup USING (code = 7)",
            "rls_policy_undeclared own on public.lookup",
        ),
        (
            "ALTER POLICY own ON public.lookup TO anon, authenticated",
            "ALTER POLICY own ON public.lookup TO anon",
            "rls_policy_undeclared own on public.lookup",
        ),
        (
            "CREATE OR REPLACE VIEW enforcement.v_inner AS SELECT id, name AS status FROM \
             public.plaintiffs",
            "CREATE OR REPLACE VIEW enforcement.v_inner AS SELECT id, status FROM \
             public.plaintiffs",
            "undeclared_view_readable public.v_outer",
        ),
        (
            "ALTER VIEW enforcement.v_inner SET (security_invoker = true)",
            "ALTER VIEW enforcement.v_inner RESET (security_invoker)",
            "undeclared_view_readable public.v_outer",
        ),
        (
            "ALTER TABLE public.lookup DISABLE TRIGGER watch",
            "ALTER TABLE public.lookup ENABLE TRIGGER watch",
            "table_privileges public.lookup",
        ),
        (
            "CREATE TABLE enforcement.part (code int); ALTER TABLE enforcement.part INHERIT \
             public.lookup",
            "DROP TABLE enforcement.part",
            "table_privileges public.lookup",
        ),
        (
            "CREATE TABLE enforcement.salaries () INHERITS (public.plaintiffs)",
            "DROP TABLE enforcement.salaries",
            "undeclared_view_readable public.v_outer",
        ),
        (
            "CREATE TABLE enforcement.far_child () INHERITS (enforcement.far)",
            "DROP TABLE enforcement.far_child",
            "undeclared_view_readable public.v_far",
        ),
        (
            "ALTER FOREIGN TABLE enforcement.far OPTIONS (SET name 'salaries')",
            "ALTER FOREIGN TABLE enforcement.far OPTIONS (SET name 'harmless')",
            "undeclared_view_readable public.v_far",
        ),
        (
            "DROP POLICY not_eight ON public.lookup",
            "CREATE POLICY not_eight ON public.lookup AS RESTRICTIVE USING (code <> 8)",
            "rls_policy_undeclared own on public.lookup",
        ),
        (
            "CREATE RULE r AS ON INSERT TO public.v_outer DO INSTEAD INSERT INTO public.job_queue \
             (kind) VALUES ('x')",
            "DROP RULE r ON public.v_outer",
            "undeclared_view_readable public.v_outer",
        ),
        (
            "DROP FUNCTION enforcement.whoami(bigint); CREATE FUNCTION enforcement.whoami(bigint) \
             RETURNS SETOF text LANGUAGE sql STRICT
             SECURITY DEFINER AS 'SELECT name FROM public.plaintiffs'",
            "DROP FUNCTION enforcement.whoami(bigint); CREATE FUNCTION enforcement.whoami(bigint) \
             RETURNS text LANGUAGE sql STRICT
             SECURITY DEFINER AS 'SELECT name FROM public.plaintiffs'",
            "security_definer_search_path enforcement.whoami(bigint)",
        ),
        (
            "ALTER FUNCTION enforcement.whoami(bigint) CALLED ON NULL INPUT",
            "ALTER FUNCTION enforcement.whoami(bigint) STRICT",
            "security_definer_search_path enforcement.whoami(bigint)",
        ),
        (
            "ALTER TABLE public.lookup RENAME TO lookup_old; CREATE TABLE public.lookup (ssn text);
             ALTER TABLE public.lookup ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.lookup TO \
                 anon",
            "DROP TABLE public.lookup; ALTER TABLE public.lookup_old RENAME TO lookup",
            "table_privileges public.lookup",
        ),
    ] {
        client.batch_execute(change).unwrap();
        let now = column(&mut client, found);
        assert!(now.iter().any(|line| line == shown), "{change}: {now:?}");
        client.batch_execute(back).unwrap();
        assert_eq!(column(&mut client, found), [""; 0], "{back}");
    }
    // Settings of the session do not matter.
    for setting in [
        "quote_all_identifiers = on",
        "extra_float_digits = -13",
        "datestyle = 'German'",
        "search_path = enforcement, public",
    ] {
        client.batch_execute(&format!("SET {setting}")).unwrap();
        assert_eq!(column(&mut client, found), [""; 0], "{setting}");
    }
    client.batch_execute("RESET ALL; SET client_min_messages = error").unwrap();
    // An exemption for CREATE on a schema does not cover the routines that it exposes.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT CREATE ON SCHEMA public TO authenticated;
             SELECT ops.exempt(fingerprint, 'Accepted') FROM ops.audit_security('{schema_create}')",
        )
        .unwrap();
    let exposed = column(&mut client, found);
    assert!(
        exposed.contains(
            &"security_definer_search_path api.queue_job(pg_catalog.text,pg_catalog.jsonb)"
                .to_owned()
        ),
        "{exposed:?}"
    );
    assert!(!exposed.iter().any(|line| line.starts_with("schema_create")), "{exposed:?}");
    assert_eq!(
        column(
            &mut client,
            "SELECT count(*)::text FROM ops.audit_functions() WHERE object LIKE 'api.%'"
        ),
        ["5"]
    );
    // A finding about an exposed routine can be exempted.
    client
        .batch_execute(
            "SELECT ops.exempt(fingerprint, 'Accepted') FROM \
             ops.audit_security('{security_definer_search_path}')
              WHERE object = 'api.get_call_queue()'",
        )
        .unwrap();
    assert_eq!(
        column(
            &mut client,
            "SELECT count(*)::text FROM ops.audit_functions() WHERE object LIKE 'api.%'"
        ),
        ["4"]
    );
    assert_eq!(
        column(
            &mut client,
            "SELECT finding_count::text FROM ops.v_exemptions WHERE object = 'api.get_call_queue()'"
        ),
        ["1"]
    );
    client.batch_execute("REVOKE CREATE ON SCHEMA public FROM authenticated").unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    // A view that cannot be deparsed counts as changed and does not abort the audit.
    client
        .batch_execute(
            "DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW enforcement.v_inner AS SELECT id, ' || \
             repeat('lower(', 3000) || 'status' ||
             repeat(')', 3000) || ' AS status FROM public.plaintiffs'; END $$",
        )
        .unwrap();
    client.batch_execute("SET max_stack_depth = '150kB'").unwrap();
    assert_eq!(
        column(&mut client, found),
        [
            "undeclared_view_readable public.v_outer",
            "view_privileges enforcement.v_inner",
            "view_privileges public.v_outer"
        ]
    );
    assert_eq!(
        column(&mut client, "SELECT current_user || current_setting('search_path')"),
        ["root_su\"$user\", public"]
    );
}

#[test]
fn transaction_with_an_old_snapshot_cannot_change_exemptions() {
    let cluster = Cluster::start();
    let mut client = with_legacy(&cluster);
    let mut old = cluster.connect("app", SUPERUSER);
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    client.batch_execute(ACCEPT).unwrap();
    assert_eq!(attempt(&mut old, "SELECT ops.unexempt(id => 1)").unwrap_err().code, "40001");
    old.batch_execute("ROLLBACK").unwrap();
    assert_eq!(column(&mut client, STATUS), ["active 1"]);
    // A transaction sees its own changes.
    old.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT ops.unexempt(id => 1); {ACCEPT}; COMMIT"
    ))
    .unwrap();
    assert_eq!(column(&mut client, STATUS), ["withdrawn 0", "active 1"]);
}

/// Exemptions are checked before the commit lock is taken: a session that waits for a table lock
/// does not block other sessions.
#[test]
fn session_waiting_for_a_table_lock_does_not_hold_the_commit_lock() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET client_min_messages = error; SET dragonfly_guard.mode = warn;
             CREATE VIEW public.v_new AS SELECT id FROM public.plaintiffs; GRANT INSERT ON \
                 public.v_new TO anon;
             SELECT ops.exempt(fingerprint, 'Accepted') FROM ops.audit_security('{direct_write}'); \
                 REVOKE INSERT ON public.v_new FROM anon",
        )
        .unwrap();
    let mut holder = cluster.connect("app", SUPERUSER);
    holder.batch_execute("BEGIN; LOCK TABLE public.plaintiffs IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut waiting = cluster.connect("app", SUPERUSER);
    let waiter = std::thread::spawn(move || {
        attempt(
            &mut waiting,
            "SET dragonfly_guard.check_at = commit; GRANT INSERT ON public.v_new TO anon",
        )
    });
    let stuck = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND \
        datname = 'app'";
    while column(&mut client, stuck) != ["1"] {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut other = cluster.connect("app", SUPERUSER);
    attempt(
        &mut other,
        "SET statement_timeout = '10s'; CREATE TABLE enforcement.unrelated (id \
        int); ALTER TABLE enforcement.unrelated ADD x int",
    )
    .unwrap();
    holder.batch_execute("ROLLBACK").unwrap();
    waiter.join().unwrap().unwrap();
    assert_eq!(
        column(&mut client, "SELECT has_table_privilege('anon', 'public.v_new', 'INSERT')::text"),
        ["true"]
    );
}

/// A state that was cached in a savepoint does not apply after the savepoint is rolled back.
#[test]
fn rolled_back_savepoint_discards_cached_state() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET client_min_messages = error; SET dragonfly_guard.mode = off;
             SELECT ops.load_contract(jsonb_set(jsonb_set(ops.contract(), '{version}', '\"1.1.0\"'),
               '{rules,undeclared_view_readable,guard}', '\"block\"'));
             CREATE TABLE enforcement.ok (id int); CREATE TABLE enforcement.bad (id int);
             CREATE VIEW public.pv AS SELECT id FROM enforcement.ok; GRANT SELECT ON public.pv TO \
                 anon;
             SELECT ops.exempt(fingerprint, 'Accepted') FROM \
                 ops.audit_security('{undeclared_view_readable}'); DROP VIEW public.pv;
             CREATE SCHEMA aside; CREATE VIEW aside.pv AS SELECT id FROM enforcement.bad; GRANT \
                 SELECT ON aside.pv TO anon;
             SET dragonfly_guard.mode = block",
        )
        .unwrap();
    let plain = "ALTER VIEW aside.pv SET SCHEMA public";
    let error = attempt(&mut client, plain).unwrap_err();
    assert!(error.detail.contains("Role \"anon\" has SELECT on view public.pv"), "{error:?}");
    let swap = "BEGIN; SAVEPOINT s; SET LOCAL dragonfly_guard.check_at = commit;
        ALTER TABLE enforcement.ok RENAME TO ok_; ALTER TABLE enforcement.bad RENAME TO ok; ALTER \
            VIEW aside.pv SET SCHEMA public;
        SELECT rule, object FROM ops.audit_security(); ROLLBACK TO s; ALTER VIEW aside.pv SET \
            SCHEMA public; COMMIT";
    let error = attempt(&mut client, swap).unwrap_err();
    assert!(error.detail.contains("Role \"anon\" has SELECT on view public.pv"), "{error:?}");
}

/// Exemptions apply for every role that reads the audit, even without USAGE on the schemas in a
/// view. Deparsing a view does not execute code of its author.
#[test]
fn exemptions_do_not_depend_on_the_current_role() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE watcher; GRANT pg_monitor TO watcher; \
             CREATE ROLE mallory;
             CREATE SCHEMA apart AUTHORIZATION mallory; SET ROLE mallory;
             CREATE TABLE apart.seen (by name); CREATE TABLE apart.rows (id int, kind varchar);
             CREATE FUNCTION apart.look(int) RETURNS boolean LANGUAGE plpgsql AS
               $$ BEGIN INSERT INTO apart.seen VALUES (current_user); RETURN true; END $$;
             CREATE DOMAIN apart.bait AS int CHECK (apart.look(VALUE));
             GRANT USAGE ON SCHEMA apart TO postgres; GRANT SELECT ON apart.rows TO postgres; \
                 RESET ROLE;
             CREATE VIEW public.v_apart AS SELECT id FROM apart.rows WHERE kind IN ('a', 'b');
             CREATE VIEW public.v_bait AS SELECT '{1}'::apart.bait[] AS bait;
             GRANT SELECT ON public.v_apart, public.v_bait TO anon; DELETE FROM apart.seen;
             SELECT ops.exempt(fingerprint, 'known') FROM ops.audit_security() WHERE rule = \
                 'undeclared_view_readable';
             SELECT count(*) FROM ops.audit_security()",
        )
        .unwrap();
    let hidden =
        "SELECT string_agg(DISTINCT object, ' ') FROM ops.audit_security(include_exempted => true)
        WHERE rule = 'undeclared_view_readable' AND evidence ? 'exemption'";
    for role in ["root_su", "postgres", "service_role", "watcher"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        assert_eq!(column(&mut client, hidden), ["public.v_apart public.v_bait"], "{role}");
        client.batch_execute("RESET ROLE").unwrap();
    }
    assert_eq!(
        column(&mut client, "SELECT by::text FROM apart.seen"),
        [""; 0],
        "code of the author was executed"
    );
}

/// A type of the session's temporary schema is deparsed without a schema. An audit must not confuse
/// it with a type of the server, parse a literal of it and so execute its checks.
#[test]
fn audit_does_not_execute_checks_of_a_temporary_type() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory LOGIN; CREATE SCHEMA mal \
             AUTHORIZATION mallory;
             CREATE VIEW public.mvw AS SELECT 1 AS a; ALTER VIEW public.mvw OWNER TO mallory; \
                 GRANT SELECT ON public.mvw TO anon;
             GRANT CREATE ON SCHEMA public TO mallory; GRANT TEMP ON DATABASE app TO mallory;
             SELECT ops.exempt(fingerprint, 'legacy') FROM ops.audit_security() WHERE object = \
                 'public.mvw' AND severity <> 'info'",
        )
        .unwrap();
    let mut mallory = cluster.connect("app", "mallory");
    mallory
        .batch_execute(
            "CREATE TABLE mal.seen (by name); GRANT ALL ON mal.seen TO PUBLIC; GRANT USAGE ON \
             SCHEMA mal TO PUBLIC;
             CREATE FUNCTION mal.evil(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
               IF current_user <> 'mallory' THEN INSERT INTO mal.seen VALUES (current_user); RAISE \
                   WARNING 'it runs as %', current_user; END IF;
               IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN EXECUTE 'ALTER \
                   ROLE mallory SUPERUSER'; END IF;
               RETURN true; END $$;
             CREATE DOMAIN pg_temp.ed AS int CHECK (mal.evil(value));
             CREATE OR REPLACE VIEW public.mvw AS SELECT 1 AS a WHERE '{1}'::pg_temp.ed[] IS NOT \
                 NULL",
        )
        .ok();
    assert_eq!(
        column(&mut client, "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'mallory'"),
        ["false"]
    );
    assert_eq!(column(&mut client, "SELECT by::text FROM mal.seen"), [""; 0]);
    client.batch_execute("SELECT count(*) FROM ops.audit_security()").unwrap();
    assert_eq!(column(&mut client, "SELECT by::text FROM mal.seen"), [""; 0]);
}

/// Clients that have the same privileges are one finding, and are accepted together: the guard
/// allows what the exemption covers, and rejects what it does not.
#[test]
fn exemption_of_a_finding_about_two_roles_covers_both_and_no_third() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let quietly = "SET dragonfly_guard.mode = off";
    let grant = "GRANT TRUNCATE, REFERENCES, TRIGGER ON public.job_queue TO anon, authenticated";
    let both = format!("BEGIN; {quietly}; {grant}; COMMIT; RESET dragonfly_guard.mode");
    client.batch_execute(&both).unwrap();
    let found = "SELECT concat_ws(' | ', rule, role_name, evidence->'grantees', detail, fix)
                   FROM ops.audit_security(rules => '{direct_write,table_privileges}')";
    assert_eq!(
        column(&mut client, found),
        ["direct_write | [\"anon\", \"authenticated\"] | Roles \"anon\" and \"authenticated\" \
             have \
          TRUNCATE, REFERENCES, TRIGGER on table public.job_queue, which the contract does not \
          declare. | REVOKE TRUNCATE, REFERENCES, TRIGGER ON TABLE public.job_queue FROM anon, \
          authenticated;"]
    );
    let accept = "SELECT ops.exempt(fingerprint, 'Ticket 8')::text FROM ops.audit_security()
                   WHERE rule = 'direct_write'";
    assert_eq!(column(&mut client, accept).len(), 1);
    assert_eq!(column(&mut client, found), [""; 0]);
    // The second role completes what was accepted; the first alone is another finding.
    let revoke = "REVOKE ALL ON public.job_queue FROM authenticated";
    attempt(&mut client, revoke).unwrap();
    assert_eq!(column(&mut client, found).len(), 1);
    let again = "GRANT TRUNCATE, REFERENCES, TRIGGER ON public.job_queue TO authenticated";
    attempt(&mut client, again).unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    let rejected = attempt(&mut client, "GRANT TRUNCATE ON public.job_queue TO PUBLIC");
    let detail = rejected.unwrap_err().detail;
    assert!(detail.starts_with("PUBLIC (every role) has TRUNCATE on table"), "{detail}");
}

#[test]
fn guard_warns_once_in_the_transaction_that_ends_an_exemption() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("ended");
    attempt(
        &mut client,
        "SET dragonfly_guard.mode = off; GRANT TRUNCATE ON public.judgments TO anon; RESET \
         dragonfly_guard.mode",
    )
    .unwrap();
    let accept = "SELECT ops.exempt(fingerprint, 'It''s accepted') FROM ops.audit_security() WHERE \
                  rule = 'direct_write' AND object = 'public.judgments'";
    attempt(&mut client, accept).unwrap();
    let clean = "SELECT ops.assert_security()";
    attempt(&mut client, clean).unwrap();
    let warnings = |sql: &str| -> Vec<String> {
        let output = cluster.client_program("psql", &["-X", "-q", "-d", "ended", "-c", sql]);
        let output = String::from_utf8_lossy(&output.stderr);
        let lines = output.lines().filter(|line| line.contains("no longer applies"));
        let hints = output.lines().filter(|line| line.starts_with("HINT:"));
        lines.chain(hints).map(str::to_owned).collect()
    };
    // Not part of the definition.
    assert_eq!(warnings("COMMENT ON TABLE public.judgments IS 'x'"), [""; 0]);
    let found = warnings(
        "BEGIN; ALTER TABLE public.judgments ADD COLUMN x int; ALTER TABLE public.judgments ADD \
         COLUMN y int; COMMIT",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("exemption 1 of rule direct_write on public.judgments"), "{found:?}");
    assert_eq!(attempt(&mut client, clean).unwrap_err().code, "P0004");
    // A policy is not part of the definition either, and the exemption has ended before.
    let policy = "CREATE POLICY other ON public.judgments TO service_role USING (true)";
    assert_eq!(warnings(policy), [""; 0]);
    // The definition changes again, and what was accepted has become less.
    let again = "ALTER TABLE public.judgments ADD COLUMN z int";
    assert_eq!(warnings(again), [""; 0]);
    // The HINT renews it.
    let (_, renew) = found[1].split_once("run: ").unwrap();
    attempt(&mut client, renew).unwrap();
    attempt(&mut client, clean).unwrap();
    assert_eq!(warnings("ALTER TABLE public.judgments DROP COLUMN z").len(), 2, "it applied again");
    attempt(&mut client, renew).unwrap();
    // A rolled back change ends nothing.
    let rolled_back = "BEGIN; ALTER TABLE public.judgments ADD COLUMN z int; ROLLBACK";
    assert_eq!(warnings(rolled_back), [""; 0]);
}

/// Runs a statement with psql. Returns the messages.
fn messages(cluster: &Cluster, sql: &str) -> String {
    let output = cluster.client_program("psql", &["-X", "-q", "-d", "app", "-c", sql]);
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn renamed_policy_column_or_role_ends_an_exemption_with_a_warning() {
    // Only with a preloaded library does the guard see ALTER ROLE.
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let client = &mut cluster.guarded_document("app");
    attempt(
        client,
        "SET dragonfly_guard.mode = off; CREATE ROLE bystander;
         CREATE POLICY mine ON public.judgments FOR DELETE TO anon USING (true);
         GRANT UPDATE (name) ON public.plaintiffs TO anon;
         GRANT SELECT ON public.plaintiff_tasks TO bystander;
         RESET dragonfly_guard.mode",
    )
    .unwrap();
    let version = "SELECT FROM ops.declare('SET contract.rules.column_privileges.guard = audit', \
                   note => 'A rename must not be rejected')";
    attempt(client, version).unwrap();
    let visible = "SELECT rule || ' ' || coalesce(role_name, '') \
                   FROM ops.audit_security(min_severity => 'warning') ORDER BY 1";
    let known = column(client, visible);
    assert!(known.len() >= 3, "{known:?}");
    let accept = "SELECT ops.exempt(fingerprint, 'Accepted') \
                  FROM ops.audit_security(min_severity => 'warning')";
    attempt(client, accept).unwrap();
    let by_role = "SELECT ops.exempt(rule => 'undeclared_role_privileges', object => '*', \
                   role_name => 'Odd \"role', reason => 'By pattern')";
    for (rename, renamed) in [
        (
            "ALTER POLICY mine ON public.judgments RENAME TO \"Mine, too\"",
            "policy mine on public.judgments to \"Mine, too\" on public.judgments",
        ),
        (
            "ALTER TABLE public.plaintiffs RENAME name TO title",
            "column \"name\" of public.plaintiffs to \"title\"",
        ),
        ("ALTER ROLE bystander RENAME TO \"Odd \"\"role\"", "role \"bystander\" to \"Odd \"role\""),
        ("ALTER ROLE \"Odd \"\"role\" RENAME TO guest", "role \"Odd \"role\" to \"guest\""),
    ] {
        let said = messages(&cluster, rename);
        let expected = format!("This transaction has renamed {renamed}. The audit reports again:");
        assert!(said.starts_with("WARNING:  ") && said.contains(&expected), "{rename}: {said}");
        assert!(!column(client, visible).is_empty(), "{rename}");
        // The HINT renews what has ended.
        let hints = said.lines().filter_map(|line| line.split_once("still acceptable, run: "));
        hints.for_each(|(_, renewal)| attempt(client, renewal).unwrap());
        assert_eq!(column(client, visible), [""; 0], "{rename}: {said}");
        if rename.starts_with("ALTER ROLE bystander") {
            attempt(client, "SELECT ops.unexempt(id => max(id)) FROM ops.v_exemptions").unwrap();
            attempt(client, by_role).unwrap();
        }
    }
    assert_eq!(messages(&cluster, "ALTER ROLE guest CONNECTION LIMIT 3"), "", "no other name");
}

#[test]
fn exemption_that_ended_because_less_is_violated_ends_once() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("less");
    attempt(
        &mut client,
        "SET dragonfly_guard.mode = off; GRANT TRUNCATE, UPDATE ON public.judgments TO anon; RESET \
         dragonfly_guard.mode",
    )
    .unwrap();
    let accept = "SELECT ops.exempt(fingerprint, 'Accepted') FROM ops.audit_security() WHERE \
                  rule = 'direct_write' AND object = 'public.judgments'";
    attempt(&mut client, accept).unwrap();
    attempt(&mut client, "SELECT ops.assert_security()").unwrap();
    let messages = |sql: &str| {
        let output = cluster.client_program("psql", &["-X", "-q", "-d", "less", "-c", sql]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // It accepted both privileges together.
    let warned = messages("REVOKE TRUNCATE ON public.judgments FROM anon");
    let message =
        "WARNING:  REVOKE ends exemption 1 of rule direct_write on table public.judgments";
    assert!(warned.contains(message), "{warned}");
    assert_eq!(attempt(&mut client, "SELECT ops.assert_security()").unwrap_err().code, "P0004");
    let altered = messages("ALTER TABLE public.judgments ADD COLUMN x int");
    assert!(!altered.contains("no longer applies"), "{altered}");
    // Nothing is left of the finding.
    assert_eq!(messages("REVOKE UPDATE ON public.judgments FROM anon"), "");
    attempt(&mut client, "SELECT ops.assert_security()").unwrap();
}

#[test]
fn what_remains_of_an_exempt_finding_is_exempt_by_the_call_of_the_hint() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("remains");
    attempt(
        &mut client,
        "SET dragonfly_guard.mode = off; GRANT SELECT ON public.judgments TO anon; GRANT TRUNCATE \
         ON public.job_queue TO anon, authenticated; RESET dragonfly_guard.mode",
    )
    .unwrap();
    let accept = "SELECT ops.exempt(fingerprint, 'Accepted', now() + interval '1 day') FROM \
                  ops.audit_security(min_severity => 'warning')";
    attempt(&mut client, accept).unwrap();
    let revoke = "REVOKE TRUNCATE ON public.job_queue FROM authenticated";
    let output = cluster.client_program("psql", &["-X", "-q", "-d", "remains", "-c", revoke]);
    let warned = String::from_utf8_lossy(&output.stderr);
    let (_, call) = warned.split_once("If it is still acceptable, run: ").expect(&warned);
    attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    attempt(&mut client, call).unwrap();
    attempt(&mut client, "SELECT ops.assert_security()").unwrap();
}

#[test]
fn what_remains_of_many_exempt_findings_is_exempt_by_one_statement_of_the_hint() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("many");
    attempt(
        &mut client,
        "SET dragonfly_guard.mode = off; GRANT TRUNCATE, UPDATE ON ALL TABLES IN SCHEMA public, \
         intake, enforcement TO anon; RESET dragonfly_guard.mode",
    )
    .unwrap();
    let accept = "SELECT ops.exempt(fingerprint, 'Accepted', now() + interval '1 day') FROM \
                  ops.audit_security(min_severity => 'warning')";
    attempt(&mut client, accept).unwrap();
    let revoke = "REVOKE TRUNCATE ON ALL TABLES IN SCHEMA public, intake, enforcement FROM anon";
    let output = cluster.client_program("psql", &["-X", "-q", "-d", "many", "-c", revoke]);
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(warned.matches("WARNING:  REVOKE ends exemption").count() == 1, "{warned}");
    let (_, call) = warned.split_once("If they are still acceptable, run: ").expect(&warned);
    let call = call.lines().next().unwrap();
    assert!(call.matches(", '").count() > 5, "{warned}");
    attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
    attempt(&mut client, call).unwrap();
    attempt(&mut client, "SELECT ops.assert_security()").unwrap();
    let kept = "SELECT reason FROM ops.v_exemptions WHERE status = 'active' AND expires_at < now() \
                + interval '2 days' GROUP BY reason";
    assert_eq!(column(&mut client, kept), ["Accepted"]);
}

#[test]
fn exemption_of_several_tables_with_one_cause_excuses_no_table_that_is_added() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("cause");
    let unguarded = |client: &mut Client, sql: &str| {
        let sql =
            format!("SET dragonfly_guard.mode = off; {sql}; SET dragonfly_guard.mode = block");
        attempt(client, &sql).unwrap();
    };
    unguarded(
        &mut client,
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO anon;
         GRANT TRUNCATE, REFERENCES, TRIGGER ON public.judgments, public.plaintiffs, \
         public.job_queue TO anon",
    );
    let found = "SELECT concat_ws(' ', object_type, object, role_name, evidence->>'count') FROM \
                 ops.audit_security(rules => '{direct_write}')";
    assert_eq!(column(&mut client, found), ["schema public anon 3"]);
    let fix = "SELECT fix FROM ops.audit_security(rules => '{direct_write}')";
    let fix = column(&mut client, fix).remove(0);
    assert!(fix.starts_with("ALTER DEFAULT PRIVILEGES FOR ROLE postgres"), "{fix}");
    assert_eq!(fix.lines().count(), 4, "{fix}");
    // One table is exempt by itself, and the others together.
    let one = "SELECT ops.exempt((SELECT r->>'fingerprint' FROM \
        jsonb_array_elements(evidence->'relations') AS r WHERE r->>'object' = \
        'public.job_queue'), 'by itself') FROM ops.audit_security(rules => '{direct_write}')";
    attempt(&mut client, one).unwrap();
    assert_eq!(column(&mut client, found), ["schema public anon 2"]);
    let fingerprint = "SELECT fingerprint FROM ops.audit_security(rules => '{direct_write}')";
    let fingerprint = column(&mut client, fingerprint).remove(0);
    let accept = format!("SELECT ops.exempt('{fingerprint}', 'together')");
    attempt(&mut client, &accept).unwrap();
    assert_eq!(column(&mut client, found), [""; 0]);
    let hidden = "SELECT object || ' ' || finding_count FROM ops.v_exemptions ORDER BY id";
    assert_eq!(column(&mut client, hidden), ["public.job_queue 1", "public 2"]);
    let again = attempt(&mut client, &accept).unwrap_err();
    assert_eq!(again.message, "already exempted by exemption 2");
    // The guard allows the same on the same tables, and on no other.
    let grant = "GRANT TRUNCATE, REFERENCES, TRIGGER ON public.plaintiffs TO anon";
    attempt(&mut client, "REVOKE ALL ON public.plaintiffs FROM anon").unwrap();
    attempt(&mut client, grant).unwrap();
    attempt(&mut client, &grant.replace("plaintiffs", "plaintiff_contacts")).unwrap_err();
    unguarded(&mut client, &grant.replace("plaintiffs", "plaintiff_contacts"));
    assert_eq!(column(&mut client, found), ["table public.plaintiff_contacts anon"]);
    // A table whose definition changes is reported again.
    unguarded(&mut client, "ALTER TABLE public.plaintiffs ADD COLUMN x int");
    assert_eq!(
        column(&mut client, found),
        ["table public.plaintiff_contacts anon", "table public.plaintiffs anon"]
    );
    let withdraw = format!("SELECT ops.unexempt('{fingerprint}')");
    attempt(&mut client, &withdraw).unwrap();
    assert_eq!(column(&mut client, found), ["schema public anon 3"]);
}

/// A table and views over it on which clients have more than the contract declares, all exempt.
const WRITTEN_THROUGH: &str = "SET client_min_messages = error; SET dragonfly_guard.mode = off;
    CREATE TABLE public.base (id int, note text);
    ALTER TABLE public.base ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON public.base TO anon USING (id > 0);
    CREATE POLICY worker ON public.base TO service_role USING (true);
    CREATE VIEW public.declared AS SELECT * FROM public.base;
    CREATE VIEW public.above AS SELECT * FROM public.declared;
    GRANT SELECT, INSERT, UPDATE ON public.base TO anon;
    GRANT SELECT, INSERT ON public.declared TO anon;
    GRANT UPDATE ON public.above TO anon;
    GRANT ALL ON public.base, public.declared, public.above TO service_role;
    SELECT FROM ops.declare('CREATE TABLE public.base();
      ALTER TABLE public.base ENABLE ROW LEVEL SECURITY; CREATE VIEW public.declared AS SELECT;
      CREATE VIEW public.above AS SELECT; GRANT SELECT, INSERT ON public.declared TO anon;
      GRANT ALL ON public.base, public.declared, public.above TO service_role', note => 'test');
    RESET dragonfly_guard.mode; RESET client_min_messages";

#[test]
fn view_that_makes_an_exempt_finding_less_or_differ_warns_about_its_exemption() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    attempt(&mut client, WRITTEN_THROUGH).unwrap();
    let accept = "SELECT ops.exempt(fingerprint, 'Accepted') \
                  FROM ops.audit_security(min_severity => 'warning')";
    attempt(&mut client, accept).unwrap();
    attempt(&mut client, "SELECT ops.assert_security('warning')").unwrap();
    for (sql, said) in [
        // What anon inserts through the view needs the privilege on the table now.
        (
            "ALTER VIEW public.declared SET (security_invoker = true)",
            "ALTER VIEW ends exemption 3 of rule direct_write on table public.base",
        ),
        (
            "ALTER VIEW public.declared SET (security_barrier = true)",
            "rule direct_write on public.above no longer applies",
        ),
        (
            "ALTER TABLE public.base RENAME COLUMN note TO remark",
            "This transaction has renamed what view public.above reads. The audit reports again: \
             Role \"anon\" has UPDATE on view public.above",
        ),
    ] {
        let warned = messages(&cluster, sql);
        assert!(warned.contains("WARNING:  ") && warned.contains(said), "{sql}: {warned}");
        attempt(&mut client, "SELECT ops.assert_security()").unwrap_err();
        let calls: Vec<&str> = warned
            .lines()
            .filter_map(|line| Some(line.split_once("acceptable, run: ")?.1))
            .collect();
        calls.iter().for_each(|call| attempt(&mut client, call).unwrap());
        attempt(&mut client, "SELECT ops.assert_security()")
            .unwrap_or_else(|error| panic!("{sql}: {warned}\n{error:?}"));
    }
}

#[test]
fn privilege_that_a_view_needs_no_longer_is_warned_about() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    attempt(&mut client, WRITTEN_THROUGH).unwrap();
    attempt(
        &mut client,
        "SET client_min_messages = error; SET dragonfly_guard.mode = off;
         ALTER VIEW public.declared SET (security_invoker = true);
         REVOKE UPDATE ON public.base, public.above FROM anon",
    )
    .unwrap();
    let found = "SELECT detail FROM ops.audit_security(ARRAY['direct_write'])";
    assert_eq!(column(&mut client, found), [""; 0]);
    let warned = messages(&cluster, "ALTER VIEW public.declared RESET (security_invoker)");
    let left =
        "Role \"anon\" has INSERT on table public.base, which the contract does not declare.";
    assert_eq!(column(&mut client, found), [left]);
    assert!(
        warned.contains("leaves a privilege that nothing declared needs: direct_write on table")
            && warned.contains(left),
        "{warned}"
    );
}
