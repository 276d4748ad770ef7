//! The rules of area policies: which policies they report, and what a contract says is meant.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, with_reason};
use postgres::Client;
use std::time::{Duration, Instant};

#[test]
fn policy_of_each_rule_is_reported_by_it() {
    let cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute("CREATE DATABASE app").unwrap();
    cluster.psql_file("app", "fixtures/document.sql");
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    cluster.psql_file("app", "fixtures/policy_violations.sql");
    let policies = "SELECT polname::text FROM pg_policy WHERE polrelid IN
        ('files'::regclass, 'notes'::regclass, 'inbox'::regclass) AND polname <> 'own'";
    let mut rules = column(&mut client, policies);
    rules.push("command_missing".to_owned());
    let found = column(
        &mut client,
        "SELECT DISTINCT rule || ': ' || object FROM ops.audit_policies() ORDER BY 1",
    );
    for rule in rules {
        let is_about_it = |line: &String| {
            line.strip_prefix(&format!("policy_{rule}: ")).is_some_and(|object| {
                object.split(' ').next() == Some(&rule) || !object.contains(" on ")
            })
        };
        assert!(found.iter().any(is_about_it), "{rule}: {found:#?}");
    }
}

/// An application whose rows belong to users, with the claims of a platform.
const APPLICATION: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated;
    CREATE ROLE authenticator LOGIN NOINHERIT; GRANT anon, authenticated TO authenticator;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
            ->> 'sub')::uuid $$;
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated;
    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL, tenant text NOT NULL,
        editor uuid, status text NOT NULL);
    CREATE TABLE app.admins (user_id uuid PRIMARY KEY);
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    GRANT SELECT, INSERT, UPDATE, DELETE ON app.docs TO authenticated;
    GRANT SELECT, INSERT ON app.docs TO anon;
    GRANT SELECT ON app.admins TO authenticated;
    CREATE EXTENSION dragonfly_guard;
    SELECT ops.load_contract('{\"name\": \"app\", \"version\": \"2.0.0\",
        \"roles\": [{\"name\": \"anon\", \"kind\": \"client\"},
            {\"name\": \"authenticated\", \"kind\": \"client\"},
            {\"name\": \"authenticator\", \"kind\": \"login\"}],
        \"schemas\": [{\"name\": \"app\", \"usage\": [\"anon\", \"authenticated\"]}],
        \"security_definer\": {\"search_path\": [\"pg_catalog\", \"pg_temp\"]},
        \"tables\": [{\"schema\": \"app\", \"name\": \"docs\", \"row_security\": true,
            \"grants\": {\"authenticated\": [\"SELECT\", \"INSERT\", \"UPDATE\", \"DELETE\"],
                \"anon\": [\"SELECT\", \"INSERT\"]},
            \"policies\": {\"authenticated\": [\"ALL\"], \"anon\": [\"SELECT\", \"INSERT\"]}},
            {\"schema\": \"app\", \"name\": \"admins\",
             \"grants\": {\"authenticated\": [\"SELECT\"]}}]}'::jsonb);
    SET dragonfly_guard.mode = off;";

fn application() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    (cluster, client)
}

/// Returns severity, rule, roles and commands of the findings about policies with a condition.
fn found(client: &mut Client, policies: &str) -> Vec<String> {
    client.batch_execute(&format!("BEGIN; {policies}")).unwrap();
    let query = "SELECT concat_ws(' ', severity, rule, coalesce(role_name,
            (SELECT string_agg(role, ',') FROM jsonb_array_elements_text(evidence->'grantees') \
            role)),
            (SELECT string_agg(word, ',') FROM jsonb_array_elements_text(evidence->'commands') \
            word))
        FROM ops.audit_policies()
        WHERE rule NOT IN ('policy_command_missing', 'policy_per_row', 'policy_unindexed')";
    let found = column(client, query);
    client.batch_execute("ROLLBACK").unwrap();
    found
}

/// What a contract declares with `fields` of the table app.docs, and then finds about policies.
fn found_with(client: &mut Client, options: &str, policies: &str) -> Vec<String> {
    let declared = format!("SELECT ops.declare($declared${options}$declared$, 'test');");
    found(client, &format!("{declared} {policies}"))
}

const OWN: &str = "CREATE POLICY own ON app.docs TO authenticated USING (owner = auth.uid());";

#[test]
fn policy_that_ties_every_row_is_no_finding() {
    let (_cluster, mut client) = application();
    assert_eq!(found(&mut client, OWN), [""; 0]);
    let keys = "ALTER TABLE app.docs SET (contract.keys = 'owner')";
    assert_eq!(found_with(&mut client, keys, OWN), [""; 0]);
}

#[test]
fn severity_is_that_of_the_rule_where_the_contract_declares_keys() {
    let (_cluster, mut client) = application();
    let keys = "ALTER TABLE app.docs SET (contract.keys = 'owner')";
    let others = "CREATE POLICY others ON app.docs TO authenticated USING (owner <> auth.uid());";
    let commands = "authenticated SELECT,INSERT,UPDATE,DELETE";
    assert_eq!(
        found(&mut client, others),
        [format!("warning policy_identity_inverted {commands}")]
    );
    assert_eq!(
        found_with(&mut client, keys, others),
        [format!("error policy_identity_inverted {commands}")]
    );
    // A row is its owner's, and not its editor's.
    let editor = "CREATE POLICY edit ON app.docs FOR SELECT TO authenticated
        USING (editor = auth.uid());";
    assert_eq!(found(&mut client, editor), [""; 0]);
    assert_eq!(
        found_with(&mut client, keys, editor),
        ["warning policy_check_wider authenticated SELECT"]
    );
}

#[test]
fn each_declared_key_is_as_good_for_writes_as_the_one_that_rows_are_read_by() {
    let (_cluster, mut client) = application();
    let policies = "CREATE POLICY read ON app.docs FOR SELECT TO authenticated
            USING (owner = auth.uid());
        CREATE POLICY change ON app.docs FOR UPDATE TO authenticated
            USING (owner = auth.uid() OR editor = auth.uid());
        CREATE POLICY remove ON app.docs FOR DELETE TO authenticated
            USING (owner = auth.uid() OR editor = auth.uid());";
    let both = "ALTER TABLE app.docs SET (contract.keys = 'owner, editor')";
    assert_eq!(found_with(&mut client, both, policies), [""; 0]);
    let owner = "ALTER TABLE app.docs SET (contract.keys = 'owner')";
    assert_eq!(
        found_with(&mut client, owner, policies),
        [
            "warning policy_check_wider authenticated UPDATE",
            "warning policy_check_wider authenticated DELETE",
        ]
    );
}

#[test]
fn rows_that_the_contract_says_are_open_are_no_finding() {
    let (_cluster, mut client) = application();
    let public = "CREATE POLICY public ON app.docs FOR SELECT TO anon, authenticated
        USING (status = 'public');";
    assert_eq!(found(&mut client, public), ["info policy_row_open anon,authenticated SELECT"]);
    let open = "ALTER TABLE app.docs SET (contract.open_rows =
        '{\"anon\": [\"status\"], \"authenticated\": [\"status\"]}')";
    assert_eq!(found_with(&mut client, open, public), [""; 0]);
    let only_anon = "ALTER TABLE app.docs SET (contract.open_rows = '{\"anon\": [\"status\"]}')";
    assert_eq!(
        found_with(&mut client, only_anon, public),
        ["info policy_row_open authenticated SELECT"]
    );
    // What opens a row for reading does not open it for writing.
    let written = "CREATE POLICY public ON app.docs TO authenticated USING (status = 'public');";
    assert_eq!(
        found_with(&mut client, open, written),
        [
            "warning policy_write_unchecked authenticated INSERT,UPDATE",
            "warning policy_writes_others_rows authenticated UPDATE,DELETE",
        ]
    );
    let all = "ALTER TABLE app.docs SET (contract.all_rows =
        '{\"authenticated\": [\"SELECT\", \"INSERT\", \"UPDATE\", \"DELETE\"]}')";
    assert_eq!(found_with(&mut client, all, written), [""; 0]);
}

