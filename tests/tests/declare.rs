//! The contract in SQL: statements amend it, it is described by statements, and the call in the
//! HINT of a rejection makes the contract allow the statement.

use dragonfly_tests::{Cluster, ServerError, attempt, column, declare_call};
use postgres::Client;

/// Runs statements in a transaction, and returns the rejection.
fn rejection(client: &mut Client, sql: &str) -> Option<ServerError> {
    let result = ["BEGIN", sql, "COMMIT"].iter().try_for_each(|sql| attempt(client, sql));
    attempt(client, "ROLLBACK").unwrap();
    result.err()
}

/// Returns the findings that are not `known`.
fn findings(client: &mut Client, known: &[String]) -> Vec<String> {
    let query = "SELECT concat_ws(' ', severity, rule, object, role_name, detail) \
                 FROM ops.audit_security(min_severity => 'warning')";
    column(client, query).into_iter().filter(|one| !known.contains(one)).collect()
}

/// What a contract can allow.
const ALLOWED: [&str; 25] = [
    "GRANT SELECT ON public.plaintiff_contacts TO anon",
    "GRANT SELECT, INSERT ON public.plaintiff_contacts TO anon, authenticated",
    "GRANT UPDATE (id) ON public.judgments TO authenticated",
    "GRANT SELECT (id) ON public.judgments TO anon",
    "GRANT USAGE ON SCHEMA intake TO anon",
    "CREATE TABLE public.\"Odd 'name\" (id int); \
     ALTER TABLE public.\"Odd 'name\" ENABLE ROW LEVEL SECURITY; \
     CREATE POLICY p ON public.\"Odd 'name\" FOR SELECT TO anon USING (id IS NOT NULL); \
     GRANT SELECT ON public.\"Odd 'name\" TO anon; \
     GRANT ALL ON public.\"Odd 'name\" TO service_role",
    "CREATE SEQUENCE public.numbers; GRANT USAGE ON SEQUENCE public.numbers TO authenticated; \
     GRANT ALL ON SEQUENCE public.numbers TO service_role",
    "GRANT INSERT ON public.v_judgment_pipeline TO authenticated",
    "CREATE FUNCTION public.f(a bigint, b text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
     REVOKE EXECUTE ON FUNCTION public.f FROM PUBLIC; \
     GRANT EXECUTE ON ROUTINE public.f \
     TO authenticated, service_role",
    "CREATE FUNCTION public.d(int) RETURNS int LANGUAGE sql SECURITY DEFINER \
     SET search_path = pg_catalog, pg_temp AS 'SELECT 1'; \
     REVOKE EXECUTE ON FUNCTION public.d FROM PUBLIC; \
     GRANT EXECUTE ON ROUTINE public.d \
     TO authenticated, service_role",
    "CREATE POLICY more ON public.judgments FOR INSERT TO authenticated \
     WITH CHECK (id IS NOT NULL)",
    "CREATE POLICY deletes ON public.judgments FOR DELETE TO anon USING (id IS NOT NULL)",
    "DROP TABLE public.plaintiff_tasks CASCADE",
    "DROP VIEW public.v_judgment_pipeline",
    "DROP FUNCTION api.get_ceo_metrics()",
    "DROP FUNCTION api.queue_job",
    "DROP VIEW public.v_plaintiffs_overview CASCADE; DROP VIEW ops.v_reaper_status",
    "GRANT UPDATE ON public.plaintiff_contacts TO anon; GRANT INSERT ON public.plaintiffs TO anon",
    "GRANT SELECT ON public.judgments TO PUBLIC",
    "GRANT TRUNCATE, REFERENCES, TRIGGER ON public.judgments TO authenticated",
    "GRANT DELETE ON intake.simplicity_batches TO authenticated; \
     CREATE POLICY d ON intake.simplicity_batches FOR DELETE TO authenticated \
     USING (id IS NOT NULL)",
    "ALTER TABLE public.plaintiff_contacts RENAME TO contacts",
    "ALTER VIEW public.v_collectability_snapshot RENAME TO \"v Snapshot\"",
    "ALTER FUNCTION api.get_dashboard_stats() RENAME TO stats",
    "ALTER SCHEMA enforcement RENAME TO \"Enforce it\"",
];

