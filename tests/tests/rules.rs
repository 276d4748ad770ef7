//! The examples in the documentation of the rules: each violation is reported by its own rule and
//! by no other, each correct form by none, and the guard acts as the page says.

use dragonfly_core::contract::GuardAction;
use dragonfly_core::rule::Area;
use dragonfly_core::rules::RULES;
use dragonfly_tests::Cluster;
use postgres::Client;
use std::collections::BTreeSet;

/// Rule, severity, object type, object, role and detail of a finding.
type Found = BTreeSet<(String, String)>;

const FINDINGS: &str = "
    SELECT rule, concat_ws(' ', severity, object_type, object, role_name, detail)
      FROM ops.audit_security()";

fn findings(client: &mut impl postgres::GenericClient) -> Found {
    client.query(FINDINGS, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What an audit finds after `sql`, which the guard does not check and which is rolled back.
fn findings_after(client: &mut Client, sql: &str) -> Found {
    let mut transaction = client.transaction().unwrap();
    let script = format!("SET LOCAL dragonfly_guard.mode = off; {sql}");
    transaction.batch_execute(&script).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    findings(&mut transaction)
}

/// The database of the contract document, on a server with hardened mode.
fn document() -> (Cluster, Client) {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let client = cluster.guarded_document("app");
    (cluster, client)
}

#[test]
fn example_of_each_rule_is_reported_by_that_rule_only() {
    let (_cluster, mut client) = document();
    let before = findings(&mut client);
    for rule in RULES {
        let correct = findings_after(&mut client, rule.example.correct);
        let added: Vec<_> = correct.difference(&before).collect();
        assert!(added.is_empty(), "{}: the correct example has findings: {added:#?}", rule.id);

        let violating = findings_after(&mut client, rule.example.violating);
        let added: Vec<_> = violating.difference(&correct).collect();
        assert!(!added.is_empty(), "{}: the violating example has no finding", rule.id);
        for (found_by, finding) in added {
            assert_eq!(found_by, rule.id, "{finding}");
        }
    }
}

#[test]
fn guard_acts_on_the_example_of_each_rule_as_documented() {
    let (_cluster, mut client) = document();
    let before = findings(&mut client);
    for rule in RULES {
        let is_regression = !findings_after(&mut client, rule.example.violating).is_subset(&before);
        let outcomes = tried(&mut client, rule.example.violating);
        // The rules of area policies reject for tables with keys alone, which the shipped contract
        // does not declare: tests/tests/policy_rules.rs.
        let can_reject = rule.area != Area::Policies;
        if rule.guard == GuardAction::Block && is_regression && can_reject {
            let rejected =
                ("rejected".to_owned(), rule.id.to_owned(), Some(rule.sqlstate.code().to_owned()));
            assert_eq!(outcomes, [rejected], "{}", rule.id);
        } else {
            for (outcome, found_by, _) in outcomes {
                assert_eq!((outcome.as_str(), found_by.as_str()), ("added", rule.id));
            }
        }
        for (outcome, found_by, _) in tried(&mut client, rule.example.correct) {
            assert_eq!(outcome, "removed", "{}: the correct example: {found_by}", rule.id);
        }
    }
}

/// Outcome, rule and SQLSTATE of each row of `ops.try_migration()`.
fn tried(client: &mut Client, sql: &str) -> Vec<(String, String, Option<String>)> {
    let query = "SELECT outcome, coalesce(rule, detail), evidence->>'sqlstate'
                   FROM ops.try_migration($1)";
    let rows = client.query(query, &[&sql]).unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}
