//! Permission denied, section 10 of the contract document: `ops.explain_access()` names the
//! condition that fails, and its verdict agrees with what the server does.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::mutate::{PREPARATION, Random, mutation};
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;

fn links(client: &mut Client, arguments: &str) -> Vec<String> {
    let sql = format!(
        "SELECT CASE WHEN ok THEN 'ok' WHEN NOT ok THEN 'NO' ELSE '--' END || ' ' || step || ': ' \
         || detail || coalesce(' => ' || fix, '')
           FROM ops.explain_access({arguments}) ORDER BY link"
    );
    column(client, &sql)
}

/// The two questions of the document.
#[test]
fn explain_access_names_the_failing_condition() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; REVOKE USAGE ON SCHEMA public FROM PUBLIC, anon",
        )
        .unwrap();
    assert_eq!(
        links(&mut client, "'anon', 'public.v_plaintiffs_overview'"),
        [
            "ok role anon: Role \"anon\" exists.",
            "ok SET ROLE anon: Role \"authenticator\" can become \"anon\".",
            "NO USAGE on schema public: Role \"anon\" does not have USAGE: objects in schema \
             public cannot be accessed. => GRANT USAGE ON SCHEMA public TO anon;",
            "ok SELECT on view public.v_plaintiffs_overview: Role \"anon\" has SELECT, granted to \
             it.",
            "ok SELECT on table public.plaintiffs, as \"postgres\", the owner of the view: \
             Role \"postgres\" has SELECT, as its owner, inherited \
             from \"authenticated\" and inherited from \"service_role\".",
            "ok row security of table public.plaintiffs: Row security is enabled, but \
             role \"postgres\" has BYPASSRLS.",
            "NO verdict: Denied: permission denied for schema public. => GRANT USAGE ON SCHEMA \
             public TO anon;",
            "NO contract: Access should be allowed: SELECT is declared for role \"anon\". => \
             SELECT * FROM ops.golden_sql(schemas => ARRAY['public']::name[]);",
        ]
    );
    client.batch_execute("GRANT USAGE ON SCHEMA public TO anon").unwrap();
    let verdict = |client: &mut Client, arguments: &str| {
        links(client, arguments).into_iter().find(|l| l.contains(" verdict: ")).unwrap_or_default()
    };
    assert_eq!(
        verdict(&mut client, "'anon', 'public.v_plaintiffs_overview'"),
        "ok verdict: Allowed."
    );
    // A column, a function, a sequence, a schema; a sequence on which the worker has no privilege.
    assert_eq!(
        verdict(&mut client, "'anon', 'public.judgments(amount)'"),
        "NO verdict: Denied: permission denied for table judgments."
    );
    assert_eq!(
        links(&mut client, "'anon', 'public.judgments(amount)'")[3],
        "NO SELECT on table public.judgments: Role \"anon\" does not have SELECT on column amount. \
         The contract does not declare it: run SELECT * FROM ops.declare('GRANT SELECT (amount) ON \
         TABLE public.judgments TO anon', note => '...')."
    );
    // What a body that is text may do is known only when it runs.
    for routine in ["api.queue_job", "api.queue_job(text, jsonb)"] {
        assert_eq!(
            verdict(&mut client, &format!("'anon', '{routine}'")),
            "ok verdict: Allowed. The body is text, which is checked only when it runs."
        );
    }
    assert_eq!(
        verdict(&mut client, "'anon', 'function ops.complete_outbox_message(uuid)'"),
        "NO verdict: Denied: permission denied for schema ops."
    );
    assert_eq!(
        verdict(&mut client, "'service_role', 'public.job_queue_id_seq'"),
        "ok verdict: Allowed."
    );
    assert_eq!(
        verdict(&mut client, "'anon', 'enforcement', 'USAGE'"),
        "NO verdict: Denied: permission denied for schema enforcement."
    );
    client
        .batch_execute(
            "REVOKE USAGE ON SEQUENCE public.job_queue_id_seq FROM service_role; \
                          REVOKE UPDATE ON SEQUENCE public.job_queue_id_seq FROM \
                          service_role",
        )
        .unwrap();
    assert_eq!(
        verdict(&mut client, "'service_role', 'public.job_queue', 'INSERT'"),
        "NO verdict: Denied: permission denied for sequence job_queue_id_seq. => GRANT USAGE ON \
         SEQUENCE public.job_queue_id_seq TO service_role;"
    );
}

/// What the body of a BEGIN ATOMIC routine reads, writes and calls is known: the verdict is that of
/// the call, and the fixes of the doctor let every declared call pass that the contract permits.
#[test]
fn verdict_covers_what_parsed_bodies_use() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE reader; CREATE ROLE maker;
             CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO reader, maker;
             CREATE TABLE s.base (x int, y int); INSERT INTO s.base VALUES (1, 2);
             CREATE TABLE s.log (id serial, x int);
             CREATE VIEW s.own AS SELECT x FROM s.base;
             CREATE VIEW s.invoker WITH (security_invoker) AS SELECT x FROM s.base;
             GRANT SELECT ON s.own, s.invoker TO reader;
             CREATE FUNCTION s.hidden() RETURNS int LANGUAGE sql RETURN 1;
             REVOKE EXECUTE ON FUNCTION s.hidden() FROM PUBLIC;
             CREATE FUNCTION s.counts() RETURNS bigint LANGUAGE sql
               RETURN (SELECT count(*) FROM s.base);
             CREATE FUNCTION s.reads() RETURNS int LANGUAGE sql
               BEGIN ATOMIC SELECT x FROM s.own; SELECT y FROM s.base; END;
             CREATE FUNCTION s.nested() RETURNS int LANGUAGE sql RETURN s.reads();
             CREATE FUNCTION s.by_own() RETURNS int LANGUAGE sql RETURN (SELECT x FROM s.own);
             CREATE FUNCTION s.by_invoker() RETURNS int LANGUAGE sql
               RETURN (SELECT x FROM s.invoker);
             CREATE FUNCTION s.row() RETURNS boolean LANGUAGE sql
               RETURN (SELECT b IS NOT NULL FROM s.base b);
             CREATE FUNCTION s.writes() RETURNS void LANGUAGE sql
               BEGIN ATOMIC INSERT INTO s.log (x) VALUES (1); END;
             CREATE FUNCTION s.omits(a int DEFAULT s.hidden()) RETURNS int LANGUAGE sql RETURN a;
             CREATE FUNCTION s.calls_omits() RETURNS int LANGUAGE sql RETURN s.omits();
             CREATE FUNCTION s.gives() RETURNS int LANGUAGE sql RETURN s.omits(a => 2);
             CREATE FUNCTION s.definer() RETURNS int LANGUAGE sql SECURITY DEFINER
               SET search_path = pg_catalog, pg_temp RETURN (SELECT y FROM s.base);
             ALTER FUNCTION s.definer() OWNER TO maker;
             CREATE TABLE s.guarded AS SELECT 1 AS id;
             ALTER TABLE s.guarded ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON s.guarded FOR SELECT TO reader USING (s.reads() > 0);
             GRANT SELECT ON s.guarded TO reader;
             -- Inference declares only what works. What is declared may also fail.
             CREATE TABLE inferred AS
             SELECT ops.infer_contract('{s}', 'as_is') || jsonb_build_object(
               'version', '1.0.1',
               'functions', (SELECT jsonb_agg(jsonb_build_object(
                   'schema', 's', 'name', proname, 'arguments', oidvectortypes(proargtypes),
                   'execute', ARRAY['reader']))
                 FROM pg_proc WHERE pronamespace = 's'::regnamespace AND proname <> 'hidden'),
               'views', '[{\"schema\": \"s\", \"name\": \"own\",
                          \"grants\": {\"reader\": [\"SELECT\"]}},
                         {\"schema\": \"s\", \"name\": \"invoker\",
                          \"grants\": {\"reader\": [\"SELECT\"]}}]'::jsonb,
               'tables', '[{\"schema\": \"s\", \"name\": \"base\"},
                          {\"schema\": \"s\", \"name\": \"log\"},
                          {\"schema\": \"s\", \"name\": \"guarded\", \"row_security\": true,
                           \"grants\": {\"reader\": [\"SELECT\"]},
                           \"policies\": {\"reader\": [\"SELECT\"]}}]'::jsonb) AS c;
             SELECT ops.load_contract(c) FROM inferred;",
        )
        .unwrap();
    let compare = |client: &mut Client| {
        let mut denied = Vec::new();
        for call in [
            "counts",
            "reads",
            "nested",
            "by_own",
            "by_invoker",
            "row",
            "writes",
            "calls_omits",
            "gives",
            "definer",
            "guarded",
        ] {
            let is_table = call == "guarded";
            let object = if is_table { "s.guarded".into() } else { format!("s.{call}()") };
            let sql = if is_table { "TABLE s.guarded".into() } else { format!("SELECT {object}") };
            let question = format!("'reader', '{object}'");
            let verdict = links(client, &question)
                .into_iter()
                .find_map(|link| link.split_once(" verdict: ").map(|(_, detail)| detail.to_owned()))
                .unwrap();
            let verdict = verdict.split(" => ").next().unwrap().to_owned();
            client.batch_execute("SET ROLE reader").unwrap();
            let outcome = match attempt(client, &sql) {
                Ok(()) => "Allowed.".to_owned(),
                Err(error) => format!("Denied: {}.", error.message),
            };
            client.batch_execute("RESET ROLE").unwrap();
            let is_limited = verdict.starts_with("Allowed. The rows are limited by policies");
            assert!(
                verdict == outcome || is_limited && outcome == "Allowed.",
                "{object}: {verdict}"
            );
            denied.extend((outcome != "Allowed.").then_some(call));
        }
        denied
    };
    assert_eq!(
        compare(&mut client),
        [
            "counts",
            "reads",
            "nested",
            "by_invoker",
            "row",
            "writes",
            "calls_omits",
            "definer",
            "guarded"
        ]
    );
    let defaults = links(&mut client, "'reader', 's.omits(int)'");
    assert!(
        defaults.iter().any(|link| link
            == "ok verdict: Allowed. A call without the arguments that have defaults is denied: \
                permission denied for function hidden."),
        "{defaults:?}"
    );
    // The guard accepts the fixes of the doctor: it offers none that the contract does not permit.
    client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    let fixes = "SELECT DISTINCT fix FROM ops.doctor() WHERE NOT ok AND fix LIKE 'GRANT % ON %'";
    for fix in column(&mut client, fixes) {
        attempt(&mut client, &fix).unwrap_or_else(|error| panic!("{fix}: {error:?}"));
    }
    assert_eq!(compare(&mut client), ["writes"]);
    assert_eq!(
        column(
            &mut client,
            "SELECT detail FROM ops.audit_security(min_severity => 'error')
             WHERE role_name = 'reader'"
        ),
        [""; 0]
    );
}

/// A routine with the name of a table, types by all of their names, names of arguments.
#[test]
fn explain_access_accepts_names_as_users_write_them() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE TYPE api.\"Kind (1)\" AS ENUM ('a'); CREATE \
             TABLE api.total (id int, amount numeric);
             CREATE FUNCTION api.total(api.\"Kind (1)\", amount numeric, at timestamptz[]) RETURNS \
             int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION api.sums(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION \
             api.sums(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE api.n (a int);
             CREATE FUNCTION api.n() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        )
        .unwrap();
    let mut looked_at = |object: &str| {
        links(&mut client, &format!("'anon', '{object}'"))[3].split(": ").next().unwrap()[3..]
            .to_owned()
    };
    let total =
        "EXECUTE on function api.total(api.\"Kind (1)\", numeric, timestamp with time zone[])";
    for (object, found) in [
        ("api.total", "SELECT on table api.total"),
        ("table api.total", "SELECT on table api.total"),
        ("api.total(id, amount)", "SELECT on table api.total"),
        ("api.total(\"Kind (1)\", numeric, timestamptz[])", total),
        (
            "api.total(k api.\"Kind (1)\", amount numeric(12,2), at timestamp(3) with time zone[])",
            total,
        ),
        ("function api.sums(int4)", "EXECUTE on function api.sums(integer)"),
        ("api.sums(a varchar)", "object"),
        ("api.n", "SELECT on table api.n"),
        ("api.n(a)", "SELECT on table api.n"),
        ("api.n()", "EXECUTE on function api.n()"),
    ] {
        assert!(looked_at(object).starts_with(found), "{object}: {}", looked_at(object));
    }
    let error =
        attempt(&mut client, "SELECT * FROM ops.explain_access('anon', 'api.sums')").unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.hint.as_str()),
        ("42725", "Specify one of sums(integer) and sums(text).")
    );
    let error =
        attempt(&mut client, "SELECT * FROM ops.explain_access('anon', 'public.judgments(nope)')")
            .unwrap_err();
    assert_eq!(error.message, "unrecognized column \"nope\"");
    assert_eq!(error.code, "22023");
    attempt(&mut client, "CREATE TABLE api.bare ()").unwrap();
    let error = attempt(&mut client, "SELECT * FROM ops.explain_access('anon', 'api.bare.a')");
    assert_eq!(error.unwrap_err().hint, "There is none.");
}