#[test]
fn call_in_the_hint_of_a_rejection_lets_the_statement_pass_and_leaves_no_finding() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("allowed");
    let known = findings(&mut client, &[]);
    let mut failed = Vec::new();
    for sql in ALLOWED {
        // A statement that the guard rejects hides what it would say about the next one.
        let mut calls = String::new();
        for _ in 0..3 {
            let Some(error) = rejection(&mut client, &format!("{calls} {sql}")) else { break };
            match declare_call(&error.hint) {
                Some(call) => calls += &call,
                None => failed.push(format!("{sql}: {calls} no call in {error:#?}")),
            }
        }
        // It has been committed with the last call.
        if calls.is_empty() {
            failed.push(format!("{sql} is not rejected, or its HINT has no call"));
        }
        let left = findings(&mut client, &known);
        if !left.is_empty() {
            failed.push(format!("{sql}: {calls}\n  leaves {left:#?}"));
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn contract_printed_as_sql_and_declared_again_is_the_same() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("printed");
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    // Declared on another contract, in a statement for each line.
    attempt(
        &mut client,
        "SELECT FROM ops.declare('DROP SCHEMA intake; DROP ROLE anon; CREATE SCHEMA other; \
         GRANT USAGE ON SCHEMA other TO authenticated; SET contract.name = other', 'differs')",
    )
    .unwrap();
    client.execute("SELECT FROM ops.declare($1, 'as before')", &[&printed]).unwrap();
    let changes = "SELECT unnest(ops.contract_changes(dragonfly_guard.default_contract(), \
                   ops.contract()))";
    assert_eq!(column(&mut client, changes), ["~ version: 1.0.0 -> 1.2.0"]);
    let again = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert_eq!(again.replace("1.2.0", "1.0.0"), printed);
    // What is declared already is no new contract.
    client.execute("SELECT FROM ops.declare($1, 'once more')", &[&again]).unwrap();
    assert_eq!(
        column(&mut client, "SELECT version FROM ops.contract_history"),
        ["1.0.0", "1.1.0", "1.2.0"]
    );
}

#[test]
fn version_that_is_set_is_that_of_the_contract() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("versions");
    let version = "SELECT version FROM ops.declare($1, 'test') LIMIT 1";
    for (sql, expected) in [
        ("SET contract.version = '3.0.0'; CREATE SCHEMA other", "3.0.0"),
        ("SET contract.version = '3.5.0'", "3.5.0"),
        ("CREATE SCHEMA more", "3.6.0"),
    ] {
        let found: String = client.query_one(version, &[&sql]).unwrap().get(0);
        assert_eq!(found, expected, "{sql}");
    }
    let found = client.query(version, &[&"SET contract.version = '3.6.0'"]).unwrap();
    assert!(found.is_empty(), "it is in force");
}

#[test]
fn note_that_says_nothing_is_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("gaps");
    for call in [
        "ops.declare('CREATE SCHEMA other', note => '...')",
        "ops.accept('x', note => '...')",
        "ops.declare('CREATE SCHEMA other', note => ' ?! ')",
    ] {
        let error = attempt(&mut client, &format!("SELECT FROM {call}")).unwrap_err();
        assert_eq!(error.code, "22023", "{call}");
        assert!(error.message.starts_with("note says nothing: '"), "{error:?}");
        assert!(error.hint.starts_with("State who decided it and why: note => "), "{error:?}");
    }
}

#[test]
fn type_named_by_a_keyword_is_printed_in_quotes() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("keywords");
    let edited = r#"SELECT FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{version}', '"2.0.0"'), '{functions,0,arguments}', '"any, user[]"'))"#;
    client.batch_execute(edited).unwrap();
    let before = column(&mut client, "SELECT ops.contract()::text");
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert!(printed.contains("(\"any\", \"user\"[])"), "{printed}");
    client.execute("SELECT FROM ops.declare($1, 'again')", &[&printed]).unwrap();
    assert_eq!(column(&mut client, "SELECT ops.contract()::text"), before);
}

#[test]
fn text_of_a_contract_that_is_no_single_declaration_is_not_printed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("texts");
    // No list of types is accepted that would be more than one declaration.
    let edited = r#"SELECT FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{version}', '"2.0.0"'), '{functions,0,arguments}',
        '"int); ALTER ROLE anon SET contract.kind = worker; CREATE FUNCTION api.x(int"'))"#;
    assert_eq!(attempt(&mut client, edited).unwrap_err().message, "not a valid security contract");
    let query = r#"SELECT FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{version}', '"2.0.0"'), '{views,1,definition}',
        '"SELECT 1; ALTER ROLE anon SET contract.kind = worker; SELECT 1"'))"#;
    client.batch_execute(query).unwrap();
    let view = r#"SELECT FROM ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{version}', '"2.1.0"'), '{views,0,definition}', '"SELECT 1 AS a -- a comment"'))"#;
    client.batch_execute(view).unwrap();
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert!(!printed.contains("worker; SELECT"), "{printed}");
    assert!(printed.contains("AS SELECT 1 AS a -- a comment\n;\n"), "{printed}");
    client.execute("SELECT FROM ops.declare($1, 'again')", &[&printed]).unwrap();
    let kind = "SELECT r->>'kind' FROM jsonb_array_elements(ops.contract()->'roles') AS r
        WHERE r->>'name' = 'anon'";
    assert_eq!(column(&mut client, kind), ["client"]);
}

