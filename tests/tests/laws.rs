//! Three laws, on random applications and with real attempts by every role:
//!
//! 1. Nothing opens: after a plan, no role can do more than before, unless the contract declares
//!    exactly that.
//! 2. Nothing declared that worked stops working.
//! 3. One voice: audit, plan, guard, `ops.explain_access()` and `ops.doctor()` agree with each
//!    other and with the server.
//!
//! Each law holds for contracts of both modes of inference. What is declared works: the contract
//! has no warning, and `ops.doctor()` reports nothing under it. With its exemptions, an `as_is`
//! contract leaves nothing to report and nothing to do.
//!
//! `DRAGONFLY_SEEDS` sets the number of random applications, `DRAGONFLY_SEED` the first one, and
//! `DRAGONFLY_FEATURE` a part of the names of the features that are tested alone.

use dragonfly_tests::application::{Feature, application, clean_up, features, with_features};
use dragonfly_tests::attempts::{Attempt, Attempts, MEMBERSHIP, Outcome, attempts};
use dragonfly_tests::mutate::Random;
use dragonfly_tests::{Cluster, SUPERUSER, attempt, column};
use postgres::Client;
use serde_json::Value;
use std::collections::BTreeMap;

const SCHEMAS: [&str; 4] = ["data", "api", "tools", "closed"];

const MODES: [&str; 2] = ["strict", "as_is"];

const ROLES: [&str; 10] = [
    "anon",
    "authenticated",
    "service_role",
    "authenticator",
    "owner",
    "api_owner",
    "backend",
    "report",
    "staff",
    "editor",
];

/// The statements of a plan, without the proposals.
const STATEMENTS: &str =
    "SELECT statement FROM ops.golden_sql() WHERE left(statement, 3) <> '-- ' ORDER BY step";

/// What `ops.doctor()` reports beside the audit, the settings of PostgREST and the release of the
/// server: of a search_path the verdict, because a plan may remove some of the reasons.
const FAILURES: &str = "SELECT concat_ws(' ', area, object, \
                          regexp_replace(detail, ' is (exploitable|fragile): .*', ' is \\1')) \
                        FROM ops.doctor() WHERE NOT ok AND area NOT IN \
                        ('audit', 'postgrest', 'server')";

/// What a verdict says of a call whose body only its execution interprets.
const IS_TEXT: &str = "Allowed. The body is text, which is checked only when it runs.";

/// What a verdict says where a called body, which is text, names what the role may not use.
const MENTIONS: &str = ", which it mentions.";

/// A database with an application, before the extension was installed in it.
struct Application<'c> {
    cluster: &'c Cluster,
    features: Vec<&'static str>,
    before: Attempts,
}

impl<'c> Application<'c> {
    fn create(cluster: &'c Cluster, (sql, features): (String, Vec<&'static str>)) -> Self {
        let mut server = cluster.connect("postgres", SUPERUSER);
        server.batch_execute("CREATE DATABASE app").unwrap();
        let mut client = cluster.connect("app", SUPERUSER);
        attempt(&mut client, &sql).unwrap_or_else(|error| panic!("{features:?}: {error:?}"));
        let before = attempts(&mut client, &SCHEMAS, &ROLES);
        Self { cluster, features, before }
    }

    /// Installs the extension and puts the inferred contract into force.
    fn guard(&self, mode: &str) -> (Client, Value) {
        let mut client = self.cluster.connect("app", SUPERUSER);
        client.batch_execute("SET client_min_messages = error").unwrap();
        client.batch_execute("CREATE EXTENSION dragonfly_guard").unwrap();
        let contract = column(
            &mut client,
            &format!(
                "SELECT jsonb_set(ops.infer_contract('{{{}}}', '{mode}'), '{{version}}', \
                 '\"1.0.1\"')::text",
                SCHEMAS.join(",")
            ),
        );
        client
            .execute("SELECT ops.load_contract($1::text::jsonb)", &[&contract[0]])
            .unwrap_or_else(|error| panic!("{:?}: {error:?}", self.features));
        (client, serde_json::from_str(&contract[0]).unwrap())
    }

    fn now(&self) -> Attempts {
        attempts(&mut self.cluster.connect("app", SUPERUSER), &SCHEMAS, &ROLES)
    }

    fn drop(self) {
        let mut server = self.cluster.connect("postgres", SUPERUSER);
        server.batch_execute("SET dragonfly_guard.mode = off").unwrap();
        for statement in clean_up("app").split_inclusive(';') {
            server.batch_execute(statement).unwrap();
        }
    }
}

