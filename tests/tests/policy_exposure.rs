//! What `ops.explain_policy()` says of a policy is what its rows are: which of them belong to the
//! caller, and in which other ways a row is reached.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;
use std::time::{Duration, Instant};

/// An application of a platform whose sessions have claims: documents of users and tenants, who is
/// a member of which tenant, and helper functions.
const APPLICATION: &str = "
    CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE app_owner;
    CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated;
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
        AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
            ->> 'sub')::uuid $$;
    CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE
        AS $$ SELECT auth.jwt() ->> 'role' $$;
    CREATE EXTENSION citext;
    CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO anon, authenticated;
    CREATE TABLE app.docs (id int PRIMARY KEY, owner uuid NOT NULL, tenant int NOT NULL,
        editor uuid, members uuid[], path text, public boolean NOT NULL, status text NOT NULL,
        data jsonb, name citext,
        CHECK (status IN ('draft', 'published')));
    ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
    CREATE TABLE app.members (user_id uuid NOT NULL, tenant int NOT NULL, role text NOT NULL,
        PRIMARY KEY (user_id, tenant));
    ALTER TABLE app.members ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.members FOR SELECT TO authenticated
        USING (user_id = (SELECT auth.uid()));
    CREATE TABLE app.tenants (id int PRIMARY KEY, public boolean NOT NULL);
    CREATE TABLE app.admins (user_id uuid PRIMARY KEY, is_active boolean);
    CREATE TABLE app.hidden (tenant int); ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY;
    CREATE TABLE app.secret (tenant int);
    CREATE TABLE app.loop (id int, tenant int); ALTER TABLE app.loop ENABLE ROW LEVEL SECURITY;
    CREATE POLICY loop ON app.loop USING (tenant IN (SELECT tenant FROM app.docs));
    CREATE VIEW app.mine WITH (security_invoker = true) AS
        SELECT tenant FROM app.members WHERE user_id = auth.uid();
    CREATE VIEW app.all_members AS SELECT user_id, tenant FROM app.members;
    GRANT SELECT ON ALL TABLES IN SCHEMA app TO anon, authenticated;
    REVOKE SELECT ON app.secret FROM anon, authenticated;
    CREATE FUNCTION app.is_member(of int) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT EXISTS (SELECT FROM app.members m WHERE m.tenant = of
            AND m.user_id = auth.uid())';
    CREATE FUNCTION app.is_member_definer(tenant int) RETURNS boolean
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp
        AS 'SELECT EXISTS (SELECT FROM members WHERE tenant = tenant
            AND user_id = auth.uid())';
    CREATE FUNCTION app.may_read(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN of = auth.uid(); END';
    CREATE FUNCTION app.decides(of uuid) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'DECLARE yes bool; BEGIN yes := of = auth.uid(); RETURN yes; END';
    CREATE FUNCTION app.tenant_of_caller() RETURNS int LANGUAGE sql STABLE
        AS $$ SELECT (auth.jwt() -> 'app_metadata' ->> 'tenant')::int $$;
    CREATE FUNCTION app.off(a int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT a = 1';
    REVOKE EXECUTE ON FUNCTION app.off(int) FROM PUBLIC;
    CREATE FUNCTION app.fragile(of int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = app
        AS 'SELECT EXISTS (SELECT FROM members m WHERE m.tenant = of AND m.user_id = auth.uid())';
    SET search_path = public, app;
    CREATE FUNCTION app.inherits(of int) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT EXISTS (SELECT FROM members m WHERE m.tenant = of AND m.user_id = auth.uid())';
    RESET search_path;
    CREATE FUNCTION app.sets(of uuid) RETURNS boolean LANGUAGE sql STABLE
        SET \"request.jwt.claims\" = '{}' AS 'SELECT of = auth.uid()';
    CREATE FUNCTION app.cached() RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT auth.uid()';
    CREATE FUNCTION app.nulls(of uuid, other uuid) RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT of = auth.uid() OR other = NULL';
    CREATE FUNCTION app.either(of uuid) RETURNS uuid LANGUAGE sql STABLE
        AS $$ SELECT CASE WHEN now() > '2020-01-01' THEN of ELSE of END $$;
    CREATE TABLE auth.users (id uuid PRIMARY KEY, raw_user_meta_data jsonb, data jsonb,
        email text);
    GRANT SELECT ON auth.users TO authenticated;
    CREATE VIEW app.of_caller AS SELECT 1 AS x WHERE current_user = 'authenticated';
    GRANT SELECT ON app.of_caller TO authenticated;
    CREATE FUNCTION app.joins(of int) RETURNS boolean LANGUAGE sql SECURITY DEFINER
        SET search_path = '', pg_temp AS $$
        WITH x AS (INSERT INTO app.members VALUES (auth.uid(), of, 'member')) SELECT true $$;
    CREATE FUNCTION app.is_admin_of(id int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = '', pg_temp AS $$ SELECT EXISTS (SELECT FROM app.members m
            JOIN app.tenants t ON t.id = m.tenant
            WHERE m.user_id = auth.uid() AND m.tenant = id AND m.role = 'admin') $$;
    CREATE FUNCTION app.is_admin_of(of bigint) RETURNS boolean LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = '', pg_temp AS $$ SELECT EXISTS (SELECT
            FROM app.members m WHERE m.user_id = auth.uid() AND m.role = 'admin') $$;
    CREATE FUNCTION app.is_on(name text) RETURNS boolean LANGUAGE plpgsql AS $$
        DECLARE found bool; BEGIN EXECUTE format('SELECT %I FROM app.tenants LIMIT 1', name)
            INTO found; RETURN found; END $$;
    CREATE FUNCTION app.is_on_for_caller(name text) RETURNS boolean LANGUAGE plpgsql AS $$
        DECLARE yes bool; BEGIN yes := auth.uid() IS NOT NULL; RETURN yes; END $$;
    CREATE FUNCTION app.is_on_in_rows(name text) RETURNS boolean LANGUAGE plpgsql AS $$
        DECLARE n int; BEGIN SELECT count(*) INTO n FROM app.members; RETURN n > 0; END $$;
    CREATE FUNCTION app.qualified(of int) RETURNS boolean LANGUAGE plpgsql STABLE
        SET search_path = '' AS 'BEGIN RETURN EXISTS (SELECT FROM app.members
            WHERE members.tenant = of AND members.user_id = auth.uid()); END';
    CREATE FUNCTION app.calls(of int) RETURNS boolean LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN of IN (SELECT tenants_of_caller()); END';
    CREATE FUNCTION app.may_move(of text) RETURNS boolean LANGUAGE plpgsql
        AS 'DECLARE yes bool; BEGIN yes := of = auth.uid()::text; RETURN yes; END';
    CREATE TYPE app.wrapped AS (a uuid);
    CREATE FUNCTION app.tenants_of_caller() RETURNS SETOF int LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = '', pg_temp
        AS 'SELECT tenant FROM app.members WHERE user_id = auth.uid()';
    CREATE SCHEMA storage; GRANT USAGE ON SCHEMA storage TO authenticated;
    CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE plpgsql
        AS 'DECLARE parts text[]; BEGIN parts := string_to_array(name, ''/''); RETURN parts; END';
    ALTER DATABASE postgres SET search_path = public, app;
    CREATE FUNCTION app.same(a uuid, b uuid) RETURNS boolean LANGUAGE sql IMMUTABLE
        AS 'SELECT true';
    CREATE OPERATOR app.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = app.same);
    CREATE POLICY p ON app.docs FOR SELECT USING (true);
    CREATE EXTENSION dragonfly_guard;
    SET client_min_messages = error; SET dragonfly_guard.mode = 'off'";

/// Conditions with what is said of them for a session with a user.
const CONDITIONS: &[(&str, &str)] = &[
    // Rows of the caller.
    ("owner = auth.uid()", "tied owner"),
    ("owner = (SELECT auth.uid())", "tied owner"),
    ("owner::text = auth.jwt() ->> 'sub'", "tied owner"),
    ("(auth.jwt() ->> 'sub')::uuid IN (owner, editor)", "tied editor|tied owner"),
    ("auth.uid() = ANY (members)", "tied members"),
    ("members @> ARRAY[auth.uid()]", "tied members"),
    ("auth.uid() IS NOT NULL AND owner = auth.uid()", "tied owner"),
    ("coalesce(owner = auth.uid(), false)", "tied owner"),
    ("path LIKE auth.uid() || '/%'", "tied path"),
    ("path ~ ('^' || auth.uid()::text || '/')", "tied path"),
    ("path ~ ('^' || auth.uid()::text || '/(a|b)/[0-9a-f]{36}$')", "tied path"),
    ("path ~ ('^' || auth.uid()::text || '-.*')", "tied path"),
    ("path ~ ('^' || auth.uid()::text || '?')", "pattern path"),
    ("split_part(path, '/', 1) = auth.uid()::text", "tied path"),
    // Whatever a function of the row is, the row belongs to one caller by it.
    ("replace(path, '.png', '')::uuid = auth.uid()", "tied path"),
    (
        "replace(path, '.png', '')::int IN (SELECT tenant FROM app.members \
      WHERE user_id = auth.uid())",
        "tied path",
    ),
    (
        "left(path, 1) IN (SELECT left(role, 1) FROM app.members WHERE user_id = auth.uid())",
        "lookup_uncorrelated path",
    ),
    ("tenant = app.tenant_of_caller()", "tied tenant"),
    ("tenant = (current_setting('request.jwt.claims', true)::json ->> 'org')::int", "tied tenant"),
    ("app.may_read(owner)", "tied owner"),
    // Rows that lookups tie to the caller.
    ("tenant IN (SELECT tenant FROM app.members WHERE user_id = auth.uid())", "tied tenant"),
    ("tenant IN (SELECT tenant FROM app.members)", "tied tenant"),
    ("tenant IN (SELECT tenant FROM app.mine)", "tied tenant"),
    ("app.is_member(tenant)", "tied tenant"),
    (
        "EXISTS (SELECT FROM app.all_members m JOIN app.tenants t ON t.id = m.tenant \
      WHERE t.id = docs.tenant AND m.user_id = auth.uid())",
        "tied tenant",
    ),
    // Rights of the session.
    ("auth.jwt() -> 'app_metadata' ->> 'role' = 'admin'", "privileged "),
    ("(auth.jwt() -> 'app_metadata' -> 'roles') ? 'admin'", "privileged "),
    ("auth.jwt() -> 'app_metadata' @> '{\"role\": \"admin\"}'", "privileged "),
    ("EXISTS (SELECT FROM app.admins WHERE user_id = auth.uid() AND is_active)", "privileged "),
    (
        "EXISTS (SELECT FROM app.members WHERE user_id = auth.uid() AND role = 'admin')",
        "lookup_uncorrelated ",
    ),
    // Every row, or none.
    ("owner = auth.uid() OR true", "always_true "),
    ("status IN ('draft', 'published')", "always_true "),
    ("ARRAY[tenant] @> ARRAY[tenant]", "always_true "),
    ("auth.uid() IS NOT NULL", "ignores_row "),
    ("auth.role() = 'authenticated'", "ignores_row "),
    ("auth.role() = 'service_role'", "never_true "),
    ("auth.uid() IS NULL", "never_true "),
    ("owner = auth.uid() AND owner <> auth.uid()", "never_true "),
    ("tenant = current_setting('tenant', true)::int", "never_true "),
    // What users, requests and sessions can choose.
    ("tenant = (auth.jwt() -> 'user_metadata' ->> 'tenant')::int", "user_claim tenant"),
    ("auth.jwt() @> '{\"user_metadata\": {\"role\": \"admin\"}}'", "user_claim "),
    (
        "tenant = (current_setting('request.headers', true)::json ->> 'x-tenant')::int",
        "request tenant",
    ),
    ("tenant = current_setting('app.tenant')::int", "settable_parameter tenant"),
    ("status = auth.jwt() ->> 'email'", "email status"),
    // Other rows.
    ("owner = auth.uid() OR public", "row_open public|tied owner"),
    ("owner = auth.uid() OR editor IS NULL", "null_row_open editor|tied owner"),
    ("owner <> auth.uid()", "identity_inverted owner"),
    ("owner >= auth.uid()", "identity_not_equal owner"),
    ("path = current_user AND status = 'draft'", "role_name path,status"),
    (
        "NOT EXISTS (SELECT FROM app.members m WHERE m.tenant = docs.tenant \
      AND m.user_id = auth.uid())",
        "identity_inverted ",
    ),
    (
        "EXISTS (SELECT FROM app.all_members m WHERE m.tenant = m.tenant \
      AND m.user_id = auth.uid())",
        "name_captured ",
    ),
    ("app.is_member_definer(tenant)", "name_captured "),
    // The argument is not asked for: its name means a column in the body.
    ("app.is_admin_of(tenant)", "name_captured "),
    (
        "app.is_admin_of(tenant) OR auth.jwt() -> 'app_metadata' ->> 'role' = 'admin'",
        "name_captured |privileged ",
    ),
    ("app.is_admin_of(tenant) AND owner = auth.uid()", "tied owner"),
    ("app.is_admin_of(1)", "privileged "),
    ("app.is_admin_of(tenant::bigint)", "lookup_uncorrelated "),
    // A switch says nothing of a row or caller; what asks for the caller may be a right.
    ("app.is_on('x')", "ignores_row |unknown "),
    ("app.is_on('x') AND NOT public", "row_open public|unknown "),
    ("app.is_on(status)", "opaque |unknown "),
    ("app.is_on_for_caller('x')", "opaque |unknown "),
    ("app.is_on_in_rows('x')", "opaque |unknown "),
    ("EXISTS (SELECT FROM app.tenants t WHERE t.id = docs.tenant)", "lookup_unbound tenant"),
    (
        "EXISTS (SELECT FROM app.tenants t WHERE t.id = docs.tenant AND t.public)",
        "row_open_by_parent tenant",
    ),
    ("EXISTS (SELECT FROM app.admins WHERE user_id = auth.uid())", "lookup_uncorrelated "),
    (
        "NOT EXISTS (SELECT FROM app.members WHERE user_id = auth.uid() AND role = 'banned')",
        "lookup_uncorrelated ",
    ),
    (
        "tenant <= (SELECT max(m.tenant) FROM app.all_members m WHERE m.user_id = auth.uid())",
        "identity_not_equal tenant",
    ),
    ("length(path) = length(auth.uid()::text)", "opaque path"),
    ("owner OPERATOR(app.=) auth.uid()", "foreign_operator owner|unknown "),
    ("app.decides(owner)", "opaque owner|unknown "),
    // Helper functions whose result is not what their text says.
    ("app.fragile(tenant)", "helper_path |tied tenant"),
    ("app.inherits(tenant)", "helper_path |tied tenant"),
    ("app.qualified(tenant)", "tied tenant"),
    ("app.calls(tenant)", "tied tenant"),
    ("app.sets(owner)", "opaque owner|unknown "),
    ("owner = app.cached()", "helper_immutable |tied owner"),
    ("app.nulls(owner, editor)", "tied owner"),
    // Values of the session in functions and containers that are the same for several callers.
    ("auth.jwt() @> '{\"app_metadata\": {}}'", "opaque "),
    ("auth.jwt() -> 'app_metadata' @> '{}'", "ignores_row "),
    ("auth.jwt() ->> 'aud' = 'authenticated'", "ignores_row "),
    ("(auth.jwt() -> 'app_metadata') ? 'provider'", "ignores_row "),
    ("(auth.jwt() - 'app_metadata') -> 'user_metadata' ->> 'x' = status", "opaque status"),
    ("members <@ ARRAY[auth.uid()]", "row_open members"),
    ("ARRAY[auth.uid(), editor] && ARRAY[owner]", "row_open editor,owner"),
    ("(ARRAY['draft', auth.uid()::text])[1] = status", "opaque status"),
    ("split_part('draft', auth.uid()::text, 1) = status", "opaque status"),
    ("split_part(path, '-', 3) = split_part(auth.uid()::text, '-', 3)", "opaque path"),
    ("owner::text::varchar(1) = auth.uid()::text::varchar(1)", "opaque owner"),
    ("path ~ ('^' || auth.uid()::text || '/|^public/')", "pattern path"),
    ("path LIKE (auth.jwt() ->> 'sub') || '/%'", "pattern path"),
    ("status = auth.jwt() ->> 'preferred_username'", "user_claim status"),
    ("status = (SELECT data ->> 'status' FROM auth.users WHERE id = auth.uid())", "tied status"),
    (
        "status = (SELECT raw_user_meta_data ->> 'status' FROM auth.users WHERE id = auth.uid())",
        "user_claim status",
    ),
    (
        "EXISTS (SELECT FROM app.members m LEFT JOIN (SELECT id, raw_user_meta_data AS d \
      FROM auth.users) u ON u.id = m.user_id WHERE m.user_id = auth.uid() \
      AND u.d ->> 'role' = 'admin')",
        "user_claim ",
    ),
    // Values that are not the same.
    ("GREATEST(tenant, 5) = 5 AND LEAST(tenant, 5) <> 5", "row_open tenant"),
    ("now()::date >= CURRENT_DATE AND CURRENT_DATE < CURRENT_TIMESTAMP", "ignores_row "),
    ("(SELECT max(1) FILTER (WHERE false) FROM (SELECT 1) s) IS NULL", "opaque |unknown "),
    (
        "(ARRAY[id, tenant])[1:2] = ARRAY[1] AND (ARRAY[id, tenant])[2:2] <> ARRAY[1]",
        "row_open id,tenant",
    ),
    (
        "(auth.jwt() -> 'app_metadata' -> 'org') IS NOT NULL AND coalesce((auth.jwt() -> \
      'app_metadata' ->> 'org')::int, tenant) = tenant",
        "open_without_identity tenant|tied tenant",
    ),
    // What is executed as the caller although a view of another owner calls it, and what writes.
    ("EXISTS (SELECT FROM app.of_caller)", "always_true "),
    (
        "set_config('request.jwt.claims', '{}', true) IS NOT NULL AND owner = auth.uid()",
        "tied owner|unknown ",
    ),
    ("app.joins(tenant)", "opaque |unknown "),
    ("ARRAY[ROW(owner)::app.wrapped] = ARRAY[ROW(auth.uid())::app.wrapped]", "opaque |unknown "),
    // What Supabase documents.
    ("tenant IN (SELECT app.tenants_of_caller())", "tied tenant"),
    (
        "tenant = ANY (ARRAY(SELECT tenant FROM app.members WHERE user_id = auth.uid()))",
        "tied tenant",
    ),
    ("(storage.foldername(path))[1] = auth.uid()::text", "tied path"),
    // Lists of the caller, and lists that contain the caller.
    ("array_position(members, auth.uid()) IS NOT NULL", "tied members"),
    ("array_position(members, auth.uid()) > 0", "tied members"),
    ("array_position(members, auth.uid()) IS NULL", "null_row_open members"),
    ("status = ANY (string_to_array(auth.jwt() ->> 'org', ','))", "tied status"),
    ("tenant = ANY (string_to_array(auth.jwt() ->> 'org', ',')::int[])", "tied tenant"),
    ("status = ANY (string_to_array(auth.jwt() ->> 'aud', ','))", "row_open status"),
    ("(auth.jwt() -> 'tenants') ? status", "tied status"),
    ("(auth.jwt() -> 'app_metadata') ? status", "opaque status"),
    ("auth.jwt() -> 'app_metadata' -> 'tenants' @> to_jsonb(status)", "tied status"),
    ("auth.jwt() -> 'user_metadata' -> 'tenants' @> to_jsonb(status)", "user_claim status"),
    ("status IN (SELECT jsonb_array_elements_text(auth.jwt() -> 'tenants'))", "tied status"),
    ("data @> jsonb_build_object('owner', auth.uid())", "tied data"),
    ("data @> jsonb_build_object(auth.uid(), 'owner')", "opaque data"),
    ("data @> jsonb_build_array('x', auth.uid())", "tied data"),
    ("data -> 'readers' ? auth.uid()::text", "tied data"),
    // Rows of both queries.
    ("tenant IN (SELECT id FROM app.tenants INTERSECT SELECT tenant FROM app.mine)", "tied tenant"),
    (
        "tenant IN (SELECT id FROM app.tenants EXCEPT SELECT tenant FROM app.mine)",
        "lookup_unbound tenant",
    ),
    // Results of functions of the caller and the row.
    ("jsonb_path_exists(data, '$.x', jsonb_build_object('u', auth.uid()))", "opaque data"),
    ("strpos(path, auth.uid()::text) > 0", "opaque path"),
    ("left(path, 36) = auth.uid()::text", "tied path"),
    ("left(path, 36) <> auth.uid()::text", "opaque path"),
    ("to_tsvector(path) @@ to_tsquery(auth.jwt() ->> 'org')", "opaque path"),
    ("jsonb_path_exists(data, '$.public')", "row_open data"),
    // Addresses.
    ("status = (SELECT email FROM auth.users WHERE id = auth.uid())", "email status"),
    ("EXISTS (SELECT FROM auth.users WHERE id = auth.uid() AND email = 'a@x.test')", "email "),
    // Operators of an extension.
    ("name = (auth.jwt() ->> 'org')::citext", "tied name"),
    ("name = auth.uid()::text::citext", "tied name"),
    ("name = 'x'::citext", "row_open name"),
    ("name > (auth.jwt() ->> 'org')::citext", "opaque name|unknown "),
    ("name ~ (auth.jwt() ->> 'org')::citext", "opaque name|unknown "),
    // What fails, or finds nothing.
    ("tenant IN (SELECT tenant FROM app.secret)", "lookup_denied "),
    ("tenant IN (SELECT tenant FROM app.hidden)", "lookup_denied "),
    ("app.off(tenant)", "lookup_denied |row_open tenant"),
    ("EXISTS (SELECT FROM app.docs d WHERE d.owner = auth.uid())", "recursion "),
    ("tenant IN (SELECT tenant FROM app.loop)", "recursion "),
];

/// Returns the answers about the policy for a role, each with the columns in it.
fn answers(client: &mut Client, role: &str) -> String {
    let sql = format!(
        "SELECT coalesce(string_agg(said, '|' ORDER BY said COLLATE \"C\"), '') FROM (
             SELECT DISTINCT answer || ' ' || coalesce(
                 substring(detail from 'caller''s by (.*)\\.$'),
                 (SELECT string_agg(DISTINCT of[1], ',') FROM
                      regexp_matches(witness::text, '\\mR\\.([a-z]+)', 'g') AS of),
                 '') AS said
             FROM ops.explain_policy('app.docs', 'p', '{role}')) AS answers"
    );
    column(client, &sql).remove(0)
}

#[test]
fn policy_is_explained_by_what_it_means() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    let mut wrong = Vec::new();
    for (condition, expected) in CONDITIONS {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        let found = answers(&mut client, "authenticated");
        if found != *expected {
            wrong.push(format!("{condition}\n    expected {expected}\n    found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn constant_for_a_missing_value_opens_rows_without_a_user() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    let no_user = "'00000000-0000-0000-0000-000000000000'";
    let own = format!("owner = coalesce(auth.uid(), {no_user})");
    let of_setting = format!(
        "owner = coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
             {no_user})::uuid"
    );
    let of_members = format!(
        "tenant IN (SELECT tenant FROM app.all_members WHERE user_id = coalesce(auth.uid(),
             {no_user}))"
    );
    let flag = "CASE WHEN auth.uid() IS NULL THEN status = 'draft' ELSE owner = auth.uid() END";
    let claim = "status = coalesce(auth.jwt() ->> 'org', 'none')";
    for (condition, role, expected) in [
        (own.as_str(), "anon", "open_without_identity owner"),
        (&own, "authenticated", "tied owner"),
        (&of_setting, "anon", "open_without_identity owner"),
        (&of_members, "anon", "open_without_identity tenant"),
        (flag, "anon", "row_open status"),
        (claim, "authenticated", "open_without_identity status|tied status"),
    ] {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        assert_eq!(answers(&mut client, role), expected, "{role}: {condition}");
    }
}

#[test]
fn contract_says_where_the_caller_comes_from() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION app.caller() RETURNS uuid LANGUAGE plpgsql STABLE
                 AS $$ DECLARE id uuid; BEGIN
                     id := current_setting('app.user', true); RETURN id; END $$",
        )
        .unwrap();
    for (condition, setting, before, after) in [
        (
            "tenant = current_setting('app.tenant')::int",
            "settings.app.tenant = tenant",
            "settable_parameter tenant",
            "tied tenant",
        ),
        (
            "owner = app.caller()",
            "functions.\"app.caller()\" = 'user'",
            "opaque owner|unknown ",
            "tied owner",
        ),
        (
            "tenant = (auth.jwt() -> 'user_metadata' ->> 'tenant')::int",
            "claims.user_metadata = trusted",
            "user_claim tenant",
            "tied tenant",
        ),
        ("path = auth.jwt() ->> 'email'", "email_verified = on", "email path", "tied path"),
    ] {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        assert_eq!(answers(&mut client, "authenticated"), before, "{condition}");
        let declaration = format!("SET contract.identity.{setting}");
        client.execute("SELECT FROM ops.declare($1, 'who it is')", &[&declaration]).unwrap();
        assert_eq!(answers(&mut client, "authenticated"), after, "{condition}");
    }
}

