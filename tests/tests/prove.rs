//! `ops.prove_policy()` and `ops.prove_isolation()`: the server tries what the analysis of policies
//! says, as the client, and nothing of it stays.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

/// An application of a platform whose sessions have claims: documents of users and tenants, and
/// lookups, of which clients can write some.
const APPLICATION: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE app_owner;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated;
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
        AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (auth.jwt() ->> 'sub')::uuid $$;
    CREATE TABLE auth.users (id uuid PRIMARY KEY, email text NOT NULL);
    CREATE SCHEMA app AUTHORIZATION app_owner;
    GRANT USAGE ON SCHEMA app TO anon, authenticated;
    CREATE DOMAIN app.title AS varchar(12) NOT NULL CHECK (VALUE <> '');
    CREATE TYPE app.kind AS ENUM ('letter', 'memo');
    CREATE TABLE app.docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        owner uuid NOT NULL REFERENCES auth.users, tenant int NOT NULL, path text, data jsonb,
        members uuid[], title app.title, kind app.kind NOT NULL, shown_from timestamptz,
        public boolean NOT NULL, status text NOT NULL CHECK (status IN ('draft', 'published')));
    CREATE TABLE app.members (user_id uuid NOT NULL, tenant int NOT NULL,
        role text NOT NULL DEFAULT 'member', PRIMARY KEY (user_id, tenant));
    ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.members FOR SELECT TO authenticated USING (user_id = auth.uid());
    CREATE TABLE app.admins (user_id uuid PRIMARY KEY);
    CREATE TABLE app.secret (tenant int);
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.docs OWNER TO app_owner; ALTER TABLE app.members OWNER TO app_owner;
    GRANT SELECT ON app.docs, app.members, app.admins TO anon, authenticated;
    GRANT INSERT, UPDATE, DELETE ON app.docs TO authenticated;
    GRANT REFERENCES ON auth.users TO app_owner; GRANT USAGE ON SCHEMA auth TO app_owner;
    CREATE FUNCTION app.decides(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'DECLARE yes bool; BEGIN yes := of = auth.uid(); RETURN yes; END';
    CREATE POLICY p ON app.docs FOR SELECT TO authenticated USING (true);
    INSERT INTO auth.users VALUES ('00000000-0000-0000-0000-00000000000b', 'b@example.test');
    INSERT INTO app.docs (owner, tenant, title, kind, public, status)
        VALUES ('00000000-0000-0000-0000-00000000000b', 1, 'first', 'memo', false, 'draft');
    CREATE EXTENSION dragonfly_guard;
    SET client_min_messages = error; SET dragonfly_guard.mode = 'off';
    SELECT ops.load_contract(ops.infer_contract(ARRAY['app'], 'as_is'))";

fn application() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    (cluster, client)
}

/// Conditions of a policy of SELECT, with the verdicts on what `authenticated` reaches.
const CONDITIONS: &[(&str, &str)] = &[
    ("true", "reached: confirmed"),
    ("owner = auth.uid()", "not reached: isolated here"),
    ("tenant = (auth.jwt() -> 'app_metadata' ->> 'tenant')::int", "not reached: isolated here"),
    ("owner = auth.uid() OR public", "reached: confirmed|not reached: isolated here"),
    ("owner <> auth.uid()", "reached: confirmed"),
    ("status = 'published'", "reached: confirmed"),
    ("status NOT IN ('draft')", "reached: confirmed"),
    ("kind = 'letter'", "reached: confirmed"),
    ("shown_from <= now()", "reached: confirmed"),
    ("shown_from < now() AND id > 7", "reached: confirmed"),
    ("shown_from > '2030-01-01' AND shown_from < '2030-02-01'", "reached: confirmed"),
    ("shown_from > current_date + 7", "reached: confirmed"),
    (
        "shown_from > now() - interval '1 hour' AND shown_from < now() + interval '1 hour'",
        "reached: confirmed",
    ),
    ("shown_from = date_trunc('month', now()) + interval '1 day'", "reached: confirmed"),
    ("tenant > 10 AND tenant < 20", "reached: confirmed"),
    ("tenant < 10 AND tenant < -3000000", "reached: confirmed"),
    ("kind <> 'letter'", "reached: confirmed"),
    ("kind NOT IN ('memo') AND status <> 'draft'", "reached: confirmed"),
    (
        "public OR status = 'draft' OR kind = 'memo'",
        "reached: confirmed|reached: confirmed|reached: confirmed",
    ),
    ("public OR public AND status = 'draft'", "reached: confirmed"),
    ("path IS NULL", "reached: confirmed"),
    ("path LIKE 'shared/%'", "reached: confirmed"),
    ("data ->> 'owner' = auth.uid()::text", "not reached: isolated here"),
    ("split_part(path, '/', 2) = auth.uid()::text", "not reached: isolated here"),
    ("auth.uid() = ANY (members)", "not reached: isolated here"),
    ("(auth.jwt() -> 'user_metadata' ->> 'role') = 'admin'", "reached: confirmed"),
    ("(auth.jwt() -> 'app_metadata' ->> 'role') = 'admin'", "not reached: isolated here"),
    ("current_setting('app.tenant', true) = tenant::text", "reached: confirmed"),
    (
        "current_setting('request.headers', true)::json ->> 'x-tenant' = tenant::text",
        "reached: confirmed",
    ),
    (
        "EXISTS (SELECT FROM app.members m WHERE m.tenant = docs.tenant
             AND m.user_id = auth.uid())",
        "not reached: isolated here",
    ),
    (
        "EXISTS (SELECT FROM app.members m WHERE m.tenant = tenant AND m.user_id = auth.uid())",
        "reached: confirmed",
    ),
    ("EXISTS (SELECT FROM app.admins a WHERE a.user_id = auth.uid())", "reached: confirmed"),
    // What is not known is tried all the same.
    ("app.decides(owner)", "unknown: not tried"),
    ("length(title) > 20", "reached: not tried"),
    // What fails, or lets no row through.
    ("owner IS NULL", "not reached: isolated here"),
    ("tenant IN (SELECT tenant FROM app.secret)", "unknown: isolated here"),
    ("EXISTS (SELECT FROM app.docs d WHERE d.owner = auth.uid())", "unknown: isolated here"),
];

