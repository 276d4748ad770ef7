//! After the calls in the HINT of a rejection or a WARNING, the statement passes, outside of a
//! transaction block as most clients send it, and no finding is left.
//! Where no contract can allow the statement, the HINT says what to do instead.

use dragonfly_core::rules::RULES;
use dragonfly_tests::hints::Hint;
use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;

/// The default privileges of every Supabase database.
const OPEN_DEFAULTS: &str = "SET dragonfly_guard.mode = off;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated";

/// Returns the findings that are not `known`.
fn findings(client: &mut Client, known: &[String]) -> Vec<String> {
    let query = "SELECT concat_ws(' ', severity, rule, object, role_name, detail) \
                 FROM ops.audit_security(min_severity => 'warning')";
    column(client, query).into_iter().filter(|one| !known.contains(one)).collect()
}

/// A statement, sent by psql outside of a transaction block: its exit status and messages.
fn send(cluster: &Cluster, sql: &str) -> (bool, String) {
    let output = cluster.client_program("psql", &["-X", "-q", "-d", "tried", "-c", sql]);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the HINT of each message of psql that has one.
fn hints(messages: &str) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    let mut is_hint = false;
    for line in messages.lines() {
        if let Some(hint) = line.strip_prefix("HINT:  ") {
            is_hint = true;
            hints.push(hint.to_owned());
        } else if ["ERROR:", "WARNING:", "NOTICE:", "DETAIL:", "CONTEXT:"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            is_hint = false;
        } else if let Some(hint) = hints.last_mut().filter(|_| is_hint) {
            *hint += "\n";
            *hint += line;
        }
    }
    hints
}

/// Returns what the HINTs of several messages say together.
fn read(messages: &str) -> Hint {
    let mut all = Hint::default();
    for hint in hints(messages).iter().map(|hint| Hint::read(hint)) {
        let Hint { calls, afterwards, together, instead } = hint;
        all.together += &together;
        let new: Vec<String> = calls.into_iter().filter(|one| !all.calls.contains(one)).collect();
        all.calls.extend(new);
        all.instead = all.instead.or(instead);
        if !all.afterwards.contains(&afterwards) {
            all.afterwards += &afterwards;
        }
    }
    all
}

/// Follows the HINTs of a statement in a copy of database `template`. Returns what is wrong with
/// them; the number of calls, where nothing is.
fn follow(cluster: &Cluster, template: &str, sql: &str) -> Result<usize, String> {
    let mut admin = cluster.connect("postgres", dragonfly_tests::SUPERUSER);
    attempt(&mut admin, "DROP DATABASE IF EXISTS tried WITH (FORCE)").unwrap();
    attempt(&mut admin, &format!("CREATE DATABASE tried TEMPLATE {template}")).unwrap();
    let mut client = cluster.connect("tried", dragonfly_tests::SUPERUSER);
    let known = findings(&mut client, &[]);
    let mut said = String::new();
    let mut count = 0;
    for _ in 0..4 {
        let (passed, messages) = send(cluster, sql);
        said += &messages;
        let Hint { calls, afterwards, together, .. } = read(&messages);
        count += calls.len() + usize::from(!afterwards.is_empty());
        if calls.is_empty() && !passed {
            return Err(format!("no call:\n{said}"));
        }
        if count == 0 {
            return Ok(0);
        }
        for call in calls {
            if let Err(error) = attempt(&mut client, &call) {
                return Err(format!("{call}\nfails: {error:?}\n{said}"));
            }
        }
        let then = if passed { String::new() } else { format!("{sql}; {together}") };
        if !passed && !send(cluster, &then).0 {
            continue;
        }
        if let Err(error) = attempt(&mut client, &afterwards) {
            return Err(format!("{afterwards}\nfails: {error:?}\n{said}"));
        }
        let left = findings(&mut client, &known);
        return if left.is_empty() {
            Ok(count)
        } else {
            Err(format!("leaves {left:#?}\nafter {afterwards}\n{said}"))
        };
    }
    Err(format!("is rejected in spite of its calls:\n{said}"))
}