#[test]
fn explanation_of_a_value_with_many_branches_ends() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    let nested = format!("{}owner{}", "app.either(".repeat(40), ")".repeat(40));
    let condition = format!("ALTER POLICY p ON app.docs USING ({nested} = auth.uid())")
        .replace("owner", "coalesce(editor, owner)");
    client.batch_execute(&format!("{condition}; SET statement_timeout = '20s'")).unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "opaque |unknown ");
}

#[test]
fn role_that_row_security_does_not_apply_to_is_exempt() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client.batch_execute("ALTER POLICY p ON app.docs USING (owner = auth.uid())").unwrap();
    for (change, role, expected) in [
        ("", "authenticated", "tied owner"),
        ("ALTER ROLE authenticated BYPASSRLS", "authenticated", "exempt "),
        ("ALTER TABLE app.docs OWNER TO app_owner", "app_owner", "exempt "),
        (
            "ALTER TABLE app.docs OWNER TO app_owner; ALTER TABLE app.docs FORCE ROW LEVEL \
             SECURITY",
            "app_owner",
            "tied owner",
        ),
    ] {
        client.batch_execute(&format!("BEGIN; {change}")).unwrap();
        assert_eq!(answers(&mut client, role), expected, "{change}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn parameter_that_an_earlier_request_has_set_is_empty() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    for (condition, expected) in [
        ("path = current_setting('request.jwt.claim.sub', true)", "row_open path"),
        ("path = nullif(current_setting('request.jwt.claim.sub', true), '')", "never_true "),
        ("owner = current_setting('request.jwt.claim.sub', true)::uuid", "never_true "),
    ] {
        client.batch_execute(&format!("ALTER POLICY p ON app.docs USING ({condition})")).unwrap();
        assert_eq!(answers(&mut client, "anon"), expected, "{condition}");
    }
}