/// Returns what is expected, and the verdict on it, for a role.
fn verdicts(client: &mut Client, role: &str, more: &str) -> String {
    let sql = format!(
        "SELECT coalesce(string_agg(said, '|' ORDER BY said COLLATE \"C\" DESC), '') FROM (
             SELECT expected || ': ' || verdict AS said
             FROM ops.prove_policy('app.docs', 'p', '{role}'{more})) AS verdicts"
    );
    column(client, &sql).remove(0)
}

#[test]
fn server_tries_what_a_policy_lets_through() {
    let (_cluster, mut client) = application();
    let mut wrong = Vec::new();
    for (condition, expected) in CONDITIONS {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        let found = verdicts(&mut client, "authenticated", "");
        if found != *expected {
            let rows = "SELECT observed || ' ' || why FROM ops.prove_policy('app.docs', 'p')";
            let rows = column(&mut client, rows).join("; ");
            wrong.push(format!("{condition}\n  expected {expected}\n  found    {found}: {rows}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn server_tries_what_policies_let_clients_write() {
    let (_cluster, mut client) = application();
    let open = "reached: confirmed";
    let own = "not reached: isolated here";
    for (policy, more, expected) in [
        ("FOR INSERT WITH CHECK (owner = auth.uid())", "", own.to_owned()),
        ("FOR INSERT WITH CHECK (true)", "", open.to_owned()),
        ("FOR DELETE USING (owner = auth.uid())", ", true", own.to_owned()),
        ("FOR DELETE USING (public)", ", true", open.to_owned()),
        // With WHERE, a policy of SELECT is asked; there is none.
        ("FOR DELETE USING (public)", "", "reached: not tried".to_owned()),
        (
            "FOR UPDATE USING (owner = auth.uid()) WITH CHECK (true)",
            ", true",
            format!("{open}|{own}"),
        ),
        ("FOR UPDATE USING (true) WITH CHECK (owner = auth.uid())", ", true", open.to_owned()),
        ("USING (owner = auth.uid())", "", [own, own, own, own].join("|")),
    ] {
        let create = format!("CREATE POLICY p ON app.docs {policy}");
        client.batch_execute(&format!("DROP POLICY p ON app.docs; {create}")).unwrap();
        assert_eq!(verdicts(&mut client, "authenticated", more), expected, "{policy}");
    }
}

#[test]
fn trigger_that_sets_the_owner_refutes_the_analysis() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE FUNCTION app.set_owner() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS $$ BEGIN
                     INSERT INTO auth.users VALUES (auth.uid(), 'new') ON CONFLICT DO NOTHING;
                     NEW.owner := auth.uid(); RETURN NEW; END $$;
             CREATE TRIGGER owner BEFORE INSERT ON app.docs
                 FOR EACH ROW EXECUTE FUNCTION app.set_owner();
             DROP POLICY p ON app.docs;
             CREATE POLICY p ON app.docs FOR INSERT TO authenticated WITH CHECK (true);
             SELECT ops.declare(note => 'ticket 1', statements =>
                 'ALTER TABLE app.docs SET (contract.keys = ''owner'')')",
        )
        .unwrap();
    let rows =
        "SELECT observed || '; ' || verdict || '; ' || why FROM ops.prove_policy('app.docs')";
    assert_eq!(
        column(&mut client, rows),
        ["another row is written; refuted; The row that is written is another one: see trigger \
          owner."]
    );
}

#[test]
fn lookup_that_the_client_can_write_is_written_first() {
    let (_cluster, mut client) = application();
    let rows = "SELECT expected || ': ' || verdict FROM ops.prove_policy('app.docs')
                ORDER BY expected COLLATE \"C\"";
    for (grant, check, expected) in [
        ("SELECT", "true", &["not reached: isolated here"][..]),
        ("INSERT", "true", &["not reached: isolated here", "reached: confirmed"]),
        ("INSERT", "user_id = auth.uid()", &["not reached: isolated here", "reached: confirmed"]),
        ("INSERT", "user_id = auth.uid() AND tenant = 1", &["not reached: isolated here"]),
        ("UPDATE", "user_id = auth.uid()", &["not reached: isolated here", "reached: confirmed"]),
    ] {
        client
            .batch_execute(&format!(
                "ALTER POLICY p ON app.docs USING (EXISTS (SELECT FROM app.members m
                     WHERE m.tenant = docs.tenant AND m.user_id = auth.uid()));
                 DROP POLICY IF EXISTS w ON app.members;
                 REVOKE INSERT, UPDATE ON app.members FROM authenticated;
                 GRANT {grant} ON app.members TO authenticated;
                 CREATE POLICY w ON app.members FOR ALL TO authenticated
                     USING (user_id = auth.uid()) WITH CHECK ({check})"
            ))
            .unwrap();
        assert_eq!(column(&mut client, rows), expected, "{grant} {check}");
    }
}

