//! What policies, views, constraints and defaults call and read belongs to the declared access:
//! inference, audit, plan and guard leave it working.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// A small application. EXECUTE on all functions is that of PUBLIC, by default.
const APPLICATION: &str = "
    CREATE ROLE app_user NOLOGIN;
    CREATE ROLE app_guest NOLOGIN;
    CREATE ROLE app_login LOGIN NOINHERIT;
    GRANT app_user, app_guest TO app_login;
    GRANT USAGE ON SCHEMA public TO app_user, app_guest;

    CREATE TABLE members (uid text, org int, secret text);
    INSERT INTO members VALUES ('1', 7, 's');
    GRANT SELECT ON members TO app_user;

    -- A policy that calls a SECURITY DEFINER function with an unsafe path.
    CREATE FUNCTION is_member(int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = public AS 'SELECT EXISTS (SELECT FROM members WHERE org = $1)';
    CREATE TABLE docs (id int PRIMARY KEY, org int);
    ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
    CREATE POLICY docs ON docs FOR SELECT TO app_user USING (is_member(org));
    GRANT SELECT ON docs TO app_user;

    -- A policy without TO.
    CREATE FUNCTION visible(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
    CREATE TABLE notes (id int);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY notes ON notes FOR SELECT USING (visible(id));
    GRANT SELECT ON notes TO app_user, app_guest;

    -- A policy with an operator, whose negator the planner calls.
    CREATE FUNCTION same(int, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN $1 = $2; END';
    CREATE FUNCTION other(int, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN $1 <> $2; END';
    CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same, NEGATOR = !==);
    CREATE OPERATOR !== (LEFTARG = int, RIGHTARG = int, FUNCTION = other, NEGATOR = ===);
    CREATE TABLE marks (id int, org int);
    INSERT INTO marks VALUES (1, 7);
    ALTER TABLE marks ENABLE ROW LEVEL SECURITY;
    CREATE POLICY marks ON marks FOR SELECT TO app_user USING (NOT (org === 8));
    GRANT SELECT ON marks TO app_user;

    -- A policy that reads another table.
    CREATE TABLE subs (id int, org int);
    INSERT INTO subs VALUES (1, 7);
    ALTER TABLE subs ENABLE ROW LEVEL SECURITY;
    CREATE POLICY subs ON subs FOR SELECT TO app_user
        USING (EXISTS (SELECT FROM members m WHERE m.org = subs.org));
    GRANT SELECT ON subs TO app_user;

    -- A policy that calls a function with a parsed body, which calls another one.
    CREATE FUNCTION inner_of(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN $1 > 0; END';
    CREATE FUNCTION outer_of(int) RETURNS boolean LANGUAGE sql IMMUTABLE
        BEGIN ATOMIC SELECT inner_of($1); END;
    CREATE TABLE deep (id int);
    ALTER TABLE deep ENABLE ROW LEVEL SECURITY;
    CREATE POLICY deep ON deep FOR SELECT TO app_user USING (outer_of(id));
    GRANT SELECT ON deep TO app_user;

    -- A view of a view that calls a function.
    CREATE FUNCTION slug(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
    CREATE TABLE posts (id int, title text);
    INSERT INTO posts VALUES (1, 'A');
    CREATE VIEW slugs AS SELECT id, slug(title) AS slug FROM posts;
    CREATE VIEW public_slugs AS SELECT slug FROM slugs;
    GRANT SELECT ON public_slugs TO app_user;

    -- Everything that an INSERT evaluates.
    CREATE FUNCTION is_short(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
        'SELECT length($1) < 9';
    CREATE FUNCTION new_code() RETURNS text LANGUAGE sql AS 'SELECT ''code''';
    CREATE FUNCTION shout(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN upper($1); END';
    CREATE FUNCTION key_of(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN $1; END';
    CREATE FUNCTION is_label(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
        'SELECT $1 <> ''x''';
    CREATE FUNCTION is_loud(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
        'SELECT $1 = ''LOUD''';
    CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE DOMAIN label AS text CHECK (is_label(VALUE));
    CREATE SEQUENCE free_numbers;
    GRANT USAGE ON SEQUENCE free_numbers TO app_user;
    -- Defaults of domains, one of which a column never uses.
    CREATE FUNCTION fresh_name() RETURNS text LANGUAGE sql AS 'SELECT ''new''';
    CREATE FUNCTION never() RETURNS text LANGUAGE sql AS 'SELECT ''never''';
    CREATE SEQUENCE domain_numbers;
    GRANT USAGE ON SEQUENCE domain_numbers TO app_user;
    CREATE DOMAIN numbered AS int DEFAULT nextval('domain_numbers');
    CREATE DOMAIN fresh_text AS text DEFAULT upper(fresh_name());
    CREATE DOMAIN copied AS fresh_text;
    CREATE DOMAIN never_text AS text DEFAULT never();
    CREATE TABLE items (
        number numbered,
        fresh copied,
        own never_text DEFAULT 'own',
        id int DEFAULT nextval('free_numbers'),
        title text CHECK (is_short(title)),
        code text DEFAULT new_code(),
        loud text GENERATED ALWAYS AS (shout(title)) STORED,
        labels label[]
    );
    CREATE INDEX items_key ON items (key_of(title));
    CREATE TRIGGER loud BEFORE INSERT ON items FOR EACH ROW WHEN (is_loud(NEW.title))
        EXECUTE FUNCTION changed();
    ALTER TABLE items ENABLE ROW LEVEL SECURITY;
    CREATE POLICY items ON items FOR INSERT TO app_user WITH CHECK (title IS NOT NULL);
    GRANT INSERT ON items TO app_user;

    -- A partition with a constraint of its own, and a partition key with a function.
    CREATE FUNCTION kind_of(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN RETURN $1 % 2; END';
    CREATE FUNCTION is_small(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 99';
    CREATE TABLE events (id int) PARTITION BY LIST (kind_of(id));
    CREATE TABLE odd_events PARTITION OF events (CHECK (is_small(id))) FOR VALUES IN (1);
    ALTER TABLE events ENABLE ROW LEVEL SECURITY;
    CREATE POLICY events ON events FOR INSERT TO app_user WITH CHECK (id > 0);
    GRANT INSERT ON events TO app_user;

    -- The default of an argument, and the function that PostgREST calls before each request.
    CREATE FUNCTION the_default() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION with_default(a int DEFAULT the_default()) RETURNS int LANGUAGE sql AS
        'SELECT a';
    GRANT EXECUTE ON FUNCTION with_default TO app_user;
    CREATE FUNCTION check_request() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
    ALTER ROLE app_login SET pgrst.db_pre_request = 'public.check_request';

    CREATE FUNCTION used_by_nothing() RETURNS int LANGUAGE sql AS 'SELECT 1';";

/// What app_user does.
const STATEMENTS: [&str; 11] = [
    "SELECT * FROM docs",
    "SELECT * FROM notes",
    "SELECT 1 / count(*) FROM marks",
    "SELECT 1 / count(*) FROM subs",
    "SELECT * FROM deep",
    "SELECT * FROM public_slugs",
    "INSERT INTO items (title, labels) VALUES ('LOUD', '{a}')",
    "INSERT INTO items (title) VALUES ('quiet')",
    "INSERT INTO events VALUES (1)",
    "SELECT with_default()",
    "SELECT check_request()",
];

fn application() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    client
        .batch_execute(&format!("SET dragonfly_guard.mode = off; {APPLICATION}"))
        .and_then(|()| client.batch_execute("RESET dragonfly_guard.mode"))
        .unwrap_or_else(|e| panic!("{e:?}"));
    (cluster, client)
}

/// Puts the inferred contract into force, with some of its parts replaced.
fn load_inferred(client: &mut Client, replaced: &str) {
    client
        .batch_execute(&format!(
            "SELECT * FROM ops.load_contract(
                 ops.infer_contract('{{public}}')
                 || '{{\"version\": \"9.0.0\"}}'::jsonb || '{replaced}'::jsonb)"
        ))
        .unwrap_or_else(|e| panic!("{e:?}"));
}

/// Executes a statement as a role and rolls it back.
fn as_role(client: &mut Client, role: &str, sql: &str) -> Result<(), String> {
    let script = format!("BEGIN; SET LOCAL ROLE {role}; {sql}");
    let outcome = attempt(client, &script).map_err(|e| format!("{sql}: {}", e.message));
    client.batch_execute("ROLLBACK").unwrap();
    outcome
}

fn all_work(client: &mut Client) {
    for sql in STATEMENTS {
        as_role(client, "app_user", sql).unwrap();
    }
}

fn functions_of(client: &mut Client, role: &str) -> Vec<String> {
    column(
        client,
        &format!(
            "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                AND has_function_privilege('{role}', oid, 'EXECUTE') ORDER BY 1"
        ),
    )
}

#[test]
fn plan_for_inferred_contract_leaves_working_what_the_access_calls() {
    for replaced in ["{}", r#"{"functions": []}"#] {
        let (_cluster, mut client) = application();
        all_work(&mut client);
        load_inferred(&mut client, replaced);
        all_work(&mut client);
        let before = functions_of(&mut client, "app_user").len();
        client
            .batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)")
            .unwrap_or_else(|e| panic!("{e:?}"));
        if replaced == "{}" {
            all_work(&mut client);
        } else {
            // The contract does not declare this one.
            for sql in STATEMENTS.into_iter().filter(|sql| !sql.contains("with_default")) {
                as_role(&mut client, "app_user", sql).unwrap();
            }
        }
        assert_conforms(&mut client);
        // PUBLIC has lost the rest.
        let after = functions_of(&mut client, "app_user");
        assert!(after.len() < before, "{after:?}");
        assert!(!after.contains(&"used_by_nothing".to_owned()), "{after:?}");
        // The column has a default of its own.
        assert!(!after.contains(&"never".to_owned()), "{after:?}");
        assert_eq!(
            functions_of(&mut client, "app_guest"),
            ["changed", "check_request", "visible"],
            "app_guest reads notes and makes requests"
        );
        // The policy of subs reads one column.
        as_role(&mut client, "app_user", "SELECT org FROM members").unwrap();
        as_role(&mut client, "app_user", "SELECT secret FROM members").unwrap_err();
    }
}

#[test]
fn inferred_contract_says_what_calls_a_helper() {
    let (_cluster, mut client) = application();
    let purposes = column(
        &mut client,
        "SELECT f->>'name' || ' ' || (f->>'execute') || ': ' || (f->>'purpose')
           FROM jsonb_array_elements(ops.infer_contract('{public}')->'functions') f
          WHERE f->>'name' IN ('is_member', 'visible', 'check_request', 'inner_of')
          ORDER BY 1",
    );
    assert_eq!(
        purposes,
        [
            "check_request [\"app_guest\", \"app_user\"]: Called by PostgREST before each request \
             (pgrst.db_pre_request).",
            "inner_of [\"app_user\"]: Called by function public.outer_of(integer).",
            "is_member [\"app_user\"]: Called by policy docs on public.docs.",
            "visible [\"app_guest\", \"app_user\"]: Called by policy notes on public.notes.",
        ]
    );
}

/// Checks that the database conforms to the contract, apart from what the conditions of the
/// policies let clients reach: these are made for what they need.
fn assert_conforms(client: &mut Client) {
    let found = "SELECT rule || ': ' || detail FROM ops.audit_security(min_severity => 'warning')
        WHERE rule NOT IN (SELECT rule FROM ops.security_rules() WHERE area = 'policies')";
    assert_eq!(column(client, found), [""; 0]);
}

/// Returns what the guard says about a statement that it rejects.
fn rejection(client: &mut Client, sql: &str) -> Option<String> {
    let error = attempt(client, sql).err()?;
    let _ = client.batch_execute("ROLLBACK");
    assert!(error.message.contains("violates the security contract"), "{}", error.message);
    Some(error.detail)
}

#[test]
fn guard_accepts_what_a_declared_policy_needs_and_no_more() {
    let (_cluster, mut client) = application();
    load_inferred(&mut client, r#"{"functions": []}"#);
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)").unwrap();
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             REVOKE EXECUTE ON FUNCTION is_member, visible, same, slug, is_small, is_label,
                 the_default, check_request FROM app_user, app_guest;
             REVOKE SELECT ON members FROM app_user;
             RESET dragonfly_guard.mode",
        )
        .unwrap();
    for granted in ["is_member", "visible", "same", "slug", "is_small", "is_label", "check_request"]
    {
        let grant = format!("GRANT EXECUTE ON FUNCTION {granted} TO app_user");
        assert_eq!(rejection(&mut client, &grant), None, "{grant}");
    }
    assert_eq!(rejection(&mut client, "GRANT SELECT (org) ON members TO app_user"), None);
    assert_conforms(&mut client);
    all_but_declared_work(&mut client);
    for sql in [
        "GRANT EXECUTE ON FUNCTION is_member TO app_guest",
        "GRANT EXECUTE ON FUNCTION used_by_nothing TO app_user",
        "GRANT SELECT ON members TO app_user",
        "GRANT SELECT (secret) ON members TO app_user",
        "GRANT SELECT (org) ON members TO app_guest",
        "GRANT EXECUTE ON FUNCTION is_member TO PUBLIC",
    ] {
        assert!(rejection(&mut client, sql).is_some(), "{sql}");
    }
}

fn all_but_declared_work(client: &mut Client) {
    for sql in STATEMENTS.into_iter().filter(|sql| !sql.contains("with_default")) {
        as_role(client, "app_user", sql).unwrap();
    }
}

#[test]
fn helper_may_be_granted_before_its_policy_in_one_transaction_and_the_policy_be_dropped() {
    let (_cluster, mut client) = application();
    load_inferred(&mut client, "{}");
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)").unwrap();
    let helper = "CREATE FUNCTION fresh(int) RETURNS boolean LANGUAGE sql IMMUTABLE
                      AS 'SELECT true';
                  REVOKE EXECUTE ON FUNCTION fresh FROM PUBLIC;
                  GRANT EXECUTE ON FUNCTION fresh TO app_user;";
    assert!(rejection(&mut client, &format!("BEGIN; {helper} COMMIT")).is_some());
    let policy = "ALTER POLICY docs ON docs USING (is_member(org) AND fresh(org));";
    assert_eq!(rejection(&mut client, &format!("BEGIN; {helper} {policy} COMMIT")), None);
    as_role(&mut client, "app_user", "SELECT * FROM docs").unwrap();
    assert_conforms(&mut client);

    // Together with another change of the helper, which has a finding now.
    let dropped = "BEGIN; ALTER POLICY docs ON docs USING (is_member(org));
                   COMMENT ON FUNCTION fresh IS 'unused';
                   ALTER FUNCTION fresh STABLE; COMMIT";
    assert_eq!(rejection(&mut client, dropped), None);
    assert_eq!(
        column(
            &mut client,
            "SELECT fix FROM ops.audit_security(min_severity => 'warning')
            WHERE rule ~ 'routine'"
        ),
        ["REVOKE EXECUTE ON ROUTINE public.fresh(integer) FROM app_user;"]
    );
}

/// From PostgreSQL 18 on, a CHECK can be NOT ENFORCED: nothing evaluates it.
#[test]
fn function_of_a_check_is_needed_only_while_the_check_is_enforced() {
    let (_cluster, mut client) = application();
    load_inferred(&mut client, "{}");
    client.batch_execute("SELECT * FROM ops.apply_golden_sql(dry_run => false)").unwrap();
    let version: i32 =
        column(&mut client, "SELECT current_setting('server_version_num')")[0].parse().unwrap();
    let granted = |end: &str| {
        format!(
            "BEGIN; CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE sql IMMUTABLE
                 AS 'SELECT true';
             REVOKE EXECUTE ON FUNCTION fits FROM PUBLIC;
             ALTER TABLE items ADD CONSTRAINT fits CHECK (fits(title)) {end};
             GRANT EXECUTE ON FUNCTION fits TO app_user; COMMIT"
        )
    };
    if version >= 180_000 {
        assert!(rejection(&mut client, &granted("NOT ENFORCED")).is_some());
        let insert = "INSERT INTO items (title) VALUES ('a')";
        let unused =
            granted("NOT ENFORCED").replace("GRANT EXECUTE ON FUNCTION fits TO app_user;", "");
        assert_eq!(rejection(&mut client, &unused), None);
        as_role(&mut client, "app_user", insert).unwrap();
        client.batch_execute("DROP FUNCTION fits CASCADE").unwrap();
    }
    assert_eq!(rejection(&mut client, &granted("")), None);
    assert_conforms(&mut client);
}

#[test]
fn execute_of_public_on_a_new_definer_is_a_warning_and_a_grant_to_public_is_rejected() {
    let (cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE ROLE app_worker NOLOGIN BYPASSRLS; CREATE ROLE app_owner SUPERUSER;
             GRANT USAGE ON SCHEMA public TO app_worker",
        )
        .unwrap();
    load_inferred(
        &mut client,
        r#"{"schemas": [{"name": "public", "usage": ["app_user", "app_guest", "app_worker"],
                         "execute_on_routines": ["app_worker"]}]}"#,
    );
    let body = "LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                    AS 'SELECT 1'";
    let create = |name: &str| format!("CREATE FUNCTION {name}() RETURNS int {body};");
    let defaults = [
        "",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO app_worker;",
        "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO app_worker;",
    ];
    for (i, defaults) in defaults.into_iter().enumerate() {
        client.batch_execute(defaults).unwrap();
        let name = |what: &str| format!("{what}_{i}");
        let [plain, granted, moved, turned] = ["a", "b", "c", "d"].map(name);
        let grant = |name: &str, to: &str| format!("GRANT EXECUTE ON FUNCTION {name} TO {to};");
        let in_one = |sql: &str| format!("BEGIN; {sql} COMMIT");
        for allowed in [
            create(&plain),
            grant(&plain, "app_worker"),
            format!("CREATE OR REPLACE FUNCTION {plain}() RETURNS int {body}"),
            in_one(&format!("{}{}", create(&granted), grant(&granted, "app_worker"))),
            in_one(&format!("{}ALTER FUNCTION {moved} OWNER TO app_owner;", create(&moved))),
            format!("CREATE FUNCTION {turned}() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
            format!(
                "ALTER FUNCTION {turned} SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
            ),
        ] {
            assert_eq!(rejection(&mut client, &allowed), None, "{allowed}");
        }
        let public = name("e");
        let to_public = in_one(&format!("{}{}", create(&public), grant(&public, "PUBLIC")));
        assert!(rejection(&mut client, &to_public).is_some(), "{to_public}");
        let to_public = in_one(&format!(
            "{}{}{}",
            create(&public),
            grant(&public, "app_worker"),
            grant(&public, "app_worker, PUBLIC")
        ));
        assert!(rejection(&mut client, &to_public).is_some(), "{to_public}");
        let revoked =
            in_one(&format!("{}REVOKE EXECUTE ON FUNCTION {public} FROM PUBLIC;", create(&public)));
        assert_eq!(rejection(&mut client, &revoked), None);
        assert!(rejection(&mut client, &grant(&public, "PUBLIC")).is_some(), "granted later");
        assert!(rejection(&mut client, &grant(&public, "app_user")).is_some(), "to a client");
        // A new routine with the name of a routine without the privilege.
        let again = in_one(&format!("DROP FUNCTION {public}; {}", create(&public)));
        assert!(rejection(&mut client, &again).is_some(), "{again}");
    }
    drop(client);
    let warnings = cluster.log();
    let warned = |name: &str| {
        let line = format!("security_definer_executable_by_clients on function public.{name}()");
        warnings.lines().any(|l| l.contains("WARNING") && l.contains(&line))
    };
    for name in ["a_0", "a_1", "a_2", "b_1", "c_1"] {
        assert!(warned(name), "{name}: {warnings}");
    }
}

#[test]
fn trigger_function_and_routine_without_usage_are_no_findings() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE SCHEMA hidden;
             CREATE FUNCTION hidden.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
             GRANT EXECUTE ON FUNCTION hidden.f TO app_user;
             CREATE FUNCTION definer_trigger() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END';",
        )
        .unwrap();
    client
        .batch_execute(
            "SELECT * FROM ops.load_contract(
                 ops.infer_contract('{public,hidden}') || '{\"functions\": []}')",
        )
        .unwrap();
    let found = column(
        &mut client,
        "SELECT severity || ' ' || rule || ' ' || object || ' ' || role_name
           FROM ops.audit_security() WHERE object ~ 'hidden.f|changed|trigger' ORDER BY 1",
    );
    assert_eq!(
        found,
        [
            "error security_definer_executable_by_clients public.definer_trigger() PUBLIC",
            "info routine_executable_by_public hidden.f() PUBLIC",
            "info routine_privileges hidden.f() app_user",
        ]
    );
}

/// An application in which a policy, a default or a view can need what the contract does not
/// declare.
const REASONS: &str = "
    CREATE ROLE visitor; CREATE ROLE maker; CREATE ROLE web LOGIN NOINHERIT; GRANT visitor TO web;
    CREATE SCHEMA s AUTHORIZATION maker; SET ROLE maker; GRANT USAGE ON SCHEMA s TO visitor;
    CREATE TABLE s.t (id int PRIMARY KEY, o text); ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON s.t TO visitor USING (o = current_user);
    GRANT SELECT, INSERT ON s.t TO visitor;
    CREATE TABLE s.secret (id int, password text); ALTER TABLE s.secret ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION s.danger() RETURNS text LANGUAGE sql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS 'SELECT password FROM s.secret';
    REVOKE EXECUTE ON FUNCTION s.danger() FROM PUBLIC;
    RESET ROLE;";

fn with_reasons(cluster: &Cluster) -> Client {
    let mut client = cluster.guarded("app");
    client
        .batch_execute(&format!(
            "SET dragonfly_guard.mode = off; {REASONS}
             SELECT ops.load_contract(
                 jsonb_set(ops.infer_contract('{{s}}'), '{{version}}', '\"1.0.1\"'));
             RESET dragonfly_guard.mode; SET ROLE maker"
        ))
        .unwrap();
    client
}

fn audited(client: &mut Client, severity: &str) -> Vec<String> {
    client.batch_execute("RESET ROLE").unwrap();
    let sql = format!(
        "SELECT rule || ' ' || object || ': ' || detail FROM ops.audit_security() \
         WHERE severity = '{severity}' AND rule <> 'rls_not_forced' AND object ~ 'danger|secret'
         ORDER BY 1"
    );
    let found = column(client, &sql);
    client.batch_execute("SET ROLE maker").unwrap();
    found
}

#[test]
fn policy_that_counts_rows_permits_one_column_and_one_with_whole_rows_all() {
    let cluster = Cluster::start();
    let mut client = with_reasons(&cluster);
    let whole = "GRANT SELECT ON s.secret TO visitor";
    let policy = |condition: &str| {
        format!("CREATE POLICY r ON s.t AS RESTRICTIVE USING ((SELECT {condition}))")
    };
    for counting in ["count(*) > 0 FROM s.secret", "EXISTS (SELECT FROM s.secret)"] {
        attempt(&mut client, &policy(counting)).unwrap();
        assert_eq!(attempt(&mut client, whole).unwrap_err().code, "0LP01", "{counting}");
        let other = attempt(&mut client, "GRANT SELECT (password) ON s.secret TO visitor");
        assert_eq!(other.unwrap_err().code, "0LP01", "{counting}");
        attempt(&mut client, "GRANT SELECT (id) ON s.secret TO visitor").unwrap();
        assert_eq!(audited(&mut client, "error"), [""; 0], "{counting}");
        attempt(&mut client, "SET ROLE visitor; TABLE s.t; SET ROLE maker").unwrap();
        attempt(&mut client, "REVOKE SELECT (id) ON s.secret FROM visitor").unwrap();
        attempt(&mut client, "DROP POLICY r ON s.t").unwrap();
    }
    // A constant of type regclass reads nothing.
    attempt(&mut client, &policy("'s.secret'::regclass IS NOT NULL")).unwrap();
    assert_eq!(attempt(&mut client, whole).unwrap_err().code, "0LP01");
    attempt(&mut client, "DROP POLICY r ON s.t").unwrap();
    attempt(&mut client, &policy("x IS NOT NULL FROM s.secret x LIMIT 1")).unwrap();
    attempt(&mut client, whole).unwrap();
    assert_eq!(audited(&mut client, "error"), [""; 0]);
}

#[test]
fn definer_that_clients_can_call_because_it_is_needed_is_information() {
    let cluster = Cluster::start();
    let mut client = with_reasons(&cluster);
    attempt(&mut client, "ALTER TABLE s.t ALTER o SET DEFAULT s.danger()").unwrap();
    attempt(&mut client, "GRANT EXECUTE ON FUNCTION s.danger() TO visitor").unwrap();
    assert_eq!(
        audited(&mut client, "info"),
        ["security_definer_executable_by_clients s.danger(): Role \"visitor\" has EXECUTE on \
          function s.danger(), which the contract does not declare. It is permitted because the \
          default of column s.t.o calls the routine, which also lets the role call it directly."]
    );
}

#[test]
fn command_that_removes_the_reason_of_a_privilege_warns() {
    let cluster = Cluster::start();
    let mut client = with_reasons(&cluster);
    let grant = "GRANT EXECUTE ON FUNCTION s.danger() TO visitor";
    let pairs = [
        ("CREATE POLICY r ON s.t AS RESTRICTIVE USING (o = s.danger())", "DROP POLICY r ON s.t"),
        (
            "CREATE POLICY r ON s.t AS RESTRICTIVE USING (o = s.danger())",
            "ALTER POLICY r ON s.t USING (o IS NOT NULL)",
        ),
        ("ALTER TABLE s.t ALTER o SET DEFAULT s.danger()", "ALTER TABLE s.t ALTER o DROP DEFAULT"),
        (
            "ALTER TABLE s.t ADD CONSTRAINT c CHECK (o <> s.danger())",
            "ALTER TABLE s.t DROP CONSTRAINT c",
        ),
        (
            "CREATE FUNCTION s.inner() RETURNS text LANGUAGE sql RETURN s.danger();
             ALTER TABLE s.t ALTER o SET DEFAULT s.inner()",
            "ALTER TABLE s.t ALTER o SET DEFAULT 'x'",
        ),
        (
            "CREATE FUNCTION s.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER g BEFORE INSERT ON s.t FOR EACH ROW WHEN (NEW.o = s.danger())
               EXECUTE FUNCTION s.fires()",
            "CREATE OR REPLACE TRIGGER g BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION \
             s.fires()",
        ),
        (
            "CREATE DOMAIN s.checked AS text CONSTRAINT c CHECK (VALUE <> s.danger());
             ALTER TABLE s.t ADD d s.checked",
            "ALTER DOMAIN s.checked DROP CONSTRAINT c",
        ),
        (
            "CREATE OR REPLACE FUNCTION s.inner() RETURNS text LANGUAGE sql RETURN s.danger();
             ALTER TABLE s.t ALTER o SET DEFAULT s.inner()",
            "CREATE OR REPLACE FUNCTION s.inner() RETURNS text LANGUAGE sql RETURN 'x'::text",
        ),
    ];
    let warnings = |cluster: &Cluster| {
        let warning = "leaves a privilege that nothing declared needs: \
                       security_definer_executable_by_clients on function s.danger()";
        cluster.log().lines().filter(|l| l.contains("WARNING") && l.contains(warning)).count()
    };
    for (number, (reason, removal)) in pairs.into_iter().enumerate() {
        attempt(&mut client, grant).unwrap_err();
        attempt(&mut client, reason).unwrap_or_else(|error| panic!("{reason}: {error:?}"));
        attempt(&mut client, grant).unwrap_or_else(|error| panic!("{reason}: {error:?}"));
        assert_eq!(warnings(&cluster), number, "{reason}");
        attempt(&mut client, removal).unwrap_or_else(|error| panic!("{removal}: {error:?}"));
        assert_eq!(warnings(&cluster), number + 1, "{removal}: {}", cluster.log());
        assert_eq!(audited(&mut client, "error").len(), 1, "{removal}");
        attempt(&mut client, "REVOKE EXECUTE ON FUNCTION s.danger() FROM visitor").unwrap();
        attempt(&mut client, "DROP POLICY IF EXISTS r ON s.t").unwrap();
    }
    assert!(cluster.log().contains(
        "If it is needed no longer, revoke it: REVOKE EXECUTE ON ROUTINE s.danger() FROM \
         visitor;\n\tIf this is intended, exempt it: SELECT ops.exempt("
    ));
    let log = cluster.log();
    let hint = log.lines().find(|line| line.contains("If it is needed no longer")).unwrap();
    assert!(!hint.contains("check_at"), "the removal is allowed: {hint}");
    // In one transaction, nothing was there before.
    let (reason, removal) = pairs[0];
    let all = ["BEGIN", reason, grant, removal, "COMMIT"];
    let result = all.iter().try_for_each(|sql| attempt(&mut client, sql));
    assert_eq!(result.unwrap_err().code, "0LP01");
    attempt(&mut client, "ROLLBACK").unwrap();
}

/// Objects of an owner that no role is declared to use, and the functions and the table of another
/// owner that they need.
const OBJECTS_OF_AN_OWNER: &str = "
    CREATE ROLE makers; CREATE ROLE keeper; CREATE ROLE visitor;
    CREATE ROLE entrance LOGIN NOINHERIT; GRANT visitor TO entrance;
    CREATE SCHEMA s; GRANT USAGE, CREATE ON SCHEMA s TO makers, keeper;
    GRANT USAGE ON SCHEMA s TO visitor;
    SET ROLE makers;
    CREATE TABLE s.base (x int); GRANT SELECT ON s.base TO PUBLIC;
    CREATE FUNCTION s.inner_one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
      AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION s.one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
      AS 'BEGIN RETURN s.inner_one($1); END';
    CREATE FUNCTION s.is_one(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
      AS 'BEGIN RETURN true; END';
    CREATE FUNCTION s.of_index(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
      AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION s.of_statistics(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
      AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION s.of_trigger(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION s.of_view(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    RESET ROLE; SET ROLE keeper;
    CREATE FUNCTION s.fill() RETURNS trigger LANGUAGE plpgsql
      AS 'BEGIN NEW.t := s.of_trigger(NEW.x); RETURN NEW; END';
    CREATE TABLE s.own (x int CHECK (s.is_one(x)), t int,
      g int GENERATED ALWAYS AS (s.one(x)) STORED);
    CREATE INDEX ON s.own (s.of_index(x));
    CREATE STATISTICS s.of_own ON (s.of_statistics(x)), x FROM s.own;
    CREATE TRIGGER fill BEFORE INSERT ON s.own FOR EACH ROW EXECUTE FUNCTION s.fill();
    CREATE VIEW s.shown AS SELECT s.of_view(x) AS x FROM s.base;
    CREATE MATERIALIZED VIEW s.stored AS SELECT x FROM s.base;
    RESET ROLE; CREATE EXTENSION dragonfly_guard;";

#[test]
fn owner_can_use_its_undeclared_objects_after_the_plan() {
    for mode in ["strict", "as_is"] {
        let cluster = Cluster::start();
        let mut client = cluster.connect("postgres", SUPERUSER);
        client.batch_execute(OBJECTS_OF_AN_OWNER).unwrap();
        let contract = format!(
            "SELECT ops.load_contract(jsonb_set(ops.infer_contract('{{s}}', '{mode}'), \
             '{{version}}', '\"1.0.1\"'))"
        );
        client.batch_execute(&contract).unwrap();
        // The audit says that the grants belong to the REVOKE.
        let fix = "SELECT fix FROM ops.audit_security() WHERE object = 's.of_statistics(integer)'";
        let fix = column(&mut client, fix);
        assert!(fix[0].contains("TO keeper") || fix[0].contains(", keeper"), "{mode}: {fix:?}");
        client.batch_execute("SELECT FROM ops.apply_golden_sql(dry_run => false)").unwrap();
        let revoked = "SELECT has_function_privilege('entrance', 's.inner_one(int)', 'EXECUTE')
                       OR has_table_privilege('entrance', 's.base', 'SELECT')";
        assert!(!client.query_one(revoked, &[]).unwrap().get::<_, bool>(0), "{mode}");
        client
            .batch_execute(
                "SET ROLE keeper; INSERT INTO s.own VALUES (1); SELECT FROM s.shown;
                 REFRESH MATERIALIZED VIEW s.stored",
            )
            .unwrap_or_else(|error| panic!("{mode}: {error:?}"));
        for statement in ["ANALYZE s.own", "REINDEX TABLE s.own"] {
            client
                .batch_execute(statement)
                .unwrap_or_else(|e| panic!("{mode}: {statement}: {e:?}"));
        }
    }
}