/// Statements, and the SQLSTATE and the beginning of the error that they raise.
const REFUSED: &[(&str, &str, &str)] = &[
    ("VACUUM", "0A000", "VACUUM does not amend a contract"),
    ("SELECT 1", "0A000", "SELECT does not amend a contract"),
    ("GRNT SELECT", "42601", "syntax error at or near \"GRNT\""),
    ("GRANT SELECT ON public.judgments TO PUBLIC", "0A000", "a contract does not grant to PUBLIC"),
    ("GRANT SELECT ON public.judgments TO ghost", "42704", "role \"ghost\" is not declared"),
    ("REVOKE SELECT ON public.judgments FROM ghost", "42704", "role \"ghost\" is not declared"),
    ("GRANT SELECT ON public.judgments TO CURRENT_USER", "22023", "a contract names each role"),
    ("GRANT SELECT ON judgments TO anon", "22023", "judgments has no schema"),
    ("GRANT SELECT ON other.public.judgments TO anon", "0A000", "the name of a database"),
    ("GRANT SELECT ON public.missing TO anon", "42704", "relation public.missing is neither"),
    ("REVOKE SELECT ON public.missing FROM anon", "42704", "relation public.missing is neither"),
    ("COMMENT ON TABLE public.missing IS 'x'", "42704", "relation public.missing is neither"),
    ("COMMENT ON TABLE a.public.judgments IS 'x'", "0A000", "the name of a database"),
    ("COMMENT ON MATERIALIZED VIEW public.v_judgment_pipeline IS 'x'", "22023", "public.v_judgm"),
    (
        "GRANT EXECUTE ON FUNCTION public.gone(text) TO anon",
        "42704",
        "function public.gone(text) is",
    ),
    (
        "REVOKE EXECUTE ON FUNCTION public.gone FROM anon",
        "42704",
        "function public.gone is neither",
    ),
    ("COMMENT ON FUNCTION public.gone(text) IS 'x'", "42704", "function public.gone(text) is"),
    ("GRANT EXECUTE (a) ON FUNCTION public.gone(text) TO anon", "22023", "columns are named for"),
    ("GRANT EXECUTE ON FUNCTION public.gone(public.judgments.id%TYPE) TO anon", "0A000", "%TYPE"),
    ("GRANT EXECUTE ON FUNCTION a.public.f(text) TO anon", "0A000", "the name of a database"),
    ("GRANT SELECT (id) ON ALL TABLES IN SCHEMA public TO anon", "22023", "columns are named for"),
    ("GRANT SELECT ON public.judgments TO anon GRANTED BY CURRENT_USER", "0A000", "GRANTED BY"),
    ("REVOKE SELECT ON public.judgments FROM anon CASCADE", "0A000", "CASCADE does not amend"),
    (
        "REVOKE GRANT OPTION FOR SELECT ON public.judgments FROM anon",
        "0A000",
        "a contract does not declare grant options",
    ),
    (
        "GRANT SELECT ON public.judgments TO anon WITH GRANT OPTION",
        "0A000",
        "a contract does not declare grant options",
    ),
    ("GRANT anon TO authenticated", "0A000", "a contract does not declare memberships"),
    ("GRANT anon TO authenticator WITH ADMIN OPTION", "0A000", "an option of a membership"),
    ("REVOKE ADMIN OPTION FOR anon FROM authenticator", "0A000", "an option of a membership"),
    ("GRANT anon TO authenticator GRANTED BY CURRENT_USER", "0A000", "GRANTED BY"),
    ("REVOKE ghost FROM authenticator", "42704", "role \"ghost\" is not declared"),
    ("CREATE ROLE worker PASSWORD 'secret'", "0A000", "a contract does not declare passwords"),
    ("CREATE ROLE worker IN ROLE anon", "0A000", "a contract does not declare passwords"),
    ("CREATE ROLE worker SUPERUSER NOSUPERUSER", "22023", "attribute SUPERUSER is specified more"),
    ("ALTER ROLE anon LOGIN", "0A000", "LOGIN or INHERIT of a role"),
    (
        "ALTER ROLE anon IN DATABASE postgres SET contract.kind = worker",
        "0A000",
        "IN DATABASE does not amend",
    ),
    ("ALTER ROLE anon SET contract.kind FROM CURRENT", "0A000", "FROM CURRENT"),
    ("ALTER ROLE anon SET contract.kind = worker, client", "22023", "unrecognized kind of role"),
    ("ALTER ROLE anon RESET contract.kind", "0A000", "RESET of contract.kind does not amend"),
    (
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO anon",
        "0A000",
        "a contract does not tell functions from procedures",
    ),
    ("ALTER ROLE ALL SET contract.kind = worker", "22023", "a contract names each role"),
    ("CREATE SCHEMA s AUTHORIZATION anon", "0A000", "AUTHORIZATION does not amend"),
    ("CREATE SCHEMA s CREATE TABLE t ()", "0A000", "CREATE SCHEMA with objects in it"),
    ("CREATE TEMP TABLE public.t ()", "0A000", "a contract does not declare temporary objects"),
    ("CREATE TABLE public.t AS SELECT 1", "0A000", "CREATE TABLE AS does not amend"),
    (
        "CREATE TABLE public.t () WITH (contract.all_rows = declared)",
        "22023",
        "an option of the contract is set in CREATE TABLE",
    ),
    (
        "ALTER TABLE public.judgments ADD COLUMN x int",
        "0A000",
        "this action of ALTER TABLE does not amend",
    ),
    ("ALTER TABLE IF EXISTS public.judgments ENABLE ROW LEVEL SECURITY", "0A000", "IF EXISTS of"),
    ("ALTER TABLE IF EXISTS public.judgments RENAME TO j", "0A000", "IF EXISTS of ALTER"),
    ("ALTER TABLE IF EXISTS public.judgments SET SCHEMA api", "0A000", "IF EXISTS of ALTER"),
    ("ALTER TABLE public.judgments SET (contract.all_rows = no)", "22023", "invalid value for"),
    ("ALTER TABLE public.judgments SET (contract.keys = 'a,')", "22023", "invalid value for"),
    ("ALTER TABLE public.judgments SET (contract.keys = 'a, a')", "22023", "a column is specified"),
    (
        "ALTER TABLE public.judgments SET (contract.open_rows = status)",
        "22023",
        "invalid value for",
    ),
    (
        "ALTER TABLE public.judgments SET (contract.append_only_by = ghost)",
        "42704",
        "role \"ghost\" is not declared",
    ),
    ("ALTER TABLE public.judgments SET (contract.privileged = perhaps)", "22023", "invalid value"),
    ("ALTER TABLE public.judgments SET (contract.shared = declared)", "0A000", "option \"shared\""),
    (
        "ALTER TABLE public.judgments SET (contract.keys = id), ENABLE ROW LEVEL SECURITY",
        "22023",
        "options of the contract are set with other actions",
    ),
    ("SET contract.identity.settings.app.tenant = tennant", "22023", "invalid value for contract."),
    ("SET contract.identity.settings = tenant", "22023", "invalid value for contract.identity."),
    ("SET contract.identity.email_verified = perhaps", "22023", "contract.identity.email_verified"),
    ("SET contract.identity = '{}'", "22023", "unrecognized field contract.identity"),
    ("ALTER VIEW public.v SET (security_invoker = perhaps)", "22023", "invalid value for option"),
    ("ALTER VIEW public.v SET (security_barrier)", "0A000", "option \"security_barrier\" does not"),
    ("ALTER FUNCTION api.f(text) STRICT", "0A000", "this action of ALTER FUNCTION does not"),
    ("ALTER FUNCTION api.f(text) SET contract.arguments = 'any'", "22023", "invalid value for"),
    ("CREATE FUNCTION api.f(judgments.id%TYPE)", "0A000", "%TYPE does not amend"),
    (
        "CREATE FUNCTION api.f() SECURITY DEFINER SECURITY INVOKER",
        "22023",
        "SECURITY is specified more than once",
    ),
    ("CREATE VIEW public.v (a) AS SELECT 1", "0A000", "the list of columns of a view"),
    ("CREATE RECURSIVE VIEW public.v (a) AS SELECT 1", "0A000", "the list of columns of a view"),
    (
        "CREATE VIEW public.v AS SELECT 1 AS a WITH CHECK OPTION",
        "0A000",
        "WITH CHECK OPTION does not amend",
    ),
    (
        "CREATE VIEW public.v WITH (check_option = local) AS SELECT 1",
        "0A000",
        "option \"check_option\" of a view",
    ),
    ("CREATE TEMP VIEW public.v AS SELECT 1", "0A000", "a contract does not declare temporary"),
    ("CREATE MATERIALIZED VIEW public.v AS SELECT 1 WITH NO DATA", "0A000", "WITH NO DATA"),
    ("CREATE MATERIALIZED VIEW public.v AS SELECT 1 WITH DATA", "0A000", "the query of the view"),
    ("CREATE MATERIALIZED VIEW IF NOT EXISTS public.v AS SELECT 1", "0A000", "IF NOT EXISTS of"),
    ("CREATE UNLOGGED MATERIALIZED VIEW public.v AS SELECT 1", "0A000", "UNLOGGED of a material"),
    (
        "CREATE POLICY p ON public.judgments USING (true)",
        "0A000",
        "a contract declares policies for roles",
    ),
    (
        "CREATE POLICY p ON public.judgments AS RESTRICTIVE TO anon USING (id > 0)",
        "0A000",
        "a contract does not declare restrictive policies",
    ),
    (
        "CREATE POLICY p ON public.judgments FOR SELECT TO anon WITH CHECK (true)",
        "22023",
        "WITH CHECK does not apply to SELECT",
    ),
    (
        "ALTER POLICY p ON public.judgments USING (true)",
        "0A000",
        "ALTER POLICY does not amend a contract",
    ),
    ("DROP POLICY p ON public.judgments", "42704", "policy p on table public.judgments does not"),
    ("DROP TABLE public.judgments CASCADE", "0A000", "CASCADE does not amend a contract"),
    ("DROP SCHEMA intake CASCADE", "0A000", "CASCADE does not amend a contract"),
    ("SET work_mem = '1GB'", "22023", "setting \"work_mem\" is no field of the contract"),
    ("SET LOCAL contract.name = x", "0A000", "SET LOCAL does not amend"),
    ("SET contract.name FROM CURRENT", "0A000", "FROM CURRENT does not amend"),
    ("CREATE SCHEMA pg_catalog", "22023", "schema \"pg_catalog\" belongs to the server"),
    ("CREATE SCHEMA pg_temp", "22023", "schema \"pg_temp\" belongs to the server"),
    ("CREATE SCHEMA dragonfly_guard", "22023", "schema \"dragonfly_guard\" belongs to extension"),
    ("ALTER SCHEMA intake RENAME TO pg_x", "22023", "schema \"pg_x\" belongs to the server"),
    ("SET contract.version = '1.0'", "22023", "invalid value for contract.version: \"1.0\""),
    ("SET contract.version = '1.0.99999999999999999999'", "22023", "invalid value for contract."),
    ("SET contract.version = '0.9.0'", "22023", "contract version 0.9.0 is not higher than 1.0.0"),
    ("SET contract.version = '1.0.0'", "22023", "contract version 1.0.0 is not higher than 1.0.0"),
    ("SET contract.name = x, y", "22023", "contract.name takes only one value"),
    (
        "ALTER ROLE anon SUPERUSER; DROP TABLE public.missing",
        "42704",
        "table public.missing is not declared",
    ),
];

