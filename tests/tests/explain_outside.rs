//! The answer from a snapshot, beside that of the server.

use dragonfly_core::contract::Contract;
use dragonfly_core::explain::Link;
use dragonfly_core::rules::Tool;
use dragonfly_reader::data::Data;
use dragonfly_reader::explain::{Asked, answer};
use dragonfly_tests::mutate::{PREPARATION, Random, mutation};
use dragonfly_tests::{Cluster, column};
use postgres::Client;

/// The relations and routines that are asked about, each with a privilege.
const QUESTIONS: &str = "
    SELECT format('%I.%I', nspname, relname) || '|' || privilege
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace,
           unnest(CASE relkind WHEN 'S' THEN '{USAGE}'::text[]
                  ELSE '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}' END) privilege
     WHERE nspname IN ('public', 'intake', 'ops', 'enforcement', 'w')
       AND relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    SELECT format('%I.%I(%s)', nspname, proname, oidvectortypes(proargtypes)) || '|EXECUTE'
      FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
     WHERE nspname IN ('public', 'api', 'enforcement', 'w')
     ORDER BY 1";

/// A policy that reads another table, a view that only its caller may read, a default with a
/// sequence, a body that is parsed, and a function that a policy calls.
const MORE: &str = "
    CREATE SCHEMA w; GRANT USAGE ON SCHEMA w TO PUBLIC;
    CREATE TABLE w.members (project int, who name); GRANT SELECT ON w.members TO authenticated;
    CREATE TABLE w.projects (id serial PRIMARY KEY, name text, secret text);
    ALTER TABLE w.projects ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION w.is_mine(int) RETURNS bool STABLE LANGUAGE sql
      BEGIN ATOMIC SELECT EXISTS (SELECT FROM w.members WHERE project = $1); END;
    REVOKE EXECUTE ON FUNCTION w.is_mine(int) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION w.is_mine(int) TO authenticated;
    CREATE POLICY mine ON w.projects TO authenticated
      USING (EXISTS (SELECT FROM w.members WHERE project = id AND who = current_user));
    CREATE POLICY called ON w.projects FOR SELECT TO service_role, anon USING (w.is_mine(id));
    GRANT SELECT (id, name), INSERT, UPDATE (name), DELETE ON w.projects TO anon, authenticated;
    CREATE VIEW w.names AS SELECT id, name FROM w.projects;
    CREATE VIEW w.called WITH (security_invoker) AS SELECT id, name FROM w.projects;
    CREATE VIEW w.nested AS SELECT name, count(*) FROM w.called GROUP BY name;
    GRANT ALL ON w.names, w.called, w.nested TO anon, authenticated, service_role;
    CREATE FUNCTION w.count_members() RETURNS bigint LANGUAGE sql SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp
      BEGIN ATOMIC SELECT count(*) FROM w.members; END;
    CREATE FUNCTION w.add_member(int) RETURNS void LANGUAGE sql
      BEGIN ATOMIC INSERT INTO w.members VALUES ($1, 'x'); END;
    CREATE FUNCTION w.as_text() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM w.members';";

const ROLES: [&str; 5] = ["anon", "authenticated", "service_role", "postgres", "mallory"];

/// A link as a line: step, result, detail and fix.
fn line(link: &Link) -> String {
    let ok = link.ok.map_or("--", |ok| if ok { "ok" } else { "NO" });
    let fix = link.fix.as_ref().map(|fix| format!(" => {fix}")).unwrap_or_default();
    format!("{ok} {}: {}{fix}", link.step, link.detail)
}