/// Statements that the guard rejects or warns about, and that a contract can allow, with an
/// exemption where it alone cannot.
const ALLOWED: [&str; 36] = [
    "REVOKE SELECT ON public.judgments FROM authenticated",
    "REVOKE EXECUTE ON FUNCTION api.get_ceo_metrics() FROM authenticated",
    "REVOKE USAGE ON SCHEMA api FROM anon",
    "GRANT SELECT ON public.bare TO authenticated",
    "GRANT SELECT ON public.plain_view TO anon",
    "GRANT SELECT ON public.counted TO anon",
    "DROP POLICY read ON public.looked_up",
    "ALTER VIEW public.invoking RESET (security_invoker)",
    "CREATE OR REPLACE VIEW public.invoking AS SELECT 2 AS id",
    "ALTER TABLE public.judgments DROP COLUMN stage CASCADE",
    "ALTER FUNCTION api.get_ceo_metrics() SECURITY INVOKER",
    "ALTER FUNCTION api.get_ceo_metrics() RENAME TO metrics",
    "ALTER TABLE public.looked_up DISABLE ROW LEVEL SECURITY",
    "GRANT CREATE ON SCHEMA api TO authenticated",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC",
    "GRANT ALL ON public.judgments TO anon",
    "CREATE TABLE public.notes (id bigint PRIMARY KEY)",
    "CREATE TABLE public.notes (id bigserial PRIMARY KEY)",
    "CREATE VIEW public.notes AS SELECT 1 AS id",
    "CREATE MATERIALIZED VIEW public.notes AS SELECT 1 AS id",
    "CREATE SEQUENCE public.notes",
    "CREATE FUNCTION public.f(a text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION public.f(a text) RETURNS int LANGUAGE sql SECURITY DEFINER \
     SET search_path = pg_catalog, pg_temp AS 'SELECT 1'",
    "CREATE PROCEDURE public.f() LANGUAGE sql AS 'SELECT 1'",
    "CREATE POLICY open ON public.looked_up FOR SELECT TO authenticated USING (true)",
    "DROP TABLE public.judgments CASCADE",
    "GRANT SELECT ON public.bare TO reports",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO reports",
    "GRANT EXECUTE ON FUNCTION api.get_ceo_metrics() TO reports",
    "GRANT USAGE ON SCHEMA api TO reports",
    "CREATE SCHEMA more; GRANT USAGE ON SCHEMA more TO anon",
    "CREATE SCHEMA more; CREATE TABLE more.t (id int); GRANT USAGE ON SCHEMA more TO anon; \
     GRANT SELECT ON more.t TO anon",
    "CREATE POLICY idle ON public.bare FOR SELECT TO service_role USING (true)",
    "GRANT EXECUTE ON FUNCTION api.get_ceo_metrics() TO PUBLIC",
    "GRANT SELECT ON public.opened TO anon",
    "CREATE TABLE ops.more (id int)",
];

