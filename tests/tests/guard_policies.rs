//! What opens the rows of a table although neither the table nor its policies change: the guard
//! rejects it exactly where the audit would report a new error.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;
use std::collections::BTreeSet;

/// The roles and the platform of an application.
const PLATFORM: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE app_owner;
    CREATE ROLE authenticator LOGIN NOINHERIT; GRANT anon, authenticated TO authenticator;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated, app_owner;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
            ->> 'sub')::uuid $$;";

/// The tables of the application, whose rows belong to users and tenants. Each has a policy that
/// finds out in another way which rows are the caller's: by a lookup, by functions with a text, by
/// functions with a parsed body, by a view.
const APPLICATION: &str = "
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated, app_owner;
    CREATE SCHEMA spare; GRANT USAGE ON SCHEMA spare TO anon, authenticated, app_owner;
    CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO anon, authenticated, app_owner;
    CREATE TABLE app.members (user_id uuid NOT NULL, tenant text NOT NULL, role text NOT NULL,
        PRIMARY KEY (user_id, tenant));
    ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.members OWNER TO app_owner;
    CREATE POLICY own ON app.members TO authenticated
        USING (user_id = auth.uid()) WITH CHECK (user_id = auth.uid());
    GRANT SELECT, UPDATE (role) ON app.members TO authenticated;
    CREATE TABLE other.members (user_id uuid NOT NULL, tenant text NOT NULL, role text NOT NULL);
    GRANT SELECT, INSERT ON other.members TO authenticated;

    CREATE FUNCTION app.my_tenants() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = spare, app, pg_temp
        AS 'SELECT tenant FROM members WHERE user_id = auth.uid()';
    ALTER FUNCTION app.my_tenants() OWNER TO app_owner;
    CREATE FUNCTION app.is_member(of text) RETURNS boolean LANGUAGE sql STABLE
        SET search_path = app, pg_temp
        AS 'SELECT EXISTS (SELECT FROM members m WHERE m.user_id = auth.uid() AND m.tenant = of)';
    CREATE FUNCTION app.caller() RETURNS uuid LANGUAGE sql STABLE RETURN auth.uid();
    CREATE FUNCTION app.is_mine(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        SET search_path = spare, app, pg_temp
        AS 'BEGIN RETURN of = caller(); END';
    CREATE FUNCTION app.is_own(of uuid, who uuid DEFAULT auth.uid()) RETURNS boolean
        LANGUAGE sql STABLE RETURN of = who;
    CREATE VIEW app.mine WITH (security_invoker = true) AS
        SELECT tenant FROM app.members WHERE user_id = auth.uid();
    GRANT SELECT ON app.mine TO authenticated;

    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL, tenant text NOT NULL);
    CREATE POLICY read ON app.docs FOR SELECT TO authenticated USING (EXISTS (SELECT
        FROM app.members m WHERE m.user_id = auth.uid() AND m.tenant = docs.tenant));
    CREATE TABLE app.notes (LIKE app.docs);
    CREATE POLICY read ON app.notes FOR SELECT TO authenticated
        USING (tenant IN (SELECT app.my_tenants()));
    CREATE TABLE app.files (LIKE app.docs);
    CREATE POLICY read ON app.files FOR SELECT TO authenticated USING (app.is_mine(owner));
    CREATE TABLE app.tasks (LIKE app.docs);
    CREATE POLICY read ON app.tasks FOR SELECT TO authenticated
        USING (tenant IN (SELECT tenant FROM app.mine));
    CREATE TABLE app.plans (LIKE app.docs);
    CREATE POLICY read ON app.plans FOR SELECT TO authenticated USING (app.is_member(tenant));
    CREATE TABLE app.mails (LIKE app.docs);
    CREATE POLICY read ON app.mails FOR SELECT TO authenticated USING (app.is_own(owner));
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.files ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.tasks ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.plans ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.mails ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON app.docs, app.notes, app.files, app.tasks, app.plans, app.mails
        TO authenticated;
    CREATE TABLE app.plain (id int);";

const TABLES: [&str; 6] = ["docs", "notes", "files", "tasks", "plans", "mails"];