#[test]
fn statement_that_a_contract_cannot_express_changes_and_executes_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("refused");
    let query = "SELECT FROM ops.declare($1, 'test', run => true)";
    let mut failed = Vec::new();
    for (sql, state, message) in REFUSED {
        let sql = format!("CREATE SCHEMA unwanted; {sql}");
        let Err(error) = client.execute(query, &[&sql]) else {
            failed.push(format!("{sql} is accepted"));
            continue;
        };
        let error = error.as_db_error().unwrap();
        let has_hint = error.hint().is_some() || error.code().code() == "42601";
        let is_expected = error.message().starts_with(message) && error.code().code() == *state;
        if !has_hint || !is_expected {
            failed.push(format!("{sql}: {error:?}"));
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.contract_history"), ["1"]);
    assert_eq!(column(&mut client, "SELECT to_regnamespace('unwanted')::text"), [""]);
}

/// Returns the changes that statements make to the contract; the contract stays as it is.
fn declared(client: &mut Client, sql: &str) -> Vec<String> {
    let mut transaction = client.transaction().unwrap();
    let query = "SELECT change FROM ops.declare($1, 'test') WHERE change !~ '^~ version'";
    let rows = transaction.query(query, &[&sql]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn accepted_clause_keeps_its_meaning() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("kept");
    let definition = |client: &mut Client, view: &str| {
        let lines = declared(client, view);
        let of = lines.iter().find_map(|line| Some(line.split_once(".definition: ")?.1.to_owned()));
        of.unwrap_or_else(|| panic!("{view}: {lines:?}"))
    };
    for (view, query) in [
        (r#"CREATE VIEW public."x AS SELECT 1" AS SELECT 2"#, "SELECT 2"),
        (
            "CREATE VIEW public.v /* AS SELECT 1 */ AS TABLE public.judgments",
            "TABLE public.judgments",
        ),
        (
            r#"CREATE VIEW public."as" AS SELECT 1 AS a, 'as select 3' AS b"#,
            "SELECT 1 AS a, 'as select 3' AS b",
        ),
        (
            "CREATE OR REPLACE VIEW public.v AS WITH a AS (SELECT 1 AS b) SELECT b FROM a",
            "WITH a AS (SELECT 1 AS b) SELECT b FROM a",
        ),
        ("CREATE MATERIALIZED VIEW public.m AS VALUES (1)", "VALUES (1)"),
    ] {
        assert_eq!(definition(&mut client, view), query, "{view}");
    }
    // Booleans as the server reads them.
    for (value, is_on) in [("tr", true), ("YES", true), ("1", true), ("of", false), ("n", false)] {
        let view = format!("CREATE VIEW public.v WITH (security_invoker = {value}) AS SELECT");
        let lines = declared(&mut client, &view);
        let says = lines.iter().any(|line| line.ends_with(".security_invoker: true"));
        assert_eq!(says, is_on, "{value}: {lines:?}");
    }
    assert_eq!(declared(&mut client, "DROP TABLE IF EXISTS public.missing"), [""; 0]);
    assert_eq!(
        declared(&mut client, "DROP TABLE IF EXISTS public.judgments"),
        ["- tables[public.judgments]"]
    );
    assert_eq!(declared(&mut client, "CREATE TABLE IF NOT EXISTS public.judgments ()"), [""; 0]);
    assert_eq!(
        declared(
            &mut client,
            "CREATE POLICY p ON public.plaintiffs FOR UPDATE TO anon USING (id > 0) \
             WITH CHECK (true)"
        ),
        ["~ tables[public.plaintiffs].policies.anon: +UPDATE"]
    );
    assert_eq!(
        declared(&mut client, "ALTER TABLE ONLY public.judgments DISABLE ROW LEVEL SECURITY"),
        ["~ tables[public.judgments].row_security: true -> false"]
    );
    // What is beyond the policies of a table is kept.
    let all_rows =
        r#"ALTER TABLE public.judgments SET (contract.all_rows = '{"anon":["SELECT"]}')"#;
    client.execute("SELECT FROM ops.declare($1, 'beyond')", &[&all_rows]).unwrap();
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert!(printed.contains(all_rows), "{printed}");
    assert_eq!(declared(&mut client, &printed), [""; 0]);
}

#[test]
fn rows_of_a_caller_are_declared_in_sql_and_printed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("rows");
    let tenant = format!("app.{}", "tenant_".repeat(10));
    let declaration = format!(
        r#"ALTER TABLE public.judgments SET (contract.keys = 'owner, "The Org", ünï',
            contract.append_only_by = authenticated, contract.privileged);
        ALTER TABLE public.judgments SET
            (contract.open_rows = '{{"authenticated": ["status"], "anon": ["a b"]}}');
        SET contract.identity.functions."auth.uid()" = 'user';
        SET contract.identity.settings.app.tenant = tenant;
        SET contract.identity.claims."https://app.example/org" = trusted;
        SET contract.identity.claims = '{{"{tenant}": "email", "a..b": "token"}}';
        SET contract.identity.columns.app."Users".notes = user_editable;
        SET contract.identity.request = 'app.header', 'app.Cookie';
        SET contract.identity.sessions.anon = without;
        SET contract.identity.email_verified = on"#
    );
    client.execute("SELECT FROM ops.declare($1, 'rows')", &[&declaration]).unwrap();
    let fields = "SELECT (SELECT (t - 'grants' - 'policies' - 'purpose')::text
            FROM jsonb_array_elements(ops.contract() -> 'tables') AS t
            WHERE t ->> 'name' = 'judgments')
        UNION ALL SELECT (ops.contract() -> 'identity')::text";
    let before = column(&mut client, fields);
    assert!(before[0].contains(r#""keys": ["owner", "The Org", "ünï"]"#), "{before:?}");
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert_eq!(declared(&mut client, &printed), [""; 0]);
    let reset = "ALTER TABLE public.judgments RESET (contract.keys, contract.open_rows,
            contract.append_only_by, contract.privileged);
        RESET contract.identity.functions.\"auth.uid()\"; RESET contract.identity.claims;
        RESET contract.identity.settings; RESET contract.identity.columns;
        RESET contract.identity.request; RESET contract.identity.sessions;
        RESET contract.identity.email_verified";
    client.execute("SELECT FROM ops.declare($1, 'none')", &[&reset]).unwrap();
    let changes = "SELECT unnest(ops.contract_changes(dragonfly_guard.default_contract(), \
                   ops.contract()))";
    assert_eq!(column(&mut client, changes), ["~ version: 1.0.0 -> 1.2.0"]);
    // On another contract, the printed statements make the same.
    client.execute("SELECT FROM ops.declare($1, 'again')", &[&printed]).unwrap();
    assert_eq!(column(&mut client, fields), before);
}

#[test]
fn statement_about_a_function_is_about_the_one_that_it_names() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("functions");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; \
             CREATE FUNCTION public.f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
             CREATE FUNCTION public.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
             CREATE FUNCTION public.one(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    assert_eq!(
        declared(&mut client, "GRANT EXECUTE ON FUNCTION public.one TO anon"),
        [
            "+ functions[public.one(bigint)]",
            "+ functions[public.one(bigint)].arguments: bigint",
            "+ functions[public.one(bigint)].execute: anon"
        ]
    );
    let error = client
        .execute(
            "SELECT FROM ops.declare('GRANT EXECUTE ON FUNCTION public.f TO anon', 'test')",
            &[],
        )
        .unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "several functions public.f are there");
    let any = "ALTER ROUTINE public.f SET contract.arguments = 'any'; \
               GRANT EXECUTE ON FUNCTION public.f TO authenticated";
    client.execute("SELECT FROM ops.declare($1, 'any')", &[&any]).unwrap();
    assert_eq!(
        declared(&mut client, "GRANT EXECUTE ON FUNCTION public.f(text) TO anon"),
        [
            "+ functions[public.f(text)]",
            "+ functions[public.f(text)].arguments: text",
            "+ functions[public.f(text)].execute: anon"
        ]
    );
    let revoke = "REVOKE EXECUTE ON FUNCTION public.f(text) FROM authenticated";
    let error = client.execute("SELECT FROM ops.declare($1, 'x')", &[&revoke]).unwrap_err();
    assert_eq!(
        error.as_db_error().unwrap().message(),
        "role \"authenticated\" has EXECUTE on function public.f with any arguments"
    );
    let printed = column(&mut client, "SELECT ops.contract_sql()").remove(0);
    assert_eq!(declared(&mut client, &printed), [""; 0]);
}