#[test]
fn no_constraint_of_a_table_holds_for_rows_of_a_foreign_child() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "ALTER POLICY p ON app.docs USING (owner IS NULL OR status NOT IN ('draft',
                 'published'))",
        )
        .unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "row_open status");
    client
        .batch_execute(
            "CREATE FOREIGN DATA WRAPPER files; CREATE SERVER files FOREIGN DATA WRAPPER files;
             CREATE FOREIGN TABLE app.old () INHERITS (app.docs) SERVER files",
        )
        .unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "null_row_open owner|row_open status");
}

#[test]
fn explaining_executes_no_code_of_the_application() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE SEQUENCE app.executed; CREATE TYPE app.pair AS (a int);
             CREATE FUNCTION app.compare(x app.pair, y app.pair) RETURNS int
                 LANGUAGE plpgsql IMMUTABLE
                 AS 'BEGIN PERFORM nextval(''app.executed''); RETURN x.a - y.a; END';
             CREATE FUNCTION app.less(x app.pair, y app.pair) RETURNS bool LANGUAGE sql
                 IMMUTABLE AS 'SELECT x.a < y.a';
             CREATE OPERATOR app.<< (LEFTARG = app.pair, RIGHTARG = app.pair,
                 FUNCTION = app.less);
             CREATE OPERATOR CLASS app.pairs FOR TYPE app.pair USING btree AS
                 OPERATOR 1 app.<<, FUNCTION 1 app.compare(app.pair, app.pair);
             CREATE TYPE app.range AS RANGE (SUBTYPE = app.pair, SUBTYPE_OPCLASS = app.pairs);
             CREATE FUNCTION app.positive(int) RETURNS bool LANGUAGE plpgsql
                 AS 'BEGIN PERFORM nextval(''app.executed''); RETURN true; END';
             CREATE DOMAIN app.checked AS int CHECK (app.positive(value));
             CREATE FUNCTION app.with_literals(of uuid) RETURNS boolean LANGUAGE sql STABLE
                 AS $$ SELECT of = auth.uid() AND '[\"(1)\",\"(2)\"]'::app.range IS NOT NULL
                     AND '{1}'::app.checked[] IS NOT NULL $$;
             ALTER POLICY p ON app.docs USING (app.with_literals(owner))",
        )
        .unwrap();
    let executed = "SELECT is_called::text || last_value FROM app.executed";
    let before = column(&mut client, executed);
    assert_eq!(answers(&mut client, "authenticated"), "opaque owner|unknown ");
    assert_eq!(column(&mut client, executed), before);
}