/// Rules about other things that some of the changes violate as well.
const OTHER_RULES: [&str; 10] = [
    "column_privileges",
    "direct_write",
    "required_object_missing",
    "rls_disabled",
    "rls_policy_always_true",
    "rls_policy_missing",
    "rls_policy_undeclared",
    "security_definer_search_path",
    "table_privileges",
    "ungoverned_schema_access",
];

/// Drops the objects of the application.
const CLEAN_UP: &str = "RESET ROLE; SET client_min_messages = error;
    DROP SCHEMA IF EXISTS app, spare, other, old CASCADE; RESET client_min_messages;";

/// Returns a server with the application, and the contract that says by which columns a row is its
/// caller's.
fn application(settings: &[&str]) -> (Cluster, Client) {
    let cluster = Cluster::start_with(settings);
    let mut client = cluster.connect("postgres", SUPERUSER);
    let table = |name: &&str| {
        format!(
            r#"{{"schema": "app", "name": "{name}", "row_security": true,
                "keys": ["owner", "tenant"], "grants": {{"authenticated": ["SELECT"]}},
                "policies": {{"authenticated": ["SELECT"]}}}}"#
        )
    };
    let tables: Vec<String> = TABLES.iter().map(table).collect();
    let for_the_audit = OTHER_RULES.map(|rule| format!(r#""{rule}": {{"guard": "audit"}}"#));
    let contract = format!(
        r#"SELECT ops.load_contract('{{"name": "app", "version": "2.0.0",
            "roles": [{{"name": "anon", "kind": "client"}},
                {{"name": "authenticated", "kind": "client"}},
                {{"name": "app_owner", "kind": "owner"}},
                {{"name": "authenticator", "kind": "login"}}],
            "schemas": [{{"name": "app", "usage": ["anon", "authenticated"]}}],
            "rules": {{{}}},
            "security_definer": {{"search_path": ["pg_catalog", "pg_temp"]}},
            "tables": [{}, {{"schema": "app", "name": "members", "row_security": true,
                "grants": {{"authenticated": ["SELECT", "INSERT", "UPDATE", "DELETE"]}},
                "policies": {{"authenticated": ["ALL"]}}}},
                {{"schema": "app", "name": "mine", "grants": {{"authenticated": ["SELECT"]}}}}]
            }}'::jsonb);"#,
        for_the_audit.join(", "),
        tables.join(", ")
    );
    let set_up = format!("{PLATFORM} {APPLICATION} CREATE EXTENSION dragonfly_guard; {contract}");
    client.batch_execute(&set_up).unwrap_or_else(|error| panic!("{error:?}"));
    (cluster, client)
}

/// Creates the application again.
fn restore(client: &mut Client) {
    let sql = format!(
        "SET dragonfly_guard.mode = off; {CLEAN_UP} {APPLICATION} RESET dragonfly_guard.mode;"
    );
    client.batch_execute(&sql).unwrap_or_else(|error| panic!("{error:?}"));
}

/// Returns the errors that the audit reports about policies: not of which columns, or why. A table
/// that has been renamed is the same one.
fn errors(client: &mut Client) -> BTreeSet<String> {
    let query = "SELECT concat_ws(' ', rule, object, role_name,
            regexp_replace(regexp_replace(detail, ' of [a-z, ]+ on ([a-z_.]+):.*', ' \\1'),
            'app.(people|members_before)', 'app.members', 'g')) FROM ops.audit_policies()
        WHERE severity = 'error'";
    column(client, query).into_iter().collect()
}

