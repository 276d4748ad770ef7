//! What policies cost for each row, and where they raise an error: conditions, and the rules that
//! report them.

use dragonfly_tests::{Cluster, SUPERUSER, column};

const APPLICATION: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated;
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
        AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (auth.jwt() ->> 'sub')::uuid $$;
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO authenticated;
    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL, tenant int NOT NULL,
        editor uuid, title text UNIQUE);
    CREATE INDEX ON app.docs (owner); CREATE INDEX ON app.docs (tenant, title);
    CREATE TABLE app.members (user_id uuid NOT NULL, tenant int NOT NULL,
        PRIMARY KEY (user_id, tenant));
    CREATE TABLE app.profiles (id uuid PRIMARY KEY, tenant int NOT NULL);
    CREATE TABLE app.shares (doc int, user_id uuid);
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON ALL TABLES IN SCHEMA app TO authenticated;
    CREATE FUNCTION app.me() RETURNS uuid LANGUAGE sql AS 'SELECT auth.uid()';
    CREATE FUNCTION app.tenant() RETURNS int LANGUAGE sql STABLE
        AS $$ SELECT (auth.jwt() -> 'app_metadata' ->> 'tenant')::int $$;
    CREATE FUNCTION app.is_mine(of uuid) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT of = auth.uid()';
    CREATE FUNCTION app.is_member(of int) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT EXISTS (SELECT FROM app.members m WHERE m.tenant = of
            AND m.user_id = auth.uid())';
    CREATE FUNCTION app.are_members(of uuid, tenant int) RETURNS boolean LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS 'SELECT EXISTS (SELECT FROM app.members m WHERE m.tenant = $2 AND m.user_id = $1)';
    CREATE POLICY p ON app.docs FOR SELECT TO authenticated USING (true);
    CREATE EXTENSION dragonfly_guard;
    SET client_min_messages = error; SET dragonfly_guard.mode = 'off';
    SELECT ops.load_contract(ops.infer_contract(ARRAY['app'], 'as_is'))";

/// Conditions with what is reported of them, without what they open.
const CONDITIONS: &[(&str, &str)] = &[
    ("owner = (SELECT auth.uid())", ""),
    ("owner = auth.uid()", "per_row"),
    ("owner = ((SELECT auth.jwt()) ->> 'sub')::uuid", ""),
    ("tenant IN (SELECT m.tenant FROM app.members m WHERE m.user_id = auth.uid())", ""),
    (
        "EXISTS (SELECT FROM app.members m WHERE m.tenant = docs.tenant \
         AND m.user_id = auth.uid())",
        "per_row",
    ),
    ("tenant = app.tenant()", "per_row"),
    ("tenant = (SELECT app.tenant())", ""),
    ("owner = (SELECT auth.uid()) AND random() < 2", "volatile"),
    ("owner = app.me()", "volatile"),
    ("app.is_mine(owner)", ""),
    ("app.is_member(tenant)", "helper_per_row"),
    ("app.are_members((SELECT auth.uid()), tenant)", "helper_argument,helper_per_row"),
    ("editor = (SELECT auth.uid())", "unindexed"),
    (
        "EXISTS (SELECT FROM app.shares s WHERE s.doc = docs.id \
         AND s.user_id = (SELECT auth.uid()))",
        "unindexed",
    ),
    // What raises an error.
    ("title = (SELECT current_setting('app.title'))", "raises"),
    ("title = (SELECT current_setting('app.title', true))", ""),
    ("tenant = (SELECT current_setting('app.tenant', true))::int", "raises"),
    ("tenant = (SELECT NULLIF(current_setting('app.tenant', true), '')::int)", ""),
    ("tenant = (SELECT (auth.jwt() ->> 'sub')::int)", "raises"),
    (
        "tenant = (SELECT m.tenant FROM app.members m WHERE m.user_id = (SELECT auth.uid()))",
        "raises",
    ),
    ("tenant = (SELECT p.tenant FROM app.profiles p WHERE p.id = (SELECT auth.uid()))", ""),
    (
        "tenant = (SELECT p.tenant FROM app.members m JOIN app.profiles p ON p.id = m.user_id \
         WHERE m.user_id = (SELECT auth.uid()) AND m.tenant = docs.tenant)",
        "",
    ),
    ("tenant = (SELECT max(m.tenant) FROM app.members m WHERE m.user_id = auth.uid())", ""),
];

const FOUND: &str = "
    SELECT coalesce(string_agg(DISTINCT replace(rule, 'policy_', ''), ','
               ORDER BY replace(rule, 'policy_', '')), '')
      FROM ops.audit_security()
     WHERE rule IN ('policy_per_row', 'policy_volatile', 'policy_helper_per_row',
                    'policy_unindexed', 'policy_helper_argument', 'policy_raises')";

#[test]
fn calls_of_a_condition_are_reported_by_their_rules() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    let mut wrong = Vec::new();
    for (condition, expected) in CONDITIONS {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        let found = column(&mut client, FOUND).remove(0);
        if found != *expected {
            wrong.push(format!("{condition}\n    expected {expected}\n    found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policy_that_adds_nothing_is_found_beside_the_wider_one() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "ALTER POLICY p ON app.docs USING (owner = (SELECT auth.uid()));
             CREATE POLICY q ON app.docs FOR SELECT TO authenticated USING (true)",
        )
        .unwrap();
    let found = "SELECT rule || ' ' || object FROM ops.audit_security(
                     rules => '{policy_duplicate,policy_multiple_permissive}') ORDER BY 1";
    for (condition, expected) in [
        ("owner = (SELECT auth.uid())", "policy_duplicate q on app.docs"),
        ("owner = (SELECT auth.uid()) AND tenant = 1", "policy_duplicate q on app.docs"),
        ("owner = (SELECT auth.uid()) OR tenant = 1", "policy_duplicate p on app.docs"),
        ("editor = (SELECT auth.uid())", "policy_multiple_permissive app.docs"),
    ] {
        client.batch_execute(&format!("ALTER POLICY q ON app.docs USING ({condition})")).unwrap();
        assert_eq!(column(&mut client, found), [expected], "{condition}");
    }
}

#[test]
fn key_that_a_client_can_choose_tells_of_hidden_rows() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "ALTER POLICY p ON app.docs USING (owner = (SELECT auth.uid()));
             CREATE POLICY i ON app.docs FOR INSERT TO authenticated
                 WITH CHECK (owner = (SELECT auth.uid()))",
        )
        .unwrap();
    let found =
        "SELECT evidence->>'columns' FROM ops.audit_security(rules => '{existence_oracle}')";
    assert_eq!(column(&mut client, found), [""; 0], "no privilege");
    client.batch_execute("GRANT INSERT (id, owner, tenant) ON app.docs TO authenticated").unwrap();
    assert_eq!(column(&mut client, found), [""; 0], "no privilege on the column");
    client.batch_execute("GRANT INSERT ON app.docs TO authenticated").unwrap();
    assert_eq!(column(&mut client, found), ["[\"title\"]"]);
    client
        .batch_execute(
            "ALTER TABLE app.docs DROP CONSTRAINT docs_title_key, ADD UNIQUE (owner, title)",
        )
        .unwrap();
    assert_eq!(column(&mut client, found), [""; 0], "the key contains the owner");
}