#[test]
fn type_that_depends_on_the_search_path_needs_its_schema() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("types");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE TYPE public.text AS (a int); \
             CREATE TYPE api.kind AS (a int); RESET dragonfly_guard.mode",
        )
        .unwrap();
    let create = "SELECT FROM ops.declare('CREATE FUNCTION api.typed(text)', 'x')";
    assert_eq!(
        declared(&mut client, "CREATE FUNCTION api.typed(text)"),
        ["+ functions[api.typed(text)]", "+ functions[api.typed(text)].arguments: text"]
    );
    client.batch_execute("SET search_path = public, pg_catalog").unwrap();
    let error = attempt(&mut client, create).unwrap_err();
    assert_eq!(error.message, "type text depends on the search_path");
    assert_eq!(error.hint, "Write its schema: public.text or pg_catalog.text.");
    assert_eq!(
        declared(&mut client, "CREATE FUNCTION api.typed(pg_catalog.text, public.text)"),
        [
            "+ functions[api.typed(text, public.text)]",
            "+ functions[api.typed(text, public.text)].arguments: text, public.text"
        ]
    );
    client.batch_execute("RESET search_path").unwrap();
    let create = "SELECT FROM ops.declare('CREATE FUNCTION api.typed(kind)', 'x')";
    let error = attempt(&mut client, create).unwrap_err();
    assert_eq!(error.message, "type kind depends on the search_path");
    assert_eq!(error.hint, "Write its schema: api.kind.");
}