/// Statements that change what policies consult.
const CHANGES: &[&str] = &[
    // Functions with a parsed body, with a text, and their arguments.
    "CREATE OR REPLACE FUNCTION app.caller() RETURNS uuid LANGUAGE sql STABLE
        RETURN '11111111-1111-1111-1111-111111111111'::uuid",
    "CREATE OR REPLACE FUNCTION app.caller() RETURNS uuid LANGUAGE sql STABLE
        RETURN (SELECT auth.uid())",
    "CREATE OR REPLACE FUNCTION app.caller() RETURNS uuid LANGUAGE sql STABLE
        RETURN (current_setting('request.headers', true)::jsonb ->> 'caller')::uuid",
    "CREATE OR REPLACE FUNCTION app.is_mine(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN of <> auth.uid(); END'",
    "CREATE OR REPLACE FUNCTION app.is_mine(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN of = auth.uid(); END'",
    "CREATE OR REPLACE FUNCTION app.my_tenants() RETURNS SETOF text LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT tenant FROM members'",
    "CREATE OR REPLACE FUNCTION app.my_tenants() RETURNS SETOF text LANGUAGE sql STABLE
        AS 'SELECT tenant FROM app.members WHERE user_id = auth.uid() AND role <> $$left$$'",
    "CREATE OR REPLACE FUNCTION app.is_member(of text) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT EXISTS (SELECT FROM app.members WHERE user_id = auth.uid())'",
    "CREATE OR REPLACE FUNCTION app.is_own(of uuid, who uuid DEFAULT NULL) RETURNS boolean
        LANGUAGE sql STABLE RETURN of = who OR who IS NULL",
    "CREATE OR REPLACE FUNCTION app.is_own(of uuid,
        who uuid DEFAULT '11111111-1111-1111-1111-111111111111') RETURNS boolean
        LANGUAGE sql STABLE RETURN of <> who",
    "ALTER FUNCTION app.my_tenants() IMMUTABLE",
    "ALTER FUNCTION app.is_member(text) IMMUTABLE",
    "ALTER FUNCTION app.my_tenants() VOLATILE",
    "ALTER FUNCTION app.my_tenants() SECURITY INVOKER",
    "ALTER FUNCTION app.is_member(text) SECURITY DEFINER",
    "ALTER FUNCTION app.my_tenants() RESET search_path",
    "ALTER FUNCTION app.is_member(text) SET search_path = other, pg_temp",
    "ALTER FUNCTION app.my_tenants() SET search_path = other, pg_temp",
    // Names in a text that stand for something else.
    "ALTER FUNCTION app.caller() RENAME TO caller_before;
     CREATE FUNCTION app.caller() RETURNS uuid LANGUAGE sql STABLE
        RETURN (current_setting('request.headers', true)::jsonb ->> 'caller')::uuid",
    "DROP FUNCTION app.caller(); CREATE FUNCTION app.caller() RETURNS uuid LANGUAGE sql
        STABLE AS $$ SELECT (current_setting('request.headers', true)::jsonb ->> 'caller')::uuid
        $$",
    "DROP FUNCTION app.caller(); CREATE FUNCTION app.caller() RETURNS uuid LANGUAGE sql
        STABLE AS 'SELECT auth.uid()'",
    "CREATE FUNCTION spare.caller() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (current_setting('request.headers', true)::jsonb ->> 'caller')::uuid $$",
    "CREATE FUNCTION other.caller() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (current_setting('request.headers', true)::jsonb ->> 'caller')::uuid $$;
     ALTER FUNCTION other.caller() SET SCHEMA spare",
    "CREATE TABLE spare.members (LIKE app.members);
     GRANT INSERT ON spare.members TO authenticated",
    "CREATE TABLE spare.members (LIKE app.members)",
    "CREATE VIEW spare.members AS SELECT auth.uid() AS user_id, tenant FROM app.members",
    "ALTER TABLE other.members SET SCHEMA spare",
    "DROP SCHEMA spare; ALTER SCHEMA other RENAME TO spare",
    "ALTER TABLE app.members RENAME TO members_before; ALTER TABLE other.members SET SCHEMA app",
    "ALTER TABLE app.members RENAME TO people",
    "ALTER TABLE app.members RENAME COLUMN tenant TO was_tenant;
     ALTER TABLE app.members RENAME COLUMN role TO tenant",
    "ALTER TABLE app.members RENAME COLUMN tenant TO organization",
    "ALTER TABLE app.members ADD COLUMN of text",
    "ALTER TABLE app.members ADD COLUMN size int",
    // Views.
    "CREATE OR REPLACE VIEW app.mine WITH (security_invoker = true) AS
        SELECT tenant FROM app.members",
    "CREATE OR REPLACE VIEW app.mine WITH (security_invoker = true) AS
        SELECT tenant FROM app.members WHERE user_id <> auth.uid()",
    "CREATE OR REPLACE VIEW app.mine WITH (security_invoker = true) AS
        SELECT tenant FROM app.members WHERE user_id = (SELECT auth.uid())",
    "ALTER VIEW app.mine SET (security_invoker = false)",
    "ALTER VIEW app.mine OWNER TO app_owner",
    "ALTER VIEW app.mine RENAME TO own_tenants",
    // Lookups: row security, policies, privileges, columns.
    "ALTER TABLE app.members DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE app.members DISABLE ROW LEVEL SECURITY;
     GRANT INSERT ON app.members TO authenticated",
    "ALTER TABLE app.members FORCE ROW LEVEL SECURITY",
    "GRANT INSERT ON app.members TO authenticated",
    "GRANT INSERT (user_id, tenant, role) ON app.members TO authenticated",
    "GRANT INSERT (role) ON app.members TO authenticated",
    "GRANT UPDATE ON app.members TO authenticated",
    "GRANT UPDATE (tenant) ON app.members TO authenticated",
    "GRANT DELETE ON app.members TO authenticated",
    "GRANT INSERT ON app.members TO anon",
    "REVOKE SELECT ON app.members FROM authenticated",
    "GRANT INSERT ON app.members TO authenticated;
     ALTER POLICY own ON app.members WITH CHECK (false)",
    "DROP POLICY own ON app.members",
    "CREATE POLICY all_rows ON app.members FOR SELECT TO authenticated USING (true)",
    "ALTER POLICY own ON app.members USING (true) WITH CHECK (true)",
    "ALTER TABLE app.members DROP CONSTRAINT members_pkey",
    "ALTER TABLE app.members DROP CONSTRAINT members_pkey;
     ALTER TABLE app.members ALTER COLUMN tenant DROP NOT NULL",
    "ALTER TABLE app.members ALTER COLUMN user_id SET DEFAULT auth.uid()",
    "CREATE TABLE app.more_members () INHERITS (app.members);
     GRANT INSERT ON app.more_members TO authenticated",
    // Inside other commands.
    "DO $do$ BEGIN EXECUTE 'GRANT INSERT ON app.members TO authenticated'; END $do$",
    "CREATE FUNCTION public.migrate() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
        EXECUTE 'ALTER FUNCTION app.is_member(text) SET search_path = other, pg_temp'; END $f$;
     SELECT public.migrate(); DROP FUNCTION public.migrate()",
    "SAVEPOINT one; GRANT INSERT ON app.members TO authenticated; ROLLBACK TO one;
     COMMENT ON TABLE app.docs IS 'documents'",
    "SAVEPOINT one; GRANT INSERT ON app.members TO authenticated; RELEASE one",
    "GRANT INSERT ON app.members TO authenticated;
     REVOKE INSERT ON app.members FROM authenticated",
    "SAVEPOINT one; GRANT INSERT ON app.members TO authenticated; SAVEPOINT two;
     REVOKE INSERT ON app.members FROM authenticated; ROLLBACK TO two",
    "DO $do$ BEGIN BEGIN CREATE TABLE spare.members (LIKE app.members);
        RAISE 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END; END $do$",
    "SET CONSTRAINTS ALL IMMEDIATE; GRANT INSERT ON app.members TO authenticated",
    // The tables themselves.
    "ALTER POLICY read ON app.docs USING (owner = auth.uid())",
    "ALTER POLICY read ON app.docs USING (owner <> auth.uid())",
    "DROP POLICY read ON app.docs; CREATE POLICY read ON app.docs FOR SELECT TO authenticated
        USING (tenant = 'a' OR owner = auth.uid())",
    "ALTER TABLE app.docs RENAME TO documents; ALTER TABLE app.documents RENAME TO docs",
    "ALTER TABLE app.docs ALTER COLUMN owner DROP NOT NULL",
    // What no policy consults.
    "CREATE TABLE app.unrelated (id int)",
    "GRANT SELECT ON app.plain TO app_owner",
    "CREATE INDEX ON app.docs (owner)",
    "CREATE FUNCTION public.nothing() RETURNS int LANGUAGE sql RETURN 1;
     DROP FUNCTION public.nothing()",
];