#[test]
fn rows_without_an_owner_are_meant_where_the_contract_says_append_only() {
    let (_cluster, mut client) = application();
    let send = "CREATE POLICY send ON app.docs FOR INSERT TO anon WITH CHECK (status = 'new');";
    let both = "anon INSERT";
    assert_eq!(
        found(&mut client, send),
        [format!("warning policy_write_unchecked {both}")],
        "the contract declares a policy for SELECT, which is missing by another rule"
    );
    let append = "ALTER TABLE app.docs SET (contract.append_only_by = 'anon')";
    assert_eq!(found_with(&mut client, append, send), [""; 0]);
    // What a request claims is no row without an owner.
    let claimed = "CREATE POLICY send ON app.docs FOR INSERT TO anon
        WITH CHECK (tenant = current_setting('request.headers', true)::json ->> 'tenant');";
    assert_eq!(
        found_with(&mut client, append, claimed),
        [format!("warning policy_trusts_request {both}")]
    );
}

#[test]
fn row_of_a_privileged_table_is_a_right() {
    let (_cluster, mut client) = application();
    let admins = "CREATE POLICY admins ON app.docs FOR SELECT TO authenticated
        USING (EXISTS (SELECT FROM app.admins WHERE user_id = auth.uid()));";
    let uncorrelated = ["warning policy_lookup_uncorrelated authenticated SELECT"];
    assert_eq!(found(&mut client, admins), uncorrelated);
    let privileged = "ALTER TABLE app.admins SET (contract.privileged)";
    assert_eq!(found_with(&mut client, privileged, admins), [""; 0]);
    // Who is not found is no administrator.
    let banned = "CREATE POLICY admins ON app.docs FOR SELECT TO authenticated
        USING (NOT EXISTS (SELECT FROM app.admins WHERE user_id = auth.uid()));";
    assert_eq!(found_with(&mut client, privileged, banned), uncorrelated);
}

#[test]
fn value_of_the_session_is_what_the_contract_says() {
    let (_cluster, mut client) = application();
    let tenant = "CREATE POLICY tenant ON app.docs FOR SELECT TO authenticated
        USING (tenant = current_setting('app.tenant', true));";
    assert_eq!(
        found(&mut client, tenant),
        ["warning policy_trusts_settable_parameter authenticated SELECT"]
    );
    let contract = "SELECT ops.load_contract(jsonb_set(jsonb_set(ops.contract(),
        '{identity}', '{\"settings\": {\"app.tenant\": \"tenant\"}}'), '{version}', '\"9.0.0\"'));";
    assert_eq!(found(&mut client, &format!("{contract} {tenant}")), [""; 0]);
}

