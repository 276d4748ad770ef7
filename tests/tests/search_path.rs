//! Every case of the search_path corpus, assessed in a server: by path and owner, and as a routine.
#![allow(clippy::too_many_lines, reason = "one story, told in one piece")]

use dragonfly_tests::{Cluster, SUPERUSER, attempt};
use postgres::Client;

const ROLES: &str = "
    CREATE ROLE postgres; CREATE ROLE app_owner; CREATE ROLE anon; CREATE ROLE authenticated; \
    CREATE ROLE service_role BYPASSRLS;
    CREATE ROLE mallory; CREATE ROLE tenant; CREATE ROLE trusted_dba; CREATE ROLE nogrp; CREATE \
    ROLE other_owner;";

/// Creates the initial state of a case, with a routine of its owner.
fn world(cluster: &Cluster, database: &str) -> Client {
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute(&format!("CREATE DATABASE {database} OWNER app_owner")).unwrap();
    let mut client = cluster.connect(database, SUPERUSER);
    client
        .batch_execute(
            "CREATE EXTENSION dragonfly_guard;
             DROP SCHEMA IF EXISTS api, intake, enforcement;
             CREATE SCHEMA api AUTHORIZATION app_owner; CREATE SCHEMA intake AUTHORIZATION \
             app_owner;
             CREATE SCHEMA enforcement AUTHORIZATION app_owner; ALTER SCHEMA ops OWNER TO app_owner;
             CREATE SCHEMA subject; CREATE FUNCTION subject.f() RETURNS int LANGUAGE sql AS \
             'SELECT 1';",
        )
        .unwrap();
    client
}

#[test]
fn verdict_and_reasons_of_each_case_are_as_expected() {
    let mut reader = csv::Reader::from_path(
        dragonfly_tests::project().join("tests/fixtures/search_path_cases.csv"),
    )
    .unwrap();
    let server = server_version();
    let mut checked = 0;
    let mut wrong = Vec::new();
    let mut cluster = Cluster::start();
    cluster.connect("postgres", SUPERUSER).batch_execute(ROLES).unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        let [id, pg_min, owner, raw, setup, trusted, verdict, reasons, canonical, _note] =
            std::array::from_fn(|i| record.get(i).unwrap().to_owned());
        if pg_min.parse::<u32>().unwrap() > server {
            continue;
        }
        let database = id.to_ascii_lowercase();
        let mut client = world(&cluster, &database);
        let trusted: Vec<String> = trusted.split_whitespace().map(str::to_owned).collect();
        client
            .execute(
                "INSERT INTO dragonfly_guard.contract (id, document)
                 SELECT 2, jsonb_set(document, '{trusted_roles}', to_jsonb($1::text[])) FROM \
                 dragonfly_guard.contract",
                &[&trusted],
            )
            .unwrap();
        client.batch_execute("SET dragonfly_guard.mode = off").unwrap();
        let owner = if owner == "root_su" { SUPERUSER } else { &owner };
        // On 15 an owner must be a member of the new owner; a superuser can set any owner.
        client.batch_execute(&format!("ALTER FUNCTION subject.f() OWNER TO {owner}")).unwrap();
        client
            .batch_execute(&setup.replace("@DB@", &database))
            .unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let config: Option<Vec<String>> = match raw.as_str() {
            "<NULL>" => None,
            "<OTHER_GUC>" => Some(vec!["work_mem=1MB".into()]),
            "<DUP>" => Some(vec![
                "search_path=public, pg_temp".into(),
                "search_path=pg_temp, public".into(),
            ]),
            "<UPPERKEY>" => Some(vec!["SEARCH_PATH=public, pg_temp".into()]),
            path => Some(vec![format!("search_path={path}")]),
        };
        client
            .execute(
                "UPDATE pg_proc SET prosecdef = true, proconfig = $1 WHERE oid = \
                      'subject.f()'::regprocedure",
                &[&config],
            )
            .unwrap();
        let row = client
            .query_one(
                "SELECT verdict, reasons, canonical FROM \
                        ops.judge_search_path('subject.f()'::regprocedure)",
                &[],
            )
            .unwrap();
        let actual = (row.get::<_, String>(0), row.get::<_, bool>(2));
        if actual != (verdict.clone(), canonical == "yes") {
            wrong.push(format!(
                "{id} {raw:?}: {actual:?} for {:?}, should be {verdict} {canonical}",
                row.get::<_, Vec<String>>(1)
            ));
        }
        for code in
            reasons.split_whitespace().map(|r| r.split(':').next().unwrap()).filter(|c| known(c))
        {
            if !row.get::<_, Vec<String>>(1).iter().any(|r| r.split(':').next() == Some(code)) {
                wrong.push(format!(
                    "{id} {raw:?}: {:?} does not contain {code}",
                    row.get::<_, Vec<String>>(1)
                ));
            }
        }
        if !raw.starts_with('<') {
            let by_path = client
                .query_one(
                    &format!("SELECT verdict FROM ops.judge_search_path($1, '{owner}')"),
                    &[&raw],
                )
                .unwrap();
            assert_eq!(by_path.get::<_, String>(0), actual.0, "{id}: path and routine differ");
        }
        // The audit reports the same, and the guard accepts its fix.
        let finding = client
            .query_opt(
                "SELECT evidence->>'verdict', fix FROM ops.audit_security(rules => \
                 ARRAY['security_definer_search_path'])
                  WHERE object = 'subject.f()'",
                &[],
            )
            .unwrap();
        let from_schema = client
            .query_opt(
                "SELECT fix FROM ops.audit_security(rules => ARRAY['schema_create']) WHERE \
                 severity = 'error' AND fix IS NOT NULL",
                &[],
            )
            .unwrap();
        if (verdict == "safe") != finding.is_none() && from_schema.is_none() {
            wrong.push(format!("{id} {raw:?}: {verdict}, but the audit reports {finding:?}"));
        }
        client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
        if let Some(fix) = finding.as_ref().and_then(|row| row.get::<_, Option<String>>(1)) {
            if let Err(rejected) = attempt(&mut client, &fix) {
                wrong.push(format!("{id} {raw:?}: {fix} is rejected: {rejected:?}"));
            }
            let after: String = client
                .query_one(
                    "SELECT verdict FROM ops.judge_search_path('subject.f()'::regprocedure)",
                    &[],
                )
                .unwrap()
                .get(0);
            assert_eq!(after, "safe", "{id}: {fix}");
        }
        checked += 1;
        drop(client);
        // Memberships and role attributes are shared by all databases of the cluster.
        if setup.contains("ROLE") || setup.contains(" TO mallory") {
            cluster = Cluster::start();
            cluster.connect("postgres", SUPERUSER).batch_execute(ROLES).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 42, "only {checked} cases were checked");
}

fn known(code: &str) -> bool {
    [
        "NO_PATH",
        "SYNTAX",
        "DUPLICATE_SETTING",
        "USER_VAR",
        "MISSING_SCHEMA",
        "WRITABLE",
        "FOREIGN_OBJECTS",
        "TEMP_NOT_LISTED",
        "TEMP_NOT_LAST",
        "TEMP_BY_NUMBER",
        "CATALOG_NOT_FIRST",
    ]
    .contains(&code)
}

fn server_version() -> u32 {
    std::env::var("PG_MAJOR").expect("set by scripts/test").parse().unwrap()
}