/// Returns in which cases the guard rejects a change that adds no error about policies, or accepts
/// one that does, in the application with what `first` adds; and how many it rejects.
fn wrong_verdicts(client: &mut Client, first: &str) -> (Vec<String>, usize) {
    let restore = |client: &mut Client| {
        restore(client);
        let first = format!("SET dragonfly_guard.mode = off; {first}; RESET dragonfly_guard.mode");
        client.batch_execute(&first).unwrap();
    };
    restore(client);
    let before = errors(client);
    assert_eq!(before.is_empty(), first.is_empty(), "{before:#?}");
    let (mut wrong, mut rejected) = (Vec::new(), 0);
    for change in CHANGES {
        client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
        client.batch_execute(change).unwrap_or_else(|error| panic!("{change}: {error:?}"));
        let new: Vec<String> = errors(client).difference(&before).cloned().collect();
        client.batch_execute("ROLLBACK").unwrap();
        match attempt(client, &format!("BEGIN; {change}; COMMIT")) {
            Ok(()) => {
                if !new.is_empty() {
                    wrong.push(format!("accepted: {change}\n  although {new:?}"));
                }
                restore(client);
            }
            Err(error) => {
                client.batch_execute("ROLLBACK").unwrap();
                rejected += 1;
                let is_about = |new: &String| {
                    let rule = new.split(' ').next().unwrap();
                    error.message.contains(rule) || error.detail.contains(rule)
                };
                if !new.iter().any(is_about) {
                    wrong.push(format!("rejected: {change}\n  {error:?}\n  new: {new:?}"));
                }
            }
        }
    }
    (wrong, rejected)
}