#[test]
fn floor_that_ties_every_row_makes_a_wide_policy_harmless() {
    let (_cluster, mut client) = application();
    let wide = "CREATE POLICY wide ON app.docs TO authenticated USING (true);";
    let floor = "CREATE POLICY floor ON app.docs AS RESTRICTIVE TO authenticated
        USING (owner = auth.uid());";
    let none = "ALTER TABLE app.docs SET (contract.all_rows = '{}')";
    let rls = "SELECT rule || ' ' || role_name FROM ops.audit_rls() WHERE rule ~ 'always_true'";
    for (policies, expected) in [
        (wide.to_owned(), vec!["rls_policy_always_true authenticated"]),
        (format!("{wide} {floor}"), vec![]),
    ] {
        client
            .batch_execute(&format!("BEGIN; SELECT ops.declare($${none}$$, 'x'); {policies}"))
            .unwrap();
        assert_eq!(column(&mut client, rls), expected, "{policies}");
        assert_eq!(
            column(&mut client, "SELECT rule FROM ops.audit_policies() WHERE severity <> 'info'"),
            [""; 0]
        );
        client.batch_execute("ROLLBACK").unwrap();
    }
    // One that only asks for a user ties nothing.
    let signed_in = "CREATE POLICY floor ON app.docs AS RESTRICTIVE TO authenticated
        USING (auth.uid() IS NOT NULL);";
    let found = found(&mut client, &format!("{wide} {signed_in}"));
    assert_eq!(
        found,
        [
            "warning policy_write_unchecked authenticated INSERT,UPDATE",
            "warning policy_writes_others_rows authenticated UPDATE,DELETE",
            "warning policy_ignores_row authenticated SELECT",
        ]
    );
}

/// Declares by which column documents are their callers', and switches the guard on.
fn guarded(client: &mut Client) {
    client
        .batch_execute(&format!(
            "{OWN} SELECT ops.declare('ALTER TABLE app.docs SET (contract.keys = owner)', 'test');
             RESET dragonfly_guard.mode;"
        ))
        .unwrap();
}

const INVERTED: &str = "CREATE POLICY others ON app.docs FOR SELECT TO authenticated
    USING (owner <> auth.uid());";
const FLOOR: &str = "CREATE POLICY floor ON app.docs AS RESTRICTIVE TO authenticated
    USING (owner = auth.uid());";

#[test]
fn guard_rejects_a_policy_that_opens_rows_of_others_where_keys_are_declared() {
    let (_cluster, mut client) = application();
    client.batch_execute(&format!("{OWN} RESET dragonfly_guard.mode;")).unwrap();
    client.batch_execute(INVERTED).expect("without keys, it is for the audit");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             DROP POLICY others ON app.docs; DROP POLICY own ON app.docs",
        )
        .unwrap();
    guarded(&mut client);
    let error = attempt(&mut client, INVERTED).unwrap_err();
    assert_eq!(error.code, "42P17");
    assert_eq!(
        error.message,
        "CREATE POLICY violates the security contract: policy_identity_inverted on policy others \
         on app.docs"
    );
    assert!(
        error.detail.starts_with(
            "Policy others on table app.docs lets role \"authenticated\" SELECT rows of others \
             when owner <> the user."
        ),
        "{}",
        error.detail
    );
    // What is exempt is allowed: the call of the HINT.
    let call = "SELECT ops.exempt(rule => 'policy_identity_inverted',
        object => 'others on app.docs', role_name => 'authenticated', reason => 'a test of hints',
        expires_at => now() + interval '30 days')";
    client.batch_execute(call).unwrap();
    client.batch_execute(INVERTED).unwrap();
}

#[test]
fn guard_checks_policies_at_commit() {
    let (_cluster, mut client) = application();
    guarded(&mut client);
    client.batch_execute(&format!("BEGIN; {INVERTED} {FLOOR} COMMIT")).unwrap();
    // Without the floor, the policy below it opens rows.
    let error = attempt(&mut client, "DROP POLICY floor ON app.docs").unwrap_err();
    assert!(error.message.contains("policy_identity_inverted"), "{}", error.message);
    client.batch_execute("BEGIN; DROP POLICY floor ON app.docs").unwrap();
    client.batch_execute(&format!("{FLOOR} COMMIT")).unwrap();
    let error = attempt(
        &mut client,
        "BEGIN; DROP POLICY floor ON app.docs; CREATE POLICY floor ON app.docs AS RESTRICTIVE
            TO authenticated USING (owner IS NOT NULL); COMMIT",
    )
    .unwrap_err();
    assert!(error.message.contains("policy_identity_inverted"), "{}", error.message);
}

#[test]
fn guard_leaves_what_a_policy_let_clients_reach_before() {
    let (_cluster, mut client) = application();
    client.batch_execute(INVERTED).unwrap();
    guarded(&mut client);
    for statement in [
        "ALTER POLICY others ON app.docs RENAME TO all_others",
        "COMMENT ON TABLE app.docs IS 'documents'",
        "ALTER TABLE app.docs ADD COLUMN size int",
        "CREATE INDEX ON app.docs (owner)",
        "ALTER POLICY all_others ON app.docs USING (owner <> auth.uid() AND status = 'public')",
        "DROP POLICY all_others ON app.docs",
    ] {
        client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

#[test]
fn guard_rejects_a_grant_that_makes_a_policy_effective() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "REVOKE DELETE ON app.docs FROM authenticated;
             CREATE POLICY done ON app.docs FOR DELETE TO authenticated USING (status = 'done');",
        )
        .unwrap();
    guarded(&mut client);
    let error = attempt(&mut client, "GRANT DELETE ON app.docs TO authenticated").unwrap_err();
    assert!(error.message.contains("policy_writes_others_rows"), "{}", error.message);
}

#[test]
fn guard_follows_helper_functions_of_policies() {
    let (_cluster, mut client) = application();
    guarded(&mut client);
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off;
             CREATE FUNCTION app.is_mine(uuid) RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT $1 = auth.uid()';
             CREATE FUNCTION app.is_not_mine(uuid) RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT $1 <> auth.uid()';
             RESET dragonfly_guard.mode;
             CREATE POLICY mine ON app.docs FOR SELECT TO authenticated
                 USING (app.is_mine(owner));",
        )
        .unwrap();
    let error = attempt(
        &mut client,
        "CREATE POLICY others ON app.docs FOR SELECT TO authenticated
            USING (app.is_not_mine(owner))",
    )
    .unwrap_err();
    assert!(error.message.contains("policy_identity_inverted"), "{}", error.message);
}