#[test]
fn statements_are_executed_only_with_run_and_checked_together() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("run");
    let table = "CREATE TABLE public.notes (id bigint PRIMARY KEY); \
                 GRANT ALL ON public.notes TO service_role; \
                 GRANT SELECT ON public.notes TO authenticated; \
                 ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY own ON public.notes FOR SELECT TO authenticated USING (id > 0); \
                 ALTER ROLE anon SET contract.kind = client";
    let known = findings(&mut client, &[]);
    client.execute("SELECT FROM ops.declare($1, 'first')", &[&table]).unwrap();
    assert_eq!(column(&mut client, "SELECT to_regclass('public.notes')::text"), [""]);
    client.execute("SELECT FROM ops.declare($1, 'then', run => true)", &[&table]).unwrap();
    assert_eq!(column(&mut client, "SELECT to_regclass('public.notes')::text"), ["notes"]);
    assert_eq!(findings(&mut client, &known), [""; 0]);
    // A statement that fails takes the contract with it.
    let failing = "CREATE TABLE public.notes (id bigint); COMMENT ON TABLE public.notes IS 'x'";
    client.execute("SELECT FROM ops.declare($1, 'fails', run => true)", &[&failing]).unwrap_err();
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.contract_history"), ["2"]);
}

/// A table whose columns have sequences, one of them with a grant.
const WITH_SEQUENCES: &str = "CREATE TABLE public.\"Jobs\" (id bigserial PRIMARY KEY, \
     n int GENERATED ALWAYS AS IDENTITY); \
     ALTER TABLE public.\"Jobs\" ENABLE ROW LEVEL SECURITY; \
     GRANT ALL ON public.\"Jobs\" TO service_role; \
     GRANT ALL ON SEQUENCE public.\"Jobs_id_seq\", public.\"Jobs_n_seq\" \
     TO service_role -- both";