#[test]
fn explaining_does_not_wait_for_the_lock_of_a_table_that_a_helper_names() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE TABLE app.locked (tenant int); GRANT SELECT ON app.locked TO authenticated;
             CREATE FUNCTION app.asks_locked(of int) RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT of IN (SELECT tenant FROM app.locked)';
             CREATE FUNCTION app.asks_locked_too(of int) RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT of NOT IN (SELECT tenant FROM app.locked)';
             ALTER POLICY p ON app.docs USING (app.asks_locked(tenant)
                 OR app.asks_locked_too(tenant))",
        )
        .unwrap();
    let mut other = cluster.connect("postgres", SUPERUSER);
    other.batch_execute("BEGIN; LOCK TABLE app.locked").unwrap();
    let started = Instant::now();
    assert_eq!(answers(&mut client, "authenticated"), "opaque tenant|unknown ");
    // One text waits for a second, and no other one.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "lookup_unbound tenant");
}

#[test]
fn policy_that_does_not_exist_is_an_error_with_those_that_do() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    for (table, hint) in [("app.docs", "Valid: p."), ("app.hidden", "There is none.")] {
        let ask = format!("SELECT * FROM ops.explain_policy('{table}', 'mine')");
        let error = attempt(&mut client, &ask).unwrap_err();
        assert_eq!((error.code.as_str(), error.hint.as_str()), ("22023", hint), "{table}");
    }
}