#[test]
fn finding_about_a_policy_that_is_meant_has_the_call_that_says_so() {
    let (_cluster, mut client) = application();
    for (policy, rule, option) in [
        (
            "FOR INSERT TO anon WITH CHECK (status = 'new')",
            "policy_write_unchecked",
            "app.docs SET (contract.append_only_by = ",
        ),
        (
            "FOR SELECT TO authenticated USING (EXISTS (SELECT FROM app.admins WHERE user_id = \
             auth.uid()))",
            "policy_lookup_uncorrelated",
            "app.admins SET (contract.privileged = ",
        ),
        (
            "FOR SELECT TO authenticated USING (auth.uid() IS NOT NULL)",
            "policy_ignores_row",
            "app.docs SET (contract.all_rows = ",
        ),
    ] {
        client.batch_execute(&format!("CREATE POLICY p ON app.docs {policy}")).unwrap();
        let of_rule = format!("SELECT fingerprint FROM ops.audit_policies() WHERE rule = '{rule}'");
        let found = column(&mut client, &of_rule).remove(0);
        let accept = format!("SELECT FROM ops.accept('{found}', 'reviewed')");
        let error = attempt(&mut client, &accept).unwrap_err();
        assert!(error.message.starts_with("a person has to say"), "{error:?}");
        let (_, call) = error.hint.split_once("\nIf it is meant, run: ").expect(rule);
        assert!(call.contains(option), "{call}");
        let call = with_reason(call.lines().next().unwrap());
        client.batch_execute(&call).unwrap();
        assert_eq!(column(&mut client, &of_rule), [""; 0], "{call}");
        client.batch_execute("DROP POLICY p ON app.docs").unwrap();
    }
}

#[test]
fn row_of_the_own_table_that_a_client_can_write_proves_nothing() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE FUNCTION app.has_document_in(of text) RETURNS boolean LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
                 AS 'SELECT EXISTS (SELECT FROM app.docs d
                     WHERE d.owner = auth.uid() AND d.tenant = of)'",
        )
        .unwrap();
    let policies = "CREATE POLICY team ON app.docs FOR SELECT TO authenticated
            USING (owner = auth.uid() OR app.has_document_in(tenant));
        CREATE POLICY add ON app.docs FOR INSERT TO authenticated
            WITH CHECK (owner = auth.uid());";
    let found = found(&mut client, policies);
    assert!(
        found.contains(&"warning policy_lookup_writable authenticated SELECT".to_owned()),
        "{found:?}"
    );
}

#[test]
fn foreign_key_that_is_not_validated_proves_nothing() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE TABLE app.tenants (name text PRIMARY KEY, owner uuid NOT NULL);
             ALTER TABLE app.tenants ENABLE ROW LEVEL SECURITY;
             GRANT SELECT, INSERT ON app.tenants TO authenticated;
             CREATE POLICY own ON app.tenants TO authenticated USING (owner = auth.uid());",
        )
        .unwrap();
    let policy = "CREATE POLICY tenant ON app.docs FOR SELECT TO authenticated USING (EXISTS (
        SELECT FROM app.tenants t WHERE t.name = docs.tenant AND t.owner = auth.uid()));";
    let writable = "warning policy_lookup_writable authenticated SELECT".to_owned();
    for (key, is_found) in [("NOT VALID", true), ("", false)] {
        let key =
            format!("ALTER TABLE app.docs ADD FOREIGN KEY (tenant) REFERENCES app.tenants {key};");
        let found = found(&mut client, &format!("{key} {policy}"));
        assert_eq!(found.contains(&writable), is_found, "{key}: {found:?}");
    }
}

#[test]
fn empty_value_of_the_session_is_no_right() {
    let (_cluster, mut client) = application();
    let declared = "SELECT ops.declare('SET contract.identity.settings.app.tenant = tenant', 'x');";
    let empty = "CREATE POLICY none ON app.docs FOR SELECT TO authenticated
        USING (current_setting('app.tenant', true) = '');";
    assert_eq!(
        found(&mut client, &format!("{declared} {empty}")),
        ["warning policy_open_without_identity authenticated SELECT"]
    );
}

#[test]
fn condition_about_the_time_or_a_right_is_not_taken_for_another_one() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "ALTER TABLE app.docs ADD published_at timestamptz;
             CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
                 AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$",
        )
        .unwrap();
    for (condition, expected) in [
        ("published_at <= now()", Some("info policy_row_open")),
        ("(auth.jwt() -> 'app_metadata' ->> 'is_admin')::boolean", None),
        ("auth.jwt() -> 'app_metadata' -> 'roles' ?| array['admin', 'editor']", None),
        ("auth.jwt() ->> 'email_verified' = 'true'", Some("warning policy_ignores_row")),
    ] {
        let policy =
            format!("CREATE POLICY p ON app.docs FOR SELECT TO authenticated USING ({condition});");
        let expected = expected.map(|rule| format!("{rule} authenticated SELECT"));
        assert_eq!(found(&mut client, &policy), expected.as_slice(), "{condition}");
    }
}

