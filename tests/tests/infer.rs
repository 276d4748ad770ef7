//! A contract inferred from a real application: it validates without warnings, the audit under it
//! finds what was left out, and after the plan, or with the exemptions, what is declared works as
//! before and no role can do more.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;
use std::collections::BTreeMap;

/// An application: a fixture, the schemas that are inferred, the roles that use it, and the
/// settings of a request.
struct Application {
    name: &'static str,
    schemas: &'static str,
    roles: &'static [&'static str],
    settings: &'static str,
}

const APPLICATIONS: [Application; 5] = [
    Application {
        name: "supabase",
        schemas: "{app}",
        roles: &["anon", "authenticated", "service_role"],
        settings: "SET LOCAL request.jwt.claim.sub = '00000000-0000-0000-0000-000000000001'",
    },
    Application {
        name: "postgrest",
        schemas: "{app,data}",
        roles: &["web_anon", "web_user", "api"],
        settings: "SET LOCAL request.jwt.claim.uid = '1'",
    },
    Application {
        name: "tenants",
        schemas: "{app,private}",
        roles: &["tenant_user", "tenant_app", "anon"],
        settings: "SET LOCAL app.tenant = '1'; SET LOCAL app.member = 'ann'",
    },
    Application {
        name: "reference",
        schemas: "{app}",
        roles: &["visitor", "member"],
        settings: "SET LOCAL app.id = '1'",
    },
    SERVICES,
];

const SERVICES: Application = Application {
    name: "services",
    schemas: "{app,data,private}",
    roles: &["app_rw", "app_ro", "svc_api", "svc_worker", "bi"],
    settings: "SET LOCAL app.tenant = '1'",
};

/// What a statement does: the number of rows, or the SQLSTATE of its error.
type Outcome = Result<u64, String>;

/// Role, object, privilege and statement.
type Attempts = BTreeMap<(String, String, String, String), Outcome>;

impl Application {
    /// Returns a connection to the application's database, which has the extension.
    fn start(&self, cluster: &Cluster) -> Client {
        let create = format!("CREATE DATABASE {}", self.name);
        cluster.connect("postgres", SUPERUSER).batch_execute(&create).unwrap();
        cluster.psql_file(self.name, &format!("fixtures/infer/{}.sql", self.name));
        let mut client = cluster.connect(self.name, SUPERUSER);
        client
            .batch_execute("SET client_min_messages = warning; CREATE EXTENSION dragonfly_guard")
            .unwrap();
        client
    }

    /// Tries every kind of access of every role.
    fn attempts(&self, client: &mut Client) -> Attempts {
        let statements: Vec<(String, String, String)> = client
            .query(STATEMENTS, &[])
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        let mut attempts = Attempts::new();
        for role in self.roles {
            for (object, privilege, statement) in &statements {
                let mut transaction = client.transaction().unwrap();
                transaction
                    .batch_execute(&format!("{}; SET LOCAL ROLE {role}", self.settings))
                    .unwrap();
                let outcome = transaction
                    .execute(statement, &[])
                    .map_err(|error| error.code().unwrap().code().to_owned());
                transaction.rollback().unwrap();
                let key =
                    ((*role).to_owned(), object.clone(), privilege.clone(), statement.clone());
                attempts.insert(key, outcome);
            }
        }
        attempts
    }

    fn infer(&self, mode: &str) -> String {
        format!("ops.infer_contract('{}', '{mode}')", self.schemas)
    }
}