/// Objects that the contract of the document does not declare, and two that it then does.
const SETUP: &str = "
    CREATE ROLE reports;
    CREATE TABLE public.bare (id int);
    SET dragonfly_guard.mode = off;
    CREATE TABLE public.opened (id int);
    ALTER TABLE public.opened ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON public.opened TO PUBLIC;
    GRANT ALL ON public.opened TO service_role;
    RESET dragonfly_guard.mode;
    CREATE VIEW public.plain_view AS SELECT 1 AS id;
    CREATE MATERIALIZED VIEW public.counted AS SELECT 1 AS id;
    GRANT ALL ON public.bare, public.plain_view, public.counted TO service_role;
    SELECT FROM ops.declare('CREATE VIEW public.invoking WITH (security_invoker) AS SELECT 1 AS id;
        GRANT SELECT ON public.invoking TO authenticated;
        GRANT ALL ON public.invoking TO service_role;
        GRANT UPDATE (stage) ON public.judgments TO authenticated;
        CREATE TABLE public.looked_up (id int);
        ALTER TABLE public.looked_up ENABLE ROW LEVEL SECURITY;
        CREATE POLICY read ON public.looked_up FOR SELECT TO authenticated USING (id > 0);
        GRANT SELECT ON public.looked_up TO authenticated;
        GRANT ALL ON public.looked_up TO service_role', 'test', run => true)";

/// Follows the HINTs of all statements, in copies of the document's database with `setup`.
fn follow_all(setup: &[&str]) {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("document");
    for sql in [SETUP, OPEN_DEFAULTS].iter().chain(setup) {
        client.batch_execute(sql).unwrap();
    }
    drop(client);
    let mut failed = Vec::new();
    for sql in ALLOWED {
        match follow(&cluster, "document", sql) {
            Ok(0) => failed.push(format!("{sql}\nhas no call")),
            Ok(_) => {}
            Err(error) => failed.push(format!("{sql}\n{error}")),
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn calls_of_the_hints_let_the_statement_pass_and_leave_no_finding() {
    follow_all(&[]);
}

#[test]
fn calls_of_warnings_leave_no_finding() {
    follow_all(&["SELECT FROM ops.declare('SET contract.enforcement = warn', 'test')"]);
}

/// Every rule's example of a violation, with what is said where no contract can allow it.
#[test]
fn hints_about_the_examples_of_the_rules_have_a_call_or_another_action() {
    let cluster = Cluster::start();
    drop(cluster.guarded_document("document"));
    let mut failed = Vec::new();
    for rule in RULES {
        match follow(&cluster, "document", rule.example.violating) {
            Ok(_) => {}
            // What the server itself does not allow is no rejection.
            Err(error)
                if error.starts_with("no call")
                    && (error.contains("\nHINT:  ") || !error.contains(" Rule ")) => {}
            Err(error) => failed.push(format!("{}: {}\n{error}", rule.id, rule.example.violating)),
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n\n"));
}

/// A database with an adopted contract, in which exemptions are about what clients may do.
const ADOPTED: &str = "CREATE SCHEMA sales; CREATE SCHEMA crm;
    GRANT USAGE ON SCHEMA public, sales TO authenticated, service_role;
    CREATE TABLE public.invoices (id int PRIMARY KEY);
    CREATE TABLE sales.order_lines (id int PRIMARY KEY);
    CREATE VIEW public.shown AS SELECT 1 AS id;
    CREATE MATERIALIZED VIEW public.counted AS SELECT 1 AS id;
    CREATE SEQUENCE public.numbers;
    GRANT SELECT, INSERT, UPDATE ON public.invoices TO authenticated;
    GRANT SELECT ON sales.order_lines, public.shown, public.counted TO authenticated;
    GRANT ALL ON sales.order_lines, public.invoices TO service_role;
    GRANT USAGE ON SEQUENCE public.numbers TO authenticated;
    CREATE FUNCTION public.total_due() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE PROCEDURE public.close_year() LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION sales.cancel(a int) RETURNS int LANGUAGE sql SECURITY DEFINER
        SET search_path = sales, pg_temp AS 'SELECT 1';
    CREATE FUNCTION sales.ship(a int) RETURNS int LANGUAGE sql SECURITY DEFINER
        SET search_path = sales, pg_temp AS 'SELECT 1';
    REVOKE EXECUTE ON FUNCTION sales.ship(int) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION sales.ship(int) TO authenticated;
    CREATE TABLE sales.notes (id int PRIMARY KEY, owner text NOT NULL, shown boolean NOT NULL);
    CREATE INDEX ON sales.notes (owner);
    ALTER TABLE sales.notes ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON sales.notes TO authenticated;
    CREATE POLICY own ON sales.notes FOR SELECT TO authenticated
        USING (shown OR owner = (SELECT current_setting('request.jwt.claims', true)::json->>'sub'));
    CREATE EXTENSION dragonfly_guard;
    SELECT FROM ops.adopt(ARRAY['public', 'sales'], dry_run => false, reason => 'test')";

/// Statements that give declared objects another name or drop declared columns, with the
/// declarations that allow it.
const RENAMES: [(&str, &str); 17] = [
    (
        "ALTER FUNCTION public.total_due() RENAME TO total_open",
        "'ALTER ROUTINE public.total_due() RENAME TO total_open'",
    ),
    (
        "ALTER FUNCTION public.total_due() SET SCHEMA sales",
        "'ALTER ROUTINE public.total_due() SET SCHEMA sales'",
    ),
    (
        "ALTER PROCEDURE public.close_year() RENAME TO close_all",
        "'ALTER ROUTINE public.close_year() RENAME TO close_all'",
    ),
    ("ALTER VIEW public.shown RENAME TO seen", "'ALTER VIEW public.shown RENAME TO seen'"),
    (
        "ALTER MATERIALIZED VIEW public.counted RENAME TO sums",
        "'ALTER MATERIALIZED VIEW public.counted RENAME TO sums'",
    ),
    (
        "ALTER SEQUENCE public.numbers SET SCHEMA sales",
        "'ALTER SEQUENCE public.numbers SET SCHEMA sales'",
    ),
    (
        "ALTER TABLE public.invoices RENAME TO bills",
        "'ALTER TABLE public.invoices RENAME TO bills'",
    ),
    (
        "ALTER TABLE sales.order_lines SET SCHEMA crm",
        "'CREATE SCHEMA crm; ALTER TABLE sales.order_lines SET SCHEMA crm'",
    ),
    (
        "ALTER FUNCTION public.total_due() SET SCHEMA crm",
        "'CREATE SCHEMA crm; ALTER ROUTINE public.total_due() SET SCHEMA crm'",
    ),
    ("ALTER SCHEMA sales RENAME TO commerce", "'ALTER SCHEMA sales RENAME TO commerce'"),
    (
        "ALTER TABLE sales.notes RENAME COLUMN owner TO holder",
        "'ALTER TABLE sales.notes RENAME COLUMN owner TO holder'",
    ),
    (
        "ALTER TABLE sales.notes RENAME COLUMN shown TO \"Shown\"",
        "'ALTER TABLE sales.notes RENAME COLUMN shown TO \"Shown\"'",
    ),
    (
        "ALTER TABLE sales.notes RENAME TO remarks;
         ALTER TABLE sales.remarks RENAME COLUMN shown TO visible",
        "'ALTER TABLE sales.notes RENAME TO remarks; \
          ALTER TABLE sales.remarks RENAME COLUMN shown TO visible'",
    ),
    (
        "ALTER TABLE sales.notes RENAME TO moved;
         ALTER TABLE sales.order_lines RENAME TO notes;
         ALTER TABLE sales.moved RENAME TO order_lines",
        "'ALTER TABLE sales.notes RENAME TO notes_1; \
          ALTER TABLE sales.order_lines RENAME TO notes; \
          ALTER TABLE sales.notes_1 RENAME TO order_lines'",
    ),
    (
        "ALTER TABLE sales.order_lines RENAME TO order_lines_old;
         ALTER TABLE sales.notes RENAME TO order_lines",
        "'ALTER TABLE sales.order_lines RENAME TO order_lines_old; \
          ALTER TABLE sales.notes RENAME TO order_lines'",
    ),
    (
        "DROP TABLE sales.order_lines; ALTER TABLE sales.notes RENAME TO order_lines",
        "'DROP TABLE sales.order_lines; ALTER TABLE sales.notes RENAME TO order_lines'",
    ),
    (
        "ALTER TABLE sales.notes DROP COLUMN shown CASCADE;
         CREATE POLICY own ON sales.notes FOR SELECT TO authenticated USING
            (owner = (SELECT current_setting('request.jwt.claims', true)::json->>'sub'))",
        "'ALTER TABLE sales.notes RESET (contract.open_rows)'",
    ),
];

/// Follows the HINT of a rename in a copy of database `adopted`, then those of its WARNINGs about
/// exemptions that have ended. Returns what is wrong with them.
fn follow_rename(cluster: &Cluster, sql: &str, declared: &str) -> Result<(), String> {
    let mut admin = cluster.connect("postgres", dragonfly_tests::SUPERUSER);
    attempt(&mut admin, "DROP DATABASE IF EXISTS tried WITH (FORCE)").unwrap();
    attempt(&mut admin, "CREATE DATABASE tried TEMPLATE adopted").unwrap();
    let mut client = cluster.connect("tried", dragonfly_tests::SUPERUSER);
    let known = findings(&mut client, &[]);
    let (passed, said) = send(cluster, sql);
    let Hint { calls, instead, .. } = read(&said);
    let declarations: Vec<&String> = calls.iter().filter(|c| c.contains("ops.declare(")).collect();
    if passed || declarations.len() != 1 || !declarations[0].contains(declared) {
        return Err(format!("no call with {declared}:\n{said}"));
    }
    for call in &calls {
        attempt(&mut client, call).map_err(|error| format!("{call} fails: {error:?}\n{said}"))?;
    }
    let (passed, warned) = send(cluster, instead.as_deref().unwrap_or(sql));
    if !passed {
        return Err(format!("is rejected in spite of {calls:?}:\n{warned}"));
    }
    for call in read(&warned).calls.iter().filter(|call| call.starts_with("SELECT ops.exempt('")) {
        attempt(&mut client, call).map_err(|error| format!("{call} fails: {error:?}\n{warned}"))?;
    }
    match findings(&mut client, &known) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("leaves {left:#?}\n{said}\n{warned}")),
    }
}

#[test]
fn renamed_object_keeps_its_declarations_and_exemptions_by_the_calls_of_the_hints() {
    let cluster = Cluster::start();
    let mut admin = cluster.connect("postgres", dragonfly_tests::SUPERUSER);
    admin.batch_execute("CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS").unwrap();
    admin.batch_execute("CREATE DATABASE adopted").unwrap();
    cluster.connect("adopted", dragonfly_tests::SUPERUSER).batch_execute(ADOPTED).unwrap();
    let failed: Vec<String> = RENAMES
        .iter()
        .filter_map(|(sql, declared)| {
            let error = follow_rename(&cluster, sql, declared).err()?;
            Some(format!("{sql}\n{error}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n\n"));
}