#[test]
fn inferred_contract_takes_as_open_what_has_a_constant_value() {
    let (_cluster, mut client) = application();
    let open = "SELECT coalesce(t -> 'open_rows' ->> 'authenticated', '')
        FROM jsonb_array_elements(ops.infer_contract('{app}', 'as_is') -> 'tables') AS t
        WHERE t ->> 'name' = 'docs'";
    for (condition, expected) in [
        ("status = 'public'", "[\"status\"]"),
        ("status IN ('public', 'shared')", "[\"status\"]"),
        ("owner IS NOT NULL", ""),
        ("id > 0", ""),
        ("status <> 'secret'", ""),
        ("length(tenant) > 0", ""),
    ] {
        client
            .batch_execute(&format!(
                "BEGIN; CREATE POLICY p ON app.docs FOR SELECT TO authenticated USING ({condition})"
            ))
            .unwrap();
        assert_eq!(column(&mut client, open), [expected], "{condition}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// Policies for writing, with the findings about them.
const WRITES: &[(&str, &[&str])] = &[
    // The default of a column that the role cannot insert is the caller.
    (
        "ALTER TABLE app.docs ALTER owner SET DEFAULT auth.uid();
         REVOKE INSERT ON app.docs FROM authenticated;
         GRANT INSERT (id, tenant, editor, status) ON app.docs TO authenticated;
         CREATE POLICY write ON app.docs FOR INSERT TO authenticated
             WITH CHECK (status = 'new')",
        &[],
    ),
    (
        "ALTER TABLE app.docs ALTER owner SET DEFAULT auth.uid();
         CREATE POLICY write ON app.docs FOR INSERT TO authenticated
             WITH CHECK (status = 'new')",
        &["error policy_write_unchecked authenticated INSERT"],
    ),
    (
        "ALTER TABLE app.docs ALTER owner SET DEFAULT gen_random_uuid();
         REVOKE INSERT ON app.docs FROM authenticated;
         GRANT INSERT (id, tenant, editor, status) ON app.docs TO authenticated;
         CREATE POLICY write ON app.docs FOR INSERT TO authenticated
             WITH CHECK (status = 'new')",
        &["error policy_write_unchecked authenticated INSERT"],
    ),
    // A column that the role cannot update keeps what USING has asked of it.
    (
        "REVOKE UPDATE ON app.docs FROM authenticated;
         GRANT UPDATE (status) ON app.docs TO authenticated;
         CREATE POLICY write ON app.docs FOR UPDATE TO authenticated
             USING (owner = auth.uid() AND status = 'draft') WITH CHECK (true)",
        &[],
    ),
    (
        "REVOKE UPDATE ON app.docs FROM authenticated;
         GRANT UPDATE (owner, status) ON app.docs TO authenticated;
         CREATE POLICY write ON app.docs FOR UPDATE TO authenticated
             USING (owner = auth.uid() AND status = 'draft') WITH CHECK (status = 'new')",
        &["error policy_write_unchecked authenticated UPDATE"],
    ),
    (
        "REVOKE UPDATE ON app.docs FROM authenticated;
         GRANT UPDATE (status) ON app.docs TO authenticated;
         CREATE POLICY write ON app.docs FOR UPDATE TO authenticated
             USING (owner = auth.uid() OR status = 'draft') WITH CHECK (status = 'new')",
        &[
            "error policy_write_unchecked authenticated UPDATE",
            "error policy_writes_others_rows authenticated UPDATE",
        ],
    ),
    // A trigger sees the row before the policy does.
    (
        "CREATE TRIGGER fill BEFORE INSERT ON app.docs FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE POLICY write ON app.docs FOR INSERT TO authenticated
             WITH CHECK (status = 'new')",
        &["warning policy_write_unchecked authenticated INSERT"],
    ),
    (
        "CREATE TRIGGER fill BEFORE UPDATE ON app.docs FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE POLICY write ON app.docs FOR ALL TO authenticated USING (status = 'new')",
        &[
            "error policy_write_unchecked authenticated INSERT",
            "error policy_writes_others_rows authenticated DELETE",
            "info policy_row_open authenticated SELECT",
            "warning policy_write_unchecked authenticated UPDATE",
            "warning policy_writes_others_rows authenticated UPDATE",
        ],
    ),
    (
        "CREATE TRIGGER fill AFTER INSERT ON app.docs FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE TRIGGER other BEFORE INSERT ON app.docs EXECUTE FUNCTION app.fill();
         CREATE POLICY write ON app.docs FOR INSERT TO authenticated
             WITH CHECK (status = 'new')",
        &["error policy_write_unchecked authenticated INSERT"],
    ),
    (
        "ALTER FUNCTION app.fill() OWNER TO authenticated;
         CREATE TRIGGER fill BEFORE INSERT ON app.docs FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE POLICY write ON app.docs FOR INSERT TO authenticated
             WITH CHECK (status = 'new')",
        &["error policy_write_unchecked authenticated INSERT"],
    ),
];

#[test]
fn new_row_is_the_callers_by_what_the_role_cannot_write() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE FUNCTION app.fill() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN NEW.owner := auth.uid(); RETURN NEW; END'",
        )
        .unwrap();
    let keys = "ALTER TABLE app.docs SET (contract.keys = 'owner')";
    let ignored = ["policy_read_missing", "policy_dead", "policy_check_wider"];
    for (policies, expected) in WRITES {
        let mut found = found_with(&mut client, keys, policies);
        found.retain(|line| !ignored.iter().any(|rule| line.contains(rule)));
        found.sort();
        assert_eq!(found, *expected, "{policies}");
    }
}

#[test]
fn rows_are_tied_by_the_same_part_of_a_document() {
    let (_cluster, mut client) = application();
    client.batch_execute("ALTER TABLE app.docs ADD data jsonb").unwrap();
    let policies = |part: &str| {
        format!(
            "CREATE POLICY own ON app.docs FOR SELECT TO authenticated
                 USING (data ->> 'owner' = auth.uid()::text);
             CREATE POLICY write ON app.docs FOR INSERT TO authenticated
                 WITH CHECK (data ->> '{part}' = auth.uid()::text)"
        )
    };
    let keys = "ALTER TABLE app.docs SET (contract.keys = 'data')";
    let expected = ["warning policy_check_wider authenticated INSERT"];
    assert_eq!(found(&mut client, &policies("owner")), [""; 0]);
    assert_eq!(found(&mut client, &policies("editor")), expected);
    assert_eq!(found_with(&mut client, keys, &policies("owner")), [""; 0]);
    assert_eq!(found_with(&mut client, keys, &policies("editor")), expected);
}

#[test]
fn rows_of_another_kind_than_those_that_are_read_are_tied_by_what_they_like() {
    let (_cluster, mut client) = application();
    let policies = |read: &str, written: &str| {
        format!(
            "CREATE POLICY own ON app.docs FOR SELECT TO authenticated
                 USING (owner = auth.uid() AND {read});
             CREATE POLICY write ON app.docs FOR INSERT TO authenticated
                 WITH CHECK (editor = auth.uid() AND {written})"
        )
    };
    let expected = ["warning policy_check_wider authenticated INSERT"];
    let kinds = "status IN ('draft', 'public')";
    for (read, written) in [
        ("status = 'public'", "status = 'public'"),
        ("status = 'public'", "status <> 'public'"),
        (kinds, "status = 'public'"),
        ("status = ANY ('{draft,public}')", kinds),
        ("status = 'public'", "(status = 'draft' OR editor = owner)"),
    ] {
        let found = found(&mut client, &policies(read, written));
        assert_eq!(found, expected, "{read} {written}");
    }
    for (read, written) in [("status = 'public'", "status = 'draft'"), (kinds, "status = 'gone'")] {
        let found = found(&mut client, &policies(read, written));
        assert_eq!(found, [""; 0], "{read} {written}");
    }
}

/// A lookup that no policy lets its reader read, in which a name means the lookup itself.
const CAPTURED: &str = "CREATE TABLE app.contacts (tenant text, user_id uuid);
    ALTER TABLE app.contacts ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON app.contacts TO authenticated;
    CREATE POLICY contacts ON app.docs FOR SELECT TO authenticated USING (EXISTS (SELECT
        FROM app.contacts c WHERE c.tenant = tenant AND c.user_id = auth.uid()));";

/// Policies for reading a table that is looked up by its policy for INSERT.
const READING: [&str; 5] = [
    "FOR SELECT TO authenticated USING (owner = auth.uid())",
    "FOR SELECT TO authenticated USING (owner = (SELECT auth.uid()))",
    "FOR ALL TO authenticated USING (owner = auth.uid())
        WITH CHECK (EXISTS (SELECT FROM app.admins))",
    "FOR SELECT TO authenticated USING (owner = auth.uid() OR app.is_admin())",
    "FOR SELECT TO authenticated USING (EXISTS (SELECT FROM app.admins) AND owner = auth.uid())",
];

#[test]
fn policies_lead_to_themselves_where_the_server_says_so() {
    let (cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE FUNCTION app.is_admin() RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT EXISTS (SELECT FROM app.admins)';
             INSERT INTO app.docs
                 VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 't', NULL, '')",
        )
        .unwrap();
    let mut seen = Vec::new();
    for reading in READING {
        let policies = format!(
            "CREATE POLICY own ON app.docs {reading};
             CREATE POLICY join_tenant ON app.docs FOR INSERT TO authenticated
                 WITH CHECK (EXISTS (SELECT FROM app.docs d WHERE d.owner = auth.uid()
                     AND d.tenant = docs.tenant))"
        );
        let found = found(&mut client, &policies);
        let is_found = found.iter().any(|line| line.contains("policy_recursion"));
        let mut other = cluster.connect("postgres", SUPERUSER);
        let attempted = format!(
            "BEGIN; SET LOCAL dragonfly_guard.mode = off; {policies};
             SELECT set_config('request.jwt.claims',
                 '{{\"sub\": \"aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa\"}}', true);
             SET LOCAL ROLE authenticated;
             INSERT INTO app.docs
                 VALUES (2, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 't', NULL, '')"
        );
        let raised = attempt(&mut other, &attempted).err().map(|error| error.code);
        assert_eq!(is_found, raised.as_deref() == Some("42P17"), "{reading}: {raised:?} {found:?}");
        seen.push(is_found);
    }
    assert_eq!(seen, [false, true, true, false, true]);
}