/// Projects with roles: owners may do what editors may not, who can change the roles.
const PROJECTS: &str = "
    CREATE TABLE app.projects (id int PRIMARY KEY);
    CREATE TABLE app.people (project int REFERENCES app.projects ON DELETE CASCADE, who uuid,
        role text NOT NULL CHECK (role IN ('owner', 'editor', 'reader')),
        PRIMARY KEY (project, who));
    ALTER TABLE app.projects ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.people ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.projects OWNER TO app_owner; ALTER TABLE app.people OWNER TO app_owner;
    GRANT SELECT, INSERT, UPDATE, DELETE ON app.projects TO authenticated;
    GRANT SELECT, INSERT, UPDATE ON app.people TO authenticated;
    CREATE FUNCTION app.has_role(of int, roles text[]) RETURNS boolean LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
            SELECT EXISTS (SELECT FROM app.people p WHERE p.project = of
                AND p.who = auth.uid() AND p.role = ANY (roles)) $$;
    CREATE FUNCTION app.is_in(of int) RETURNS boolean LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
            SELECT EXISTS (SELECT FROM app.people p WHERE p.project = of
                AND p.who = auth.uid()) $$;
    CREATE POLICY s ON app.projects FOR SELECT TO authenticated USING (app.is_in(id));
    CREATE POLICY s ON app.people FOR SELECT TO authenticated USING (app.is_in(project))";

#[test]
fn lookup_is_written_first_whatever_the_command_is() {
    let (_cluster, mut client) = application();
    client.batch_execute(PROJECTS).unwrap();
    client
        .batch_execute(
            "CREATE TABLE app.tasks (id int PRIMARY KEY, project int REFERENCES app.projects);
             ALTER TABLE app.tasks ENABLE ROW LEVEL SECURITY;
             ALTER TABLE app.tasks OWNER TO app_owner;
             GRANT SELECT, INSERT, UPDATE ON app.tasks TO authenticated;
             CREATE POLICY s ON app.tasks FOR SELECT TO authenticated USING (app.is_in(project));
             CREATE POLICY w ON app.people FOR INSERT TO authenticated
                 WITH CHECK (who = auth.uid())",
        )
        .unwrap();
    for (table, policy) in [
        ("projects", "FOR DELETE TO authenticated USING (app.has_role(id, ARRAY['owner']))"),
        ("tasks", "FOR INSERT TO authenticated WITH CHECK (app.has_role(project, ARRAY['owner']))"),
        ("tasks", "FOR UPDATE TO authenticated USING (app.has_role(project, ARRAY['owner']))"),
    ] {
        let create = format!("CREATE POLICY c ON app.{table} {policy}");
        client.batch_execute(&create).unwrap();
        let proofs = format!(
            "SELECT expected || ': ' || verdict FROM ops.prove_policy('app.{table}', 'c')
             ORDER BY 1"
        );
        assert_eq!(
            column(&mut client, &proofs),
            ["not reached: isolated here", "reached: confirmed"],
            "{policy}"
        );
        client.batch_execute(&format!("DROP POLICY c ON app.{table}")).unwrap();
    }
}

#[test]
fn caller_is_first_one_who_may_write_the_lookup() {
    let (_cluster, mut client) = application();
    client.batch_execute(PROJECTS).unwrap();
    client
        .batch_execute(
            "CREATE POLICY c ON app.projects FOR DELETE TO authenticated
                 USING (app.has_role(id, ARRAY['owner']));
             CREATE POLICY w ON app.people FOR UPDATE TO authenticated USING (false)",
        )
        .unwrap();
    let own = "not reached: isolated here";
    for (condition, expected) in [
        // An editor makes himself an owner.
        ("app.has_role(project, ARRAY['owner', 'editor'])", &[own, "reached: confirmed"][..]),
        (
            "app.has_role(project, ARRAY['editor']) AND role <> 'reader'",
            &[own, "reached: confirmed"],
        ),
        // Only an owner can, who is one already.
        ("app.has_role(project, ARRAY['owner'])", &[own]),
    ] {
        client.batch_execute(&format!("ALTER POLICY w ON app.people USING ({condition})")).unwrap();
        let proofs = "SELECT expected || ': ' || verdict
            FROM ops.prove_policy('app.projects', 'c') ORDER BY 1";
        assert_eq!(column(&mut client, proofs), expected, "{condition}");
    }
}

#[test]
fn rows_that_agree_in_a_key_are_one_row() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE TABLE app.files (id int PRIMARY KEY, owner uuid NOT NULL);
             CREATE TABLE app.folders (id int PRIMARY KEY, owner uuid NOT NULL,
                 sharing text NOT NULL DEFAULT 'private');
             CREATE TABLE app.contents (folder int REFERENCES app.folders,
                 file int REFERENCES app.files, PRIMARY KEY (folder, file));
             ALTER TABLE app.files ENABLE ROW LEVEL SECURITY;
             ALTER TABLE app.folders ENABLE ROW LEVEL SECURITY;
             ALTER TABLE app.contents ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.files, app.folders, app.contents TO authenticated;
             CREATE POLICY s ON app.folders USING (sharing <> 'private');
             CREATE POLICY s ON app.contents USING (folder IN (SELECT id FROM app.folders
                 WHERE sharing <> 'private'));
             CREATE POLICY s ON app.files USING (id IN (SELECT file FROM app.contents
                 WHERE folder IN (SELECT id FROM app.folders WHERE sharing <> 'private')))",
        )
        .unwrap();
    let proofs = "SELECT verdict FROM ops.prove_policy('app.files', 's', 'authenticated')";
    assert_eq!(column(&mut client, proofs), ["confirmed"]);
}