#[test]
fn guard_rejects_exactly_what_adds_an_error_about_policies() {
    let (_cluster, mut client) = application(&[]);
    let (wrong, rejected) = wrong_verdicts(&mut client, "");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CHANGES.len(), wrong.join("\n"));
    assert!(rejected > 15, "{rejected}");
}

/// After it, the audit has a finding with the words of an earlier one: of a table that has taken
/// the name of the other.
const OF_ANOTHER_TABLE: &str = "rejected: ALTER TABLE app.members RENAME TO members_before;";

#[test]
fn guard_accepts_what_keeps_an_error_about_policies() {
    let (_cluster, mut client) = application(&[]);
    let (mut wrong, rejected) =
        wrong_verdicts(&mut client, "GRANT INSERT ON app.members TO authenticated");
    wrong.retain(|case| !case.starts_with(OF_ANOTHER_TABLE));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CHANGES.len(), wrong.join("\n"));
    assert!(rejected > 10, "{rejected}");
}

/// The caller is who a request says.
const OTHER_CALLER: &str = "RETURNS uuid LANGUAGE sql STABLE
    RETURN (current_setting('request.headers', true)::jsonb ->> 'caller')::uuid";

/// Whether the guard rejects statements because of a rule about policies.
fn is_rejected(client: &mut Client, sql: &str) -> bool {
    match attempt(client, sql) {
        Ok(()) => false,
        Err(error) => {
            assert!(error.message.contains("policy_"), "{sql}: {error:?}");
            client.batch_execute("ROLLBACK").unwrap();
            true
        }
    }
}

