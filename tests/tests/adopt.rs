//! A new user with an application that the extension does not know: `ops.adopt()` and the commands
//! that it shows lead from CREATE EXTENSION to a green assert, nothing that worked stops working,
//! and later migrations are allowed, or rejected and approved.

use dragonfly_tests::attempts::{Attempts, attempts};
use dragonfly_tests::hints::Hint;
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, declare_call};
use postgres::Client;

/// An application with its contract as `ops.adopt()` infers it, and what happens afterwards.
struct Application {
    fixtures: &'static [&'static str],
    /// The schemas of the contract.
    schemas: &'static [&'static str],
    roles: &'static [&'static str],
    /// The roles of the contract with their kinds.
    kinds: &'static [&'static str],
    /// The role that runs the migrations.
    owner: &'static str,
    migrations: &'static [Migration],
}

/// A migration, and the rule by which it is rejected, if it is.
struct Migration {
    sql: &'static str,
    rejected_by: Option<&'static str>,
    /// Rules and objects to exempt, so that the migration passes or the assert does.
    approved: &'static [(&'static str, &'static str)],
}

const fn allowed(sql: &'static str) -> Migration {
    Migration { sql, rejected_by: None, approved: &[] }
}

const fn rejected(
    rule: &'static str,
    sql: &'static str,
    approved: &'static [(&'static str, &'static str)],
) -> Migration {
    Migration { sql, rejected_by: Some(rule), approved }
}

const GARDEN_ROLES: &[&str] = &[
    "anon client",
    "authenticated client",
    "authenticator login",
    "postgres owner",
    "service_role worker",
];

const WITH_DEFAULTS: Application = Application {
    fixtures: &["supabase", "garden"],
    schemas: &["public"],
    roles: &["anon", "authenticated", "service_role"],
    kinds: GARDEN_ROLES,
    owner: "postgres",
    migrations: &[
        allowed("ALTER TABLE public.plots ADD COLUMN size numeric"),
        // Default privileges open each new table.
        rejected(
            "table_privileges",
            "CREATE TABLE public.tools (id bigserial PRIMARY KEY, name text)",
            &[
                ("table_privileges", "public.tools"),
                ("sequence_privileges", "public.tools_id_seq"),
                ("direct_write", "public.tools"),
                ("rls_disabled", "public.tools"),
            ],
        ),
        allowed(
            "CREATE TABLE public.visits (id int PRIMARY KEY, at date);
             ALTER TABLE public.visits ENABLE ROW LEVEL SECURITY;
             REVOKE ALL ON public.visits FROM anon, authenticated",
        ),
        rejected(
            "rls_disabled",
            "ALTER TABLE public.posts DISABLE ROW LEVEL SECURITY",
            &[("rls_disabled", "public.posts"), ("rls_policy_missing", "public.posts")],
        ),
        allowed("CREATE INDEX ON public.bookings (member)"),
        allowed("ALTER TABLE public.settings ENABLE ROW LEVEL SECURITY"),
        rejected(
            "direct_write",
            "CREATE VIEW public.members AS SELECT name FROM public.profiles",
            &[("direct_write", "public.members"), ("undeclared_view_readable", "public.members")],
        ),
        allowed("ALTER TABLE public.bookings ADD COLUMN note text"),
        rejected(
            "table_privileges",
            "GRANT SELECT ON public.visits TO authenticated",
            &[("table_privileges", "public.visits")],
        ),
        allowed("ALTER FUNCTION public.book(bigint, daterange) SET search_path = public, pg_temp"),
    ],
};