#[test]
fn experiment_leaves_nothing() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE SEQUENCE app.numbers;
             ALTER TABLE app.docs ADD COLUMN number int DEFAULT nextval('app.numbers');
             DROP POLICY p ON app.docs; CREATE POLICY p ON app.docs TO authenticated USING (true);
             SELECT set_config('request.jwt.claims', '{\"sub\": \"mine\"}', false)",
        )
        .unwrap();
    let state = "SELECT concat_ws(' ', (SELECT count(*) FROM app.docs), (SELECT count(*) FROM
            auth.users), current_user, current_setting('session_replication_role'),
            current_setting('request.jwt.claims'), current_setting('lock_timeout'),
            (SELECT is_called FROM app.numbers),
            (SELECT last_value FROM app.docs_id_seq))";
    let before = column(&mut client, state);
    let proofs = "SELECT verdict FROM ops.prove_policy('app.docs', without_where => true)";
    assert!(column(&mut client, proofs).contains(&"confirmed".to_owned()));
    assert_eq!(column(&mut client, state), before);
    let mut in_transaction = client.transaction().unwrap();
    in_transaction.batch_execute(proofs).unwrap();
    in_transaction.batch_execute("INSERT INTO app.secret VALUES (1)").unwrap();
    in_transaction.commit().unwrap();
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM app.secret"), ["1"]);
    assert_eq!(column(&mut client, state), before);
}

#[test]
fn code_of_the_application_does_not_run_as_the_caller() {
    let (cluster, mut client) = application();
    // A default, a constraint and a trigger of the owner, and a function of a policy.
    client
        .batch_execute(
            "CREATE FUNCTION app.escape() RETURNS boolean LANGUAGE plpgsql AS $$
                 DECLARE became text := 'no'; BEGIN
                     BEGIN PERFORM set_config('role', 'none', true); became := current_user;
                     EXCEPTION WHEN OTHERS THEN NULL; END;
                     BEGIN EXECUTE 'SET SESSION AUTHORIZATION DEFAULT'; became := 'session';
                     EXCEPTION WHEN OTHERS THEN NULL; END;
                     BEGIN EXECUTE 'ALTER ROLE app_owner SUPERUSER'; became := 'superuser';
                     EXCEPTION WHEN OTHERS THEN NULL; END;
                     RAISE WARNING 'ran as % and became %', current_user, became;
                     RETURN true; END $$;
             CREATE FUNCTION app.escaping() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM app.escape(); RETURN NEW; END';
             ALTER FUNCTION app.escape() OWNER TO app_owner;
             ALTER TABLE app.docs ADD CHECK (app.escape()) NOT VALID;
             ALTER TABLE app.docs ADD COLUMN more boolean DEFAULT true NOT NULL;
             ALTER TABLE app.docs ALTER COLUMN more SET DEFAULT app.escape();
             CREATE TRIGGER escape BEFORE INSERT ON app.docs FOR EACH ROW
                 EXECUTE FUNCTION app.escaping();
             ALTER TABLE app.docs ENABLE ALWAYS TRIGGER escape;
             DROP POLICY p ON app.docs;
             CREATE POLICY p ON app.docs TO authenticated USING (app.escape())",
        )
        .unwrap();
    let call = "SELECT count(*) FROM ops.prove_policy('app.docs')";
    let output = cluster.client_program("psql", &["-Xqd", "postgres", "-c", call]);
    let text = String::from_utf8(output.stderr).unwrap();
    let mut heard: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("WARNING:  ")).collect();
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(
        heard,
        ["ran as app_owner and became no", "ran as authenticated and became no"],
        "as the owner and as the client, and as no other role"
    );
}