#[test]
fn guard_knows_what_other_sessions_made_policies_consult() {
    let (cluster, mut client) = application(&[]);
    let mut other = cluster.connect("postgres", SUPERUSER);
    // The session knows what the policies consult.
    client.batch_execute("GRANT SELECT ON app.plain TO app_owner").unwrap();
    other
        .batch_execute(
            "CREATE FUNCTION app.who() RETURNS uuid LANGUAGE sql STABLE RETURN auth.uid();
             ALTER POLICY read ON app.docs USING (owner = app.who())",
        )
        .unwrap();
    let replace = |name: &str| format!("CREATE OR REPLACE FUNCTION {name} {OTHER_CALLER}");
    assert!(is_rejected(&mut client, &replace("app.who()")));
    // A view, and a function that a text finds now.
    other
        .batch_execute(
            "CREATE VIEW app.me WITH (security_invoker = true) AS SELECT auth.uid() AS id;
             GRANT SELECT ON app.me TO authenticated;
             ALTER POLICY read ON app.docs USING (owner IN (SELECT id FROM app.me));
             CREATE FUNCTION spare.caller() RETURNS uuid LANGUAGE sql STABLE RETURN auth.uid()",
        )
        .unwrap();
    let view = "CREATE OR REPLACE VIEW app.me WITH (security_invoker = true) AS
        SELECT owner AS id FROM app.docs";
    assert!(is_rejected(&mut client, view));
    assert!(!is_rejected(&mut client, &replace("app.caller()")), "the text finds another one");
    assert!(is_rejected(&mut client, &replace("spare.caller()")));
    // What is consulted no longer.
    other.batch_execute("ALTER POLICY read ON app.docs USING (owner = auth.uid())").unwrap();
    assert!(!is_rejected(&mut client, &replace("app.who()")));
    // What this session has made policies consult, and what a rollback has undone.
    client
        .batch_execute(
            "BEGIN; CREATE OR REPLACE FUNCTION app.who() RETURNS uuid LANGUAGE sql STABLE
                 RETURN auth.uid(); ALTER POLICY read ON app.docs USING (owner = app.who());
             ROLLBACK",
        )
        .unwrap();
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION app.who() RETURNS uuid LANGUAGE sql STABLE
                 RETURN auth.uid(); ALTER POLICY read ON app.docs USING (owner = app.who())",
        )
        .unwrap();
    assert!(is_rejected(&mut client, &replace("app.who()")));
    let later = format!("BEGIN; DROP POLICY read ON app.docs; {}; COMMIT", replace("app.who()"));
    client.batch_execute(&later).expect("no policy consults it");
}

#[test]
fn guard_knows_which_table_has_the_declared_name() {
    let (cluster, mut client) = application(&[]);
    let mut other = cluster.connect("postgres", SUPERUSER);
    other
        .batch_execute(
            "CREATE FUNCTION spare.who() RETURNS uuid LANGUAGE sql STABLE RETURN auth.uid();
             CREATE TABLE spare.docs (LIKE app.docs);
             ALTER TABLE spare.docs ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON spare.docs TO authenticated;
             CREATE POLICY read ON spare.docs FOR SELECT TO authenticated
                 USING (owner = spare.who())",
        )
        .unwrap();
    let replace = |name: &str| format!("CREATE OR REPLACE FUNCTION {name} {OTHER_CALLER}");
    client.batch_execute(&replace("spare.who()")).expect("the contract declares no such table");
    other
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE OR REPLACE FUNCTION spare.who() RETURNS uuid LANGUAGE sql STABLE
                 RETURN auth.uid();
             ALTER SCHEMA app RENAME TO old; ALTER SCHEMA spare RENAME TO app",
        )
        .unwrap();
    assert!(is_rejected(&mut client, &replace("app.who()")));
}