fn of_server(client: &mut Client, role: &str, object: &str, privilege: &str) -> Vec<String> {
    let ask = "SELECT CASE WHEN ok THEN 'ok' WHEN NOT ok THEN 'NO' ELSE '--' END || ' ' || step ||
                      ': ' || detail || coalesce(' => ' || fix, '')
                 FROM ops.explain_access($1::text::name, $2, $3) ORDER BY link";
    let rows = client.query(ask, &[&role, &object, &privilege]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns the answer from a snapshot, as [`of_server`] does.
fn of_snapshot(data: &Data, contract: &Contract, question: [&str; 3]) -> Vec<String> {
    let [role, object, privilege] = question;
    let asked = Asked { role, object, privilege: Some(privilege), authenticator: None };
    let links = answer(data, contract, Tool::Extension, asked).unwrap().links;
    links.iter().map(line).collect()
}

/// What a case creates, in schema `x` of role `maker`; the question; and the statement of `asker`
/// that it is about. `x.hidden` is a table that `asker` may not read, `x.refused(int)` a function
/// that it may not call.
const CASES: [(&str, &str, &str, &str); 39] = [
    // The condition of a view is evaluated by statements that change rows, too.
    (
        "CREATE VIEW x.v WITH (security_invoker) AS
           SELECT id, a FROM x.t WHERE id IN (SELECT id FROM x.hidden)",
        "x.v",
        "DELETE",
        "DELETE FROM x.v",
    ),
    (
        "CREATE VIEW x.v AS SELECT id, a FROM x.t WHERE x.refused(id)",
        "x.v",
        "UPDATE",
        "UPDATE x.v SET id = 1, a = 2",
    ),
    (
        "CREATE VIEW x.v AS SELECT id, a FROM x.t WHERE x.refused(id)",
        "x.v",
        "INSERT",
        "INSERT INTO x.v DEFAULT VALUES",
    ),
    (
        "CREATE VIEW x.v AS SELECT id, a FROM x.t WHERE x.refused(id) WITH CHECK OPTION",
        "x.v",
        "INSERT",
        "INSERT INTO x.v VALUES (1, 1)",
    ),
    // One routine is called as two roles.
    (
        "CREATE FUNCTION x.count() RETURNS bigint LANGUAGE sql
           BEGIN ATOMIC SELECT count(*) FROM x.hidden; END;
         CREATE FUNCTION x.aa() RETURNS bigint SECURITY DEFINER LANGUAGE sql
           BEGIN ATOMIC SELECT x.count(); END;
         CREATE VIEW x.v AS SELECT x.aa() AS one, x.count() AS other",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    // Statements on one table that need different things.
    (
        "CREATE TABLE x.s (id serial, a int); GRANT ALL ON x.s TO asker;
         CREATE FUNCTION x.both() RETURNS void LANGUAGE sql BEGIN ATOMIC
           INSERT INTO x.s (id, a) VALUES (1, 1); INSERT INTO x.s (a) VALUES (2); END",
        "x.both()",
        "EXECUTE",
        "SELECT x.both()",
    ),
    (
        "CREATE TABLE x.b (a int, b int); CREATE VIEW x.v WITH (security_invoker) AS TABLE x.b;
         GRANT INSERT (a) ON x.b TO asker;
         CREATE FUNCTION x.both() RETURNS void LANGUAGE sql BEGIN ATOMIC
           INSERT INTO x.v (a) VALUES (1); INSERT INTO x.v (b) VALUES (2); END",
        "x.both()",
        "EXECUTE",
        "SELECT x.both()",
    ),
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY u ON x.t FOR UPDATE USING (true);
         CREATE POLICY s ON x.t FOR SELECT USING (a IN (SELECT id FROM x.hidden));
         CREATE FUNCTION x.both() RETURNS void LANGUAGE sql BEGIN ATOMIC
           UPDATE x.t SET a = 1; UPDATE x.t SET a = 2 WHERE id = 1; END",
        "x.both()",
        "EXECUTE",
        "SELECT x.both()",
    ),
    // Defaults of domains, of columns of views, and of arguments.
    (
        "CREATE SEQUENCE x.q; CREATE DOMAIN x.d AS bigint DEFAULT nextval('x.q');
         CREATE DOMAIN x.e AS x.d; CREATE TABLE x.u (a x.e, b int)",
        "x.u",
        "INSERT",
        "INSERT INTO x.u DEFAULT VALUES",
    ),
    (
        "CREATE SEQUENCE x.q; CREATE DOMAIN x.d AS bigint DEFAULT nextval('x.q');
         CREATE TABLE x.u (a x.d DEFAULT 1, b int)",
        "x.u",
        "INSERT",
        "INSERT INTO x.u DEFAULT VALUES",
    ),
    (
        "CREATE SEQUENCE x.q; CREATE VIEW x.v AS TABLE x.t;
         ALTER VIEW x.v ALTER a SET DEFAULT nextval('x.q')",
        "x.v",
        "INSERT",
        "INSERT INTO x.v DEFAULT VALUES",
    ),
    (
        "CREATE TABLE x.u (a bigserial); CREATE VIEW x.v AS TABLE x.u;
         ALTER VIEW x.v ALTER a SET DEFAULT 7",
        "x.v",
        "INSERT",
        "INSERT INTO x.v DEFAULT VALUES",
    ),
    (
        "CREATE SEQUENCE x.q; CREATE FUNCTION x.f(a bigint DEFAULT nextval('x.q')) RETURNS bigint
           LANGUAGE sql AS 'SELECT a'; CREATE VIEW x.v AS SELECT x.f()",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    (
        "CREATE SEQUENCE x.q; CREATE FUNCTION x.f(a bigint DEFAULT nextval('x.q')) RETURNS bigint
           LANGUAGE sql AS 'SELECT a'; CREATE VIEW x.v AS SELECT x.f(1)",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    (
        "CREATE SEQUENCE x.q; CREATE TABLE x.u (a bigint DEFAULT setval('x.q', 1))",
        "x.u",
        "INSERT",
        "INSERT INTO x.u DEFAULT VALUES",
    ),
    // Generated columns are computed where one is set that they depend on.
    (
        "CREATE TABLE x.u (a int, g bool GENERATED ALWAYS AS (x.refused(a)) STORED, b int);
         INSERT INTO x.u VALUES (1)",
        "x.u(a)",
        "UPDATE",
        "UPDATE x.u SET a = 1",
    ),
    (
        "CREATE TABLE x.u (a int, g bool GENERATED ALWAYS AS (x.refused(a)) STORED, b int)",
        "x.u(b)",
        "UPDATE",
        "UPDATE x.u SET b = 1",
    ),
    (
        "CREATE TABLE x.u (a int CHECK (x.refused(a)))",
        "x.u",
        "INSERT",
        "INSERT INTO x.u DEFAULT VALUES",
    ),
    (
        "CREATE DOMAIN x.d AS int CHECK (x.refused(VALUE)); CREATE TABLE x.u (a x.d)",
        "x.u",
        "INSERT",
        "INSERT INTO x.u DEFAULT VALUES",
    ),
    // A system column needs SELECT on the whole table.
    (
        "CREATE TABLE x.c (a int); GRANT SELECT (a) ON x.c TO asker;
         CREATE VIEW x.v WITH (security_invoker) AS SELECT ctid, a FROM x.c",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    (
        "CREATE TABLE x.c (a int, b int); GRANT SELECT (a) ON x.c TO asker;
         CREATE VIEW x.v WITH (security_invoker) AS SELECT c FROM x.c",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    (
        "CREATE TABLE x.c (a int, b int); GRANT SELECT (a) ON x.c TO asker;
         CREATE VIEW x.v WITH (security_invoker) AS SELECT count(*) FROM x.c",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    // A policy for every row makes the others superfluous.
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON x.t USING (true);
         CREATE POLICY q ON x.t USING (EXISTS (SELECT FROM x.hidden WHERE hidden.id = t.a))",
        "x.t",
        "SELECT",
        "SELECT * FROM x.t",
    ),
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON x.t USING (true);
         CREATE POLICY q ON x.t AS RESTRICTIVE
           USING (EXISTS (SELECT FROM x.hidden WHERE hidden.id = t.a))",
        "x.t",
        "SELECT",
        "SELECT * FROM x.t",
    ),
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON x.t FOR UPDATE USING (true) WITH CHECK (x.refused(a));
         CREATE POLICY q ON x.t FOR UPDATE USING (x.refused(a)) WITH CHECK (true)",
        "x.t",
        "UPDATE",
        "UPDATE x.t SET id = 1, a = 1",
    ),
    // A policy that leads to itself.
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON x.t USING (a IN (SELECT a FROM x.t))",
        "x.t",
        "SELECT",
        "SELECT * FROM x.t",
    ),
    (
        "CREATE TABLE x.u (a int); INSERT INTO x.u VALUES (1); GRANT ALL ON x.u TO asker;
         ALTER TABLE x.u ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON x.u USING (true);
         ALTER TABLE x.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON x.t USING (id IN (SELECT a FROM x.u))",
        "x.t",
        "SELECT",
        "SELECT * FROM x.t",
    ),
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY;
         CREATE VIEW x.v AS TABLE x.t;
         CREATE POLICY p ON x.t USING (a IN (SELECT a FROM x.v) OR true)",
        "x.t",
        "SELECT",
        "SELECT * FROM x.t",
    ),
    // Names.
    (
        "CREATE TABLE x.n (a int); CREATE FUNCTION x.n() RETURNS int LANGUAGE sql AS 'SELECT 1';
         REVOKE ALL ON FUNCTION x.n() FROM PUBLIC",
        "x.n()",
        "EXECUTE",
        "SELECT x.n()",
    ),
    (
        "CREATE SCHEMA y; CREATE SCHEMA z; CREATE TYPE y.t AS (a int); CREATE TYPE z.t AS (a int);
         GRANT USAGE ON SCHEMA y, z TO PUBLIC;
         CREATE FUNCTION x.o(y.t) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION x.o(z.t) RETURNS int LANGUAGE sql AS 'SELECT 1';
         REVOKE ALL ON FUNCTION x.o(z.t) FROM PUBLIC",
        "x.o(y.t)",
        "EXECUTE",
        "SELECT x.o(NULL::y.t)",
    ),
    (
        "CREATE FUNCTION x.o(\"char\") RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION x.o(character) RETURNS int LANGUAGE sql AS 'SELECT 1';
         REVOKE ALL ON FUNCTION x.o(character) FROM PUBLIC",
        "x.o(char)",
        "EXECUTE",
        "SELECT x.o(NULL::character)",
    ),
    // Columns that nothing reads.
    (
        "CREATE VIEW x.v AS SELECT id, x.refused(id) AS b FROM x.t",
        "x.v(id)",
        "SELECT",
        "SELECT id FROM x.v",
    ),
    (
        "CREATE VIEW x.v AS SELECT id, x.refused(id) AS b FROM x.t ORDER BY b",
        "x.v(id)",
        "SELECT",
        "SELECT id FROM x.v",
    ),
    (
        "CREATE VIEW x.w WITH (security_invoker) AS SELECT id FROM x.hidden;
         CREATE VIEW x.v AS SELECT id FROM x.w",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    (
        "CREATE VIEW x.w AS SELECT id FROM x.hidden;
         CREATE VIEW x.v WITH (security_invoker) AS SELECT id FROM x.w",
        "x.v",
        "SELECT",
        "SELECT * FROM x.v",
    ),
    (
        "CREATE VIEW x.v AS SELECT 1 AS one; GRANT ALL ON x.v TO asker",
        "x.v",
        "UPDATE",
        "UPDATE x.v SET one = 1",
    ),
    // pg_settings does not show this one.
    (
        "ALTER TABLE x.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON x.t USING (current_setting('role') = 'asker' AND x.refused(id))",
        "x.t",
        "SELECT",
        "SELECT FROM x.t",
    ),
    ("CREATE SEQUENCE x.q; GRANT USAGE ON x.q TO asker", "x.q", "USAGE", "SELECT nextval('x.q')"),
    ("CREATE SEQUENCE x.q; GRANT SELECT ON x.q TO asker", "x.q", "USAGE", "SELECT nextval('x.q')"),
];