/// The server does not evaluate the columns of a view that a statement does not read.
#[test]
fn verdict_ignores_columns_that_are_not_read() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE TABLE public.inbox AS SELECT 1 AS id;
             CREATE FUNCTION public.secret(int) RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN \
             RETURN $1; END';
             CREATE FUNCTION public.chance(int) RETURNS int VOLATILE LANGUAGE plpgsql AS 'BEGIN \
             RETURN $1; END';
             REVOKE EXECUTE ON FUNCTION public.secret(int), public.chance(int) FROM PUBLIC; GRANT \
             USAGE ON SCHEMA public TO anon;
             CREATE VIEW public.v_plain AS SELECT id, public.secret(id) AS s, id + 1 AS n FROM \
             public.inbox;
             CREATE VIEW public.v_over AS SELECT id, s + 1 AS s, n FROM public.v_plain WHERE n > 0;
             CREATE VIEW public.v_using AS SELECT id, s FROM public.v_plain FULL JOIN \
             public.v_over USING (s, id);
             CREATE VIEW public.v_counts AS SELECT id, max(public.secret(id)) AS s FROM \
             public.inbox GROUP BY id;
             CREATE VIEW public.v_distinct AS SELECT DISTINCT id, public.secret(id) AS s FROM \
             public.inbox;
             CREATE VIEW public.v_sorted AS SELECT id, public.secret(id) AS s FROM public.inbox \
             ORDER BY s;
             CREATE VIEW public.v_chance AS SELECT id, public.chance(id) AS s FROM public.inbox;
             CREATE VIEW public.v_lateral AS SELECT v.id, l.s FROM public.v_plain v, LATERAL \
             (SELECT v.s) l;
             CREATE VIEW public.v_row AS SELECT id, to_jsonb(v) AS s FROM public.v_plain v;
             GRANT SELECT ON public.v_plain, public.v_over, public.v_using, public.v_counts, \
             public.v_distinct, public.v_sorted, public.v_chance,
               public.v_lateral, public.v_row TO anon",
        )
        .unwrap();
    let views = [
        "v_plain",
        "v_over",
        "v_using",
        "v_counts",
        "v_distinct",
        "v_sorted",
        "v_chance",
        "v_lateral",
        "v_row",
    ];
    let mut open = Vec::new();
    for (view, name) in views.iter().flat_map(|view| [(view, "id"), (view, "s")]) {
        let sql = format!(
            "SELECT ok::text FROM ops.explain_access('anon', 'public.{view}.{name}') WHERE step = \
             'verdict'"
        );
        let is_allowed = column(&mut client, &sql) == ["true"];
        client.batch_execute("SET ROLE anon").unwrap();
        let result = client.simple_query(&format!("SELECT {name} FROM public.{view}"));
        client.batch_execute("RESET ROLE").unwrap();
        assert_eq!(is_allowed, result.is_ok(), "{view}.{name}: {result:?}");
        open.extend(is_allowed.then(|| format!("{view}.{name}")));
    }
    assert_eq!(open, ["v_plain.id", "v_over.id", "v_counts.id", "v_lateral.id", "v_row.id"]);
}