const WITHOUT_DEFAULTS: Application = Application {
    fixtures: &["supabase", "supabase_without_defaults", "garden", "garden_grants"],
    schemas: &["public"],
    roles: &["anon", "authenticated", "service_role"],
    kinds: GARDEN_ROLES,
    owner: "postgres",
    migrations: &[
        // The worker has all privileges on all objects, but not on new ones: they are declared one
        // by one.
        allowed("CREATE TABLE public.seeds (id bigserial PRIMARY KEY, name text)"),
        rejected(
            "table_privileges",
            "CREATE TABLE public.tools (id bigserial PRIMARY KEY, name text);
             GRANT ALL ON public.tools TO service_role;
             GRANT ALL ON SEQUENCE public.tools_id_seq TO service_role",
            &[],
        ),
        rejected(
            "table_privileges",
            "GRANT SELECT ON public.tools TO anon",
            &[("table_privileges", "public.tools"), ("rls_disabled", "public.tools")],
        ),
        allowed("ALTER TABLE public.plots ADD COLUMN size numeric"),
        rejected(
            "rls_policy_always_true",
            "CREATE POLICY everyone ON public.bookings FOR SELECT TO authenticated USING (true)",
            &[("rls_policy_always_true", "everyone on public.bookings")],
        ),
        rejected(
            "direct_write",
            "GRANT TRUNCATE ON public.bookings TO authenticated",
            &[("direct_write", "public.bookings")],
        ),
        allowed("ALTER TABLE public.settings ENABLE ROW LEVEL SECURITY"),
        allowed("ALTER TABLE public.bookings ADD COLUMN note text"),
        rejected(
            "rls_disabled",
            "ALTER TABLE public.posts DISABLE ROW LEVEL SECURITY",
            &[("rls_disabled", "public.posts"), ("rls_policy_missing", "public.posts")],
        ),
        rejected(
            "view_privileges",
            "CREATE VIEW public.members AS SELECT name FROM public.profiles;
             GRANT ALL ON public.members TO service_role",
            &[],
        ),
    ],
};

const SHOP: Application = Application {
    fixtures: &["shop"],
    schemas: &["api", "auth", "data", "public"],
    roles: &["web_anon", "app_user", "worker"],
    kinds: &[
        "app_user client",
        "rest login",
        "shop_owner owner",
        "web_anon client",
        "worker worker",
    ],
    owner: "shop_owner",
    migrations: &[
        allowed("CREATE TABLE data.suppliers (id serial PRIMARY KEY, name text)"),
        allowed(
            "CREATE TABLE data.orders_2027 PARTITION OF data.orders
               FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        ),
        rejected(
            "table_privileges",
            "GRANT SELECT ON data.customers TO app_user",
            &[("table_privileges", "data.customers"), ("rls_disabled", "data.customers")],
        ),
        allowed("CREATE VIEW api.suppliers AS SELECT name FROM data.suppliers"),
        rejected(
            "rls_policy_always_true",
            "CREATE POLICY everyone ON data.orders TO app_user USING (true)",
            &[("rls_policy_always_true", "everyone on data.orders")],
        ),
        allowed("ALTER TABLE data.products ADD COLUMN weight numeric"),
        rejected(
            "rls_disabled",
            "ALTER TABLE data.orders DISABLE ROW LEVEL SECURITY",
            &[("rls_disabled", "data.orders"), ("rls_policy_missing", "data.orders")],
        ),
        allowed(
            "CREATE FUNCTION api.total(customer int) RETURNS numeric LANGUAGE sql STABLE
               AS 'SELECT sum(total) FROM data.orders'",
        ),
        allowed("ALTER FUNCTION api.old_login(text) SET search_path = data, pg_temp"),
        rejected(
            "direct_write",
            "GRANT TRUNCATE ON data.orders TO app_user",
            &[("direct_write", "data.orders")],
        ),
    ],
};

impl Application {
    /// Returns a connection to the application's database, which does not have the extension.
    fn start(&self, cluster: &Cluster) -> Client {
        cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
        for fixture in self.fixtures {
            cluster.psql_file("app", &format!("fixtures/adopt/{fixture}.sql"));
        }
        let mut client = cluster.connect("app", SUPERUSER);
        client.batch_execute("SET client_min_messages = error").unwrap();
        client
    }

    fn attempts(&self, cluster: &Cluster) -> Attempts {
        attempts(&mut cluster.connect("app", SUPERUSER), self.schemas, self.roles)
    }
}