#[test]
fn verdict_from_a_snapshot_is_what_the_statement_does() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SET dragonfly_guard.mode = off; CREATE ROLE maker; CREATE ROLE asker;
             GRANT CREATE ON DATABASE app TO maker; SET ROLE maker;
             CREATE SCHEMA x; GRANT USAGE ON SCHEMA x TO PUBLIC;
             CREATE TABLE x.t (id int, a int); INSERT INTO x.t VALUES (1, 1);
             CREATE TABLE x.hidden (id int);
             CREATE FUNCTION x.refused(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql
               AS 'BEGIN RETURN true; END';
             REVOKE ALL ON FUNCTION x.refused FROM PUBLIC; GRANT ALL ON x.t TO asker",
        )
        .unwrap();
    let contract = Contract::from_json(dragonfly_core::contract::DEFAULT).unwrap();
    let own = "DO $$ DECLARE r regclass; BEGIN
        FOR r IN SELECT oid FROM pg_class WHERE relnamespace = 'x'::regnamespace
                  AND relname IN ('u', 'v') LOOP
          EXECUTE format('GRANT ALL ON %s TO asker', r);
        END LOOP; END $$";
    for (setup, object, privilege, statement) in CASES {
        client.batch_execute("BEGIN").unwrap();
        client.batch_execute(setup).unwrap_or_else(|error| panic!("{setup}: {error:?}"));
        client.batch_execute(own).unwrap();
        client.batch_execute("RESET ROLE").unwrap();
        let snapshot = column(&mut client, "SELECT ops.snapshot()::text").remove(0);
        let data = Data::parse(&snapshot, || {}).unwrap();
        let links = of_snapshot(&data, &contract, ["asker", object, privilege]);
        let verdict = links.iter().find(|link| link.contains(" verdict: ")).unwrap();
        client.batch_execute("SET ROLE asker").unwrap();
        let result = client.simple_query(statement).map(drop);
        client.batch_execute("ROLLBACK; SET ROLE maker").unwrap();
        let error = result.err().map(|error| error.as_db_error().unwrap().message().to_owned());
        let said = verdict.strip_prefix("NO verdict: Denied: ").map(|rest| {
            rest.split(" => ").next().unwrap_or_default().trim_end_matches('.').to_owned()
        });
        assert_eq!(said, error, "{setup}\n{statement}\n{links:#?}");
    }
}