/// Policies of the members, with the answers about the documents of tenants that the caller is a
/// member of.
const MEMBERS: &[(&str, &str)] = &[
    ("", "tied"),
    ("GRANT INSERT ON app.members TO authenticated", "tied"),
    (
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY join_any ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    (
        "GRANT INSERT (user_id, role) ON app.members TO authenticated;
         CREATE POLICY join_any ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "tied",
    ),
    (
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY join_own ON app.members FOR INSERT TO authenticated
             WITH CHECK (tenant = app.tenant_of_caller())",
        "tied",
    ),
    (
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY join_first ON app.members FOR INSERT TO authenticated
             WITH CHECK (tenant = 1 AND user_id = auth.uid())",
        "tied",
    ),
    (
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    (
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid());
         CREATE POLICY stay ON app.members AS RESTRICTIVE FOR UPDATE TO authenticated
             USING (true) WITH CHECK (tenant = app.tenant_of_caller())",
        "tied",
    ),
    (
        "GRANT INSERT ON app.invitations, app.members TO authenticated;
         CREATE POLICY invite ON app.invitations FOR INSERT TO authenticated WITH CHECK (true);
         CREATE POLICY accept ON app.members FOR INSERT TO authenticated WITH CHECK (
             EXISTS (SELECT FROM app.invitations i WHERE i.tenant = members.tenant
                 AND i.user_id = auth.uid()))",
        "lookup_writable|tied",
    ),
    // A column has other values for which a function returns the same.
    (
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY join_first ON app.members FOR INSERT TO authenticated WITH CHECK (
             user_id = auth.uid() AND left(tenant::text, 1) = app.tenant_of_caller()::text)",
        "lookup_writable|tied",
    ),
    // What a function returns that cannot be read is unknown, for the columns that it is asked for.
    (
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (app.may_move(tenant::text))",
        "tied",
    ),
    (
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (app.may_move('x'))",
        "tied",
    ),
    (
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid() AND app.may_move(role))",
        "lookup_writable|tied",
    ),
    // Who can write whose row it is takes rows of others.
    (
        "ALTER TABLE app.members DISABLE ROW LEVEL SECURITY;
         GRANT UPDATE (user_id) ON app.members TO authenticated",
        "lookup_writable|tied",
    ),
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (role = 'invited') WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid()) WITH CHECK (true)",
        "tied",
    ),
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (role = auth.uid()::text) WITH CHECK (user_id = auth.uid())",
        "tied",
    ),
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (tenant = app.tenant_of_caller()) WITH CHECK (user_id = auth.uid())",
        "tied",
    ),
    // One who is a viewer makes the row of an administrator the own one.
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         ALTER POLICY p ON app.docs USING (tenant IN (SELECT tenant FROM app.members
             WHERE user_id = auth.uid() AND role = 'admin'));
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (tenant = app.tenant_of_caller()) WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (app.may_move(role)) WITH CHECK (user_id = auth.uid())",
        "tied",
    ),
    (
        "GRANT UPDATE (user_id) ON app.members TO authenticated;
         CREATE POLICY claim ON app.members FOR UPDATE TO authenticated
             USING (auth.jwt() -> 'app_metadata' ->> 'role' = 'admin')",
        "tied",
    ),
    // Whatever the default of another column is.
    (
        "ALTER TABLE app.members ADD id int DEFAULT app.may_move('x')::int;
         GRANT INSERT (user_id, tenant, role) ON app.members TO authenticated;
         CREATE POLICY join_any ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    // The default of the type, and the next number of an identity column, are values.
    (
        "CREATE DOMAIN app.level AS text DEFAULT 'member' NOT NULL;
         ALTER TABLE app.members ADD level app.level; ALTER TABLE app.members DROP role;
         ALTER POLICY p ON app.docs USING (tenant IN (SELECT tenant FROM app.members
             WHERE user_id = auth.uid() AND level = 'member'));
         GRANT INSERT (user_id, tenant) ON app.members TO authenticated;
         CREATE POLICY join_any ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    (
        "ALTER TABLE app.members ADD rank int GENERATED ALWAYS AS IDENTITY;
         ALTER POLICY p ON app.docs USING (tenant IN (SELECT tenant FROM app.members
             WHERE user_id = auth.uid() AND rank > 0));
         GRANT INSERT (user_id, tenant) ON app.members TO authenticated;
         CREATE POLICY join_any ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    // What is open is not opened by the lookup.
    (
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY join_any ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid());
         ALTER POLICY p ON app.docs USING (public AND (status = 'draft' OR tenant IN
             (SELECT tenant FROM app.members WHERE user_id = auth.uid())) OR public)",
        "row_open|tied",
    ),
    ("ALTER TABLE app.members DISABLE ROW LEVEL SECURITY", "tied"),
    (
        "ALTER TABLE app.members DISABLE ROW LEVEL SECURITY;
         GRANT INSERT ON app.members TO authenticated",
        "lookup_writable|tied",
    ),
];

/// Other ways to rows of the members, and what is said of them.
const DETOURS: &[(&str, &str)] = &[
    ("CREATE VIEW app.v AS SELECT * FROM app.members", ""),
    (
        "CREATE VIEW app.v AS SELECT tenant AS t, user_id FROM app.members;
         GRANT INSERT ON app.v TO authenticated",
        "INSERT of tenant on app.members through view app.v, because no policy restricts that",
    ),
    (
        "CREATE VIEW app.v AS SELECT tenant AS t, user_id FROM app.members;
         GRANT INSERT (user_id) ON app.v TO authenticated",
        "",
    ),
    (
        "CREATE VIEW app.v AS SELECT * FROM app.members WHERE user_id = auth.uid()
             WITH CHECK OPTION;
         GRANT INSERT ON app.v TO authenticated",
        "INSERT of tenant on app.members through view app.v, because who passes its policies \
         chooses the value",
    ),
    (
        "CREATE VIEW app.v AS SELECT * FROM app.members WHERE tenant = app.tenant_of_caller()
             WITH CHECK OPTION;
         GRANT INSERT ON app.v TO authenticated",
        "",
    ),
    (
        "CREATE VIEW app.v WITH (security_invoker) AS SELECT * FROM app.members;
         GRANT INSERT ON app.v TO authenticated",
        "",
    ),
    (
        "CREATE VIEW app.inner_v AS SELECT * FROM app.members;
         CREATE VIEW app.v AS SELECT * FROM app.inner_v;
         GRANT UPDATE ON app.v TO authenticated",
        "UPDATE of tenant on app.members through view app.v, because no policy restricts that",
    ),
    (
        "CREATE VIEW app.v AS SELECT DISTINCT tenant AS t, user_id FROM app.members;
         CREATE RULE r AS ON INSERT TO app.v DO INSTEAD
             INSERT INTO app.members VALUES (new.user_id, new.t, 'member');
         GRANT INSERT ON app.v TO authenticated",
        "INSERT of tenant on app.members through rule r on app.v, because no policy restricts \
         that",
    ),
    (
        "CREATE VIEW app.v AS SELECT DISTINCT tenant AS t, user_id FROM app.members;
         CREATE RULE r AS ON INSERT TO app.v DO INSTEAD
             INSERT INTO app.members SELECT new.user_id, 1, 'member' FROM app.tenants;
         GRANT INSERT ON app.v TO authenticated",
        "rule r on app.v",
    ),
    (
        "CREATE TABLE app.more () INHERITS (app.members);
         GRANT INSERT ON app.more TO authenticated",
        "INSERT of tenant on app.members through table app.more, because no policy restricts \
         that",
    ),
    (
        "CREATE TABLE app.people (user_id uuid NOT NULL, tenant int NOT NULL);
         ALTER TABLE app.members INHERIT app.people;
         GRANT INSERT ON app.people TO authenticated",
        "",
    ),
    (
        "CREATE TABLE app.people (user_id uuid NOT NULL, tenant int NOT NULL);
         ALTER TABLE app.members INHERIT app.people;
         GRANT UPDATE ON app.people TO authenticated",
        "UPDATE of tenant on app.members through table app.people, because no policy restricts \
         that",
    ),
    (
        "CREATE TABLE app.teams (id int); GRANT INSERT ON app.teams TO authenticated;
         CREATE FUNCTION app.enlist() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             'BEGIN INSERT INTO app.members VALUES (auth.uid(), NEW.id, 1); RETURN NEW; END';
         CREATE TRIGGER enlist AFTER INSERT ON app.teams
             FOR EACH ROW EXECUTE FUNCTION app.enlist()",
        "trigger enlist on app.teams",
    ),
    (
        "CREATE TABLE app.teams (id int);
         CREATE FUNCTION app.enlist() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
             'BEGIN INSERT INTO app.members VALUES (auth.uid(), NEW.id, 1); RETURN NEW; END';
         CREATE TRIGGER enlist AFTER INSERT ON app.teams
             FOR EACH ROW EXECUTE FUNCTION app.enlist()",
        "",
    ),
    // A trigger writes a column for which the role has no privilege.
    (
        "CREATE FUNCTION app.fill() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW.tenant := 1; RETURN NEW; END';
         CREATE TRIGGER fill BEFORE INSERT ON app.members
             FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid());
         GRANT INSERT (user_id, role) ON app.members TO authenticated",
        "trigger fill on app.members",
    ),
    (
        "CREATE FUNCTION app.fill() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW.role := NEW.tenant; RETURN NEW; END';
         CREATE TRIGGER fill BEFORE INSERT ON app.members
             FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid());
         GRANT INSERT (user_id, role) ON app.members TO authenticated",
        "",
    ),
    (
        "CREATE FUNCTION app.fill() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW := OLD; RETURN NEW; END';
         CREATE TRIGGER fill BEFORE INSERT ON app.members
             FOR EACH ROW EXECUTE FUNCTION app.fill();
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid() AND tenant = app.tenant_of_caller());
         GRANT INSERT (user_id, role) ON app.members TO authenticated",
        "",
    ),
];