/// The statements that are tried: object, privilege, statement.
const STATEMENTS: &str = "
    WITH relations AS (
      SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
       WHERE n.nspname IN ('app', 'data', 'private') AND c.relkind IN ('r', 'p', 'v', 'm'))
    SELECT name, 'SELECT', format('SELECT * FROM %s', name) FROM relations
    UNION ALL
    SELECT name, 'TRUNCATE', format('TRUNCATE %s', name) FROM relations WHERE relkind <> 'm'
    UNION ALL
    SELECT name, 'INSERT', format('INSERT INTO %s DEFAULT VALUES', name) FROM relations
     WHERE relkind <> 'm'
    UNION ALL
    SELECT name, 'DELETE', format('DELETE FROM %s', name) FROM relations WHERE relkind <> 'm'
    UNION ALL
    SELECT name, 'SELECT', format('SELECT %I FROM %s', attname, name)
      FROM relations JOIN pg_attribute ON attrelid = oid WHERE attnum > 0
    UNION ALL
    SELECT name, 'UPDATE', format('UPDATE %s SET %I = NULL', name, attname)
      FROM relations JOIN pg_attribute ON attrelid = oid WHERE attnum > 0 AND relkind <> 'm'
    UNION ALL
    SELECT format('%I.%I', n.nspname, p.proname), 'EXECUTE',
           format('SELECT %I.%I(%s)', n.nspname, p.proname,
                  (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ')
                     FROM unnest(p.proargtypes) AS t))
      FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
     WHERE n.nspname IN ('app', 'data', 'private') AND p.prorettype <> 'trigger'::regtype
     ORDER BY 1, 3";

/// What the contract in force declares for roles: role, object and privilege.
const DECLARED: &str = "
    SELECT g.key || ' ' || format('%I.%I', o->>'schema', o->>'name') || ' ' || p.privilege
      FROM jsonb_path_query(ops.contract(), '$.*[*]') AS o,
           jsonb_each(o->'grants') AS g, jsonb_array_elements_text(g.value) AS p (privilege)
     WHERE jsonb_typeof(o) = 'object' AND o ? 'grants'
    UNION ALL
    SELECT e.role || ' ' || format('%I.%I', f->>'schema', f->>'name') || ' EXECUTE'
      FROM jsonb_array_elements(ops.contract()->'functions') AS f,
           jsonb_array_elements_text(f->'execute') AS e (role)";

const FAILURES: &str = "SELECT area || ' ' || object || ': ' || detail FROM ops.doctor()
    WHERE NOT ok AND area NOT IN ('audit', 'server') ORDER BY 1";

const FOUND: &str = "SELECT rule || ' ' || object || ' ' || coalesce(role_name, '-')
    FROM ops.audit_security(min_severity => 'warning') ORDER BY 1";

/// Loads an inferred contract, which must be free of warnings, and whose audit must find what was
/// announced.
fn load(client: &mut Client, inferred: &str) {
    let problems = format!(
        "SELECT path || ': ' || problem FROM ops.validate_contract({inferred})
          WHERE severity <> 'info'"
    );
    assert_eq!(column(client, &problems), [""; 0], "{inferred}");
    let announced = format!(
        "SELECT rule || ' ' || object || ' ' || coalesce(role_name, '-')
           FROM ops.audit_contract({inferred}) WHERE severity <> 'info' ORDER BY 1"
    );
    let announced = column(client, &announced);
    attempt(client, &format!("SELECT ops.load_contract({inferred}, 'Inferred')")).unwrap();
    assert_eq!(column(client, FOUND), announced, "{inferred}");
}

/// The arguments of `ops.infer_contract()` and `ops.infer_exemptions()` that have no answer.
const WITHOUT_ANSWER: [(&str, &str, &str); 5] = [
    ("SELECT ops.infer_contract('{}')", "22023", "schemas must not be empty"),
    ("SELECT ops.infer_contract(NULL, 'lax')", "22023", "unrecognized mode \"lax\""),
    ("SELECT ops.infer_contract(NULL, NULL)", "22023", "mode must not be null"),
    ("SELECT ops.infer_exemptions(expires_in => '-1 day')", "22023", "expires_in must be positive"),
    ("SELECT ops.infer_exemptions('{}')", "22023", "not a valid security contract"),
];

#[test]
fn argument_without_an_answer_is_an_error() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    for (call, code, message) in WITHOUT_ANSWER {
        let error = attempt(&mut client, call).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message), "{call}");
        assert!(!error.hint.is_empty(), "{call}");
    }
    // Schema ops is described if it is asked for.
    let schemas = |schemas: &str| {
        format!(
            "SELECT s->>'name' FROM jsonb_array_elements(ops.infer_contract({schemas})->'schemas') \
             AS s"
        )
    };
    assert_eq!(column(&mut client, &schemas("")), ["public"]);
    assert_eq!(column(&mut client, &schemas("'{ops}'")), ["ops"]);
}