#[test]
fn callers_are_isolated_or_share_rows() {
    let (_cluster, mut client) = application();
    let a = r#"{"sub": "00000000-0000-0000-0000-00000000000a", "app_metadata": {"tenant": 1}}"#;
    let b = r#"{"sub": "00000000-0000-0000-0000-00000000000b", "app_metadata": {"tenant": 2}}"#;
    let rows = format!(
        "SELECT command || ', ' || of_whom || ': ' || expected || ', '
             || split_part(observed, ':', 1) || ', ' || verdict
         FROM ops.prove_isolation('app.docs', '{a}', '{b}')"
    );
    client
        .batch_execute(
            "DROP POLICY p ON app.docs;
             CREATE POLICY p ON app.docs TO authenticated USING (owner = auth.uid())",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, &rows),
        [
            "SELECT, user b: not reached, not reached, isolated here",
            "SELECT, the rows that user b reads: not reached, 0 of 1 rows, isolated here",
            "INSERT, user b: not reached, error, isolated here",
            "UPDATE, user b: not reached, not reached, isolated here",
            "DELETE, user b: not reached, not reached, isolated here",
        ]
    );
    let read = rows.replace(&format!("'{b}')"), &format!("'{b}', commands => '{{select}}')"));
    client
        .batch_execute("ALTER POLICY p ON app.docs USING (owner = auth.uid() OR NOT public)")
        .unwrap();
    assert_eq!(
        column(&mut client, &read),
        [
            "SELECT, user b: reached, reached, confirmed",
            "SELECT, another caller: reached, reached, confirmed",
            "SELECT, the rows that user b reads: reached, 1 of 1 rows, confirmed",
        ]
    );
    // Another policy opens them, in a way that the analysis does not know.
    client
        .batch_execute(
            "ALTER POLICY p ON app.docs USING (owner = auth.uid());
             CREATE FUNCTION app.yes(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
                 AS 'DECLARE yes bool := true; BEGIN RETURN yes; END';
             CREATE POLICY q ON app.docs FOR SELECT TO authenticated USING (app.yes(owner))",
        )
        .unwrap();
    assert_eq!(
        column(&mut client, &read),
        [
            "SELECT, user b: not reached, reached, refuted",
            "SELECT, another caller: unknown, reached, confirmed",
            "SELECT, the rows that user b reads: not reached, 1 of 1 rows, refuted",
        ]
    );
    // A policy of one command alone is tried as well.
    client
        .batch_execute(
            "DROP POLICY q ON app.docs;
             CREATE POLICY q ON app.docs FOR DELETE TO authenticated USING (NOT public)",
        )
        .unwrap();
    let deleted = rows.replace(&format!("'{b}')"), &format!("'{b}', commands => '{{delete}}')"));
    assert_eq!(
        column(&mut client, &deleted),
        [
            "DELETE, user b: not reached, not reached, isolated here",
            "DELETE, another caller: reached, not reached, not tried",
        ]
    );
    assert_eq!(
        column(&mut client, &deleted.replace("'{delete}'", "'{delete}', without_where => true")),
        [
            "DELETE, user b: reached, reached, confirmed",
            "DELETE, another caller: reached, reached, confirmed",
        ],
        "the rows of both policies are deleted"
    );
    let same = rows.replace(&format!("'{b}')"), &format!("'{a}', commands => '{{insert}}')"));
    assert_eq!(
        column(&mut client, &same),
        ["INSERT, user b: not reached, nothing, not tried"],
        "both are one caller"
    );
}

#[test]
fn owner_that_is_no_superuser_proves_own_policies() {
    let (cluster, mut client) = application();
    client
        .batch_execute(
            "ALTER ROLE app_owner LOGIN; GRANT authenticated TO app_owner;
             ALTER POLICY p ON app.docs USING (owner = auth.uid() OR public);
             GRANT USAGE ON SCHEMA ops TO app_owner;
             GRANT EXECUTE ON FUNCTION ops.prove_policy TO app_owner",
        )
        .unwrap();
    let mut owner = cluster.connect("postgres", "app_owner");
    let call = "SELECT verdict || ': ' || why FROM ops.prove_policy('app.docs', 'p')";
    assert_eq!(
        column(&mut owner, call),
        [
            "not tried: The caller is no member of root_su, which owns auth.users: call the \
             function as a superuser.",
            "confirmed: The row passes when public IS TRUE.",
        ]
        .map(|line| line.replace("root_su", SUPERUSER)),
        "the table of users belongs to another role"
    );
    client
        .batch_execute(
            "ALTER TABLE auth.users OWNER TO app_owner; REVOKE authenticated FROM app_owner",
        )
        .unwrap();
    let error = attempt(&mut owner, call).unwrap_err();
    assert_eq!(error.code, "42501");
    assert_eq!(error.message, "permission denied to become role authenticated");
    assert_eq!(
        error.hint,
        "Call the function as a superuser, or: GRANT authenticated TO app_owner;"
    );
    client.batch_execute("GRANT authenticated TO app_owner").unwrap();
    assert_eq!(
        column(&mut owner, "SELECT verdict FROM ops.prove_policy('app.docs', 'p')"),
        ["isolated here", "confirmed"]
    );
}

#[test]
fn call_that_cannot_be_answered_is_an_error() {
    let (_cluster, mut client) = application();
    let claims = r#"'{"sub": "a"}'"#;
    for (call, code, message) in [
        ("prove_policy(NULL)".to_owned(), "22004", "table must not be null"),
        ("prove_policy('app.docs', 'q')".to_owned(), "22023", "unrecognized policy \"q\""),
        ("prove_policy('app.docs', role => 'x')".to_owned(), "22023", "unrecognized role \"x\""),
        (
            "prove_policy('app.secret')".to_owned(),
            "55000",
            "row security is not enabled on app.secret",
        ),
        (format!("prove_isolation('app.docs', '[]', {claims})"), "22023", "a is no JSON object"),
        (
            format!("prove_isolation('app.docs', {claims}, {claims}, commands => '{{merge}}')"),
            "22023",
            "unrecognized command \"merge\"",
        ),
    ] {
        let error = attempt(&mut client, &format!("SELECT * FROM ops.{call}")).unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message), "{call}");
    }
    client.batch_execute("SET default_transaction_read_only = on").unwrap();
    let error = attempt(&mut client, "SELECT * FROM ops.prove_policy('app.docs')").unwrap_err();
    assert_eq!(error.code, "25006");
}

#[test]
fn policy_does_not_choose_what_only_a_superuser_may_set() {
    let (_cluster, mut client) = application();
    let rows = "SELECT verdict FROM ops.prove_policy('app.docs', 'p', 'authenticated')";
    for (name, value) in [
        ("lo_compat_privileges", "on"),
        ("session_replication_role", "replica"),
        ("dragonfly_guard.mode", "off"),
        ("session_authorization", "app_owner"),
    ] {
        let condition = format!("current_setting('{name}', true) = '{value}' AND id > 0");
        client.batch_execute("SET dragonfly_guard.mode = 'off'").unwrap();
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        if name == "dragonfly_guard.mode" {
            client.batch_execute("RESET dragonfly_guard.mode").unwrap();
        }
        assert_eq!(column(&mut client, rows), ["not tried"], "{name}");
    }
}

