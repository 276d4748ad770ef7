//! The roles that a contract names as readers and deployers, and their privileges on the
//! extension's functions and views.

use dragonfly_tests::{Cluster, attempt, column};
use postgres::Client;

/// Loads the contract in force with another version and other fields.
fn load(client: &mut Client, version: &str, fields: &str) {
    let load = loading(version, fields);
    attempt(client, &load).unwrap_or_else(|e| panic!("{e:?}\n{load}"));
}

fn loading(version: &str, fields: &str) -> String {
    format!(
        "SELECT ops.load_contract(ops.contract() || '{{\"version\": \"{version}\"}}' || '{fields}')"
    )
}

/// Returns what is granted to a role on objects of the extension and their schemas.
fn granted(client: &mut Client, role: &str) -> Vec<String> {
    let sql = format!(
        "SELECT object || ' ' || privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END
           FROM (SELECT p.oid::regprocedure::text, p.proacl FROM pg_proc AS p
                   JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e'
                 UNION ALL SELECT c.oid::regclass::text, c.relacl FROM pg_class AS c
                   JOIN pg_depend AS d ON d.objid = c.oid AND d.deptype = 'e'
                 UNION ALL SELECT nspname::text, nspacl FROM pg_namespace
                  WHERE nspname IN ('ops', 'dragonfly_guard')) AS o(object, acl),
                aclexplode(acl) AS item
          WHERE item.grantee = '{role}'::regrole AND privilege_type <> 'CREATE' ORDER BY 1"
    );
    column(client, &sql)
}

fn roles(client: &mut Client) {
    attempt(client, "CREATE ROLE grafana LOGIN; CREATE ROLE release LOGIN").unwrap();
}

const FINDINGS: &str = "SELECT fingerprint FROM ops.audit_security()";