/// Cases that reviews have found: statements that prepare the case, the object, the statement that
/// is executed, and its outcome (`t`: allowed; `f`: denied; `-`: no row; `p`: denied, and only a
/// policy allows it; `f-`: denied in PostgreSQL 15 only).
const CASES: [(&str, &str, &str, &str); 60] = [
    // Every part of a UNION is evaluated.
    ("CREATE VIEW w.a AS SELECT 0 AS id UNION SELECT w.sec(id) FROM \
      w.i", "w.a", "SELECT * FROM w.a", "f"),
    ("CREATE VIEW w.a AS SELECT 0 AS id UNION ALL SELECT w.sec(id) FROM \
      w.i", "w.a", "SELECT * FROM w.a", "f"),
    (
        "CREATE VIEW w.a WITH (security_invoker) AS SELECT 0 id UNION ALL SELECT (SELECT x FROM \
         w.hid LIMIT 1) FROM w.i",
        "w.a",
        "SELECT * FROM w.a",
        "f",
    ),
    // Tables that inherit have their own constraints and triggers.
    ("CREATE TABLE w.a (id int); CREATE TABLE w.b (CHECK (w.imm(id) = 1)) INHERITS (w.a); INSERT \
      INTO w.b VALUES (1)", "w.a", "UPDATE w.a SET id = DEFAULT", "f"),
    (
        "CREATE TABLE w.a (id int); CREATE TABLE w.b () INHERITS (w.a); INSERT INTO w.b VALUES (1);
         CREATE TRIGGER t BEFORE DELETE ON w.b FOR EACH ROW WHEN (w.imm(OLD.id) = 1) EXECUTE \
         FUNCTION w.noth()",
        "w.a",
        "DELETE FROM w.a",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int); CREATE TABLE w.b () INHERITS (w.a);
         CREATE TRIGGER t BEFORE TRUNCATE ON w.b WHEN (w.imm(1) = 1) EXECUTE FUNCTION w.noth()",
        "w.a",
        "TRUNCATE w.a",
        "f",
    ),
    // Windows and aggregates of several arguments call comparison functions.
    ("CREATE VIEW w.a AS SELECT row_number() OVER (PARTITION BY address) FROM \
      w.m", "w.a", "SELECT * FROM w.a", "f"),
    ("CREATE VIEW w.a AS SELECT row_number() OVER (ORDER BY address) FROM \
      w.m", "w.a", "SELECT * FROM w.a", "f"),
    // Generated columns: beside triggers, and what depends on them.
    (
        "CREATE TABLE w.a (id int, x int, gen int GENERATED ALWAYS AS (w.imm(id)) STORED); INSERT \
         INTO w.a VALUES (1);
         CREATE TRIGGER t BEFORE UPDATE OF id ON w.a FOR EACH ROW EXECUTE FUNCTION w.noth()",
        "w.a(x)",
        "UPDATE w.a SET x = DEFAULT",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, x int, gen int GENERATED ALWAYS AS (w.imm(id)) STORED); INSERT \
         INTO w.a VALUES (1)",
        "w.a(x)",
        "UPDATE w.a SET x = DEFAULT",
        "t",
    ),
    (
        "CREATE TABLE w.a (id int, gen int GENERATED ALWAYS AS (id + 1) STORED); INSERT INTO w.a \
         VALUES (1);
         CREATE TRIGGER t BEFORE UPDATE OF gen ON w.a FOR EACH ROW WHEN (w.imm(1) = 1) EXECUTE \
         FUNCTION w.noth()",
        "w.a(id)",
        "UPDATE w.a SET id = DEFAULT",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, gen int GENERATED ALWAYS AS (coalesce(id, 7) + 1) STORED); \
         INSERT INTO w.a VALUES (1); CREATE INDEX ON w.a (w.imm(gen))",
        "w.a(id)",
        "UPDATE w.a SET id = DEFAULT",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, gen int GENERATED ALWAYS AS (w.imm(id)) STORED); ALTER TABLE \
         w.a ENABLE ROW LEVEL SECURITY",
        "w.a(id)",
        "UPDATE w.a SET id = DEFAULT",
        "f-",
    ),
    // Sequences that are named by a text.
    ("CREATE TABLE w.a (id int DEFAULT \
      nextval('w.sq'::varchar))", "w.a", "INSERT INTO w.a DEFAULT VALUES", "f"),
    ("CREATE TABLE w.a (id int DEFAULT \
      nextval('app.w.sq'::text))", "w.a", "INSERT INTO w.a DEFAULT VALUES", "f"),
    // Rules that write to other tables, and rules with utility statements.
    (
        "CREATE TABLE w.k (id int PRIMARY KEY, x int); INSERT INTO w.k VALUES (1, 1);
         CREATE TRIGGER t BEFORE UPDATE ON w.k FOR EACH ROW WHEN (w.imm(1) = 1) EXECUTE FUNCTION \
         w.noth(); CREATE VIEW w.a AS SELECT 1 AS id;
         CREATE RULE r AS ON INSERT TO w.a DO INSTEAD INSERT INTO w.k VALUES (1, 1) ON CONFLICT \
         (id) DO UPDATE SET x = 2",
        "w.a",
        "INSERT INTO w.a DEFAULT VALUES",
        "f",
    ),
    ("CREATE TABLE w.a (id int); CREATE RULE r AS ON INSERT TO w.a DO INSTEAD NOTIFY \
      x", "w.a", "INSERT INTO w.a DEFAULT VALUES", "t"),
    // Conditions that a constant decides do not call the other functions in them.
    (
        "CREATE TABLE w.a AS SELECT 1 AS id; ALTER TABLE w.a ENABLE ROW LEVEL SECURITY;
         CREATE POLICY a ON w.a USING (true); CREATE POLICY b ON w.a USING (w.sec(id) = 1)",
        "w.a",
        "SELECT * FROM w.a",
        "t",
    ),
    ("CREATE VIEW w.a AS SELECT * FROM w.i WHERE true OR w.sec(id) = \
      1", "w.a", "SELECT * FROM w.a", "t"),
    ("CREATE VIEW w.a AS SELECT * FROM w.i WHERE true AND w.sec(id) = \
      1", "w.a", "SELECT * FROM w.a", "f"),
    ("CREATE VIEW w.a AS SELECT coalesce(1, w.sec(id)) FROM w.i", "w.a", "SELECT * FROM w.a", "t"),
    ("CREATE VIEW w.a WITH (security_invoker) AS SELECT * FROM w.i WHERE true OR EXISTS (SELECT \
      FROM w.hid)", "w.a", "SELECT * FROM w.a", "t"),
    ("CREATE TABLE w.a (id int DEFAULT CASE WHEN false THEN nextval('w.sq') \
      END)", "w.a", "INSERT INTO w.a DEFAULT VALUES", "t"),
    // WITH queries and columns that are not read are not evaluated.
    ("CREATE VIEW w.a WITH (security_invoker) AS WITH c AS (SELECT * FROM w.hid) SELECT \
      1", "w.a", "SELECT * FROM w.a", "t"),
    (
        "CREATE VIEW w.a AS SELECT * FROM w.i WHERE id IN (SELECT p.id FROM (SELECT id, w.sec(id) \
         s FROM w.i) p)",
        "w.a",
        "SELECT * FROM w.a",
        "t",
    ),
    ("CREATE VIEW w.a AS SELECT * FROM w.i WHERE EXISTS (SELECT w.sec(b.id) FROM w.i b WHERE b.id \
      = i.id)", "w.a", "SELECT * FROM w.a", "t"),
    // Which tables decide whether the statement has rows.
    (
        "CREATE TABLE w.a AS SELECT 1 AS id; ALTER TABLE w.a ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON w.a FOR DELETE USING (NOT EXISTS (SELECT FROM w.a))",
        "w.a",
        "DELETE FROM w.a",
        "t",
    ),
    (
        "CREATE TABLE w.l (id int); ALTER TABLE w.l ENABLE ROW LEVEL SECURITY; GRANT ALL ON w.l TO \
         PUBLIC; CREATE TABLE w.a AS SELECT 1 AS id;
         CREATE RULE r AS ON DELETE TO w.a DO ALSO DELETE FROM w.l",
        "w.a",
        "DELETE FROM w.a",
        "t",
    ),
    (
        "CREATE TABLE w.r (id int, x int); INSERT INTO w.r VALUES (1, 1); ALTER TABLE w.r ENABLE \
         ROW LEVEL SECURITY;
         CREATE POLICY p ON w.r FOR UPDATE USING (true); GRANT ALL ON w.r TO mallory; CREATE TABLE \
         w.a AS SELECT 1 AS id; ALTER TABLE w.a OWNER TO mallory;
         CREATE RULE u AS ON UPDATE TO w.a DO INSTEAD UPDATE w.r SET x = 5 WHERE id = OLD.id",
        "w.a",
        "UPDATE w.a SET id = DEFAULT",
        "-",
    ),
    ("CREATE TABLE w.a AS SELECT 1 AS id; ALTER TABLE w.a ENABLE ROW LEVEL \
      SECURITY", "w.a", "DELETE FROM w.a", "-"),
    // Questions about aggregates and about functions with domains.
    ("CREATE AGGREGATE w.a (int) (SFUNC = w.either, STYPE = int); ALTER AGGREGATE w.a (int) OWNER \
      TO mallory", "function w.a(int)", "SELECT w.a(NULL::int)", "f"),
    ("CREATE DOMAIN w.d AS int CHECK (w.imm(VALUE) = 1); CREATE FUNCTION w.a(w.d) RETURNS int \
      LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "w.a(d)", "SELECT w.a(NULL)", "f"),
    ("CREATE DOMAIN w.d AS int CHECK (w.imm(VALUE) = 1); CREATE VIEW w.a AS SELECT ('{' || id || \
      '}')::w.d[] FROM w.i", "w.a", "SELECT * FROM w.a", "f"),
    // Partitions of partitions.
    (
        "CREATE TABLE w.t (id int) PARTITION BY LIST (id); CREATE TABLE w.a PARTITION OF w.t \
         DEFAULT PARTITION BY LIST (w.imm(id));
         CREATE TABLE w.b PARTITION OF w.a FOR VALUES IN (1); INSERT INTO w.t VALUES (1)",
        "w.a",
        "UPDATE w.a SET id = DEFAULT",
        "f",
    ),
    // Tables that are read beside changed or locked rows are read with all columns.
    (
        "CREATE VIEW w.v AS SELECT id, max(w.sec(id)) s FROM w.i GROUP BY id; CREATE VIEW w.a AS \
         SELECT j.id FROM w.j WHERE j.id IN (SELECT id FROM w.v)",
        "w.a",
        "DELETE FROM w.a",
        "f",
    ),
    (
        "CREATE VIEW w.v AS SELECT id, max(w.sec(id)) s FROM w.i GROUP BY id; CREATE VIEW w.a AS \
         SELECT j.id FROM w.j JOIN w.v USING (id) FOR SHARE OF j",
        "w.a",
        "SELECT * FROM w.a",
        "f",
    ),
    (
        "CREATE VIEW w.v AS SELECT id, max(w.sec(id)) s FROM w.i GROUP BY id; CREATE VIEW w.a AS \
         SELECT j.id FROM w.j WHERE j.id IN (SELECT id FROM w.v)",
        "w.a",
        "SELECT * FROM w.a",
        "t",
    ),
    // Tables that are joined before a constant decides the condition stay; the parts of a trigger's
    // condition are not simplified together.
    (
        "CREATE VIEW w.a WITH (security_invoker) AS SELECT id FROM w.i WHERE false AND id IN \
         (SELECT x FROM w.hid)",
        "w.a",
        "SELECT * FROM w.a",
        "f",
    ),
    (
        "CREATE TABLE w.a AS SELECT 1 id; CREATE TRIGGER t BEFORE DELETE ON w.a FOR EACH ROW WHEN \
         (false AND w.imm(OLD.id) = 1) EXECUTE FUNCTION w.noth()",
        "w.a",
        "DELETE FROM w.a",
        "f",
    ),
    // Generated columns of children, and beside any trigger; a table that is changed twice.
    (
        "CREATE TABLE w.a (id int, n int); CREATE TABLE w.b (g int GENERATED ALWAYS AS (id + 1) \
         STORED) INHERITS (w.a); INSERT INTO w.b VALUES (1, 1);
         CREATE INDEX ON w.b (w.imm(g))",
        "w.a(id)",
        "UPDATE w.a SET id = DEFAULT",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, x int, g int GENERATED ALWAYS AS (id + 1) STORED); INSERT INTO \
         w.a VALUES (1, 1);
         CREATE TRIGGER t BEFORE UPDATE OF g ON w.a FOR EACH ROW WHEN (w.imm(1) = 1) EXECUTE \
         FUNCTION w.noth()",
        "w.a(x)",
        "UPDATE w.a SET x = DEFAULT",
        "f",
    ),
    (
        "CREATE TABLE w.k (id int, x int, n int); INSERT INTO w.k VALUES (1, 1, 1); CREATE INDEX \
         ON w.k (w.imm(n)); CREATE TABLE w.a AS SELECT 1 id;
         CREATE RULE r1 AS ON UPDATE TO w.a DO ALSO UPDATE w.k SET x = 5; CREATE RULE r2 AS ON \
         UPDATE TO w.a DO ALSO UPDATE w.k SET n = 5",
        "w.a(id)",
        "UPDATE w.a SET id = DEFAULT",
        "f",
    ),
    // A row that is inserted in any case; the indexes that TRUNCATE rebuilds.
    (
        "CREATE TABLE w.l (id int); ALTER TABLE w.l ENABLE ROW LEVEL SECURITY; GRANT ALL ON w.l TO \
         mallory, anon; CREATE TABLE w.a AS SELECT 1 id;
         CREATE RULE r AS ON INSERT TO w.a DO ALSO INSERT INTO w.l VALUES (1); ALTER TABLE w.a \
         OWNER TO mallory",
        "w.a",
        "INSERT INTO w.a DEFAULT VALUES",
        "p",
    ),
    (
        "CREATE TABLE w.a AS SELECT 1 id; CREATE INDEX ON w.a (id) WHERE w.imm(id) = 1; ALTER \
         TABLE w.a OWNER TO mallory",
        "w.a",
        "TRUNCATE w.a",
        "f",
    ),
    // An UPDATE evaluates no default; an INSERT evaluates those of the columns that it omits.
    (
        "CREATE TABLE w.a (id int, t int DEFAULT w.sec(1)); INSERT INTO w.a VALUES (1, 1)",
        "w.a",
        "UPDATE w.a SET id = 2, t = 3",
        "t",
    ),
    ("CREATE TABLE w.a (id int, t int DEFAULT w.sec(1))", "w.a(id)", "INSERT INTO w.a (id) VALUES \
      (1)", "f"),
    ("CREATE TABLE w.a (id int DEFAULT w.sec(1), t int)", "w.a(id)", "INSERT INTO w.a (id) VALUES \
      (1)", "t"),
    ("CREATE TABLE w.a (id serial, t int)", "w.a", "INSERT INTO w.a (t) VALUES (1)", "f"),
    ("CREATE TABLE w.a (id int GENERATED ALWAYS AS IDENTITY, t int)", "w.a", "INSERT INTO w.a (t) \
      VALUES (1)", "t"),
    ("CREATE TABLE w.a (id int, g int GENERATED ALWAYS AS (w.imm(id)) STORED)", "w.a", "INSERT \
      INTO w.a (id) VALUES (1)", "f"),
    (
        "CREATE TABLE w.a (id int GENERATED ALWAYS AS IDENTITY, t int, g int GENERATED ALWAYS AS \
         (t + 1) STORED); INSERT INTO w.a (t) VALUES (1)",
        "w.a",
        "UPDATE w.a SET t = 2",
        "t",
    ),
    ("CREATE DOMAIN w.d AS int CHECK (w.imm(VALUE) = 1); CREATE TABLE w.a (id int, t w.d); INSERT \
      INTO w.a VALUES (1)", "w.a", "UPDATE w.a SET t = 1", "f"),
    // Of a view, the columns that can be updated; the sequence of a table behind it as the caller.
    (
        "CREATE TABLE w.b (id int, t text, g int GENERATED ALWAYS AS (id + 1) STORED); INSERT INTO \
         w.b VALUES (1); CREATE VIEW w.a AS SELECT id, g, upper(t) AS up, w.imm(id) AS i FROM w.b",
        "w.a",
        "UPDATE w.a SET id = 2",
        "t",
    ),
    ("CREATE TABLE w.b (id serial, t text); CREATE VIEW w.a AS SELECT t FROM w.b", "w.a", "INSERT \
      INTO w.a (t) VALUES ('x')", "f"),
    // Functions in policies and views: no USAGE on their schema is needed, but EXECUTE as the
    // caller.
    (
        "CREATE SCHEMA p; CREATE FUNCTION p.mine(int) RETURNS boolean STABLE LANGUAGE plpgsql AS \
         'BEGIN RETURN true; END'; CREATE TABLE w.a AS SELECT 1 AS id; ALTER TABLE w.a ENABLE ROW \
         LEVEL SECURITY; CREATE POLICY m ON w.a USING (p.mine(id))",
        "w.a",
        "SELECT * FROM w.a",
        "t",
    ),
    (
        "CREATE TABLE w.b AS SELECT 1 AS id; ALTER TABLE w.b ENABLE ROW LEVEL SECURITY; ALTER \
         TABLE w.b OWNER TO mallory; CREATE POLICY m ON w.b USING (w.sec(id) = 1); ALTER TABLE w.b \
         FORCE ROW LEVEL SECURITY; CREATE VIEW w.a AS SELECT * FROM w.b; ALTER VIEW w.a OWNER TO \
         mallory",
        "w.a",
        "SELECT * FROM w.a",
        "f",
    ),
    // Names that need quotes.
    ("CREATE SCHEMA \"S x\"; CREATE TABLE \"S x\".a (id int); GRANT ALL ON \"S x\".a TO \
      PUBLIC", "\"S x\".a", "SELECT * FROM \"S x\".a", "f"),
    ("CREATE TABLE w.\"a\nb\" AS SELECT 1 AS id; GRANT ALL ON w.\"a\nb\" TO \
      PUBLIC", "w.U&\"a\\000Ab\"", "SELECT * FROM w.\"a\nb\"", "t"),
    ("CREATE FUNCTION w.a(VARIADIC \"my arg\" int[]) RETURNS int LANGUAGE sql AS 'SELECT \
      1'", "w.a(VARIADIC \"my arg\" integer[])", "SELECT w.a(1)", "t"),
    ("CREATE FUNCTION w.a(INOUT a int, OUT b int) LANGUAGE sql AS 'SELECT 1, \
      2'", "w.a(INOUT a integer, OUT b integer)", "SELECT w.a(1)", "t"),
];