/// Returns the details of the summary's lines about a topic.
fn details(client: &mut Client, call: &str, topic: &str) -> Vec<String> {
    let rows = client.query(call, &[]).unwrap_or_else(|error| panic!("{call}: {error:?}"));
    let rows = rows.iter().filter(|row| row.get::<_, String>(0) == topic);
    rows.map(|row| row.get(1)).collect()
}

/// Runs `call` and returns what its summary names as the next command.
fn next(client: &mut Client, call: &str) -> String {
    let next = details(client, call, "next");
    assert_eq!(next.len(), 1, "{call}: {next:?}");
    next[0].clone()
}

/// Runs a migration with psql as the owner. Returns whether it succeeded, and the messages.
fn migrate(cluster: &Cluster, owner: &str, sql: &str) -> (bool, String) {
    let arguments = ["-X", "-U", owner, "-d", "app", "-v", "ON_ERROR_STOP=1", "-1", "-c", sql];
    let output = cluster.client_program("psql", &arguments);
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// The end of the HINT of the WARNING about exemptions that end.
const RENEWAL: &str = " still acceptable, run: ";

/// From CREATE EXTENSION to a green assert with the commands that the summaries show.
fn adopt(client: &mut Client) {
    attempt(client, "CREATE EXTENSION dragonfly_guard").unwrap();
    let call = next(client, "SELECT * FROM ops.adopt()");
    assert_eq!(column(client, "SELECT count(*)::text FROM ops.contract_history"), ["1"]);
    let assert = next(client, &call);
    assert_eq!(assert, "SELECT ops.assert_security();");
    attempt(client, &assert).unwrap();
    attempt(client, "SELECT ops.assert_security('warning')").unwrap();
}

fn story(application: &Application) {
    let cluster = Cluster::start();
    let client = &mut application.start(&cluster);
    let before = application.attempts(&cluster);
    adopt(client);
    let kinds = "SELECT concat_ws(' ', r->>'name', r->>'kind')
        FROM jsonb_array_elements(ops.contract()->'roles') AS r ORDER BY 1";
    assert_eq!(column(client, kinds), application.kinds);
    let schemas =
        "SELECT s->>'name' FROM jsonb_array_elements(ops.contract()->'schemas') AS s ORDER BY 1";
    assert_eq!(column(client, schemas), application.schemas);
    let after = application.attempts(&cluster);
    let changed = after
        .iter()
        .filter(|(key, now)| now.is_more_than(&before[*key]) || now.is_less_than(&before[*key]));
    assert_eq!(changed.collect::<Vec<_>>(), []);
    assert_eq!(application.migrations.len(), 10);
    for Migration { sql, rejected_by, approved } in application.migrations {
        let (mut succeeded, mut messages) = migrate(&cluster, application.owner, sql);
        if let Some(rule) = rejected_by {
            assert!(!succeeded && messages.contains(&format!("Rule {rule}")), "{sql}: {messages}");
            while declare_call(&messages).is_some() && !succeeded {
                let Hint { calls, afterwards, instead, together } = Hint::read(&messages);
                for call in calls {
                    attempt(client, &call).unwrap_or_else(|error| panic!("{call}: {error:?}"));
                }
                let sql = instead.unwrap_or_else(|| format!("{sql}; {together}"));
                (succeeded, messages) = migrate(&cluster, application.owner, &sql);
                if succeeded {
                    attempt(client, &afterwards).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
                }
            }
            for (rule, object) in approved.iter().filter(|_| !succeeded) {
                let approval = format!(
                    "SELECT ops.exempt(rule => '{rule}', object => '{object}',
                                       reason => 'Ticket 1', expires_at => now() + '1 month')"
                );
                attempt(client, &approval).unwrap_or_else(|error| panic!("{approval}: {error:?}"));
            }
            if !succeeded {
                (succeeded, messages) = migrate(&cluster, application.owner, sql);
            }
        }
        assert!(succeeded, "{sql}: {messages}");
        for line in messages.lines() {
            if let Some((_, renewal)) = line.split_once(RENEWAL) {
                attempt(client, renewal).unwrap_or_else(|error| panic!("{renewal}: {error:?}"));
            }
        }
        attempt(client, "SELECT ops.assert_security()")
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

#[test]
fn supabase_with_default_privileges_is_adopted_and_lives_on() {
    story(&WITH_DEFAULTS);
}

#[test]
fn supabase_without_default_privileges_is_adopted_and_lives_on() {
    story(&WITHOUT_DEFAULTS);
}

#[test]
fn postgrest_with_own_names_and_an_owner_that_is_no_superuser_is_adopted_and_lives_on() {
    story(&SHOP);
}

#[test]
fn summary_fits_the_screen_and_its_commands_undo_everything() {
    let cluster = Cluster::start();
    let client = &mut WITH_DEFAULTS.start(&cluster);
    attempt(client, "CREATE EXTENSION dragonfly_guard").unwrap();
    let state = "SELECT ops.contract()::text UNION ALL SELECT fingerprint FROM ops.audit_security()
        UNION ALL SELECT status FROM ops.v_exemptions WHERE status <> 'withdrawn'";
    let before = column(client, state);
    for call in ["SELECT * FROM ops.adopt()", "SELECT * FROM ops.adopt(dry_run => false)"] {
        let call = format!("BEGIN; {call}; ROLLBACK");
        let output = cluster.client_program("psql", &["-Xq", "-d", "app", "-c", &call]);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        let screen = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 120), "{screen}");
        assert!(lines.len() <= 20, "{screen}");
    }
    assert_eq!(column(client, state), before);
    let undo = details(client, "SELECT * FROM ops.adopt(dry_run => false)", "undo");
    assert_ne!(column(client, state), before);
    for command in &undo {
        attempt(client, command).unwrap_or_else(|error| panic!("{command}: {error:?}"));
    }
    assert_eq!(column(client, state), before);
}