/// Whether the contract declares an attempt: the privilege for the role on the object. A login role
/// depends on its memberships.
fn declares(contract: &Value, attempt: &Attempt) -> bool {
    if attempt.privilege == MEMBERSHIP {
        return attempt.role == "authenticator";
    }
    let (schema, name) = attempt.object.split_once('.').unwrap();
    let name = name.split('(').next().unwrap();
    let names = |value: &Value, wanted: &str| {
        value.as_array().is_some_and(|list| list.iter().any(|item| item == wanted))
    };
    let of_schema = contract["schemas"].as_array().unwrap().iter().find(|s| s["name"] == schema);
    if of_schema.is_some_and(|s| {
        names(&s["all_on_objects"], &attempt.role)
            || (attempt.privilege == "EXECUTE" && names(&s["execute_on_routines"], &attempt.role))
    }) {
        return true;
    }
    let grants = |object: &Value| {
        let held = &object["grants"][&attempt.role];
        let columns = &object["column_grants"][&attempt.role][&attempt.privilege];
        let column = attempt.variant.strip_prefix("column ");
        names(held, "ALL")
            || names(held, &attempt.privilege)
            || column.is_some_and(|column| names(columns, column))
            || names(&object["execute"], &attempt.role)
    };
    // A function and a view may have the same name.
    let kinds: &[&str] = match attempt.privilege.as_str() {
        "EXECUTE" => &["functions"],
        _ => &["tables", "views", "sequences"],
    };
    kinds
        .iter()
        .flat_map(|kind| contract[kind].as_array().into_iter().flatten())
        .filter(|object| object["schema"] == schema && object["name"] == name)
        .any(grants)
}

/// Returns the violations of the first two laws.
fn harm(contract: &Value, before: &Attempts, after: &Attempts) -> Vec<String> {
    let mut harm: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let owners: Vec<&str> = contract["roles"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|role| role["kind"] == "owner")
        .filter_map(|role| role["name"].as_str())
        .collect();
    for (attempt, then) in before {
        let Some(now) = after.get(attempt) else {
            harm.entry(format!("{attempt:?} was {then:?}")).or_default().push("gone".into());
            continue;
        };
        let Attempt { role, object, privilege, variant } = attempt;
        let is_declared = declares(contract, attempt);
        // An owner role may own every table: the contract gives it all rows.
        let is_owner = privilege != "EXECUTE" && owners.contains(&role.as_str());
        // A plan may grant what the contract declares; it may not show other rows.
        let may_open = is_owner || (is_declared && matches!(then, Outcome::Denied(_)));
        let what = if now.is_more_than(then) && !may_open {
            "opened"
        } else if now.is_less_than(then) && is_declared {
            "broken"
        } else {
            continue;
        };
        harm.entry(format!("{what}: {role} {privilege} {object}: {}", change(then, now)))
            .or_default()
            .push(variant.clone());
    }
    harm.into_iter().map(|(what, variants)| format!("{what} [{}]", variants.join(", "))).collect()
}

/// Returns both outcomes, without the contents of rows.
fn change(then: &Outcome, now: &Outcome) -> String {
    let short = |outcome: &Outcome| match outcome {
        Outcome::Done(rows, _) => format!("{rows} rows"),
        other => format!("{other:?}"),
    };
    format!("{}, then {}", short(then), short(now))
}