/// More cases, from PostgreSQL 18 on.
const CASES_FROM_18: [(&str, &str, &str, &str); 12] = [
    // Constraints that are not enforced are not evaluated.
    (
        "CREATE TABLE w.a (id int, CHECK (w.imm(id) = 1) NOT ENFORCED)",
        "w.a",
        "INSERT INTO w.a \
      VALUES (1)",
        "t",
    ),
    (
        "CREATE TABLE w.a (id int, CHECK (w.imm(id) = 1) NOT ENFORCED, CHECK (w.imm(id) < 9))",
        "w.a",
        "INSERT INTO w.a VALUES (1)",
        "f",
    ),
    // Virtual columns are computed where they are read ...
    (VIRTUAL, "w.a(y)", "SELECT y FROM w.a", "f"),
    (VIRTUAL, "w.a(id)", "SELECT id FROM w.a", "t"),
    (VIRTUAL, "w.a", "INSERT INTO w.a (id) VALUES (1)", "t"),
    (VIRTUAL, "w.a", "UPDATE w.a SET id = 2", "t"),
    (
        "CREATE TABLE w.b (id int, m macaddr8, y boolean GENERATED ALWAYS AS (m = \
         '08:00:2b:01:02:03:04:05')); CREATE VIEW w.a AS SELECT y FROM w.b",
        "w.a",
        "SELECT * FROM w.a",
        "f",
    ),
    // ... also by constraints, policies and the conditions of triggers.
    (
        "CREATE TABLE w.a (id int, m macaddr8, y boolean NOT NULL GENERATED ALWAYS AS (m IS NULL \
         OR m = '08:00:2b:01:02:03:04:05'))",
        "w.a",
        "INSERT INTO w.a (id) VALUES (1)",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, m macaddr8, y boolean GENERATED ALWAYS AS (m = \
         '08:00:2b:01:02:03:04:05') CHECK (y)); INSERT INTO w.a VALUES (1)",
        "w.a",
        "UPDATE w.a SET id = 2",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, m macaddr8, y boolean GENERATED ALWAYS AS (m = \
         '08:00:2b:01:02:03:04:05')); ALTER TABLE w.a ENABLE ROW LEVEL SECURITY; CREATE POLICY \
         mine ON w.a USING (y)",
        "w.a",
        "SELECT id FROM w.a",
        "p",
    ),
    (
        "CREATE TABLE w.a (id int, m macaddr8, y boolean GENERATED ALWAYS AS (m = \
         '08:00:2b:01:02:03:04:05')); INSERT INTO w.a VALUES (1); CREATE TRIGGER t AFTER UPDATE ON \
         w.a FOR EACH ROW WHEN (NEW.y) EXECUTE FUNCTION w.noth()",
        "w.a",
        "UPDATE w.a SET id = 2",
        "f",
    ),
    (
        "CREATE TABLE w.a (id int, m macaddr8, y boolean GENERATED ALWAYS AS (m = \
         '08:00:2b:01:02:03:04:05')); INSERT INTO w.a VALUES (1); CREATE TRIGGER t BEFORE DELETE \
         ON w.a FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION w.noth()",
        "w.a",
        "DELETE FROM w.a",
        "t",
    ),
];

/// A table with a virtual column that calls a function of the server.
const VIRTUAL: &str = "CREATE TABLE w.a (id int, m macaddr8, y boolean GENERATED ALWAYS AS (m = \
                       '08:00:2b:01:02:03:04:05')); INSERT INTO w.a VALUES (1)";