#[test]
fn captured_name_is_reported_before_the_lookup_can_be_read() {
    let (_cluster, mut client) = application();
    assert_eq!(
        found(&mut client, &format!("{OWN} {CAPTURED}")),
        [
            "warning policy_name_captured authenticated SELECT",
            "warning policy_lookup_denied authenticated SELECT",
        ]
    );
    client.batch_execute(CAPTURED).unwrap();
    let advice = column(&mut client, "SELECT ops.golden_sql()::text").concat();
    assert!(advice.contains("Correct the condition first"), "{advice}");
}

#[test]
fn guard_follows_policies_of_lookups() {
    let (_cluster, mut client) = application();
    client.batch_execute(CAPTURED).unwrap();
    guarded(&mut client);
    let declare =
        "SELECT ops.declare('ALTER TABLE app.contacts ENABLE ROW LEVEL SECURITY', 'test');
        SELECT ops.declare('GRANT SELECT ON app.contacts TO authenticated', 'test');
        SELECT ops.declare('CREATE POLICY own ON app.contacts FOR SELECT TO authenticated',
            'test')";
    client.batch_execute(declare).unwrap();
    let own = "CREATE POLICY own ON app.contacts FOR SELECT TO authenticated
        USING (user_id = auth.uid())";
    let error = attempt(&mut client, own).unwrap_err();
    assert!(error.message.contains("policy_name_captured"), "{}", error.message);
    client
        .batch_execute(
            "ALTER POLICY contacts ON app.docs USING (EXISTS (SELECT
                FROM app.contacts c WHERE c.tenant = docs.tenant AND c.user_id = auth.uid()))",
        )
        .unwrap();
    client.batch_execute(own).unwrap();
}