/// Conditions of policies, and whether an anonymous caller can satisfy them.
const CONDITIONS: [(&str, bool); 24] = [
    ("auth.uid() = uid", false),
    ("(SELECT auth.uid()) = uid", false),
    ("auth.uid() IS NOT NULL", false),
    ("auth.role() = 'authenticated'", false),
    ("(SELECT auth.role()) = 'authenticated'", false),
    ("auth.role() = ANY (ARRAY['authenticated', 'service_role'])", false),
    ("EXISTS (SELECT FROM app.m WHERE m.org = t.org AND m.uid = auth.uid())", false),
    ("org IN (SELECT m.org FROM app.m WHERE m.uid = auth.uid())", false),
    ("auth.jwt() ->> 'email' = note", false),
    ("(auth.jwt() -> 'app_metadata' ->> 'org')::int = org", false),
    ("nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub' = note", false),
    ("current_setting('request.jwt.claim.sub', true)::uuid = uid", false),
    ("current_user = 'authenticated'", false),
    ("published AND auth.uid() = uid", false),
    ("published", true),
    ("auth.uid() = uid OR published", true),
    ("auth.role() = 'anon'", true),
    ("auth.uid() IS NULL", true),
    ("auth.uid() IS DISTINCT FROM uid", true),
    ("coalesce(auth.uid()::text, '') = note", true),
    ("(SELECT count(*) FROM app.m WHERE m.uid = auth.uid()) = 0", true),
    ("auth.jwt() ->> 'role' = note", true),
    ("current_setting('request.jwt.claim.sub', true) IS NOT NULL", true),
    ("note = current_setting('app.user', true)", true),
];

#[test]
fn policy_without_to_counts_for_anonymous_callers_that_can_satisfy_it() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    client
        .batch_execute(
            "SET client_min_messages = warning;
             CREATE ROLE authenticated; CREATE ROLE guest;
             CREATE ROLE authenticator LOGIN NOINHERIT; GRANT guest, authenticated TO authenticator;
             ALTER ROLE authenticator SET pgrst.db_anon_role = 'guest';
             CREATE SCHEMA auth; CREATE SCHEMA app;
             CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT NULL::uuid';
             CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS 'SELECT NULL::text';
             CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT NULL::jsonb';
             CREATE TABLE app.m (org int, uid uuid);
             GRANT USAGE ON SCHEMA app TO guest, authenticated",
        )
        .unwrap();
    for (i, (condition, _)) in CONDITIONS.iter().enumerate() {
        client
            .batch_execute(&format!(
                "CREATE TABLE app.t{i} (org int, uid uuid, note text, published boolean);
                 ALTER TABLE app.t{i} ENABLE ROW LEVEL SECURITY;
                 GRANT SELECT, INSERT ON app.t{i} TO guest, authenticated;
                 CREATE POLICY p ON app.t{i} USING ({})",
                condition.replace("t.org", &format!("t{i}.org"))
            ))
            .unwrap();
    }
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    let commands = "SELECT (t->>'name') || coalesce(' ' || (p.key), '')
          FROM jsonb_array_elements(ops.infer_contract('{app}')->'tables') AS t
          LEFT JOIN jsonb_each(t->'policies') AS p ON p.key = 'guest'
         WHERE t->'policies' ? 'authenticated'";
    let found = column(&mut client, commands);
    for (i, (condition, is_open)) in CONDITIONS.iter().enumerate() {
        let expected = if *is_open { format!("t{i} guest") } else { format!("t{i}") };
        assert!(found.contains(&expected), "{condition}: {found:?}");
    }
}