/// The verdict agrees with the server, and the proposed fix gives access.
#[test]
fn verdict_and_fix_are_correct_for_known_cases() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory; CREATE SCHEMA w; GRANT USAGE ON \
             SCHEMA w TO PUBLIC; GRANT CREATE ON SCHEMA w TO mallory;
             CREATE FUNCTION w.sec(int) RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; \
             END';
             CREATE FUNCTION w.imm(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; \
             END';
             CREATE FUNCTION w.either(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN \
             RETURN coalesce($1, $2); END';
             CREATE FUNCTION w.noth() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN \
             coalesce(NEW, OLD); END';
             CREATE TABLE w.i AS SELECT 1 AS id; GRANT ALL ON w.i TO PUBLIC; CREATE TABLE w.j AS \
             SELECT 1 AS id; GRANT ALL ON w.j TO PUBLIC; CREATE TABLE w.hid (x int); CREATE \
             SEQUENCE w.sq;
             CREATE TABLE w.m (id int PRIMARY KEY, address macaddr8); INSERT INTO w.m VALUES (1, \
             '08:00:2b:01:02:03:04:05');
             REVOKE EXECUTE ON FUNCTION w.sec(int), w.imm(int), w.either(int, int), \
             pg_catalog.macaddr8_eq(macaddr8, macaddr8) FROM PUBLIC",
        )
        .unwrap();
    let version: i32 =
        column(&mut client, "SELECT current_setting('server_version_num')")[0].parse().unwrap();
    let newer = CASES_FROM_18.into_iter().filter(|_| version >= 180_000);
    for (setup, object, statement, expected) in CASES.into_iter().chain(newer) {
        let is_policy = expected == "p";
        let expected = match expected {
            "f-" if version >= 160_000 => "-",
            "f-" | "p" => "f",
            other => other,
        };
        client
            .batch_execute(&format!("BEGIN; SET LOCAL dragonfly_guard.mode = off; {setup}"))
            .unwrap_or_else(|e| panic!("{setup}: {e:?}"));
        client
            .batch_execute(
                "DO $$ BEGIN IF to_regclass('w.a') IS NOT NULL THEN GRANT ALL ON w.a TO \
                            PUBLIC; END IF; END $$",
            )
            .unwrap();
        let privilege = statement.split(' ').next().filter(|_| {
            !object.contains('(') || object.starts_with("w.a(x)") || object.starts_with("w.a(id)")
        });
        let ask = "SELECT ok, detail, coalesce(fix, '') FROM ops.explain_access('anon', $1, $2) \
                   WHERE step = 'verdict'";
        let row = client
            .query_one(ask, &[&object, &privilege])
            .unwrap_or_else(|e| panic!("{setup}: {e:?}"));
        let (ok, detail, fix): (bool, String, String) = (row.get(0), row.get(1), row.get(2));
        let verdict = if ok {
            "t"
        } else if detail.contains("excludes every row") {
            "-"
        } else {
            "f"
        };
        let outcome = |client: &mut Client| {
            client.batch_execute("SAVEPOINT s; SET LOCAL ROLE anon").unwrap();
            let result = client.simple_query(statement);
            client.batch_execute("ROLLBACK TO s").unwrap();
            match result {
                Ok(messages) => match messages.last() {
                    Some(postgres::SimpleQueryMessage::CommandComplete(0))
                        if !statement.starts_with("TRUNCATE") =>
                    {
                        "-"
                    }
                    _ => "t",
                },
                Err(e) => {
                    let e = e.as_db_error().unwrap();
                    assert_eq!(e.code().code(), "42501", "{setup}: {e:?}");
                    assert_eq!(detail, format!("Denied: {}.", e.message()), "{setup}");
                    "f"
                }
            }
        };
        let first = outcome(&mut client);
        // INSTEAD NOTIFY changes no row.
        assert!(
            verdict == first || (first == "-" && verdict == "t" && setup.contains("NOTIFY")),
            "{setup}: the verdict is {detail}, the outcome {first}"
        );
        assert_eq!(verdict, expected, "{setup}: {detail}");
        if verdict == "f" && fix.is_empty() {
            // The contract does not declare the privilege in a governed schema.
            let question = format!("'anon', '{}'", object.replace('\'', "''"));
            let chain = links(&mut client, &question).join("\n");
            assert!(chain.contains("The contract does not declare it: run "), "{setup}: {chain}");
        } else if verdict == "f" && !is_policy {
            client.batch_execute(&fix).unwrap_or_else(|e| panic!("{setup}: {fix}: {e:?}"));
            assert_ne!(outcome(&mut client), "f", "{setup}: {fix}");
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// Forms of a statement that need more than the plain one: statements that prepare the case, the
/// object, the privilege, the form, the statement that is executed, and its outcome as in
/// [`CASES`]; `p` is denied by a policy.
const FORMS: [(&str, &str, &str, &str, &str, &str); 16] = [
    (
        "GRANT UPDATE ON w.t TO anon",
        "w.t",
        "UPDATE",
        "UPDATE ... WHERE",
        "UPDATE w.t SET a = 'x' \
      WHERE id = 1",
        "f",
    ),
    (
        "GRANT UPDATE ON w.t TO anon",
        "w.t",
        "UPDATE",
        "UPDATE ... WHERE",
        "UPDATE w.t SET a = 'x' \
      RETURNING id",
        "f",
    ),
    (
        "GRANT DELETE ON w.t TO anon",
        "w.t",
        "DELETE",
        "DELETE ... WHERE",
        "DELETE FROM w.t WHERE id \
      = 1",
        "f",
    ),
    (
        "GRANT DELETE, SELECT (id) ON w.t TO anon",
        "w.t",
        "DELETE",
        "DELETE ... WHERE",
        "DELETE FROM \
      w.t WHERE id = 1",
        "t",
    ),
    (
        "GRANT INSERT ON w.t TO anon",
        "w.t",
        "INSERT",
        "INSERT ... RETURNING",
        "INSERT INTO w.t (id) \
      VALUES (9) RETURNING id",
        "f",
    ),
    (
        "GRANT INSERT, SELECT ON w.t TO anon",
        "w.t",
        "INSERT",
        "INSERT ... RETURNING",
        "INSERT INTO \
      w.t (id) VALUES (9) RETURNING id",
        "t",
    ),
    (
        "GRANT INSERT, SELECT ON w.t TO anon",
        "w.t",
        "INSERT",
        "INSERT ... ON CONFLICT DO \
      UPDATE",
        "INSERT INTO w.t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a",
        "f",
    ),
    (
        "GRANT INSERT, UPDATE ON w.t TO anon",
        "w.t",
        "INSERT",
        "INSERT ... ON CONFLICT DO \
      UPDATE",
        "INSERT INTO w.t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a",
        "f",
    ),
    (
        "GRANT INSERT, UPDATE, SELECT ON w.t TO anon",
        "w.t",
        "INSERT",
        "INSERT ... ON CONFLICT DO \
      UPDATE",
        "INSERT INTO w.t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a",
        "t",
    ),
    // Row security: the policies for SELECT apply where the statement reads.
    (
        "GRANT UPDATE, SELECT ON w.t TO anon; ALTER TABLE w.t ENABLE ROW LEVEL SECURITY; CREATE \
         POLICY u ON w.t FOR UPDATE USING (true)",
        "w.t",
        "UPDATE",
        "UPDATE ... WHERE",
        "UPDATE w.t SET a = 'x' WHERE id = 1",
        "-",
    ),
    (
        "GRANT INSERT, SELECT ON w.t TO anon; ALTER TABLE w.t ENABLE ROW LEVEL SECURITY; CREATE \
         POLICY i ON w.t FOR INSERT WITH CHECK (true)",
        "w.t",
        "INSERT",
        "INSERT ... RETURNING",
        "INSERT INTO w.t (id) VALUES (9) RETURNING id",
        "p",
    ),
    (
        "GRANT INSERT, SELECT, UPDATE ON w.t TO anon; ALTER TABLE w.t ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY i ON w.t FOR INSERT WITH CHECK (true); CREATE POLICY s ON w.t FOR SELECT \
         USING (true)",
        "w.t",
        "INSERT",
        "INSERT ... ON CONFLICT DO UPDATE",
        "INSERT INTO w.t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 'x'",
        "p",
    ),
    (
        "GRANT UPDATE, SELECT ON w.t TO anon; ALTER TABLE w.t ENABLE ROW LEVEL SECURITY; CREATE \
         POLICY u ON w.t FOR UPDATE USING (true); CREATE POLICY s ON w.t FOR SELECT USING \
         (w.hidden() = 1)",
        "w.t",
        "UPDATE",
        "UPDATE ... WHERE",
        "UPDATE w.t SET a = 'x' WHERE id = 1",
        "f",
    ),
    // Views: of the caller's privileges, and with computed columns.
    (
        "CREATE VIEW w.v AS SELECT upper(a) AS up, id, a FROM w.t; GRANT UPDATE ON w.v TO anon",
        "w.v",
        "UPDATE",
        "UPDATE ... WHERE",
        "UPDATE w.v SET a = 'x' WHERE id = 1",
        "f",
    ),
    (
        "CREATE VIEW w.v WITH (security_invoker) AS SELECT w.hidden() AS h, id, a FROM w.t; GRANT \
         UPDATE, SELECT ON w.v TO anon; GRANT UPDATE, SELECT ON w.t TO anon",
        "w.v",
        "UPDATE",
        "UPDATE ... WHERE",
        "UPDATE w.v SET a = 'x' WHERE id = 1",
        "t",
    ),
    (
        "CREATE VIEW w.v AS SELECT id, a FROM w.t; GRANT INSERT ON w.v TO anon",
        "w.v",
        "INSERT",
        "INSERT ... RETURNING",
        "INSERT INTO w.v (id) VALUES (9) RETURNING id",
        "f",
    ),
];

/// Where the plain statement is allowed, the forms that are not have a link, whose fix is correct.
#[test]
fn forms_that_need_more_are_reported_as_the_server_treats_them() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE SCHEMA w; GRANT USAGE ON SCHEMA w TO PUBLIC;
             CREATE TABLE w.t (id int PRIMARY KEY DEFAULT 7, a text); INSERT INTO w.t VALUES (1, \
             'a');
             CREATE FUNCTION w.hidden() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; \
             END'; REVOKE EXECUTE ON FUNCTION w.hidden() FROM PUBLIC",
        )
        .unwrap();
    let outcome = |client: &mut Client, statement: &str| {
        client.batch_execute("SAVEPOINT s; SET LOCAL ROLE anon").unwrap();
        let result = client.simple_query(statement);
        client.batch_execute("ROLLBACK TO s").unwrap();
        match result {
            Ok(messages) => match messages.last() {
                Some(postgres::SimpleQueryMessage::CommandComplete(0)) => ("-", String::new()),
                _ => ("t", String::new()),
            },
            Err(e) => {
                let e = e.as_db_error().unwrap();
                assert_eq!(e.code().code(), "42501", "{statement}: {e:?}");
                let is_policy = e.message().starts_with("new row violates");
                (if is_policy { "p" } else { "f" }, e.message().to_owned())
            }
        }
    };
    for (setup, object, privilege, form, statement, expected) in FORMS {
        client
            .batch_execute(&format!("BEGIN; SET LOCAL dragonfly_guard.mode = off; {setup}"))
            .unwrap_or_else(|e| panic!("{setup}: {e:?}"));
        let (happened, error) = outcome(&mut client, statement);
        assert_eq!(happened, expected, "{setup}: {statement}: {error}");
        let ask = "SELECT step, ok, detail, coalesce(fix, '') FROM ops.explain_access('anon', $1, \
                   $2) WHERE step IN ('verdict', $3) ORDER BY link";
        let rows = client.query(ask, &[&object, &privilege, &form]).unwrap();
        let verdict = rows.last().unwrap();
        assert!(
            verdict.get::<_, bool>(1),
            "{setup}: the plain statement: {}",
            verdict.get::<_, &str>(2)
        );
        let found = (rows.len() > 1).then(|| {
            let (ok, detail): (bool, String) = (rows[0].get(1), rows[0].get(2));
            assert!(!ok);
            (detail, rows[0].get::<_, String>(3))
        });
        match (expected, found) {
            ("t", None) => {}
            ("-", Some((detail, fix))) => {
                assert!(detail.starts_with("Without effect: row security excludes"), "{detail}");
                assert!(fix.starts_with("-- CREATE POLICY"), "{fix}");
            }
            ("f" | "p", Some((detail, fix))) => {
                assert!(detail.starts_with(&format!("Denied: {error}.")), "{error}: {detail}");
                let note = format!("{form} is denied: {error}.");
                assert!(verdict.get::<_, &str>(2).contains(&note), "{note}");
                if expected == "f" {
                    client.batch_execute(&fix).unwrap_or_else(|e| panic!("{fix}: {e:?}"));
                    assert_eq!(outcome(&mut client, statement).0, "t", "{setup}: {fix}");
                }
            }
            (_, found) => panic!("{setup}: {statement}: {expected}, but {found:?}"),
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// Row security excludes rows without an error: for a worker without BYPASSRLS, and in a view that
/// reads with the privileges of the caller.
#[test]
fn verdict_reports_excluded_rows() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; ALTER ROLE service_role NOBYPASSRLS; DROP POLICY \
             queue_worker ON public.job_queue;
             ALTER VIEW public.v_plaintiffs_overview SET (security_invoker = true)",
        )
        .unwrap();
    assert_eq!(
        links(&mut client, "'service_role', 'public.job_queue'")[4..],
        [
            "NO row security of table public.job_queue: Row security is enabled, and no \
             policy \
             allows role \"service_role\" to SELECT: every row is excluded, and no error is \
             raised. => -- CREATE POLICY \"service_role select\" ON public.job_queue FOR SELECT TO \
             service_role USING (...);",
            "NO verdict: Allowed, but row security excludes every row of table public.job_queue, \
             and \
             no error is raised. => -- CREATE POLICY \"service_role select\" ON \
             public.job_queue FOR SELECT TO service_role USING (...);",
            "NO contract: Access should be allowed: SELECT is declared for role \"service_role\". \
             => SELECT * FROM ops.golden_sql(schemas => \
             ARRAY['public']::name[]);",
        ]
    );
    assert_eq!(
        links(&mut client, "'anon', 'public.v_plaintiffs_overview'")[3..6],
        [
            "ok SELECT on view public.v_plaintiffs_overview: Role \"anon\" has SELECT, granted to \
             it.",
            "NO SELECT on table public.plaintiffs: Role \"anon\" does not have SELECT on columns \
             id, name, status and tier. => GRANT SELECT (id, name, status, \
             tier) ON TABLE public.plaintiffs TO anon;",
            "NO row security of table public.plaintiffs: Row security is enabled, and no \
             policy \
             allows role \"anon\" to SELECT: every row is excluded, and no error is raised. => \
             -- CREATE POLICY \"anon select\" ON public.plaintiffs FOR SELECT TO anon USING (...);",
        ]
    );
}

/// Invalid questions are errors with a hint; untrusted code in the object is not executed; clients
/// cannot call the function.
#[test]
fn explain_access_rejects_invalid_questions_and_executes_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for (arguments, code, message) in [
        ("'anon', 'nowhere'", "3F000", "schema \"nowhere\" does not exist"),
        ("'anon', 'public.'", "42602", "invalid object name: \"public.\""),
        ("'anon', 'public.judgments', 'USAGE'", "22023", "unrecognized privilege \"USAGE\""),
        ("'anon', 'public.judgments.nope'", "22023", "unrecognized column \"nope\""),
    ] {
        let error = attempt(&mut client, &format!("SELECT * FROM ops.explain_access({arguments})"))
            .unwrap_err();
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message));
        assert!(!error.hint.is_empty());
    }
    let error = attempt(&mut client, "SELECT ops.explain_access(NULL, 'public.judgments')");
    assert_eq!(error.unwrap_err().message, "role must not be null");
    assert_eq!(
        links(&mut client, "'anon', 'public.nope'")[3],
        "NO object: Object public.nope does not exist."
    );
    assert_eq!(
        links(&mut client, "'missing', 'api'")[1],
        "NO verdict: Denied: role \"missing\" does not exist."
    );
    assert_eq!(
        links(&mut client, "'missing', 'api'")[0],
        "NO role missing: Role \"missing\" does not exist. The contract declares \"anon\", \
         \"authenticated\", \"service_role\" and \"postgres\"."
    );
    client
        .batch_execute(
            "BEGIN READ ONLY; SELECT * FROM ops.explain_access('anon', \
                          'public.judgments'); ROLLBACK",
        )
        .unwrap();
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO \
             mallory; SET ROLE mallory;
             CREATE FUNCTION public.evil() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN \
             RAISE 'it runs as %', current_user; END $$;
             CREATE TABLE public.trap (id int DEFAULT CASE WHEN public.evil() THEN 1 END);
             CREATE POLICY trap ON public.trap USING (public.evil());
             ALTER TABLE public.trap ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE FUNCTION public.sly(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN \
             RETURN $1; END $$;
             CREATE TABLE public.parts (a int) PARTITION BY RANGE ((a + public.sly(12)));
             CREATE TABLE public.part PARTITION OF public.parts FOR VALUES FROM (1) TO (10);
             CREATE OR REPLACE FUNCTION public.sly(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
             $$ BEGIN RAISE 'it runs as %', current_user; END $$;
             GRANT ALL ON public.trap TO PUBLIC; CREATE VIEW public.v_trap AS SELECT * FROM \
             public.trap WHERE public.evil(); RESET ROLE",
        )
        .unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    for privilege in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
        for object in ["public.trap", "public.v_trap", "public.parts", "public.part"] {
            let links = links(&mut client, &format!("'anon', '{object}', '{privilege}'"));
            assert!(
                !links.is_empty() && links.iter().all(|link| !link.contains("it runs as")),
                "{links:?}"
            );
        }
    }
    let as_worker = "SET ROLE service_role; SELECT * FROM ops.explain_access('anon', \
                     'public.judgments'); RESET ROLE; SET ROLE anon";
    client.batch_execute(as_worker).unwrap();
    assert_eq!(
        attempt(&mut client, "SELECT * FROM ops.explain_access('anon', 'api')").unwrap_err().code,
        "42501"
    );
}