#[test]
fn contract_grants_its_roles_what_create_extension_grants_those_of_the_shipped_contract() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    roles(&mut client);
    let shipped = ["pg_monitor", "service_role", "postgres"];
    let before = shipped.map(|role| granted(&mut client, role));
    let findings = column(&mut client, FINDINGS);
    assert!(before[0].len() > 30 && before[2].len() > before[0].len(), "{before:?}");

    load(&mut client, "1.1.0", r#"{"readers": ["grafana"], "deployers": ["release"]}"#);
    assert_eq!(granted(&mut client, "grafana"), before[0]);
    assert_eq!(granted(&mut client, "release"), before[2]);
    // The schema may contain other objects, so that USAGE stays.
    assert_eq!(granted(&mut client, "pg_monitor"), ["ops USAGE"]);
    assert_eq!(granted(&mut client, "postgres"), ["ops USAGE"]);
    assert_eq!(column(&mut client, FINDINGS), findings);
    let mut grafana = cluster.connect("app", "grafana");
    for view in ["contract_history", "v_exemptions", "v_guard_log", "v_security_findings"] {
        attempt(&mut grafana, &format!("SELECT FROM ops.{view}")).unwrap();
    }
    attempt(&mut grafana, "SELECT ops.assert_security()").unwrap();
    let error = attempt(&mut grafana, "SELECT ops.infer_contract()").unwrap_err();
    assert_eq!(error.code, "42501");
    let mut release = cluster.connect("app", "release");
    attempt(&mut release, "SELECT ops.try_migration('SELECT 1')").unwrap();
    // A deployer does not change the contract.
    let error = attempt(&mut release, &loading("1.2.0", "{}")).unwrap_err();
    assert_eq!(error.message, "permission denied to change security contract settings");

    // A deployer becomes a reader.
    load(&mut client, "1.2.0", r#"{"readers": ["release"], "deployers": []}"#);
    assert_eq!(granted(&mut client, "release"), before[0]);
    assert_eq!(granted(&mut client, "grafana"), ["ops USAGE"]);
    attempt(&mut client, "SELECT ops.rollback_contract('1.0.0')").unwrap();
    assert_eq!(shipped.map(|role| granted(&mut client, role)), before);
    assert_eq!(granted(&mut client, "release"), ["ops USAGE"]);
}

#[test]
fn contract_that_names_no_roles_changes_no_privileges() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    attempt(&mut client, "REVOKE EXECUTE ON FUNCTION ops.doctor FROM pg_monitor").unwrap();
    let before = granted(&mut client, "pg_monitor");
    let without = "SELECT ops.load_contract(jsonb_set(ops.contract(), '{version}', '\"1.1.0\"') \
                   - 'readers' - 'deployers')";
    attempt(&mut client, without).unwrap();
    assert_eq!(granted(&mut client, "pg_monitor"), before);
    let changes = column(&mut client, "SELECT changes::text FROM ops.contract_history");
    assert!(!changes[1].contains("readers") && !changes[1].contains("deployers"), "{changes:?}");
    // A contract that names the role grants what it lacks.
    load(&mut client, "1.2.0", r#"{"readers": ["service_role", "pg_monitor"]}"#);
    assert_eq!(granted(&mut client, "pg_monitor").len(), before.len() + 1);
}

#[test]
fn loader_that_is_no_superuser_cannot_change_who_reads_or_deploys() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    roles(&mut client);
    load(&mut client, "1.1.0", r#"{"readers": ["grafana"], "deployers": ["release"]}"#);
    let grants = "GRANT EXECUTE ON FUNCTION ops.load_contract(jsonb, text),
        ops.rollback_contract(text, text) TO release WITH GRANT OPTION";
    attempt(&mut client, grants).unwrap();
    let before = ["grafana", "release", "pg_monitor"].map(|role| granted(&mut client, role));
    let mut release = cluster.connect("app", "release");
    for fields in [
        r#"{"readers": ["grafana", "pg_monitor"]}"#,
        r#"{"readers": []}"#,
        r#"{"deployers": ["release", "grafana"]}"#,
        r#"{"readers": null}"#,
    ] {
        let error = attempt(&mut release, &loading("1.2.0", fields)).unwrap_err();
        assert_eq!(error.code, "42501", "{fields}: {error:?}");
    }
    let error = attempt(&mut release, "SELECT ops.rollback_contract('1.0.0')").unwrap_err();
    assert_eq!(error.message, "permission denied to change who can read the audits and deploy");
    attempt(&mut release, &loading("1.2.0", r#"{"description": "Another"}"#)).unwrap();
    let after = ["grafana", "release", "pg_monitor"].map(|role| granted(&mut client, role));
    assert_eq!(after, before);
    // What a superuser granted with the grant option outlives the role's place in the contract.
    load(&mut client, "1.3.0", r#"{"readers": [], "deployers": []}"#);
    assert_eq!(
        granted(&mut client, "release"),
        [
            "ops USAGE",
            "ops.load_contract(jsonb,text) EXECUTE*",
            "ops.rollback_contract(text,text) EXECUTE*"
        ]
    );
}

#[test]
fn reader_that_requests_use_is_rejected_and_a_missing_one_is_reported() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let error = attempt(&mut client, &loading("1.1.0", r#"{"readers": ["anon"]}"#)).unwrap_err();
    assert!(
        error.detail.starts_with("$.readers[0] (anon): role \"anon\" is a client"),
        "{error:?}"
    );
    let sql = loading("1.1.0", r#"{"readers": ["Night \"shift\"", "later"]}"#);
    attempt(&mut client, "CREATE ROLE \"Night \"\"shift\"\"\"").unwrap();
    let output = cluster.client_program("psql", &["-X", "-d", "app", "-c", &sql]);
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success()
            && messages.contains("role \"later\" does not exist and cannot read the audits"),
        "{messages}"
    );
    let views = granted(&mut client, "\"Night \"\"shift\"\"\"");
    assert!(views.contains(&"ops.v_guard_log SELECT".to_owned()), "{views:?}");
}
