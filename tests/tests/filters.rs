//! An audit with a filter reads and checks less, and finds the same: the findings of the whole
//! audit to which the filter applies.

use dragonfly_core::rule::Area;
use dragonfly_core::rules::RULES;
use dragonfly_tests::{Cluster, SUPERUSER, column};
use postgres::Client;

/// The database of the contract document after every rule has been violated.
fn violated(cluster: &Cluster) -> Client {
    let _ = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    cluster.psql_file("app", "fixtures/policy_violations.sql");
    cluster.connect("app", SUPERUSER)
}

/// Routines without findings: an audit of a catalog with more than some thousands of objects does
/// not search the plan for its fixes, and reads only what its filter needs.
const BULK: &str = "
    SET dragonfly_guard.mode = off;
    CREATE SCHEMA bulk;
    DO $$ BEGIN FOR i IN 1..4100 LOOP
        EXECUTE format('CREATE FUNCTION bulk.f_%s() RETURNS int LANGUAGE sql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS ''SELECT 1''', i);
    END LOOP; END $$;
    RESET dragonfly_guard.mode";

/// Returns every column of some findings, ordered.
fn rows(client: &mut Client, from: &str) -> Vec<String> {
    column(client, &format!("SELECT f::text FROM {from} ORDER BY 1"))
}

/// Compares audits with each filter with the whole audit.
fn compare(client: &mut Client) {
    client.batch_execute("CREATE TEMP TABLE whole AS SELECT * FROM ops.audit_security()").unwrap();
    let count = column(client, "SELECT count(DISTINCT rule)::text FROM whole");
    assert!(count[0].parse::<usize>().unwrap() > RULES.len() / 2, "{count:?}");
    let schemas = column(client, "SELECT DISTINCT schema_name::text FROM whole ORDER BY 1");
    let of_schemas = schemas
        .iter()
        .filter(|schema| !schema.is_empty())
        .map(|schema| (format!("schemas => '{{{schema}}}'"), format!("schema_name = '{schema}'")));
    let of_rules = RULES
        .iter()
        .map(|rule| (format!("rules => '{{{}}}'", rule.id), format!("rule = '{}'", rule.id)));
    let of_severities = ["warning", "error"].map(|severity| {
        let filter = format!("severity = 'error' OR severity = '{severity}'");
        (format!("min_severity => '{severity}'"), filter)
    });
    for (arguments, condition) in of_schemas.chain(of_rules).chain(of_severities) {
        let filtered = rows(client, &format!("ops.audit_security({arguments}) f"));
        let expected = rows(client, &format!("whole f WHERE {condition}"));
        assert_eq!(filtered, expected, "{arguments}");
    }
    for area in Area::ALL {
        let ids: Vec<String> =
            RULES.iter().filter(|r| r.area == area).map(|r| format!("'{}'", r.id)).collect();
        let filtered = rows(client, &format!("ops.audit_{}() f", area.as_str()));
        let expected = rows(client, &format!("whole f WHERE rule IN ({})", ids.join(", ")));
        assert_eq!(filtered, expected, "{}", area.as_str());
    }
    let sentences = column(client, "SELECT object || finding FROM ops.findings('info') ORDER BY 1");
    assert_eq!(sentences.len(), rows(client, "whole f").len());
    let error = client.batch_execute("SELECT ops.assert_security()").unwrap_err();
    let errors = column(client, "SELECT count(*)::text FROM whole WHERE severity = 'error'");
    let message = error.as_db_error().unwrap().message().to_owned();
    assert!(message.ends_with(&format!(" {} findings", errors[0])), "{message}, {errors:?}");
}

#[test]
fn filtered_audit_finds_what_the_whole_audit_finds() {
    let cluster = Cluster::start_with(&["shared_preload_libraries=dragonfly_guard"]);
    let mut client = violated(&cluster);
    compare(&mut client);
    client.batch_execute(BULK).unwrap();
    client.batch_execute("DROP TABLE whole").unwrap();
    compare(&mut client);
}