/// Nested views of every kind, a policy that reads another table, rows.
const MORE: &str = "
    INSERT INTO public.judgments (case_number, amount) VALUES ('1', 1);
    INSERT INTO public.plaintiffs (name) VALUES ('a');
    INSERT INTO public.plaintiff_contacts (phone) VALUES ('1');
    INSERT INTO public.plaintiff_tasks (kind) VALUES ('call');
    INSERT INTO public.job_queue (kind) VALUES ('a');
    INSERT INTO intake.simplicity_batches (file_name) VALUES ('a');
    INSERT INTO public.inbox VALUES (1, 'a');
    CREATE TABLE public.silent AS SELECT 1 AS one;
    ALTER TABLE public.silent ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    GRANT SELECT, UPDATE, DELETE ON public.silent TO PUBLIC;
    CREATE VIEW public.v_invoker WITH (security_invoker = true) AS SELECT id, case_number FROM \
                    public.judgments;
    CREATE VIEW public.v_over_invoker AS SELECT * FROM public.v_invoker;
    CREATE VIEW public.v_invoker_over WITH (security_invoker) AS SELECT * FROM \
                    public.v_plaintiffs_overview;
    CREATE VIEW public.v_calls AS SELECT public.helper(name) AS name, (SELECT count(*) FROM \
                    public.inbox) AS inbox FROM public.plaintiffs;
    CREATE VIEW public.v_simple AS SELECT id, body FROM public.inbox WHERE id > 0;
    CREATE MATERIALIZED VIEW public.m_empty AS SELECT 1 AS one WITH NO DATA;
    CREATE FUNCTION public.is_fine(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN \
                    RETURN true; END';
    CREATE TABLE public.checked (id int CHECK (public.is_fine(id)));
    INSERT INTO public.checked VALUES (1);
    REVOKE EXECUTE ON FUNCTION public.is_fine(int) FROM PUBLIC; GRANT INSERT, UPDATE, SELECT ON \
                    public.checked TO PUBLIC;
    CREATE VIEW public.v_silent WITH (security_invoker) AS SELECT * FROM public.silent;
    GRANT SELECT, UPDATE, DELETE, INSERT ON public.v_silent TO PUBLIC;
    GRANT INSERT ON public.silent TO PUBLIC;
    CREATE POLICY by_inbox ON public.plaintiff_tasks TO authenticated USING (EXISTS (SELECT FROM \
                    public.inbox WHERE body = 'a'));
    ALTER TABLE public.plaintiff_tasks ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON public.v_invoker, public.v_over_invoker, public.v_invoker_over, public.v_calls \
                    TO anon, mallory;
    GRANT ALL ON public.v_simple, public.plaintiff_tasks TO authenticated;
    GRANT pg_write_all_data TO helpers;
";

/// What the server evaluates for a row beside the statement: domains, generated columns, conditions
/// of triggers, indexes, partitions, sequences by name, comparisons and aggregates. Each needs a
/// function that some roles cannot call.
const BY_ROW: &str = "
    CREATE FUNCTION public.either(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN \
                      RETURN coalesce($1, $2); END';
    CREATE FUNCTION public.describe(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN \
                      $1; END';
    CREATE FUNCTION public.is_so(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN \
                      $1 IS NULL OR $1 >= 0; END';
    CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN \
                      coalesce(NEW, OLD); END';
    CREATE DOMAIN public.base AS int CHECK (public.is_so(VALUE)); CREATE DOMAIN public.over AS \
                      public.base;
    CREATE TABLE public.a_domain (id int, one public.over);
    CREATE TABLE public.a_generated (id int, other int, one int GENERATED ALWAYS AS \
                      (public.describe(id)) STORED);
    CREATE TABLE public.a_condition (id int); CREATE TABLE public.a_condition_before (id int, \
                      other int);
    CREATE TABLE public.a_statement (id int); CREATE TABLE public.a_truncated (id int);
    CREATE TRIGGER t AFTER INSERT OR DELETE ON public.a_condition FOR EACH ROW WHEN \
                      (public.describe(1) = 1) EXECUTE FUNCTION public.nothing();
    CREATE TRIGGER t BEFORE UPDATE OF other ON public.a_condition_before FOR EACH ROW WHEN \
                      (public.describe(NEW.id) = 1) EXECUTE FUNCTION public.nothing();
    CREATE TRIGGER t BEFORE UPDATE ON public.a_statement WHEN (public.is_so(1)) EXECUTE FUNCTION \
                      public.nothing();
    CREATE TRIGGER t AFTER TRUNCATE ON public.a_truncated WHEN (public.is_so(1)) EXECUTE FUNCTION \
                      public.nothing();
    CREATE TRIGGER disabled BEFORE INSERT ON public.a_truncated FOR EACH ROW WHEN \
                      (public.is_so(1)) EXECUTE FUNCTION public.nothing();
    ALTER TABLE public.a_truncated DISABLE TRIGGER USER; ALTER TABLE public.a_truncated ENABLE \
                      TRIGGER t;
    CREATE TABLE public.an_index (id int); CREATE INDEX ON public.an_index (public.describe(id));
    CREATE TABLE public.a_predicate (id int); CREATE INDEX ON public.a_predicate (id) WHERE \
                      public.is_so(id);
    CREATE TABLE public.a_part (id int) PARTITION BY LIST (public.describe(id));
    CREATE TABLE public.a_part_1 PARTITION OF public.a_part DEFAULT; CREATE TABLE public.a_part_2 \
                      PARTITION OF public.a_part FOR VALUES IN (2);
    CREATE SEQUENCE public.a_seq; CREATE TABLE public.by_text (id int DEFAULT \
                      nextval('public.a_seq'::text));
    CREATE SCHEMA hidden; CREATE SEQUENCE hidden.a_seq; GRANT USAGE ON SEQUENCE hidden.a_seq TO \
                      authenticated, mallory;
    GRANT USAGE ON SCHEMA hidden TO authenticated, service_role;
    CREATE TABLE public.by_text_hidden (id int DEFAULT nextval('hidden.a_seq'::text));
    CREATE TABLE public.by_setval (id int DEFAULT setval('public.a_seq', 5));
    CREATE AGGREGATE public.last_of(int) (SFUNC = public.either, STYPE = int);
    CREATE VIEW public.v_aggregate AS SELECT public.last_of(id) FROM public.inbox;
    CREATE TABLE public.machines (address macaddr8); INSERT INTO public.machines VALUES \
                      ('08:00:2b:01:02:03:04:05');
    CREATE VIEW public.v_distinct AS SELECT DISTINCT address FROM public.machines;
    CREATE VIEW public.v_grouped AS SELECT address, count(*) FROM public.machines GROUP BY address;
    CREATE VIEW public.v_union AS SELECT address FROM public.machines UNION SELECT NULL;
    INSERT INTO public.a_domain VALUES (1, 1); INSERT INTO public.a_generated VALUES (1, 1); \
                      INSERT INTO public.a_condition VALUES (1);
    INSERT INTO public.a_condition_before VALUES (1, 1); INSERT INTO public.a_statement VALUES \
                      (1); INSERT INTO public.a_truncated VALUES (1);
    INSERT INTO public.an_index VALUES (1); INSERT INTO public.a_predicate VALUES (1); INSERT INTO \
                      public.a_part VALUES (1), (2);
    INSERT INTO public.by_text VALUES (1); INSERT INTO public.by_text_hidden VALUES (1); INSERT \
                      INTO public.by_setval VALUES (1);
    REVOKE EXECUTE ON FUNCTION public.describe(int), public.is_so(int), public.either(int, int) \
                      FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.describe(int) TO authenticated; GRANT EXECUTE ON FUNCTION \
                      public.is_so(int) TO service_role;
    GRANT EXECUTE ON FUNCTION public.either(int, int) TO anon; REVOKE EXECUTE ON FUNCTION \
                      public.either(int, int) FROM postgres;
    REVOKE EXECUTE ON FUNCTION pg_catalog.macaddr8_eq(macaddr8, macaddr8) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION pg_catalog.macaddr8_eq(macaddr8, macaddr8) TO anon, postgres;
    GRANT ALL ON public.a_domain, public.a_generated, public.a_condition, \
                      public.a_condition_before, public.a_statement, public.a_truncated,
      public.an_index, public.a_predicate, public.a_part, public.a_part_1, public.a_part_2, \
                      public.by_text, public.by_text_hidden, public.by_setval,
      public.v_aggregate, public.v_distinct, public.v_grouped, public.v_union TO PUBLIC;
    GRANT USAGE ON SEQUENCE public.a_seq TO authenticated; GRANT UPDATE ON SEQUENCE public.a_seq \
                      TO service_role;
";

/// After random changes to the database, the verdict for each role, object and privilege agrees
/// with the outcome of the statement.
#[test]
fn verdict_agrees_with_server_after_random_changes() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(&format!("SET dragonfly_guard.mode = off; {PREPARATION} {MORE} {BY_ROW}"))
        .unwrap();
    let relations = client
        .query(
            "SELECT format('%I.%I', nspname, relname), relkind::text,
                    (SELECT coalesce(string_agg(format('%I = NULL', attname), ', ' ORDER BY \
             attnum) FILTER (WHERE attgenerated = '' AND attidentity <> 'a' AND (relkind <> 'v' OR \
             attname <> 'id' AND pg_column_is_updatable(c.oid, attnum, true))),
                       string_agg(format('%I = DEFAULT', attname), ', ' ORDER BY attnum)) FROM \
             pg_attribute
                      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
               FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
              WHERE (nspname IN ('public', 'intake', 'ops', 'enforcement') OR relname IN \
             ('pg_class', 'pg_authid', 'pg_roles', 'tables'))
                AND nspname <> 'pg_toast' AND relkind IN ('r', 'p', 'v', 'm', 'S') ORDER BY 1",
            &[],
        )
        .unwrap();
    let relations: Vec<(String, String, Option<String>)> =
        relations.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    let routines = column(
        &mut client,
        "SELECT format('%I.%I(%s)', nspname, proname, oidvectortypes(proargtypes)) FROM pg_proc p \
         JOIN pg_namespace n ON n.oid = pronamespace
          WHERE nspname IN ('public', 'api', 'enforcement')",
    );
    let seeds = std::env::var("DRAGONFLY_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let (mut compared, mut denied, mut unseen) = (0, 0, 0);
    for seed in 0..seeds {
        let mut random = Random::new(seed + 1_000);
        client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
        let mut done = Vec::new();
        for _ in 0..random.below(25) {
            let statement = mutation(&mut random);
            client.batch_execute("SAVEPOINT s").unwrap();
            match client.batch_execute(&statement) {
                Ok(()) => done.push(statement),
                Err(_) => client.batch_execute("ROLLBACK TO s").unwrap(),
            }
        }
        for role in ["anon", "authenticated", "service_role", "postgres", "mallory", "helpers"] {
            let mut questions: Vec<(String, &str, String)> = Vec::new();
            for (relation, kind, columns) in &relations {
                if kind == "S" {
                    questions.push((
                        relation.clone(),
                        "USAGE",
                        format!("SELECT nextval('{}')", relation.replace('\'', "''")),
                    ));
                    continue;
                }
                let set = columns.as_deref().unwrap_or("x = DEFAULT");
                questions.push((relation.clone(), "SELECT", format!("SELECT * FROM {relation}")));
                questions.push((
                    relation.clone(),
                    "INSERT",
                    format!("INSERT INTO {relation} DEFAULT VALUES"),
                ));
                questions.push((
                    relation.clone(),
                    "UPDATE",
                    format!("UPDATE {relation} SET {set}"),
                ));
                questions.push((relation.clone(), "DELETE", format!("DELETE FROM {relation}")));
                questions.push((relation.clone(), "TRUNCATE", format!("TRUNCATE {relation}")));
            }
            for routine in &routines {
                let (name, arguments) = routine.split_once('(').unwrap();
                let types: Vec<String> = arguments
                    .trim_end_matches(')')
                    .split(", ")
                    .filter(|t| !t.is_empty())
                    .map(|t| format!("NULL::{t}"))
                    .collect();
                questions.push((
                    routine.clone(),
                    "EXECUTE",
                    format!("SELECT {name}({})", types.join(", ")),
                ));
            }
            for (object, privilege, statement) in questions {
                let row = client
                    .query_one(
                        "SELECT ok, detail FROM ops.explain_access($1::text::name, $2, $3) WHERE \
                         step = 'verdict'",
                        &[&role, &object, &privilege],
                    )
                    .unwrap_or_else(|e| {
                        panic!(
                            "{role} {privilege} {object}: \
                        {:?}",
                            e.as_db_error()
                        )
                    });
                let (ok, verdict): (bool, String) = (row.get(0), row.get(1));
                client.batch_execute(&format!("SAVEPOINT s; SET LOCAL ROLE {role}")).unwrap();
                let result = client.simple_query(&statement).map(|messages| {
                    messages
                        .iter()
                        .filter(|m| matches!(m, postgres::SimpleQueryMessage::Row(_)))
                        .count()
                });
                client.batch_execute("ROLLBACK TO s").unwrap();
                let describe = |what: &str| {
                    format!(
                        "seed {seed}: {role} {privilege} {object}: {what}\nverdict: \
                         {verdict}\noutcome: {result:?}\n{};",
                        done.join(";\n")
                    )
                };
                compared += 1;
                match &result {
                    Ok(rows) => {
                        assert!(
                            ok || verdict.starts_with(
                                "Allowed, but row security excludes every \
                                row"
                            ),
                            "{}",
                            describe("it is allowed")
                        );
                        if !ok {
                            unseen += 1;
                            assert!(
                                privilege != "SELECT" || *rows == 0,
                                "{}",
                                describe("there are rows")
                            );
                        }
                    }
                    Err(e) => {
                        let e = e.as_db_error().expect("an error of the server's");
                        let is_privilege = e.code().code() == "42501";
                        let message = format!("Denied: {}.", e.message());
                        match is_privilege {
                            // Whether a policy allows a row, and what a body can do, depends on
                            // data.
                            true if e.message().starts_with("new row violates") => {
                                assert!(
                                    verdict == message || verdict.contains("limited by policies"),
                                    "{}",
                                    describe("a policy rejects a row")
                                );
                            }
                            true if privilege == "EXECUTE" && ok => {
                                assert!(
                                    e.message()
                                        != format!("permission denied for function {object}"),
                                    "{}",
                                    describe("denied")
                                );
                            }
                            // A foreign key is checked row by row, by a query of its own and as the
                            // owner of the other table.
                            true if matches!(
                                e.position(),
                                Some(postgres::error::ErrorPosition::Internal { .. })
                            ) || e.where_().is_some_and(|w| w.contains("FROM ONLY")) =>
                            {
                                assert!(ok, "{}", describe("a foreign key"));
                            }
                            // The settings of a function are set when it is called.
                            true if e
                                .message()
                                .starts_with("permission denied to set parameter") =>
                            {
                                assert!(ok, "{}", describe("a setting"));
                            }
                            true => {
                                denied += 1;
                                assert_eq!(verdict, message, "{}", describe("it is denied"));
                            }
                            // The NULL that the statement sets, before constraints are checked.
                            false if e.code().code() == "23502" => {}
                            // A statement that no role can execute, or one that fails because of
                            // the data.
                            false => assert!(
                                ok || verdict == message || verdict.contains("excludes every row"),
                                "{}",
                                describe("it fails")
                            ),
                        }
                    }
                }
            }
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
    println!("{compared} attempts compared, {denied} denied, {unseen} without rows");
    assert!(denied > 500 && unseen > 5);
}

/// Routines with bodies that are text, a policy and a view that call one, and a routine that names
/// nothing.
const TEXTS: &str = "
    SET client_min_messages = warning;
    CREATE ROLE reader; CREATE SCHEMA app; CREATE SCHEMA private;
    GRANT USAGE ON SCHEMA app TO reader;
    CREATE TABLE app.closed (id int); CREATE TABLE private.kept (id int);
    CREATE TABLE app.own (id int); ALTER TABLE app.own ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION app.uid() RETURNS int LANGUAGE sql STABLE
      AS $$ SELECT nullif(current_setting('app.uid', true), '')::int $$;
    CREATE FUNCTION app.find() RETURNS bigint LANGUAGE sql STABLE
      AS 'SELECT count(*) FROM app.closed';
    CREATE FUNCTION app.by_path() RETURNS bigint LANGUAGE sql STABLE SET search_path = app, pg_temp
      AS 'SELECT count(*) FROM closed';
    CREATE FUNCTION app.keep(a int) RETURNS void LANGUAGE plpgsql
      AS $$ BEGIN INSERT INTO private.kept VALUES (a); END $$;
    CREATE FUNCTION app.works() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.own';
    CREATE FUNCTION app.definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER
      SET search_path = app, pg_temp AS 'SELECT count(*) FROM app.closed';
    CREATE POLICY own ON app.own TO reader USING (id = app.uid());
    GRANT SELECT ON app.own TO reader;
    CREATE TABLE app.found (id int); ALTER TABLE app.found ENABLE ROW LEVEL SECURITY;
    INSERT INTO app.found VALUES (1);
    CREATE POLICY found ON app.found TO reader USING (id < app.find());
    CREATE VIEW app.big AS SELECT app.find() AS n;
    GRANT SELECT ON app.big, app.found TO reader";

#[test]
fn body_that_is_text_is_checked_when_it_runs_and_verdict_names_what_the_role_lacks() {
    let cluster = Cluster::start();
    let mut server = cluster.connect("postgres", SUPERUSER);
    server.batch_execute("CREATE DATABASE app").unwrap();
    let mut client = cluster.connect("app", SUPERUSER);
    client.batch_execute(TEXTS).unwrap();
    client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
    attempt(
        &mut client,
        "SELECT ops.load_contract(jsonb_set(ops.infer_contract('{app}', 'as_is'), '{version}', \
         '\"1.0.1\"'))",
    )
    .unwrap();
    let is_text = "is text, which is checked only when it runs.";
    let closed = "Role \"reader\" does not have SELECT on table app.closed, which it mentions.";
    let kept = "Role \"reader\" does not have INSERT on table private.kept, which it mentions.";
    let limited = "Allowed. The rows are limited by policies:";
    for (object, call, expected) in [
        ("app.find()", "app.find()", format!("Allowed. The body {is_text} {closed}")),
        ("app.by_path()", "app.by_path()", format!("Allowed. The body {is_text} {closed}")),
        ("app.keep(int)", "app.keep(1)", format!("Allowed. The body {is_text} {kept}")),
        ("app.works()", "app.works()", format!("Allowed. The body {is_text}")),
        ("app.definer()", "app.definer()", format!("Allowed. The body {is_text}")),
        (
            "app.big",
            "n FROM app.big",
            format!("Allowed. The body of function app.find() {is_text} {closed}"),
        ),
        (
            "app.found",
            "id FROM app.found",
            format!(
                "{limited} found. Policy found: rows where R.id < count(*). The body of function \
                 app.find() {is_text} {closed}"
            ),
        ),
        (
            "app.own",
            "id FROM app.own",
            format!("{limited} own. Policy own: rows where R.id = app.uid AND app.uid <> ''."),
        ),
    ] {
        let question = format!("'reader', '{object}'");
        let verdict = links(&mut client, &question)
            .into_iter()
            .find_map(|link| link.split_once("ok verdict: ").map(|(_, detail)| detail.to_owned()));
        assert_eq!(verdict, Some(expected.clone()), "{object}");
        client.batch_execute("SET ROLE reader").unwrap();
        let outcome = attempt(&mut client, &format!("SELECT {call}"));
        client.batch_execute("RESET ROLE").unwrap();
        let fails = expected.ends_with("which it mentions.");
        assert_eq!(outcome.is_err(), fails, "{object}: {outcome:?}");
    }
    // The doctor says the same, and reports no failure.
    let told = column(
        &mut client,
        "SELECT object || ' ' || regexp_replace(detail, '.* Its body is', 'Its body is') \
         FROM ops.doctor() WHERE ok AND area = 'function' AND detail LIKE '%mentions%' ORDER BY 1",
    );
    assert_eq!(
        told,
        [
            format!("app.by_path() Its body {is_text} {closed}"),
            format!("app.find() Its body {is_text} {closed}"),
            format!("app.keep(integer) Its body {is_text} {kept}"),
        ]
    );
}

/// What a person sees who asks why a client sees no row, or only some.
#[test]
fn explain_access_names_ties_and_why_there_is_no_row() {
    let cluster = Cluster::start();
    let mut client = cluster.connect("postgres", SUPERUSER);
    client
        .batch_execute(
            "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE authenticator NOINHERIT LOGIN;
             GRANT anon, authenticated TO authenticator;
             CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO anon, authenticated;
             CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
                 AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb
                     ->> 'sub')::uuid $$;
             CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE
                 AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
             CREATE TABLE public.members (user_id uuid NOT NULL, team int NOT NULL);
             ALTER TABLE public.members ENABLE ROW LEVEL SECURITY;
             CREATE TABLE public.docs (id int PRIMARY KEY, owner uuid, team int, tenant text);
             INSERT INTO public.docs VALUES (1, '00000000-0000-0000-0000-000000000001', 1, 'a');
             INSERT INTO public.members VALUES ('00000000-0000-0000-0000-000000000001', 1);
             ALTER TABLE public.docs ENABLE ROW LEVEL SECURITY;
             GRANT SELECT ON public.docs, public.members TO anon, authenticated;
             CREATE VIEW public.all_docs WITH (security_invoker = true)
                 AS SELECT * FROM public.docs;
             GRANT SELECT ON public.all_docs TO authenticated;
             CREATE POLICY own ON public.docs FOR SELECT USING (owner = auth.uid());
             CREATE EXTENSION dragonfly_guard; SET dragonfly_guard.mode = off",
        )
        .unwrap();
    let of = |client: &mut Client, role: &str, object: &str, start: &str| {
        let links = links(client, &format!("'{role}', '{object}'"));
        let found = links.iter().find(|link| link[3..].starts_with(start));
        found.unwrap_or_else(|| panic!("{links:#?}")).clone()
    };
    let tie = "Policy own: rows whose owner is the caller's.";
    assert_eq!(
        of(&mut client, "authenticated", "public.docs", "verdict"),
        format!("ok verdict: Allowed. The rows are limited by policies: own. {tie}")
    );
    for object in ["public.docs", "public.all_docs"] {
        assert_eq!(
            of(&mut client, "authenticated", object, "row security"),
            format!(
                "ok row security of table public.docs: Row security is enabled; for role \
                 \"authenticated\" a row must be allowed by own. {tie}"
            )
        );
    }
    for (role, condition, why) in [
        (
            "anon",
            "owner = auth.uid()",
            "it asks the session for user, and the sessions of role \"anon\" have no user",
        ),
        (
            "anon",
            "tenant = auth.jwt() -> 'app_metadata' ->> 'tenant'",
            "it asks the session for claims.app_metadata.tenant, and the sessions of role \
             \"anon\" have no user",
        ),
        (
            "authenticated",
            "team IN (SELECT team FROM public.members WHERE user_id = auth.uid())",
            "it looks rows up in public.members, of which no policy shows any",
        ),
        ("authenticated", "id > 1 AND id < 1", "its condition is never true"),
    ] {
        client
            .batch_execute(&format!("ALTER POLICY own ON public.docs USING ({condition})"))
            .unwrap();
        let link = of(&mut client, role, "public.docs", "row security");
        let reason = format!("Policy own lets no row through: {why}.");
        assert!(link.starts_with("NO ") && link.contains(&reason), "{condition}: {link}");
        let verdict = of(&mut client, role, "public.docs", "verdict");
        assert!(
            verdict.starts_with(
                "NO verdict: Allowed, but row security excludes every row of table public.docs"
            ),
            "{condition}: {verdict}"
        );
        // As the server does it.
        let claims = if role == "anon" {
            r#"{"role": "anon"}"#
        } else {
            r#"{"role": "authenticated", "sub": "00000000-0000-0000-0000-000000000001"}"#
        };
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL ROLE {role}; SET LOCAL request.jwt.claims = '{claims}'"
            ))
            .unwrap();
        let rows = column(&mut client, "SELECT count(*)::text FROM public.docs");
        client.batch_execute("ROLLBACK").unwrap();
        assert_eq!(rows, ["0"], "{condition}");
    }
    client
        .batch_execute(
            "ALTER POLICY own ON public.docs
                 USING (tenant = auth.jwt() -> 'app_metadata' ->> 'tenant')",
        )
        .unwrap();
    let verdict = of(&mut client, "authenticated", "public.docs", "verdict");
    assert!(
        verdict.ends_with(
            "Policy own: rows whose tenant is the caller's; it asks the session for \
             claims.app_metadata.tenant."
        ),
        "{verdict}"
    );
}