#[test]
fn next_command_of_a_dry_run_has_the_same_arguments() {
    let cluster = Cluster::start();
    let client = &mut SHOP.start(&cluster);
    attempt(client, "CREATE EXTENSION dragonfly_guard").unwrap();
    let call = next(
        client,
        "SELECT * FROM ops.adopt('{data}', 'strict', name => 'it''s a shop', reason => 'Ticket 7',
                                 expires_in => '10 days')",
    );
    let expected = "SELECT * FROM ops.adopt(ARRAY['data'], mode => 'strict', \
                    name => 'it''s a shop', reason => 'Ticket 7', expires_in => '10 days', \
                    dry_run => false);";
    assert_eq!(call, expected);
    attempt(client, &call).unwrap();
    attempt(client, "SELECT ops.assert_security()").unwrap();
    let adopted = "SELECT concat_ws(' ', version, ops.contract()->>'name', note)
        FROM ops.contract_history ORDER BY id DESC LIMIT 1";
    assert_eq!(column(client, adopted), ["1.1.0 it's a shop Adopted, mode strict: Ticket 7"]);
    let reasons = "SELECT DISTINCT reason || ' ' || (expires_at - now() > '9 days'
                     AND expires_at - now() <= '10 days') FROM ops.v_exemptions";
    assert_eq!(column(client, reasons), ["Ticket 7 true"]);
    // Without an end.
    let call = next(client, "SELECT * FROM ops.adopt(expires_in => NULL)");
    let expected =
        "SELECT * FROM ops.adopt(expires_in => NULL, dry_run => false, replace => true);";
    assert_eq!(call, expected);
}

#[test]
fn one_schema_is_named_as_a_text_and_several_as_an_array() {
    let cluster = Cluster::start();
    let client = &mut SHOP.start(&cluster);
    attempt(client, "CREATE SCHEMA \"My schema\"; CREATE EXTENSION dragonfly_guard").unwrap();
    for (schemas, expected) in [
        ("'data'", "data"),
        ("schemas => 'data'", "data"),
        ("'My schema'", "\"My schema\""),
        ("'{api,data}'", "api, data"),
        ("'{\"My schema\"}'", "\"My schema\""),
        ("ARRAY['api', 'data']", "api, data"),
        ("NULL", "\"My schema\", api, auth, data, public"),
        ("", "\"My schema\", api, auth, data, public"),
    ] {
        let call = format!("SELECT * FROM ops.adopt({schemas})");
        assert_eq!(details(client, &call, "schemas"), [expected], "{call}");
    }
    let error = attempt(client, "SELECT * FROM ops.adopt('api, data')").unwrap_err();
    assert_eq!(error.message, "unrecognized schema \"api, data\"");
    assert_eq!(error.hint, "To name several schemas, use ARRAY['api', 'data'].");
}