#[test]
fn table_with_sequences_is_declared_and_created_in_one_call() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("sequences");
    let known = findings(&mut client, &[]);
    client.execute("SELECT FROM ops.declare($1, 'x', run => true)", &[&WITH_SEQUENCES]).unwrap();
    assert_eq!(findings(&mut client, &known), [""; 0]);
    // A sequence that no statement creates is unknown.
    let other = "CREATE TABLE public.t (id int); GRANT USAGE ON SEQUENCE public.t_id_seq TO anon";
    let error = client.execute("SELECT FROM ops.declare($1, 'x')", &[&other]).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "relation public.t_id_seq is neither declared nor there");
    assert_eq!(error.hint(), Some("Put CREATE SEQUENCE public.t_id_seq; before the statement."));
}

#[test]
fn hint_about_executed_statements_is_the_call_to_run_again() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("again");
    let by_default = "SET dragonfly_guard.mode = off;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO authenticated;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO authenticated;
        RESET dragonfly_guard.mode";
    attempt(&mut client, by_default).unwrap();
    let known = findings(&mut client, &[]);
    let run = "SELECT FROM ops.declare($1, 'x', run => true)";
    let error = client.execute(run, &[&WITH_SEQUENCES]).unwrap_err();
    let hint = format!("HINT:  {}", error.as_db_error().unwrap().hint().unwrap());
    for choice in ["HINT:  Run: ", "If this is intended, declare it in the same call: "] {
        let (_, rest) = hint.split_once(choice).unwrap_or_else(|| panic!("{choice}: {hint}"));
        assert!(rest.starts_with("SELECT * FROM ops.declare('CREATE TABLE "), "{hint}");
        let call = declare_call(rest).expect(&hint);
        attempt(&mut client, "BEGIN").unwrap();
        attempt(&mut client, &call).unwrap_or_else(|error| panic!("{call}: {error:?}"));
        assert_eq!(findings(&mut client, &known), [""; 0], "{call}");
        attempt(&mut client, "ROLLBACK").unwrap();
    }
}