/// Views, policies that read other tables, column privileges, parsed bodies: the catalogs tell what
/// a statement needs.
#[test]
fn answer_from_a_snapshot_is_that_of_the_server() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client.batch_execute(&format!("SET dragonfly_guard.mode = off; {PREPARATION} {MORE}")).unwrap();
    let questions = column(&mut client, QUESTIONS);
    let contract = column(&mut client, "SELECT ops.contract()::text").remove(0);
    let contract = Contract::from_json(&contract).unwrap();
    let mut denied = 0;
    for seed in 0..3 {
        let mut random = Random::new(seed + 1_000);
        client.batch_execute("BEGIN; SET LOCAL dragonfly_guard.mode = off").unwrap();
        for _ in 0..random.below(25) {
            let statement = mutation(&mut random);
            client.batch_execute("SAVEPOINT s").unwrap();
            if client.batch_execute(&statement).is_err() {
                client.batch_execute("ROLLBACK TO s").unwrap();
            }
        }
        let snapshot = column(&mut client, "SELECT ops.snapshot()::text").remove(0);
        let data = Data::parse(&snapshot, || {}).unwrap();
        for question in &questions {
            let (object, privilege) = question.split_once('|').unwrap();
            for role in ROLES {
                let inside = of_server(&mut client, role, object, privilege);
                let outside = of_snapshot(&data, &contract, [role, object, privilege]);
                assert_eq!(inside, outside, "seed {seed}: {role} {question}");
                denied += usize::from(inside.iter().any(|l| l.starts_with("NO verdict")));
            }
        }
        client.batch_execute("ROLLBACK").unwrap();
    }
    assert!(denied > 100, "{denied}");
}