#[test]
fn every_function_whose_first_filter_is_schemas_takes_a_text() {
    let cluster = Cluster::start();
    let client = &mut cluster.guarded_document("app");
    for (function, as_array) in [
        ("ops.infer_contract(@)", "ops.infer_contract(ARRAY['public'])"),
        (
            "(SELECT count(*) FROM ops.golden_sql(@))",
            "(SELECT count(*) FROM ops.golden_sql('{public}'))",
        ),
        ("ops.schema_snapshot(@)", "ops.schema_snapshot(ARRAY['public'])"),
        ("ops.schema_fingerprint(@)", "ops.schema_fingerprint(ARRAY['public'])"),
        ("ops.freeze_schema('a', @, replace => true)", "ops.schema_fingerprint(ARRAY['public'])"),
    ] {
        let expected = column(client, &format!("SELECT {as_array}::text"));
        for schemas in ["'public'", "schemas => 'public'", "'{public}'", "'public'::text"] {
            let call = function.replace('@', schemas);
            assert_eq!(column(client, &format!("SELECT {call}::text")), expected, "{call}");
        }
        let call = function.replace('@', "'nowhere'");
        let error = attempt(client, &format!("SELECT {call}")).unwrap_err();
        assert_eq!(error.message, "unrecognized schema \"nowhere\"", "{call}");
    }
    // Without schemas, and with NULL, they are as before.
    for call in [
        "ops.schema_fingerprint()",
        "ops.schema_fingerprint(NULL)",
        "ops.schema_fingerprint(schemas => NULL)",
    ] {
        let all = column(client, "SELECT ops.schema_fingerprint(NULL::name[])");
        assert_eq!(column(client, &format!("SELECT {call}")), all, "{call}");
    }
    attempt(client, "SELECT FROM ops.golden_sql(rules => '{rls_disabled}')").unwrap();
    attempt(client, "SELECT ops.freeze_schema('b')").unwrap();
}

#[test]
fn schema_that_is_created_later_is_reported_where_a_client_can_use_it() {
    let cluster = Cluster::start();
    let client = &mut SHOP.start(&cluster);
    adopt(client);
    let found = "SELECT concat_ws(' ', rule, object, role_name) FROM ops.audit_security()
        WHERE severity <> 'info'";
    attempt(client, "CREATE SCHEMA closed; CREATE TABLE closed.t (a int)").unwrap();
    assert_eq!(column(client, found), [""; 0]);
    let open = "CREATE SCHEMA reports; CREATE TABLE reports.t (a int);
        GRANT USAGE ON SCHEMA reports TO app_user; GRANT SELECT ON reports.t TO app_user";
    attempt(client, open).unwrap();
    assert_eq!(column(client, found), ["ungoverned_schema_access reports app_user"]);
}