#[test]
fn notice_counts_the_findings_after_the_statements() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("counted");
    // An object that is declared and missing would be a finding.
    let sql = "SELECT FROM ops.declare('CREATE SEQUENCE public.numbers; \
               GRANT ALL ON SEQUENCE public.numbers TO service_role', 'x', run => true)";
    let count = "SELECT count(*)::text FROM ops.audit_security()";
    let known = column(&mut client, count).remove(0);
    let output = cluster.client_program("psql", &["-X", "-d", "counted", "-c", sql]);
    let notices = String::from_utf8_lossy(&output.stderr);
    let expected = format!("is in force: {known} findings, 0 added and 0 removed");
    assert!(notices.contains(&expected), "{notices}");
    assert_eq!(column(&mut client, count), [known]);
}

#[test]
fn accepted_finding_is_none_and_one_that_no_contract_allows_says_what_to_do() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("accept");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT UPDATE ON public.judgments TO authenticated; \
             CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    let fingerprint = |client: &mut Client, rule: &str| {
        let query = format!(
            "SELECT fingerprint FROM ops.audit_security(ARRAY['{rule}']) \
             WHERE object IN ('public.judgments', 'public.f()')"
        );
        column(client, &query)
    };
    let found = fingerprint(&mut client, "direct_write");
    assert_eq!(found.len(), 1);
    let accept = format!("SELECT change FROM ops.accept('{}', 'reviewed')", found[0]);
    let changes = column(&mut client, &accept);
    assert!(
        changes.contains(&"~ tables[public.judgments].grants.authenticated: +UPDATE".to_owned()),
        "{changes:?}"
    );
    assert_eq!(fingerprint(&mut client, "direct_write"), [""; 0]);
    let found = fingerprint(&mut client, "security_definer_search_path").remove(0);
    let error = attempt(&mut client, &format!("SELECT FROM ops.accept('{found}', 'x')"));
    let error = error.unwrap_err();
    assert_eq!(error.message, "no contract can allow this finding");
    assert!(error.hint.contains("SET search_path"), "{error:?}");
    let error = attempt(&mut client, "SELECT FROM ops.accept('none', 'x')").unwrap_err();
    assert_eq!(error.message, "no finding has fingerprint \"none\"");
}