#[test]
fn forced_row_security_does_not_run_code_of_the_owner_as_a_superuser() {
    let (_cluster, mut client) = application();
    let rows = "SELECT verdict FROM ops.prove_policy('app.plain', 'p', 'authenticated')";
    client
        .batch_execute(
            "CREATE TABLE app.plain (id int PRIMARY KEY, owner uuid);
             ALTER TABLE app.plain OWNER TO app_owner;
             ALTER TABLE app.plain ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             GRANT SELECT ON app.plain TO authenticated;
             CREATE POLICY p ON app.plain FOR SELECT TO authenticated USING (owner = auth.uid())",
        )
        .unwrap();
    assert_eq!(column(&mut client, rows), ["isolated here"]);
    for (code, undo) in [
        (
            "CREATE FUNCTION app.escape(id int) RETURNS boolean LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
             ALTER FUNCTION app.escape(int) OWNER TO app_owner;
             ALTER TABLE app.plain ADD CONSTRAINT c CHECK (app.escape(id))",
            "ALTER TABLE app.plain DROP CONSTRAINT c",
        ),
        (
            "CREATE FUNCTION app.escaping() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
             CREATE TRIGGER t BEFORE INSERT ON app.plain FOR EACH ROW
                 EXECUTE FUNCTION app.escaping();
             ALTER TABLE app.plain ENABLE ALWAYS TRIGGER t",
            "DROP TRIGGER t ON app.plain",
        ),
        ("CREATE INDEX i ON app.plain ((id + 1)) WHERE app.escape(id)", "DROP INDEX app.i"),
        (
            "CREATE DOMAIN app.small AS int CHECK (VALUE < 7);
             ALTER TABLE app.plain ADD small app.small",
            "ALTER TABLE app.plain DROP small",
        ),
        ("CREATE RULE r AS ON INSERT TO app.plain DO ALSO SELECT 1", "DROP RULE r ON app.plain"),
    ] {
        let code = code.replace(
            "CREATE INDEX i",
            "ALTER FUNCTION app.escape(int) IMMUTABLE;
             CREATE INDEX i",
        );
        client.batch_execute(&code).unwrap();
        assert_eq!(column(&mut client, rows), ["not tried"], "{code}");
        client.batch_execute(undo).unwrap();
        assert_eq!(column(&mut client, rows), ["isolated here"], "{undo}");
    }
}

#[test]
fn statement_that_does_not_end_is_cancelled() {
    let (_cluster, mut client) = application();
    client.batch_execute("ALTER POLICY p ON app.docs USING (pg_sleep(60) IS NULL)").unwrap();
    let start = std::time::Instant::now();
    let rows = "SELECT observed FROM ops.prove_policy('app.docs', 'p', 'authenticated')";
    let observed = column(&mut client, rows);
    assert_eq!(observed, ["error: canceling statement due to statement timeout"]);
    assert!(start.elapsed().as_secs() < 30);
    client.batch_execute("SET statement_timeout = '1s'").unwrap();
    assert_eq!(attempt(&mut client, rows).unwrap_err().code, "57014", "of the session");
}

#[test]
fn deferred_constraint_is_checked_by_the_attempt() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "ALTER TABLE app.docs ALTER CONSTRAINT docs_owner_fkey DEFERRABLE INITIALLY DEFERRED;
             DROP POLICY p ON app.docs;
             CREATE POLICY p ON app.docs FOR INSERT TO authenticated WITH CHECK (true)",
        )
        .unwrap();
    assert_eq!(verdicts(&mut client, "authenticated", ""), "reached: confirmed");
}

#[test]
fn what_was_not_tried_says_what_to_do() {
    let (cluster, mut client) = application();
    // A constraint that is not read, on a column that the policy does not ask for.
    client
        .batch_execute(
            "CREATE TABLE app.notes (id int PRIMARY KEY, owner uuid NOT NULL,
                 body text NOT NULL CHECK (md5(body) LIKE '9%'));
             ALTER TABLE app.notes OWNER TO app_owner;
             ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;
             GRANT SELECT, INSERT ON app.notes TO authenticated;
             CREATE POLICY p ON app.notes FOR INSERT TO authenticated
                 WITH CHECK (owner = auth.uid());
             CREATE POLICY q ON app.notes FOR SELECT TO authenticated USING (owner = auth.uid())",
        )
        .unwrap();
    let rows = "SELECT verdict || ': ' || why FROM ops.prove_policy('app.notes')";
    let proofs = column(&mut client, rows);
    assert!(proofs.iter().all(|why| why.starts_with("not tried")), "{proofs:#?}");
    assert!(
        proofs.iter().all(|why| why.contains("notes_body_check")
            && why.ends_with(
                "Insert a row that meets the constraint: the columns that the policy does not \
                 ask for are then filled as in that row."
            )),
        "{proofs:#?}"
    );
    client.batch_execute("INSERT INTO app.notes VALUES (1, gen_random_uuid(), 'b')").unwrap();
    let verdicts = "SELECT verdict FROM ops.prove_policy('app.notes')";
    assert_eq!(column(&mut client, verdicts), ["isolated here", "isolated here"]);
    // A type of which no value is known.
    client
        .batch_execute(
            "ALTER TABLE app.notes ADD device macaddr;
             UPDATE app.notes SET device = '08:00:2b:01:02:03';
             ALTER TABLE app.notes ALTER device SET NOT NULL",
        )
        .unwrap();
    assert_eq!(column(&mut client, verdicts), ["isolated here", "isolated here"]);
    // A role that may become the owner of a table.
    client
        .batch_execute(
            "CREATE ROLE tester LOGIN; GRANT authenticated TO tester;
             GRANT USAGE ON SCHEMA ops TO tester;
             GRANT EXECUTE ON FUNCTION ops.prove_policy, ops.prove_isolation TO tester",
        )
        .unwrap();
    let mut tester = cluster.connect("postgres", "tester");
    let why = "The caller is no member of app_owner, which owns app.notes: GRANT app_owner TO \
               tester;";
    assert_eq!(
        column(&mut tester, &rows.replace("verdict || ': ' || ", "")),
        [why, why],
        "the statement that helps"
    );
    let a = r#"{"sub": "00000000-0000-0000-0000-00000000000a"}"#;
    let pair = |a: &str, b: &str| {
        format!(
            "SELECT why FROM ops.prove_isolation('app.notes', '{a}', '{b}',
                 commands => '{{insert}}')"
        )
    };
    assert_eq!(
        column(&mut client, &pair(a, "{}")),
        ["The claims of user b have no sub: add it to argument b."]
    );
    assert_eq!(
        column(&mut client, &pair(a, a)),
        ["Both callers have the same user: arguments a and b need different ones."]
    );
}