/// A lookup says whose row it is where a unique index leaves one row for each user.
const LOOKUP_BY_UNIQUE_KEY: &str = "
    SET dragonfly_guard.mode = off;
    CREATE ROLE authenticated;
    GRANT USAGE ON SCHEMA public TO authenticated;
    CREATE TABLE docs (id int PRIMARY KEY, team text, owner text);
    CREATE TABLE members (team text, user_id text, role text, PRIMARY KEY (team, user_id));
    CREATE UNIQUE INDEX members_user ON members (user_id);
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE members ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON docs, members TO authenticated;
    CREATE POLICY own ON members FOR SELECT TO authenticated
        USING (user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub'));
    CREATE POLICY read ON docs FOR SELECT TO authenticated USING (EXISTS (
        SELECT FROM members AS m WHERE m.role = 'admin'
           AND m.user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub')));
    RESET dragonfly_guard.mode;
    SET client_min_messages = error;
    SELECT FROM ops.adopt(dry_run => false, replace => true);
    SELECT FROM ops.declare('ALTER TABLE public.docs SET (contract.keys = ''team, owner'')', 'x');
    SELECT FROM ops.load_contract(jsonb_set(ops.contract() || '{\"version\": \"9.0.0\"}',
        '{rules}', coalesce(ops.contract() -> 'rules', '{}')
        || '{\"policy_lookup_uncorrelated\": {\"guard\": \"block\"}}'));
    RESET client_min_messages";

#[test]
fn index_that_limits_a_lookup_to_one_row_is_not_dropped_unnoticed() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    client.batch_execute(LOOKUP_BY_UNIQUE_KEY).unwrap();
    assert_eq!(errors(&mut client), BTreeSet::new());
    for drop in [
        "DROP INDEX members_user",
        "SAVEPOINT one; DROP INDEX members_user; RELEASE one; CREATE TABLE later (id int)",
        "DO $$ BEGIN DROP INDEX members_user; END $$",
    ] {
        assert!(is_rejected(&mut client, &format!("BEGIN; {drop}; COMMIT")), "{drop}");
    }
    attempt(&mut client, "CREATE INDEX ON members (role); DROP INDEX members_role_idx").unwrap();
}

#[test]
fn transactions_do_not_open_rows_together() {
    let (cluster, mut client) = application(&[]);
    let mut other = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE FUNCTION app.who() RETURNS uuid LANGUAGE sql STABLE RETURN auth.uid()",
        )
        .unwrap();
    let replace = format!("BEGIN; CREATE OR REPLACE FUNCTION app.who() {OTHER_CALLER}");
    client.batch_execute(&replace).unwrap();
    // The other transaction commits meanwhile: to it, the function returns the caller. (The server
    // lets it wait where a stored expression, and not a text, mentions the function.)
    let calls = "CREATE OR REPLACE FUNCTION app.is_mine(of uuid) RETURNS boolean
        LANGUAGE plpgsql STABLE AS 'BEGIN RETURN of = app.who(); END'";
    other.batch_execute(calls).unwrap();
    assert!(is_rejected(&mut client, "COMMIT"));
}

/// A table with a policy for every role that only users pass, by the name of the function that
/// tells who the user is. The contract declares the policy for users.
const ONLY_USERS: &str = "
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated;
    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL);
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON app.docs TO anon, authenticated;
    CREATE POLICY own ON app.docs FOR SELECT USING (owner = auth.uid());
    CREATE EXTENSION dragonfly_guard;
    SELECT ops.load_contract('{\"name\": \"app\", \"version\": \"2.0.0\",
        \"roles\": [{\"name\": \"anon\", \"kind\": \"client\"},
            {\"name\": \"authenticated\", \"kind\": \"client\"},
            {\"name\": \"authenticator\", \"kind\": \"login\"}],
        \"schemas\": [{\"name\": \"app\", \"usage\": [\"anon\", \"authenticated\"]}],
        \"security_definer\": {\"search_path\": [\"pg_catalog\", \"pg_temp\"]},
        \"tables\": [{\"schema\": \"app\", \"name\": \"docs\", \"row_security\": true,
            \"grants\": {\"anon\": [\"SELECT\"], \"authenticated\": [\"SELECT\"]},
            \"policies\": {\"authenticated\": [\"SELECT\"]}}]}'::jsonb)";

#[test]
fn policy_that_no_longer_requires_a_user_is_rejected() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(&format!("{PLATFORM} {ONLY_USERS}")).unwrap();
    for change in [
        "ALTER POLICY own ON app.docs USING (owner = gen_random_uuid())",
        "ALTER FUNCTION auth.uid() RENAME TO me",
        "ALTER FUNCTION auth.uid() SET SCHEMA app",
        // Nothing of the condition exists any more.
        "BEGIN; DROP SCHEMA auth CASCADE;
         CREATE POLICY own ON app.docs FOR SELECT USING (owner = gen_random_uuid()); COMMIT",
    ] {
        assert!(is_rejected(&mut client, change), "{change}");
    }
    for change in [
        "ALTER POLICY own ON app.docs USING ((SELECT auth.uid()) = owner)",
        "ALTER FUNCTION auth.uid() STRICT",
    ] {
        assert!(!is_rejected(&mut client, change), "{change}");
    }
}

#[test]
fn prepared_transaction_is_checked() {
    let (_cluster, mut client) = application(&[]);
    let prepare = "BEGIN; GRANT INSERT ON app.members TO authenticated; PREPARE TRANSACTION 'one'";
    assert!(is_rejected(&mut client, prepare));
    let allowed = "BEGIN; GRANT INSERT (role) ON app.members TO authenticated;
        PREPARE TRANSACTION 'one'";
    client.batch_execute(allowed).unwrap();
    client.batch_execute("COMMIT PREPARED 'one'").unwrap();
}

#[test]
fn hardened_guard_rejects_roles_that_open_rows() {
    let (_cluster, mut client) = application(&["shared_preload_libraries=dragonfly_guard"]);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE writers; CREATE ROLE readers;
             GRANT INSERT ON app.members TO writers; RESET dragonfly_guard.mode",
        )
        .unwrap();
    for allowed in ["CREATE ROLE more", "GRANT readers TO more"] {
        client.batch_execute(allowed).unwrap_or_else(|error| panic!("{allowed}: {error:?}"));
    }
    let membership = attempt(&mut client, "GRANT writers TO authenticated").unwrap_err();
    let text = format!("{} {}", membership.message, membership.detail);
    assert!(text.contains("policy_lookup_writable"), "{membership:?}");
    // It was so before.
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; GRANT writers TO authenticated;
             RESET dragonfly_guard.mode; REVOKE readers FROM more;
             ALTER ROLE more CREATEDB",
        )
        .unwrap();
}