/// Applies the plan under the inferred contract. Returns the violations of the laws.
fn violations(cluster: &Cluster, built: (String, Vec<&'static str>), mode: &str) -> Vec<String> {
    let application = Application::create(cluster, built);
    let (mut client, contract) = application.guard(mode);
    let mut found = Vec::new();
    let problems = "SELECT concat_ws(' ', severity, path, problem) FROM \
                    ops.validate_contract(ops.contract()) WHERE severity <> 'info'";
    found.extend(column(&mut client, problems).iter().map(|p| format!("contract: {p}")));
    let failing = column(&mut client, FAILURES);
    let of_access =
        failing.iter().filter(|failure| failure.contains("which the contract declares"));
    found.extend(of_access.map(|failure| format!("doctor, at once: {failure}")));
    if mode == "as_is" {
        found.extend(left_with_exemptions(&mut client));
    }
    let plan = column(&mut client, STATEMENTS);
    let applied = attempt(&mut client, "SELECT FROM ops.apply_golden_sql(dry_run => false)");
    found.extend(applied.err().map(|error| format!("the plan fails: {error:?}")));
    found.extend(harm(&contract, &application.before, &application.now()));
    let left = column(&mut client, STATEMENTS);
    found.extend(left.iter().map(|s| format!("a statement is left: {s}")));
    let now = column(&mut client, FAILURES);
    let new = now.iter().filter(|failure| !failing.contains(failure));
    found.extend(new.map(|failure| format!("doctor: {failure}")));
    drop(client);
    if !found.is_empty() {
        found.insert(0, format!("plan:\n  {}", plan.join("\n  ")));
    }
    application.drop();
    found
}

/// Exempts what the inferred exemptions say, and returns what is left to report and to do. Nothing
/// of that is kept.
fn left_with_exemptions(client: &mut Client) -> Vec<String> {
    client.batch_execute("BEGIN").unwrap();
    let mut left = Vec::new();
    let exemptions = client
        .query("SELECT rule || ' ' || object, statement FROM ops.infer_exemptions()", &[])
        .unwrap();
    for row in exemptions {
        let (finding, statement): (String, Option<String>) = (row.get(0), row.get(1));
        match statement.map(|statement| attempt(client, &statement)) {
            Some(Ok(())) => {}
            Some(Err(error)) => left.push(format!("not exempt: {finding}: {error:?}")),
            None => left.push(format!("cannot be exempt: {finding}")),
        }
    }
    let reported = "SELECT concat_ws(' ', severity, rule, object, role_name) FROM \
                    ops.audit_security(min_severity => 'warning')";
    left.extend(column(client, reported).iter().map(|f| format!("with exemptions: {f}")));
    left.extend(column(client, FAILURES).iter().map(|f| format!("with exemptions, doctor: {f}")));
    left.extend(column(client, STATEMENTS).iter().map(|s| format!("with exemptions: {s}")));
    client.batch_execute("ROLLBACK").unwrap();
    left
}

/// Returns the features whose names contain what `DRAGONFLY_FEATURE` is set to.
fn selected() -> impl Iterator<Item = &'static Feature> {
    let part = std::env::var("DRAGONFLY_FEATURE").unwrap_or_default();
    features().filter(move |feature| feature.name.contains(&part))
}