#[test]
fn way_in_which_a_row_passes_is_said_in_sql() {
    let (_cluster, mut client) = application();
    client
        .batch_execute("ALTER TABLE app.docs ADD price numeric, ADD day date, ADD tags text[]")
        .unwrap();
    let why = "SELECT why FROM ops.prove_policy('app.docs', 'p', 'authenticated')";
    for (condition, expected) in [
        ("kind = 'letter'", "kind = 'letter'"),
        ("price > 1.50", "price > 1.50"),
        ("day >= '2030-01-01'", "day >= '2030-01-01'"),
        ("tenant IN (1, 2)", "tenant = 1"),
        ("'shared' = ANY (tags)", "'shared' = ANY (tags)"),
        ("tags @> '{shared}'", "tags @> '{shared}'"),
        ("data ? 'shared'", "data ? 'shared'"),
        ("EXISTS (SELECT FROM app.admins a WHERE a.user_id = owner)", "app.admins.user_id = owner"),
    ] {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        let expected = format!("The row passes when {expected}.");
        assert_eq!(column(&mut client, why), [expected], "{condition}");
    }
}

#[test]
fn row_meets_constraints_on_enums() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE TYPE app.state AS ENUM ('new', 'open', 'closed');
             CREATE TYPE app.single AS ENUM ('one');
             CREATE TABLE app.cases (id int PRIMARY KEY, owner uuid NOT NULL,
                 single app.single NOT NULL, kind app.kind NOT NULL CHECK (kind <> 'memo'),
                 state app.state NOT NULL CHECK (state IN ('closed', 'open') AND state <> 'open'),
                 days int NOT NULL CHECK (days > 3 AND days < 5));
             ALTER TABLE app.cases OWNER TO app_owner;
             ALTER TABLE app.cases ENABLE ROW LEVEL SECURITY;
             GRANT SELECT, INSERT ON app.cases TO authenticated;
             CREATE POLICY p ON app.cases TO authenticated USING (owner = auth.uid())",
        )
        .unwrap();
    let proofs = "SELECT verdict || ': ' || why FROM ops.prove_policy('app.cases')";
    let isolated = "isolated here: The caller whose row it is reaches it, and another one does \
                    not: a sample, and no proof.";
    assert_eq!(column(&mut client, proofs), [isolated, isolated]);
    client.batch_execute("ALTER POLICY p ON app.cases USING (state <> 'new')").unwrap();
    assert_eq!(column(&mut client, proofs), ["confirmed: The row passes when state <> 'new'."; 2]);
}

#[test]
fn caller_has_the_rows_that_code_of_the_application_expects() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE TABLE app.profiles (id uuid PRIMARY KEY REFERENCES auth.users,
                 team int NOT NULL DEFAULT 7);
             CREATE TABLE app.tasks (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 team int, author uuid REFERENCES auth.users);
             ALTER TABLE app.tasks OWNER TO app_owner;
             ALTER TABLE app.tasks ENABLE ROW LEVEL SECURITY;
             GRANT SELECT, INSERT ON app.tasks TO authenticated;
             CREATE FUNCTION app.set_team() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                 SET search_path = pg_catalog, pg_temp AS $$ BEGIN
                     SELECT team INTO STRICT NEW.team FROM app.profiles WHERE id = auth.uid();
                     RETURN NEW; END $$;
             CREATE TRIGGER team BEFORE INSERT ON app.tasks
                 FOR EACH ROW EXECUTE FUNCTION app.set_team();
             CREATE POLICY p ON app.tasks FOR INSERT TO authenticated
                 WITH CHECK (author = auth.uid())",
        )
        .unwrap();
    let proofs = "SELECT verdict || ': ' || observed FROM ops.prove_policy('app.tasks')";
    assert_eq!(
        column(&mut client, proofs),
        ["isolated here: error: new row violates row-level security policy for table \"tasks\""]
    );
    // The table of users is found by a foreign key as well as by its name, with other callers.
    client
        .batch_execute(
            "CREATE SCHEMA login; ALTER TABLE auth.users SET SCHEMA login;
             ALTER TABLE login.users RENAME TO accounts",
        )
        .unwrap();
    let a = r#"{"sub": "00000000-0000-0000-0000-00000000000a"}"#;
    let c = r#"{"sub": "00000000-0000-0000-0000-00000000000c"}"#;
    let pair = format!(
        "SELECT verdict || ': ' || observed FROM ops.prove_isolation('app.tasks', '{a}', '{c}',
             commands => '{{insert}}')"
    );
    assert_eq!(column(&mut client, &pair), column(&mut client, proofs));
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM login.accounts"), ["1"]);
}