#[test]
fn policies_that_take_too_long_are_left_to_the_audit_with_a_warning() {
    let (cluster, mut client) = application(&[]);
    // Each of many tables has a policy with hundreds of ways in which a row passes. A function is a
    // part of it.
    let columns: Vec<String> = (0..8).map(|n| format!("c{n} uuid, d{n} int")).collect();
    let ways: Vec<String> = (0..8).map(|n| format!("(c{n} = app.who() OR d{n} = 1)")).collect();
    let (columns, ways) = (columns.join(", "), ways.join(" AND "));
    let set_up = format!(
        "SET dragonfly_guard.mode = off;
         CREATE FUNCTION app.who() RETURNS uuid LANGUAGE sql STABLE RETURN auth.uid();
         DO $do$ BEGIN FOR n IN 1..40 LOOP
             EXECUTE format('CREATE TABLE app.large_%1$s ({columns});
                 ALTER TABLE app.large_%1$s ENABLE ROW LEVEL SECURITY;
                 GRANT SELECT, INSERT, UPDATE, DELETE ON app.large_%1$s TO authenticated;
                 CREATE POLICY own ON app.large_%1$s TO authenticated USING ({ways})', n);
         END LOOP; END $do$;
         SELECT ops.load_contract(jsonb_set(contract || '{{\"version\": \"3.0.0\"}}',
             '{{tables}}', (contract -> 'tables') ||
                 (SELECT jsonb_agg(jsonb_build_object('schema', 'app', 'name', 'large_' || n,
                 'row_security', true, 'keys', '[\"c0\"]'::jsonb,
                 'grants', '{{\"authenticated\": [\"ALL\"]}}'::jsonb,
                 'policies', '{{\"authenticated\": [\"ALL\"]}}'::jsonb))
                 FROM generate_series(1, 40) n)))
             FROM ops.contract() contract;
         RESET dragonfly_guard.mode;"
    );
    client.batch_execute(&set_up).unwrap_or_else(|error| panic!("{error:?}"));
    let output = cluster.client_program(
        "psql",
        &[
            "-X",
            "-d",
            "postgres",
            "-U",
            SUPERUSER,
            "-c",
            &format!("CREATE OR REPLACE FUNCTION app.who() {OTHER_CALLER}"),
        ],
    );
    let messages = String::from_utf8_lossy(&output.stderr);
    let warning = "WARNING:  policies were not checked for the rows that they let clients reach\n\
        DETAIL:  Checking the policies of app.large_";
    assert!(messages.starts_with(warning), "{messages}");
    assert!(messages.contains(" more would have taken too long.\nHINT:  SELECT"), "{messages}");
    assert_eq!(messages.matches("WARNING").count(), 1, "{messages}");
}