#[test]
fn role_of_the_api_is_a_client_and_a_worker_is_shown_with_what_follows() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE tenant_owner; CREATE ROLE tenant_api LOGIN;
            CREATE ROLE tenant_report LOGIN;
            CREATE SCHEMA sales AUTHORIZATION tenant_owner; SET ROLE tenant_owner;
            CREATE TABLE sales.orders (id int PRIMARY KEY, tenant text);
            CREATE TABLE sales.totals (id int PRIMARY KEY, total numeric);
            ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
            CREATE POLICY tenant ON sales.orders USING (tenant = current_setting('app.tenant'));
            GRANT USAGE ON SCHEMA sales TO tenant_api, tenant_report;
            GRANT SELECT, INSERT, UPDATE, DELETE ON sales.orders TO tenant_api;
            GRANT SELECT ON sales.totals TO tenant_report;
            RESET ROLE; CREATE EXTENSION dragonfly_guard",
        )
        .unwrap();
    let client = &mut client;
    let call = "SELECT * FROM ops.adopt('sales')";
    assert_eq!(
        details(client, call, "roles"),
        ["client tenant_api; worker tenant_report; owner tenant_owner"]
    );
    assert_eq!(
        details(client, call, "worker"),
        ["is not limited by row security rules: policies that open all rows to it are no findings"]
    );
    let change =
        details(client, &format!("{}, replace => true)", &call[..call.len() - 1]), "client");
    let [change] = change.as_slice() else { panic!("{change:?}") };
    attempt(client, "SELECT * FROM ops.adopt('sales', dry_run => false)").unwrap();
    for opening in [
        "ALTER POLICY tenant ON sales.orders USING (true)",
        "CREATE POLICY oops ON sales.orders TO tenant_api USING (true)",
    ] {
        let error = attempt(client, opening).unwrap_err();
        assert!(error.message.contains("rls_policy_always_true"), "{opening}: {}", error.message);
    }
    attempt(client, change).unwrap();
    assert_eq!(
        column(
            client,
            "SELECT role->>'kind' FROM jsonb_array_elements(ops.contract()->'roles') AS role
            WHERE role->>'name' = 'tenant_report'"
        ),
        ["client"]
    );
}

#[test]
fn own_contract_is_replaced_only_on_request() {
    let cluster = Cluster::start();
    let client = &mut SHOP.start(&cluster);
    adopt(client);
    attempt(client, "GRANT SELECT ON data.jobs TO app_user").unwrap_err();
    let again = "SELECT * FROM ops.adopt(dry_run => false)";
    let error = attempt(client, again).unwrap_err();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("55000", ALREADY));
    let replace = error.hint.split_once("To replace it: ").unwrap().1;
    attempt(client, replace).unwrap();
    let version = "SELECT concat_ws(' ', ops.contract()->>'name', ops.contract()->>'version')";
    assert_eq!(column(client, version), ["app 1.2.0"]);
    attempt(client, "SELECT ops.assert_security('warning')").unwrap();
    // The shipped contract, back in force, can be replaced again.
    attempt(client, "SELECT ops.rollback_contract('1.0.0')").unwrap();
    attempt(client, again).unwrap();
    assert_eq!(column(client, version), ["app 1.3.0"]);
}

const ALREADY: &str = "contract app 1.1.0 is already in force";

#[test]
fn role_that_was_granted_all_functions_may_only_try() {
    let cluster = Cluster::start();
    let client = &mut WITH_DEFAULTS.start(&cluster);
    attempt(client, "CREATE EXTENSION dragonfly_guard").unwrap();
    let owner = &mut cluster.connect("app", "postgres");
    let call = next(owner, "SELECT * FROM ops.adopt()");
    let error = attempt(owner, &call).unwrap_err();
    assert_eq!(error.code, "42501", "{error:?}");
    let grant = error.hint.split_once("As a superuser: ").unwrap().1;
    attempt(client, grant).unwrap();
    attempt(owner, &call).unwrap();
    attempt(owner, "SELECT ops.assert_security()").unwrap();
}