/// An application in which functions say who is a member of a project, and policies without TO call
/// them.
const MEMBERS: &str = "SET client_min_messages = warning;
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS;
    CREATE ROLE authenticator LOGIN NOINHERIT;
    GRANT anon, authenticated, service_role TO authenticator;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO PUBLIC;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
            ->> 'sub')::uuid $$;
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated, service_role;
    CREATE TABLE app.projects (id int PRIMARY KEY, owner uuid NOT NULL);
    CREATE TABLE app.notes (id int PRIMARY KEY, project int NOT NULL);
    CREATE TABLE app.members (project int, who uuid, PRIMARY KEY (project, who));
    ALTER TABLE app.projects ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
    GRANT SELECT, INSERT, UPDATE, DELETE ON app.projects, app.notes
        TO anon, authenticated, service_role;
    GRANT SELECT ON app.members TO authenticated;
    CREATE FUNCTION app.is_member(p int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $$ SELECT EXISTS (SELECT FROM app.members m
            WHERE m.project = p AND m.who = auth.uid()) $$;
    CREATE FUNCTION app.may_see(p int) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ DECLARE n int; BEGIN FOR n IN 1..p LOOP RETURN true; END LOOP; RETURN false; END $$;
    CREATE POLICY own ON app.members FOR SELECT TO authenticated USING (who = auth.uid());
    CREATE POLICY r ON app.projects FOR SELECT USING (app.is_member(id));
    CREATE POLICY i ON app.projects FOR INSERT WITH CHECK (app.is_member(id));
    CREATE POLICY u ON app.projects FOR UPDATE USING (app.is_member(id));
    CREATE POLICY d ON app.projects FOR DELETE USING (app.is_member(id));
    CREATE POLICY r ON app.notes FOR SELECT USING (app.may_see(project));
    CREATE EXTENSION dragonfly_guard; SET dragonfly_guard.mode = off";

#[test]
fn policy_without_to_does_not_count_where_its_functions_ask_for_an_identity() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute(MEMBERS).unwrap();
    for mode in ["strict", "as_is"] {
        let inferred = format!("ops.infer_contract('{{app}}', '{mode}')");
        let declared = format!(
            "SELECT concat(t->>'name', ' ', p.key, ' ', p.value)
               FROM jsonb_array_elements({inferred}->'tables') AS t, jsonb_each(t->'policies') AS p
              WHERE p.key = 'anon'"
        );
        // What a function with a loop asks is not known.
        assert_eq!(column(&mut client, &declared), ["notes anon [\"SELECT\"]"], "{mode}");
    }
    client.execute("SELECT ops.load_contract(ops.infer_contract('{app}', 'strict'))", &[]).unwrap();
    let undeclared = "SELECT concat(object, ': ', fix) FROM ops.audit_security()
        WHERE rule = 'rls_policy_undeclared' ORDER BY 1";
    assert_eq!(column(&mut client, undeclared), [""; 0]);
    // The function asks nothing of the caller any more.
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION app.is_member(p int) RETURNS boolean LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                 AS $$ SELECT EXISTS (SELECT FROM app.members m WHERE m.project = p) $$;
             GRANT SELECT, DELETE ON app.projects TO anon",
        )
        .unwrap();
    let found = column(&mut client, undeclared);
    let object = |policy: &str| format!("{policy} on app.projects: ");
    let is_of = |policy: &str| found.iter().any(|line| line.starts_with(&object(policy)));
    assert!(is_of("r") && is_of("d"), "{found:?}");
    assert!(
        found.iter().all(|line| line.ends_with(" TO authenticated;")),
        "neither a role that bypasses row security nor one that only switches: {found:?}"
    );
}

/// Returns the attempts that opened something: access that was not there, or more rows.
fn opened(before: &Attempts, after: &Attempts) -> Vec<String> {
    let is_more = |(key, now): &(&_, &Outcome)| match (&before[*key], now) {
        (Ok(then), Ok(now)) => now > then,
        (Err(_), Ok(_)) => true,
        _ => false,
    };
    after.iter().filter(is_more).map(|(key, now)| format!("{key:?}: {now:?}")).collect()
}