#[test]
fn lookup_that_cannot_be_read_is_reported_where_rows_would_pass_by_it() {
    let (_cluster, mut client) = application();
    let lookup = |policy: &str| {
        format!(
            "CREATE TABLE app.contacts (tenant text, user_id uuid);
             ALTER TABLE app.contacts ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.contacts TO anon, authenticated; {policy}"
        )
    };
    // Without a user, none of the conditions can be true; with one, the first can.
    let part = "CREATE POLICY p ON app.docs FOR SELECT USING (owner = auth.uid() OR EXISTS (SELECT
        FROM app.contacts c WHERE c.tenant = docs.tenant AND c.user_id = auth.uid()))";
    assert_eq!(
        found(&mut client, &lookup(part)),
        ["warning policy_lookup_denied authenticated SELECT"]
    );
    let whole = "CREATE POLICY p ON app.docs FOR SELECT USING (EXISTS (SELECT
        FROM app.contacts c WHERE c.tenant = docs.tenant AND c.user_id = auth.uid()))";
    assert_eq!(
        found(&mut client, &lookup(whole)),
        ["warning policy_lookup_denied authenticated SELECT"]
    );
}

#[test]
fn new_row_is_asked_about_where_a_row_can_be_updated() {
    let (_cluster, mut client) = application();
    let policies = "GRANT UPDATE ON app.docs TO anon;
        CREATE POLICY update ON app.docs FOR UPDATE USING (owner = auth.uid())
            WITH CHECK (status = 'public');";
    let of_anon = |client: &mut Client, policies: &str| {
        let mut all = found(client, policies);
        all.retain(|line| line.contains("policy_write_unchecked"));
        all
    };
    assert_eq!(
        of_anon(&mut client, policies),
        ["warning policy_write_unchecked authenticated UPDATE"]
    );
    // A row that another policy lets it update is checked by this one.
    let other = "CREATE POLICY other ON app.docs FOR UPDATE TO anon USING (status = 'draft')
        WITH CHECK (false);";
    assert_eq!(
        of_anon(&mut client, &format!("{policies} {other}")),
        [
            "error policy_write_unchecked anon UPDATE",
            "warning policy_write_unchecked authenticated UPDATE",
        ]
    );
}

#[test]
fn policy_for_users_is_one_for_reading() {
    let (_cluster, mut client) = application();
    let notes = "CREATE FUNCTION app.may_delete() RETURNS boolean LANGUAGE plpgsql
            AS 'DECLARE yes bool; BEGIN yes := auth.uid() IS NOT NULL; RETURN yes; END';
        CREATE TABLE app.notes (id int PRIMARY KEY, owner uuid NOT NULL);
        ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;
        GRANT SELECT, DELETE ON app.notes TO anon;
        CREATE POLICY remove ON app.notes FOR DELETE USING (app.may_delete());
        CREATE POLICY read ON app.notes FOR SELECT";
    let of_anon = |client: &mut Client, read: &str| {
        let mut all = found(client, &format!("{notes} {read}"));
        all.retain(|line| line.contains("policy_read_missing anon"));
        all
    };
    assert_eq!(of_anon(&mut client, "USING (owner = auth.uid())"), [""; 0]);
    let of_users = "TO authenticated USING (owner = auth.uid())";
    assert_eq!(of_anon(&mut client, of_users), ["warning policy_read_missing anon DELETE"]);
}

#[test]
fn lookup_that_is_not_about_the_row_is_reported_with_its_namesake() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE TABLE app.members (id text PRIMARY KEY, status text, user_id uuid);
             GRANT SELECT ON app.members TO authenticated;
             CREATE POLICY p ON app.docs FOR SELECT TO authenticated USING (EXISTS (SELECT
                FROM app.members m WHERE m.id = split_part(status, '/', 2)))",
        )
        .unwrap();
    let detail = "SELECT detail FROM ops.audit_policies() WHERE rule = 'policy_lookup_unbound'";
    assert_eq!(
        column(&mut client, detail),
        ["Policy p on table app.docs lets role \"authenticated\" SELECT rows of others when \
          app.members.id = split_part(app.members.status, '/', 2); the lookup does not ask for \
          the caller; the policy's table has a column status, too."]
    );
}

/// Members of tenants, whose documents they read: callers may enlist themselves through a view.
const TEAMS: &str = "CREATE TABLE app.members (user_id uuid NOT NULL, tenant text NOT NULL);
    ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON app.members TO authenticated;
    CREATE POLICY own ON app.members FOR SELECT TO authenticated USING (user_id = auth.uid());
    CREATE POLICY team ON app.docs FOR SELECT TO authenticated USING (EXISTS (SELECT
        FROM app.members m WHERE m.tenant = docs.tenant AND m.user_id = auth.uid()));";

/// Returns the sentences of a rule about some policies.
fn details(client: &mut Client, rule: &str, policies: &str) -> Vec<String> {
    client.batch_execute(&format!("BEGIN; {policies}")).unwrap();
    let query = format!("SELECT detail FROM ops.audit_policies() WHERE rule = '{rule}'");
    let found = column(client, &query);
    client.batch_execute("ROLLBACK").unwrap();
    found
}