/// Reads a number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn plan_for_each_feature_opens_nothing_and_breaks_nothing() {
    let cluster = Cluster::start();
    let mut all = Vec::new();
    for feature in selected() {
        for mode in MODES {
            let found = violations(&cluster, with_features(&[feature.name]), mode);
            if !found.is_empty() {
                all.push(format!("== {mode}: {}\n{}", feature.name, found.join("\n")));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Features that depend on each other's memberships.
const COMBINATIONS: [&[&str]; 1] = [&[
    "policies and views that ask for memberships",
    "schema of a tenant with a group role and a member",
]];

#[test]
fn plan_for_features_with_common_roles_opens_nothing_and_breaks_nothing() {
    let cluster = Cluster::start();
    let mut all = Vec::new();
    for (features, mode) in COMBINATIONS.into_iter().flat_map(|f| MODES.map(|mode| (f, mode))) {
        let found = violations(&cluster, with_features(features), mode);
        if !found.is_empty() {
            all.push(format!("== {mode}: {}\n{}", features.join(", "), found.join("\n")));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn plan_for_a_random_application_opens_nothing_and_breaks_nothing() {
    let cluster = Cluster::start();
    let (first, seeds) = (number("DRAGONFLY_SEED", 0), number("DRAGONFLY_SEEDS", 12));
    let mut all = Vec::new();
    for seed in first..first + seeds {
        let mode = MODES[usize::try_from(seed % 2).unwrap()];
        let built = application(&mut Random::new(seed));
        let features = built.1.join(", ");
        let found = violations(&cluster, built, mode);
        if !found.is_empty() {
            all.push(format!("== seed {seed}, {mode}: {features}\n{}", found.join("\n")));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Every fix of the audit that is SQL is accepted by the guard and fixes its finding.
#[test]
fn fix_of_a_finding_is_accepted_and_fixes_it() {
    let cluster = Cluster::start();
    let mut all = Vec::new();
    for (feature, mode) in selected().flat_map(|feature| MODES.map(|mode| (feature, mode))) {
        let application = Application::create(&cluster, with_features(&[feature.name]));
        let (mut client, _) = application.guard(mode);
        let fixes = client
            .query(
                "SELECT fingerprint, rule || ' ' || object, fix FROM ops.audit_security() \
                 WHERE fix IS NOT NULL AND severity <> 'info' ORDER BY fingerprint",
                &[],
            )
            .unwrap();
        for row in fixes {
            let (fingerprint, subject, fix): (String, String, String) =
                (row.get(0), row.get(1), row.get(2));
            // A proposal is not SQL that runs, or it is a comment.
            if fix.contains("...") || !fix.trim_end().ends_with(';') || fix.starts_with("--") {
                continue;
            }
            client.batch_execute("BEGIN").unwrap();
            match attempt(&mut client, &format!("{fix}; SET CONSTRAINTS ALL IMMEDIATE")) {
                Err(error) if error.code == "42601" => {}
                Err(error) => all.push(format!("{}: {subject}: {fix}\n  {error:?}", feature.name)),
                Ok(()) => {
                    let left = client
                        .query_one(
                            "SELECT count(*) FROM ops.audit_security() WHERE fingerprint = $1",
                            &[&fingerprint],
                        )
                        .unwrap();
                    if left.get::<_, i64>(0) > 0 {
                        all.push(format!("{}: {subject} is left after {fix}", feature.name));
                    }
                }
            }
            client.batch_execute("ROLLBACK").unwrap();
        }
        drop(client);
        application.drop();
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Every fix of `ops.explain_access()`, `ops.doctor()` and `ops.fix_schema_cache()` that is SQL is
/// accepted by the guard, and leaves no finding that was not there before.
#[test]
fn fix_of_a_denied_access_is_accepted_and_leaves_no_new_finding() {
    let cluster = Cluster::start();
    let mut random = Random::new(number("DRAGONFLY_SEED", 0));
    let (mut all, mut executed) = (Vec::new(), 0);
    for feature in features() {
        let application = Application::create(&cluster, with_features(&[feature.name]));
        let (mut client, _) = application.guard("strict");
        let denied = application.before.iter().filter(|(attempt, outcome)| {
            matches!(outcome, Outcome::Denied(_)) && attempt.privilege != MEMBERSHIP
        });
        let mut fixes = Vec::new();
        for (attempt, _) in denied {
            if random.below(6) == 0 {
                let rows = client
                    .query(
                        "SELECT fix FROM ops.explain_access($1::text::name, $2, $3) \
                         WHERE fix IS NOT NULL AND step <> 'contract'",
                        &[&attempt.role, &attempt.object, &attempt.privilege],
                    )
                    .unwrap_or_else(|error| panic!("{}: {attempt:?}: {error:?}", feature.name));
                fixes.extend(rows.iter().map(|row| row.get::<_, String>(0)));
            }
        }
        fixes.extend(column(
            &mut client,
            "SELECT fix FROM ops.doctor() WHERE NOT ok AND fix IS NOT NULL AND area <> 'audit'
             UNION SELECT fix FROM ops.fix_schema_cache() WHERE NOT ok AND fix IS NOT NULL",
        ));
        fixes.sort();
        fixes.dedup();
        for fix in fixes.iter().filter(|fix| fix.starts_with("GRANT ") && !fix.contains("...")) {
            let audit = "SELECT fingerprint || ': ' || detail FROM ops.audit_security() \
                         WHERE severity <> 'info' ORDER BY 1";
            let before = column(&mut client, audit);
            client.batch_execute("BEGIN").unwrap();
            executed += 1;
            let done = attempt(&mut client, &format!("{fix}; SET CONSTRAINTS ALL IMMEDIATE"));
            if let Err(error) = done {
                all.push(format!("{}: {fix}\n  {error:?}", feature.name));
            } else {
                let new = column(&mut client, audit);
                let is_known = |found: &String| {
                    let fingerprint = found.split(": ").next().unwrap_or_default();
                    before.iter().any(|known| known.starts_with(fingerprint))
                };
                let new = new.into_iter().filter(|found| !is_known(found));
                all.extend(new.map(|found| format!("{}: {fix}\n  {found}", feature.name)));
            }
            client.batch_execute("ROLLBACK").unwrap();
        }
        drop(client);
        application.drop();
    }
    assert!(all.is_empty(), "{executed} executed\n{}", all.join("\n"));
    assert!(executed > 5, "{executed}");
}

/// `ops.explain_access()` says of each role and object what the server does.
#[test]
fn explain_access_agrees_with_real_attempts() {
    let cluster = Cluster::start();
    let mut random = Random::new(number("DRAGONFLY_SEED", 0));
    let mut all = Vec::new();
    let mut compared = 0;
    for (feature, mode) in selected().zip(MODES.into_iter().cycle()) {
        let application = Application::create(&cluster, with_features(&[feature.name]));
        let (mut client, _) = application.guard(mode);
        let questions = application.before.iter().filter(|(attempt, _)| {
            matches!(attempt.variant.as_str(), "rows" | "defaults" | "call" | "all rows")
                && attempt.privilege != "TRUNCATE"
                && attempt.privilege != MEMBERSHIP
        });
        for (attempt, outcome) in questions {
            // A sample: each question takes some milliseconds.
            if random.below(4) > 0 {
                continue;
            }
            let row = client
                .query_one(
                    "SELECT detail FROM ops.explain_access($1::text::name, $2, $3) \
                     WHERE step = 'verdict'",
                    &[&attempt.role, &attempt.object, &attempt.privilege],
                )
                .unwrap_or_else(|error| panic!("{}: {attempt:?}: {error:?}", feature.name));
            let verdict: String = row.get(0);
            compared += 1;
            let is_denied = verdict.starts_with("Denied: permission denied");
            let agrees = match outcome {
                // The server evaluates policies for each row before it calls the functions of a
                // CHECK.
                Outcome::Denied(message) if message.contains("row-level security") => {
                    !is_denied || verdict.contains("permission denied for function")
                }
                Outcome::Denied(message) => {
                    verdict == format!("Denied: {message}.")
                        || attempt.privilege == "EXECUTE" && verdict.starts_with(IS_TEXT)
                        || verdict.starts_with("Allowed.") && verdict.ends_with(MENTIONS)
                }
                Outcome::Done(..) => !verdict.starts_with("Denied"),
                Outcome::Failed(_) => !is_denied,
            };
            if !agrees {
                all.push(format!("{}: {attempt:?}: {outcome:?}: {verdict}", feature.name));
            }
        }
        drop(client);
        application.drop();
    }
    assert!(all.is_empty(), "{compared} compared\n{}", all.join("\n"));
    assert!(compared > 400 || std::env::var("DRAGONFLY_FEATURE").is_ok(), "{compared}");
}