#[test]
fn owner_that_is_no_superuser_deploys_and_after_one_grant_approves() {
    let cluster = Cluster::start();
    let client = &mut SHOP.start(&cluster);
    attempt(client, "CREATE EXTENSION dragonfly_guard").unwrap();
    let call = "SELECT * FROM ops.adopt(dry_run => false)";
    assert_eq!(
        details(client, "SELECT * FROM ops.adopt()", "audit"),
        ["superusers, pg_monitor, shop_owner; others: \"permission denied for schema ops\""]
    );
    assert_eq!(
        details(client, "SELECT * FROM ops.adopt()", "approve"),
        ["superusers; to allow another role, as a superuser:"]
    );
    let grants = details(client, call, "grant");
    assert_eq!(column(client, "SELECT ops.contract()->>'deployers'"), [r#"["shop_owner"]"#]);
    let owner = &mut cluster.connect("app", "shop_owner");
    attempt(owner, "SELECT ops.assert_security()").unwrap();
    attempt(owner, "SELECT * FROM ops.try_migration('SELECT 1')").unwrap();
    let grant = "GRANT SELECT ON data.products TO worker";
    let (_, messages) = migrate(&cluster, "shop_owner", grant);
    let approval = declare_call(&messages).expect("the HINT has a call");
    let error = attempt(owner, &approval).unwrap_err();
    // One grant is sufficient, and it is the one that the summary shows.
    let shown = error.hint.split_once("As a superuser: ").unwrap().1;
    assert_eq!(grants.iter().map(|g| g.replace("\n  ", " ")).collect::<Vec<_>>(), [shown]);
    attempt(client, &grants[0]).unwrap();
    let again = "SELECT * FROM ops.adopt(replace => true)";
    assert_eq!(details(client, again, "approve"), ["superusers, shop_owner"]);
    assert_eq!(details(client, again, "grant"), [""; 0]);
    attempt(owner, &approval).unwrap();
    let (succeeded, messages) = migrate(&cluster, "shop_owner", grant);
    assert!(succeeded, "{messages}");
    let exempt = "SELECT ops.exempt(rule => 'rls_disabled', object => 'data.*', reason => 'x')";
    attempt(owner, exempt).unwrap();
    attempt(owner, "SELECT ops.unexempt(id => max(id)) FROM ops.v_exemptions").unwrap();
    // The former deployers are back with the former contract.
    attempt(client, "SELECT ops.rollback_contract('1.0.0')").unwrap();
    let error = attempt(owner, "SELECT ops.assert_security()").unwrap_err();
    assert_eq!(error.code, "42501", "{error:?}");
}

#[test]
fn argument_without_an_answer_is_an_error() {
    let cluster = Cluster::start();
    let client = &mut cluster.guarded("app");
    for (call, code, message) in [
        ("SELECT ops.adopt('{}')", "22023", "schemas must not be empty"),
        ("SELECT ops.adopt('')", "22023", "schemas must not be empty"),
        ("SELECT ops.adopt('nowhere')", "22023", "unrecognized schema \"nowhere\""),
        ("SELECT ops.adopt('{public,NULL}')", "22004", "schemas must not contain nulls"),
        ("SELECT ops.adopt('{public')", "22P02", "malformed array literal: \"{public\""),
        ("SELECT ops.adopt('{nowhere}')", "22023", "unrecognized schema \"nowhere\""),
        ("SELECT ops.adopt(mode => 'lax')", "22023", "unrecognized mode \"lax\""),
        ("SELECT ops.adopt('pg_catalog')", "22023", "schema \"pg_catalog\" belongs to the server"),
        (
            "SELECT ops.adopt('{public,information_schema}')",
            "22023",
            "schema \"information_schema\" belongs to the server",
        ),
        ("SELECT ops.adopt('pg_temp')", "22023", "schema \"pg_temp\" belongs to the server"),
        (
            "SELECT ops.adopt('dragonfly_guard')",
            "22023",
            "schema \"dragonfly_guard\" belongs to extension dragonfly_guard",
        ),
        ("SELECT ops.adopt('ops')", "22023", "schema \"ops\" has no objects of the application"),
        (
            "SELECT ops.infer_contract('{pg_toast}')",
            "22023",
            "schema \"pg_toast\" belongs to the server",
        ),
        ("SELECT ops.adopt(reason => '...')", "22023", "reason says nothing: '...'"),
        ("SELECT ops.adopt(reason => ' ')", "22023", "reason must not be empty"),
        ("SELECT ops.adopt(expires_in => '-1 day')", "22023", "expires_in must be positive"),
        ("SELECT ops.adopt(dry_run => NULL)", "22004", "dry_run must not be null"),
        ("SELECT ops.adopt(replace => NULL)", "22004", "replace must not be null"),
    ] {
        let error = attempt(client, call).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message), "{call}");
    }
}