#[test]
fn lookup_that_is_written_by_two_commands_is_one_finding() {
    let (_cluster, mut client) = application();
    let both = "GRANT INSERT, UPDATE ON app.members TO authenticated;
        CREATE POLICY enlist ON app.members TO authenticated USING (user_id = auth.uid());";
    let lets = "Policy team on table app.docs lets role \"authenticated\" SELECT rows of others \
        after";
    assert_eq!(
        details(&mut client, "policy_lookup_writable", &format!("{TEAMS} {both}")),
        [format!(
            "{lets} INSERT or UPDATE of tenant on app.members: who passes the policies there \
             chooses the value."
        )]
    );
    let by_view = "GRANT UPDATE ON app.members TO authenticated;
        CREATE POLICY move ON app.members FOR UPDATE TO authenticated
            USING (user_id = auth.uid());
        CREATE VIEW app.v AS SELECT * FROM app.members; GRANT INSERT ON app.v TO authenticated;";
    assert_eq!(
        details(&mut client, "policy_lookup_writable", &format!("{TEAMS} {by_view}")),
        [format!(
            "{lets} INSERT of tenant on app.members through view app.v (no policy restricts \
             that) or UPDATE of tenant on app.members (who passes the policies there chooses \
             the value)."
        )]
    );
}

#[test]
fn argument_that_a_column_captures_is_named() {
    let (_cluster, mut client) = application();
    let policies = format!(
        "{TEAMS} CREATE FUNCTION app.is_member(tenant text) RETURNS boolean LANGUAGE sql STABLE
             SECURITY DEFINER SET search_path = pg_catalog, pg_temp
             AS 'SELECT EXISTS (SELECT FROM app.members m
                 WHERE m.tenant = tenant AND m.user_id = auth.uid())';
         ALTER POLICY team ON app.docs USING (app.is_member(tenant));"
    );
    let found = details(&mut client, "policy_name_captured", &policies);
    assert!(
        found[0].ends_with(
            "; argument tenant of function app.is_member(text) is not asked for, because its \
             name means a column in the function's body."
        ),
        "{found:?}"
    );
}

#[test]
fn further_row_of_a_lookup_and_conditions_that_are_left_out_are_told_in_words() {
    let (_cluster, mut client) = application();
    let policies = format!(
        "{TEAMS} ALTER POLICY team ON app.docs USING (EXISTS (SELECT FROM app.members m
             JOIN app.members other ON other.tenant = m.tenant
             WHERE m.tenant = docs.tenant AND m.user_id <> other.user_id
                 AND m.tenant <> 'a' AND other.tenant <> 'b'));
         DROP POLICY own ON app.members;
         CREATE POLICY anyone ON app.members FOR SELECT TO authenticated USING (true);"
    );
    let found = details(&mut client, "policy_row_open", &policies);
    assert_eq!(
        found,
        ["Policy team on table app.docs lets role \"authenticated\" SELECT rows of others when \
          tenant of another row of app.members <> 'b' and app.members.tenant <> 'a' and \
          app.members.user_id <> user_id of another row of app.members and tenant = \
          app.members.tenant and 1 more condition."]
    );
}

#[test]
fn guard_asks_what_roles_could_write_through_views_before() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(&format!("{TEAMS} CREATE VIEW app.v AS SELECT * FROM app.members"))
        .unwrap();
    guarded(&mut client);
    let grant = "GRANT INSERT ON app.v TO authenticated";
    client.batch_execute(&format!("SELECT ops.declare('{grant}', 'test')")).unwrap();
    let error = attempt(&mut client, grant).unwrap_err();
    let text = format!("{} {}", error.message, error.detail);
    assert!(text.contains("policy_lookup_writable"), "{error:?}");
}

/// Returns how long an audit of the policies takes: the median of some times, of which the machine
/// may have delayed a few.
fn audit_takes(client: &mut Client) -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let started = Instant::now();
            client.query("SELECT * FROM ops.audit_policies()", &[]).unwrap();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn audit_of_ten_times_as_many_policies_takes_hardly_more_than_ten_times_as_long() {
    let (_cluster, mut client) = application();
    client.batch_execute(&format!("{OWN} {TEAMS}")).unwrap();
    let with_tables = |client: &mut Client, from: usize, to: usize| {
        client
            .batch_execute(&format!(
                "DO $do$ BEGIN FOR n IN {from}..{to} LOOP EXECUTE format(
                    'CREATE TABLE app.t%1$s (id int PRIMARY KEY, owner uuid NOT NULL, tenant text);
                     ALTER TABLE app.t%1$s ENABLE ROW LEVEL SECURITY;
                     GRANT SELECT, INSERT, UPDATE, DELETE ON app.t%1$s TO authenticated;
                     CREATE POLICY r ON app.t%1$s FOR SELECT TO authenticated USING (EXISTS (SELECT
                         FROM app.members m WHERE m.tenant = t%1$s.tenant
                             AND m.user_id = auth.uid()));
                     CREATE POLICY i ON app.t%1$s FOR INSERT TO authenticated
                         WITH CHECK (owner = auth.uid());
                     CREATE POLICY u ON app.t%1$s FOR UPDATE TO authenticated
                         USING (owner = auth.uid());
                     CREATE POLICY d ON app.t%1$s FOR DELETE TO authenticated
                         USING (owner = auth.uid())', n); END LOOP; END $do$"
            ))
            .unwrap();
    };
    with_tables(&mut client, 1, 25);
    let few = audit_takes(&mut client);
    with_tables(&mut client, 26, 250);
    let many = audit_takes(&mut client);
    assert!(many < few * 20, "100 policies: {few:?}, 1,000 policies: {many:?}");
}