#[test]
fn lookup_that_its_reader_can_write_in_another_way_is_named() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "ALTER POLICY p ON app.docs USING (tenant IN (SELECT tenant FROM app.members
                 WHERE user_id = auth.uid()))",
        )
        .unwrap();
    for (way, expected) in DETOURS {
        client.batch_execute(&format!("BEGIN; {way}")).unwrap();
        let said = "SELECT detail FROM ops.explain_policy('app.docs', 'p', 'authenticated')
            WHERE answer IN ('lookup_writable', 'lookup_writers')";
        let said = column(&mut client, said);
        let expected = match *expected {
            "" => vec![],
            of if of.contains("because") => {
                vec![format!("The caller can make a row its own: {of}.")]
            }
            of => vec![format!("Not decided: what {of} writes into lookups.")],
        };
        assert_eq!(said, expected, "{way}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// A table of profiles of which a value is asked, with what is said of that.
const RIGHTS: &[(&str, &str, &str)] = &[
    ("", "p.plan = 'pro'", "privileged"),
    // Each profile has it.
    (
        "GRANT INSERT (id) ON app.profiles TO authenticated;
         CREATE POLICY create_own ON app.profiles FOR INSERT TO authenticated
             WITH CHECK (id = auth.uid())",
        "p.plan = 'pro'",
        "privileged",
    ),
    (
        "GRANT INSERT (id) ON app.profiles TO authenticated;
         CREATE POLICY create_own ON app.profiles FOR INSERT TO authenticated
             WITH CHECK (id = auth.uid())",
        "p.plan = 'free'",
        "lookup_writable|privileged",
    ),
    (
        "GRANT INSERT ON app.profiles TO authenticated;
         CREATE POLICY create_own ON app.profiles FOR INSERT TO authenticated
             WITH CHECK (id = auth.uid() AND plan = 'free' AND NOT is_admin)",
        "p.plan = 'free'",
        "lookup_writable|privileged",
    ),
    (
        "GRANT INSERT ON app.profiles TO authenticated;
         CREATE POLICY create_own ON app.profiles FOR INSERT TO authenticated
             WITH CHECK (id = auth.uid() AND plan = 'free' AND NOT is_admin)",
        "p.plan = 'pro'",
        "privileged",
    ),
    (
        "GRANT INSERT ON app.profiles TO authenticated;
         CREATE POLICY create_own ON app.profiles FOR INSERT TO authenticated
             WITH CHECK (id = auth.uid() AND plan = 'free' AND NOT is_admin)",
        "p.is_admin",
        "privileged",
    ),
    (
        "GRANT UPDATE ON app.profiles TO authenticated;
         CREATE POLICY update_own ON app.profiles FOR UPDATE TO authenticated
             USING (id = auth.uid()) WITH CHECK (id = auth.uid() AND plan = 'free')",
        "p.plan = 'pro'",
        "privileged",
    ),
    // Containing nothing is no right.
    ("", "p.tags @> '{}'", "lookup_uncorrelated"),
    ("", "'{}' <@ p.tags", "lookup_uncorrelated"),
    ("", "p.tags @> ARRAY[]::text[]", "lookup_uncorrelated"),
    ("", "p.tags @> '{admin}'", "privileged"),
    ("", "p.settings @> '{}'", "lookup_uncorrelated"),
];

#[test]
fn value_that_each_row_has_is_no_right() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE TABLE app.profiles (id uuid PRIMARY KEY, plan text NOT NULL DEFAULT 'free',
                 is_admin boolean NOT NULL DEFAULT false, tags text[] NOT NULL DEFAULT '{}',
                 settings jsonb);
             ALTER TABLE app.profiles ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.profiles TO authenticated;
             CREATE POLICY own ON app.profiles FOR SELECT TO authenticated
                 USING (id = auth.uid())",
        )
        .unwrap();
    for (profiles, condition, expected) in RIGHTS {
        let policy = format!(
            "ALTER POLICY p ON app.docs USING (EXISTS (SELECT FROM app.profiles p
                WHERE p.id = auth.uid() AND {condition}))"
        );
        client.batch_execute(&format!("BEGIN; {profiles}; {policy}")).unwrap();
        let said = "SELECT string_agg(DISTINCT answer, '|' ORDER BY answer)
            FROM ops.explain_policy('app.docs', 'p', 'authenticated')";
        assert_eq!(column(&mut client, said), [*expected], "{profiles} {condition}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn lookup_that_its_reader_can_write_is_named() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE TABLE app.invitations (tenant int, user_id uuid);
             ALTER TABLE app.invitations ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.invitations TO authenticated;
             CREATE POLICY own ON app.invitations FOR SELECT TO authenticated
                 USING (user_id = auth.uid());
             ALTER POLICY p ON app.docs USING (tenant IN (SELECT tenant FROM app.members
                 WHERE user_id = auth.uid()))",
        )
        .unwrap();
    for (members, expected) in MEMBERS {
        client.batch_execute(&format!("BEGIN; {members}")).unwrap();
        let said = "SELECT string_agg(DISTINCT answer, '|' ORDER BY answer)
            FROM ops.explain_policy('app.docs', 'p', 'authenticated')";
        assert_eq!(column(&mut client, said), [*expected], "{members}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// What is asked of the caller's membership, policies by which members are written, and what is
/// said of that.
const ROLES: &[(&str, &str, &str)] = &[
    // What can be written is not what is asked for.
    (
        "role IN ('owner', 'admin')",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (role = 'viewer')",
        "tied",
    ),
    (
        "role <> 'viewer'",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid() AND role = 'viewer')",
        "tied",
    ),
    (
        "level >= 5",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid() AND level < 3)",
        "tied",
    ),
    (
        "approved",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid() AND NOT approved)",
        "tied",
    ),
    (
        "approved_at IS NOT NULL",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid() AND approved_at IS NULL)",
        "tied",
    ),
    (
        "role = 'viewer'",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid() AND role = 'viewer')",
        "lookup_writable|tied",
    ),
    // Others can be enlisted, and not oneself.
    (
        "role = 'owner'",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id <> auth.uid())",
        "tied",
    ),
    // A column that cannot be written has its default, or the value that it had.
    (
        "role = 'owner'",
        "GRANT INSERT (user_id, tenant) ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "tied",
    ),
    (
        "role = 'viewer'",
        "GRANT INSERT (user_id, tenant) ON app.members TO authenticated;
         CREATE POLICY enlist ON app.members FOR INSERT TO authenticated
             WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    (
        "role = 'owner'",
        "GRANT INSERT (user_id, tenant) ON app.members TO authenticated;
         ALTER TABLE app.members DISABLE ROW LEVEL SECURITY",
        "tied",
    ),
    (
        "role = 'owner'",
        "GRANT UPDATE (tenant) ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid() AND role = 'viewer') WITH CHECK (true)",
        "tied",
    ),
    (
        "role = 'owner'",
        "GRANT UPDATE (tenant) ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid()) WITH CHECK (true)",
        "lookup_writable|tied",
    ),
    // Without USING, no row is updated.
    (
        "role = 'owner'",
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY move ON app.members FOR UPDATE TO authenticated WITH CHECK (true)",
        "tied",
    ),
    // An admin makes himself an owner, or anybody another one.
    (
        "role = 'owner'",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR INSERT TO authenticated
             WITH CHECK (app.has_role(tenant, 'admin'))",
        "lookup_writable|tied",
    ),
    (
        "role = 'owner'",
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR UPDATE TO authenticated
             USING (app.has_role(tenant, 'admin'))",
        "lookup_writable|tied",
    ),
    (
        "role = 'owner'",
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR UPDATE TO authenticated
             USING (app.has_role(tenant, 'admin'))
             WITH CHECK (app.has_role(tenant, 'admin') AND role <> 'owner')",
        "tied",
    ),
    (
        "role = 'owner'",
        "GRANT UPDATE (role) ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    // Who manages members has what is asked for.
    (
        "role IN ('owner', 'admin')",
        "GRANT INSERT, UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members TO authenticated
             USING (app.has_role(tenant, 'admin') OR app.has_role(tenant, 'owner'))",
        "tied",
    ),
    (
        "role IN ('owner', 'admin', 'viewer')",
        "GRANT INSERT, UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members TO authenticated
             USING (app.has_one(tenant, ARRAY['owner', 'admin']))",
        "tied",
    ),
    (
        "role = ANY ('{owner,admin,viewer}')",
        "GRANT INSERT, UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members TO authenticated
             USING (app.role_in(tenant) IN ('owner', 'admin'))",
        "tied",
    ),
    // An admin reads by making himself an owner.
    (
        "role IN ('owner', 'viewer')",
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members TO authenticated
             USING (app.has_one(tenant, ARRAY['owner', 'admin']))",
        "lookup_writable|tied",
    ),
    (
        "role IN ('owner', 'admin')",
        "GRANT UPDATE ON app.members TO authenticated;
         CREATE POLICY manage ON app.members TO authenticated
             USING (app.has_one(tenant, '{owner,admin,viewer}'))",
        "lookup_writable|tied",
    ),
    (
        "level >= 5",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR INSERT TO authenticated
             WITH CHECK (app.has_level(tenant, 10))",
        "tied",
    ),
    (
        "level >= 5",
        "GRANT INSERT ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR INSERT TO authenticated
             WITH CHECK (app.has_level(tenant, 3))",
        "lookup_writable|tied",
    ),
    (
        "role IN ('owner', 'admin')",
        "GRANT UPDATE (role) ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid() AND role = 'admin') WITH CHECK (user_id = auth.uid())",
        "tied",
    ),
    (
        "role = 'owner'",
        "GRANT UPDATE (role) ON app.members TO authenticated;
         CREATE POLICY manage ON app.members FOR UPDATE TO authenticated
             USING (user_id = auth.uid() AND role = 'admin') WITH CHECK (user_id = auth.uid())",
        "lookup_writable|tied",
    ),
    // By a view, columns are written that the role cannot write itself.
    (
        "role = 'owner'",
        "CREATE VIEW app.v AS SELECT * FROM app.members;
         GRANT INSERT ON app.v TO authenticated",
        "lookup_writable|tied",
    ),
    (
        "role = 'owner'",
        "CREATE VIEW app.v AS SELECT * FROM app.members WHERE role = 'viewer'
             WITH CHECK OPTION;
         GRANT INSERT, UPDATE ON app.v TO authenticated",
        "tied",
    ),
];

#[test]
fn what_is_written_is_compared_with_what_the_lookup_asks_for() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "ALTER TABLE app.members ALTER role SET DEFAULT 'viewer',
                 ADD level int NOT NULL DEFAULT 0, ADD approved boolean NOT NULL DEFAULT false,
                 ADD approved_at timestamptz, ADD id uuid NOT NULL DEFAULT gen_random_uuid();
             CREATE FUNCTION app.has_role(of int, wanted text) RETURNS boolean LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = '', pg_temp AS
                 'SELECT EXISTS (SELECT FROM app.members m WHERE m.user_id = auth.uid()
                     AND m.tenant = of AND m.role = wanted)';
             CREATE FUNCTION app.has_one(of int, wanted text[]) RETURNS boolean LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = '', pg_temp AS
                 'SELECT EXISTS (SELECT FROM app.members m WHERE m.user_id = auth.uid()
                     AND m.tenant = of AND m.role = ANY (wanted))';
             CREATE FUNCTION app.role_in(of int) RETURNS text LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = '', pg_temp AS
                 'SELECT m.role FROM app.members m WHERE m.user_id = auth.uid()
                     AND m.tenant = of';
             CREATE FUNCTION app.has_level(of int, wanted int) RETURNS boolean LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = '', pg_temp AS
                 'SELECT EXISTS (SELECT FROM app.members m WHERE m.user_id = auth.uid()
                     AND m.tenant = of AND m.level >= wanted)'",
        )
        .unwrap();
    for (asked, members, expected) in ROLES {
        let policy = format!(
            "ALTER POLICY p ON app.docs USING (EXISTS (SELECT FROM app.members m
                WHERE m.user_id = auth.uid() AND m.tenant = docs.tenant AND m.{asked}))"
        );
        client.batch_execute(&format!("BEGIN; {members}; {policy}")).unwrap();
        let said = "SELECT string_agg(DISTINCT answer, '|' ORDER BY answer)
            FROM ops.explain_policy('app.docs', 'p', 'authenticated')";
        assert_eq!(column(&mut client, said), [*expected], "{asked} {members}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn writers_are_compared_with_readers_of_what_belongs_to_another_row() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION app.role_in(of int) RETURNS text LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = '', pg_temp AS
                 'SELECT m.role FROM app.members m WHERE m.user_id = auth.uid()
                     AND m.tenant = of';
             CREATE TABLE app.positions (id int PRIMARY KEY, tenant int NOT NULL,
                 is_open boolean NOT NULL);
             ALTER TABLE app.positions ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.positions TO authenticated;
             CREATE POLICY read ON app.positions TO authenticated USING (is_open);
             CREATE TABLE app.applications (id int PRIMARY KEY, position int NOT NULL);
             ALTER TABLE app.applications ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON app.applications TO authenticated;
             GRANT UPDATE ON app.members TO authenticated;
             CREATE POLICY manage ON app.members FOR UPDATE TO authenticated
                 USING (app.role_in(tenant) IN ('owner', 'captain'));
             CREATE POLICY read ON app.applications TO authenticated USING (false)",
        )
        .unwrap();
    let readers = [
        ("'owner', 'captain', 'manager'", "tied"),
        // A captain makes himself one of them.
        ("'owner', 'manager'", "lookup_writable|tied"),
    ];
    for (roles, expected) in readers {
        client
            .batch_execute(&format!(
                "ALTER POLICY read ON app.applications USING (app.role_in((SELECT p.tenant
                     FROM app.positions p WHERE p.id = position)) IN ({roles}))"
            ))
            .unwrap();
        let said = "SELECT string_agg(DISTINCT answer, '|' ORDER BY answer)
            FROM ops.explain_policy('app.applications', 'read', 'authenticated')";
        assert_eq!(column(&mut client, said), [expected], "{roles}");
    }
}

#[test]
fn function_in_a_helper_is_captured_by_who_can_create_one() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client.batch_execute(APPLICATION).unwrap();
    client.batch_execute("ALTER POLICY p ON app.docs USING (app.calls(tenant))").unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "tied tenant");
    client.batch_execute("GRANT CREATE ON SCHEMA app TO authenticated").unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "helper_path |tied tenant");
    client
        .batch_execute(
            "REVOKE CREATE ON SCHEMA app FROM authenticated;
             GRANT CREATE ON DATABASE postgres TO authenticated",
        )
        .unwrap();
    assert_eq!(answers(&mut client, "authenticated"), "helper_path |tied tenant");
}
