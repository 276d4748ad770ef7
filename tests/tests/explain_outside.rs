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
    let links = answer(data, contract, Tool::Extension, asked).unwrap();
    links.iter().map(line).collect()
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
