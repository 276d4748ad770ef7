//! Every case of the search_path corpus, assessed in a server: by path and owner, and as a routine.

use dragonfly_tests::search_path_cases::{self, Case, ROLES};
use dragonfly_tests::{Cluster, SUPERUSER, attempt};
use postgres::Client;

/// Creates the database of a case with the extension, whose contract trusts the roles of the case.
fn world(cluster: &Cluster, case: &Case) -> Client {
    let mut admin = cluster.connect("postgres", SUPERUSER);
    admin.batch_execute(&format!("CREATE DATABASE {} OWNER app_owner", case.id)).unwrap();
    let mut client = cluster.connect(&case.id, SUPERUSER);
    let create = "CREATE EXTENSION dragonfly_guard; SET dragonfly_guard.mode = off";
    client.batch_execute(create).unwrap();
    let trust = "INSERT INTO dragonfly_guard.contract (id, document)
        SELECT 2, jsonb_set(document, '{trusted_roles}', to_jsonb($1::text[]))
          FROM dragonfly_guard.contract";
    client.execute(trust, &[&case.trusted]).unwrap();
    case.create(&mut client);
    client
}

/// Returns what is wrong with the assessment of a case.
fn faults(client: &mut Client, case: &Case) -> Vec<String> {
    let Case { id, owner, path, verdict, .. } = case;
    let mut faults = Vec::new();
    let assess = "SELECT verdict, reasons, canonical
                    FROM ops.judge_search_path('subject.f()'::regprocedure)";
    let row = client.query_one(assess, &[]).unwrap();
    let actual = (row.get::<_, String>(0), row.get::<_, bool>(2));
    let reasons = row.get::<_, Vec<String>>(1);
    if actual != (verdict.clone(), case.is_canonical) {
        faults.push(format!("{actual:?} for {reasons:?}"));
    }
    for code in &case.reasons {
        if !reasons.iter().any(|reason| reason.split(':').next() == Some(code)) {
            faults.push(format!("{reasons:?} does not contain {code}"));
        }
    }
    if let Some(path) = case.plain_path() {
        let by_path = format!("SELECT verdict FROM ops.judge_search_path($1, '{owner}')");
        let by_path: String = client.query_one(&by_path, &[&path]).unwrap().get(0);
        assert_eq!(by_path, actual.0, "{id}: path and routine differ");
    }
    // The audit reports the same, and the guard accepts its fix.
    let audit = "SELECT fix FROM ops.audit_security(rules => '{security_definer_search_path}')
                  WHERE object = 'subject.f()'";
    let finding = client.query_opt(audit, &[]).unwrap();
    let audit = "SELECT fix FROM ops.audit_security(rules => '{schema_create}')
                  WHERE severity = 'error' AND fix IS NOT NULL";
    let of_schema = client.query_opt(audit, &[]).unwrap();
    if (verdict == "safe") != finding.is_none() && of_schema.is_none() {
        faults.push(format!("the audit reports {finding:?}"));
    }
    client.batch_execute("SET dragonfly_guard.mode = block").unwrap();
    if let Some(fix) = finding.and_then(|row| row.get::<_, Option<String>>(0)) {
        if let Err(rejected) = attempt(client, &fix) {
            faults.push(format!("{fix} is rejected: {rejected:?}"));
        }
        let after: String = client.query_one(assess, &[]).unwrap().get(0);
        assert_eq!(after, "safe", "{id}: {fix}");
    }
    let of_case = |fault| format!("{id} {path:?}, which is {verdict}: {fault}");
    faults.into_iter().map(of_case).collect()
}

#[test]
fn verdict_and_reasons_of_each_case_are_as_expected() {
    let cases = search_path_cases::all();
    assert!(cases.len() >= 42, "only {} cases", cases.len());
    let start = || {
        let cluster = Cluster::start();
        cluster.connect("postgres", SUPERUSER).batch_execute(ROLES).unwrap();
        cluster
    };
    let mut cluster = start();
    let mut wrong = Vec::new();
    for case in cases {
        let mut client = world(&cluster, &case);
        wrong.extend(faults(&mut client, &case));
        drop(client);
        if case.changes_roles() {
            cluster = start();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