#[test]
fn as_is_contract_with_its_exemptions_changes_nothing() {
    for application in &APPLICATIONS {
        let cluster = Cluster::start();
        let client = &mut application.start(&cluster);
        let before = application.attempts(client);
        load(client, &application.infer("as_is"));
        let failures = column(client, FAILURES);
        let statements = column(client, "SELECT statement FROM ops.infer_exemptions()");
        // A finding about several relations of a schema is exempted for each of them.
        let found = "SELECT coalesce(sum(coalesce(jsonb_array_length(evidence->'relations'), 1)), \
                     0)::text FROM ops.audit_security(min_severity => 'warning')";
        let found = column(client, found);
        assert_eq!(found, [statements.len().to_string()], "{}", application.name);
        for statement in &statements {
            attempt(client, statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        assert_eq!(column(client, FOUND), [""; 0], "{}", application.name);
        attempt(client, "SELECT ops.assert_security('warning')").unwrap();
        assert_eq!(column(client, "SELECT statement FROM ops.golden_sql()"), [""; 0]);
        attempt(client, "SELECT ops.apply_golden_sql(dry_run => false)").unwrap();
        assert_eq!(application.attempts(client), before, "{}", application.name);
        let new = column(client, FAILURES).into_iter().filter(|f| !failures.contains(f));
        assert_eq!(new.collect::<Vec<_>>(), [""; 0], "{}", application.name);
    }
}

/// Returns the number before " finding" in a line.
fn counted(line: &str) -> u64 {
    let before = line.split(" finding").next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[test]
fn notice_of_inference_counts_what_loading_the_contract_counts() {
    for application in &APPLICATIONS {
        let cluster = Cluster::start();
        drop(application.start(&cluster));
        for mode in ["strict", "as_is"] {
            let load =
                format!("BEGIN; SELECT ops.load_contract({}); ROLLBACK", application.infer(mode));
            let output =
                cluster.client_program("psql", &["-Xq", "-d", application.name, "-c", &load]);
            let notices = String::from_utf8(output.stderr).unwrap();
            let line = |part: &str| notices.lines().find(|line| line.contains(part));
            let remaining = line("would remain under the inferred contract").map_or(0, counted);
            let loaded = counted(line("is in force").unwrap_or_else(|| panic!("{notices}")));
            assert_eq!(remaining, loaded, "{} {mode}: {notices}", application.name);
        }
    }
}

/// Access that exists and fails: by object and role, as the NOTICE names it.
const FAILING: &str = "
    CREATE ROLE visitor; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO visitor;
    CREATE TABLE app.closed (owner_name text, pw text);
    INSERT INTO app.closed VALUES ('other', 'secret');
    CREATE VIEW app.mine WITH (security_invoker) AS
      SELECT pw FROM app.closed WHERE owner_name = current_user;
    CREATE FUNCTION app.token() RETURNS text LANGUAGE sql AS $$ SELECT 't'::text $$;
    REVOKE EXECUTE ON FUNCTION app.token() FROM PUBLIC;
    CREATE TABLE app.entry (x text, token text DEFAULT app.token());
    ALTER TABLE app.entry ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON app.entry TO visitor USING (x <> '') WITH CHECK (x <> '');
    GRANT SELECT ON app.mine TO visitor; GRANT SELECT, INSERT ON app.entry TO visitor;
    CREATE EXTENSION dragonfly_guard";

#[test]
fn access_that_fails_is_left_out_and_no_check_offers_to_open_it() {
    let cluster = Cluster::start();
    let server = &mut cluster.connect("postgres", SUPERUSER);
    server.batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("SET client_min_messages = warning").unwrap();
    client.batch_execute(FAILING).unwrap();
    for mode in ["strict", "as_is"] {
        let infer = format!("ops.infer_contract('{{app}}', '{mode}')");
        let output =
            cluster.client_program("psql", &["-Xq", "-d", "app", "-c", &format!("SELECT {infer}")]);
        let notices = String::from_utf8(output.stderr).unwrap();
        for line in [
            "2 privileges are not declared, because their use fails",
            "SELECT on view app.mine by \"visitor\": permission denied for table closed.",
            "INSERT on table app.entry by \"visitor\": permission denied for function token; \
             declared on columns x and token instead.",
        ] {
            assert!(notices.contains(line), "{mode}: {line}: {notices}");
        }
        let grants = format!(
            "SELECT t->'column_grants'->>'visitor' FROM \
             jsonb_array_elements({infer}->'tables') AS t WHERE t->>'name' = 'entry'"
        );
        let grants = column(&mut client, &grants);
        assert_eq!(grants.len(), 1, "{mode}");
        assert!(grants[0].contains("\"INSERT\": [\"x\", \"token\"]"), "{mode}: {grants:?}");
        client.batch_execute("BEGIN").unwrap();
        load(&mut client, &infer);
        let failures = column(&mut client, FAILURES);
        let is_of_object = |failure: &&String| !failure.starts_with("postgrest ");
        assert_eq!(failures.iter().find(is_of_object), None, "{mode}");
        attempt(&mut client, "SELECT ops.apply_golden_sql(dry_run => false)").unwrap();
        let insert = "SET LOCAL ROLE visitor; INSERT INTO app.entry VALUES ('a', 'given')";
        attempt(&mut client, insert).unwrap();
        let read = attempt(&mut client, "SELECT * FROM app.closed").unwrap_err();
        assert_eq!(read.code, "42501", "{mode}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn declared_access_works_after_the_plan_of_a_strict_contract() {
    for application in &APPLICATIONS {
        let cluster = Cluster::start();
        let client = &mut application.start(&cluster);
        let before = application.attempts(client);
        load(client, &application.infer("strict"));
        let failures = column(client, FAILURES);
        let declared = column(client, DECLARED);
        let open = "SELECT rule || ' ' || object FROM ops.audit_security(min_severity => 'warning')
            WHERE fix IS NULL ORDER BY 1";
        let open = column(client, open);
        attempt(client, "SELECT ops.apply_golden_sql(dry_run => false)")
            .unwrap_or_else(|error| panic!("{}: {error:?}", application.name));
        let after = application.attempts(client);
        let is_broken = |(key, now): &(&(String, String, String, String), &Outcome)| {
            let (role, object, privilege, _) = key;
            declared.contains(&format!("{role} {object} {privilege}")) && before[*key] != **now
        };
        let broken: Vec<String> = after
            .iter()
            .filter(is_broken)
            .map(|(key, now)| format!("{key:?}: {:?} -> {now:?}", before[key]))
            .collect();
        assert_eq!(broken, [""; 0], "{}", application.name);
        assert_eq!(opened(&before, &after), [""; 0], "{}", application.name);
        let new = column(client, FAILURES).into_iter().filter(|f| !failures.contains(f));
        assert_eq!(new.collect::<Vec<_>>(), [""; 0], "{}", application.name);
        // What remains is what a person decides.
        let remaining = "SELECT rule || ' ' || object
            FROM ops.audit_security(min_severity => 'warning') ORDER BY 1";
        let remaining = column(client, remaining);
        assert!(remaining.iter().all(|left| open.contains(left)), "{remaining:#?} {open:#?}");
    }
}

#[test]
fn services_keep_what_their_groups_have_under_a_strict_contract() {
    let cluster = Cluster::start();
    let client = &mut SERVICES.start(&cluster);
    let before = SERVICES.attempts(client);
    let infer = SERVICES.infer("strict");
    let output = cluster
        .client_program("psql", &["-Xq", "-d", SERVICES.name, "-c", &format!("SELECT {infer}")]);
    let notices = String::from_utf8(output.stderr).unwrap();
    for line in [
        "3 undeclared roles were classified as workers",
        "\"app_rw\" cannot log in; \"svc_api\" and \"svc_worker\" can, and inherit its privileges.",
        "warning role_membership: 5 (\"app_rw\", \"bi\", \"svc_api\" and \"svc_worker\")",
    ] {
        assert!(notices.contains(line), "{line}: {notices}");
    }
    load(client, &infer);
    attempt(client, "SELECT ops.apply_golden_sql(dry_run => false)").unwrap();
    assert_eq!(SERVICES.attempts(client), before);
    let members = "SELECT count(*)::text FROM pg_auth_members
        WHERE roleid::regrole::text IN ('app_rw', 'app_ro')";
    assert_eq!(column(client, members), ["4"], "no membership has ended");
}

/// Views that a client reads and writes to: as the caller, through another view, by default
/// privileges, as the owner.
const VIEWS: &str = "
    CREATE ROLE web_user; CREATE ROLE web_login LOGIN NOINHERIT; GRANT web_user TO web_login;
    CREATE SCHEMA app; CREATE SCHEMA data; GRANT USAGE ON SCHEMA app, data TO web_user;
    CREATE TABLE data.m (id int, u text DEFAULT current_user);
    ALTER TABLE data.m ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON data.m TO web_user USING (u = current_user);
    GRANT SELECT, INSERT, UPDATE, DELETE ON data.m TO web_user;
    CREATE TABLE data.open (id int); GRANT SELECT ON data.open TO web_user;
    CREATE VIEW app.invoker WITH (security_invoker) AS SELECT id FROM data.m;
    CREATE VIEW app.owner AS SELECT id FROM data.m;
    GRANT SELECT, INSERT, UPDATE, DELETE ON app.invoker, app.owner TO web_user;
    ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT ALL ON TABLES TO web_user;
    CREATE VIEW app.nested WITH (security_invoker) AS SELECT id FROM app.invoker;
    CREATE VIEW app.unrestricted WITH (security_invoker) AS SELECT id FROM data.open;
    CREATE VIEW app.by_default AS SELECT id FROM data.m;
    CREATE EXTENSION dragonfly_guard";

#[test]
fn client_keeps_select_on_a_view_under_a_strict_contract_and_loses_the_writes() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("SET client_min_messages = warning").unwrap();
    client.batch_execute(VIEWS).unwrap();
    load(&mut client, "ops.infer_contract('{app,data}')");
    attempt(&mut client, "SELECT ops.apply_golden_sql(dry_run => false)").unwrap();
    client.batch_execute("SET ROLE web_user").unwrap();
    let outcome = |client: &mut Client, sql: &str| attempt(client, sql).err().map(|e| e.code);
    for (view, is_readable) in [
        ("app.invoker", true),
        ("app.owner", true),
        ("app.nested", true),
        ("app.unrestricted", false),
        ("app.by_default", false),
    ] {
        let read = outcome(&mut client, &format!("SELECT * FROM {view}"));
        assert_eq!(read.is_none(), is_readable, "{view}: {read:?}");
        for write in [
            format!("INSERT INTO {view} VALUES (1)"),
            format!("UPDATE {view} SET id = 1"),
            format!("DELETE FROM {view}"),
        ] {
            assert_eq!(outcome(&mut client, &write).as_deref(), Some("42501"), "{write}");
        }
    }
}

#[test]
fn policies_that_lead_to_themselves_fail_for_those_that_they_limit() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "SET client_min_messages = error;
             CREATE ROLE member; CREATE ROLE service BYPASSRLS; CREATE SCHEMA app;
             GRANT USAGE ON SCHEMA app TO member, service;
             CREATE TABLE app.roles (id int PRIMARY KEY, org text);
             ALTER TABLE app.roles ENABLE ROW LEVEL SECURITY;
             GRANT SELECT, INSERT, UPDATE, DELETE ON app.roles TO member, service;
             CREATE POLICY read ON app.roles FOR SELECT TO member
                 USING (EXISTS (SELECT FROM app.roles x WHERE x.org = roles.org));
             CREATE POLICY remove ON app.roles FOR DELETE TO member
                 USING (EXISTS (SELECT FROM app.roles x WHERE x.org = roles.org));
             CREATE EXTENSION dragonfly_guard",
        )
        .unwrap();
    load(&mut client, "ops.infer_contract('{app}', 'as_is')");
    let declared = "SELECT g.key || ' ' || g.value FROM
            jsonb_array_elements(ops.contract()->'tables') t, jsonb_each_text(t->'grants') g
        WHERE t->>'name' = 'roles' ORDER BY 1";
    assert_eq!(
        column(&mut client, declared),
        ["service [\"SELECT\", \"INSERT\", \"UPDATE\", \"DELETE\"]"]
    );
    let of_service = "SELECT detail FROM ops.audit_security() WHERE role_name = 'service'
        AND rule = 'table_privileges'";
    assert_eq!(column(&mut client, of_service), [""; 0]);
}