#[test]
fn row_falls_into_a_partition_and_references_itself() {
    let (_cluster, mut client) = application();
    let own = "owner uuid NOT NULL";
    for (name, create) in [
        ("tree", format!("(id uuid PRIMARY KEY, parent uuid NOT NULL REFERENCES app.tree, {own})")),
        (
            "pair",
            format!("(id int PRIMARY KEY, twin int NOT NULL UNIQUE REFERENCES app.pair, {own})"),
        ),
        ("days", format!("(id int, day date NOT NULL, {own}) PARTITION BY RANGE (day)")),
        ("numbers", format!("(id int PRIMARY KEY, {own}) PARTITION BY RANGE (id)")),
        ("lists", format!("(id int, region text DEFAULT 'us', {own}) PARTITION BY LIST (region)")),
        ("hashed", format!("(id int, {own}) PARTITION BY HASH (id)")),
        ("both", format!("(day date, region text, {own}) PARTITION BY RANGE (day)")),
        ("two", format!("(day date, region text, {own}) PARTITION BY RANGE (region, day)")),
    ] {
        client
            .batch_execute(&format!(
                "CREATE TABLE app.{name} {create}; ALTER TABLE app.{name} OWNER TO app_owner;
                 ALTER TABLE app.{name} ENABLE ROW LEVEL SECURITY;
                 GRANT SELECT, INSERT ON app.{name} TO authenticated;
                 CREATE POLICY p ON app.{name} TO authenticated USING (owner = auth.uid())"
            ))
            .unwrap();
    }
    client
        .batch_execute(
            "CREATE TABLE app.d PARTITION OF app.days
                 FOR VALUES FROM ('2030-01-01') TO ('2031-01-01');
             CREATE TABLE app.n PARTITION OF app.numbers FOR VALUES FROM (-10) TO (100);
             INSERT INTO app.numbers SELECT n, gen_random_uuid() FROM generate_series(-10, 40) n;
             CREATE TABLE app.l PARTITION OF app.lists FOR VALUES IN (NULL, 'it''s, (\\)', 'b');
             CREATE TABLE app.h PARTITION OF app.hashed FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             CREATE TABLE app.b PARTITION OF app.both FOR VALUES FROM (MINVALUE) TO ('2030-01-01')
                 PARTITION BY LIST (region);
             CREATE TABLE app.b2 PARTITION OF app.both FOR VALUES FROM ('2030-01-01') TO (MAXVALUE)
                 PARTITION BY LIST (region);
             CREATE TABLE app.be PARTITION OF app.b2 FOR VALUES IN ('eu');
             CREATE TABLE app.t PARTITION OF app.two
                 FOR VALUES FROM ('eu', '2030-01-01') TO ('eu', '2030-02-01')",
        )
        .unwrap();
    let proofs = "SELECT coalesce(string_agg(verdict || ': ' || why, E'\\n'), 'nothing')
                  FROM ops.prove_policy('app.NAME')";
    let isolated = "isolated here: The caller whose row it is reaches it, and another one does \
                    not: a sample, and no proof.";
    for name in ["tree", "pair", "days", "numbers", "lists", "hashed", "both", "two"] {
        assert_eq!(
            column(&mut client, &proofs.replace("NAME", name)),
            [format!("{isolated}\n{isolated}")],
            "{name}"
        );
    }
    // What the policy asks for decides which partition it is.
    client
        .batch_execute("ALTER POLICY p ON app.lists USING (region = 'b' OR region = 'us')")
        .unwrap();
    assert_eq!(
        column(&mut client, "SELECT verdict FROM ops.prove_policy('app.lists')"),
        ["confirmed"; 2]
    );
}

#[test]
fn advisory_locks_are_released() {
    let (_cluster, mut client) = application();
    client
        .batch_execute(
            "CREATE FUNCTION app.locks(of uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_advisory_lock(-7), pg_advisory_lock(-7), pg_advisory_lock(1),
                     pg_advisory_lock_shared(-2, 3), pg_advisory_xact_lock(4);
                 RETURN of = auth.uid(); END $$;
             ALTER POLICY p ON app.docs USING (app.locks(owner));
             SELECT pg_advisory_lock(1), pg_advisory_lock_shared(5)",
        )
        .unwrap();
    assert!(!column(&mut client, "SELECT verdict FROM ops.prove_policy('app.docs')").is_empty());
    let locks = "SELECT format('%s %s %s', classid, objid, mode) FROM pg_locks
                  WHERE locktype = 'advisory' ORDER BY objid";
    assert_eq!(column(&mut client, locks), ["0 1 ExclusiveLock", "0 5 ShareLock"]);
}

#[test]
fn condition_that_is_too_large_is_refused_at_once() {
    let (_cluster, mut client) = application();
    let columns: Vec<String> = (1..=9).map(|n| format!("c{n}")).collect();
    let all = |n: usize| {
        format!(
            "({0} > 1 OR {1} > 2 OR {2} > 3)",
            columns[n % 9],
            columns[(n + 1) % 9],
            columns[(n + 2) % 9]
        )
    };
    let condition: Vec<String> = (0..9).map(all).collect();
    client
        .batch_execute(&format!(
            "CREATE TABLE app.wide (id int PRIMARY KEY, {} int);
             ALTER TABLE app.wide ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.wide TO authenticated;
             CREATE POLICY p ON app.wide TO authenticated USING ({})",
            columns.join(" int, "),
            condition.join(" AND ")
        ))
        .unwrap();
    let start = std::time::Instant::now();
    let why = "SELECT why FROM ops.prove_policy('app.wide')";
    let expected = "The condition is too large: split the policy into several, of which each is \
                    tried alone.";
    assert_eq!(column(&mut client, why), [expected]);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
