//! What the page shows, in the order in which it shows it.

use super::super::formats::{counts, exemption};
use super::super::overview::role_matrix;
use super::super::policies::{PolicyRow, Reach, rls_policies};
use crate::catalog::{Caller, Command, ObjectKind, PUBLIC, Privileges, Relation, Routine, Schema};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::rules::{Context, required_object_missing, rls_policy_missing, role_missing};
use crate::search_path::Verdict;
use crate::sql::printable;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What identifies the report.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Head {
    pub database: String,
    /// The time, as the server writes it.
    pub at: String,
    /// The version of the program.
    pub version: String,
    /// The release of the server.
    pub server: String,
}

/// A component of the guard, as `ops.guard_status()` returns it.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct GuardPart {
    pub name: String,
    pub active: bool,
    pub detail: String,
    pub gap: Option<String>,
    pub fix: Option<String>,
}

/// How much the page shows of long lists. It says how much it leaves out.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Limits {
    pub first: usize,
    pub findings: usize,
    pub tables: usize,
    pub routines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { first: 10, findings: 1_000, tables: 500, routines: 500 }
    }
}

/// The whole page.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Page {
    pub head: Head,
    pub contract: String,
    pub contract_version: String,
    /// Whether there is no error.
    pub conforms: bool,
    pub verdict: String,
    pub first: List<Item>,
    pub matrix: Matrix,
    pub tables: List<Table>,
    pub findings: List<Item>,
    pub exempt: List<Item>,
    pub routines: List<Definer>,
    pub guard: Vec<GuardPart>,
}

/// The first elements of a list, and how many others there are.
#[derive(Debug, Clone, Serialize)]
pub struct List<T> {
    shown: Vec<T>,
    others: usize,
}

impl<T> List<T> {
    fn of(all: impl IntoIterator<Item = T>, most: usize) -> Self {
        let mut all = all.into_iter();
        Self { shown: all.by_ref().take(most).collect(), others: all.count() }
    }
}

/// Who is concerned by a finding, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Exposure {
    /// Everyone who can send a request.
    Anyone,
    /// Users of the application.
    Clients,
    /// Other roles, or none in particular.
    Others,
    /// No role has too much: something that is declared does not work.
    Missing,
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    severity: &'static str,
    exposure: Exposure,
    rule: &'static str,
    title: &'static str,
    why: &'static str,
    object_type: String,
    object: String,
    detail: String,
    fix: Option<String>,
    /// An example of a row and a session, where the finding has one.
    witness: Option<String>,
    section: Option<String>,
    fingerprint: String,
    exempt: Option<String>,
}

/// Roles and schemas.
#[derive(Debug, Clone, Serialize)]
pub struct Matrix {
    roles: Vec<String>,
    rows: Vec<MatrixRow>,
}

#[derive(Debug, Clone, Serialize)]
struct MatrixRow {
    schema: String,
    cells: Vec<MatrixCell>,
}

#[derive(Debug, Clone, Serialize)]
struct MatrixCell {
    declared: String,
    actual: Option<String>,
    conforms: bool,
    /// The most that the role may do: for the colour, and as a word.
    most: &'static str,
}

/// A table that clients can access, or that has row security.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    name: String,
    row_security: bool,
    access: Vec<Access>,
    policies: Vec<Policy>,
    problems: usize,
}

/// What a client may do with rows of a table.
#[derive(Debug, Clone, Serialize)]
struct Access {
    role: String,
    commands: Vec<&'static str>,
    /// Whether each row is meant: row security does not limit it.
    is_unlimited: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Policy {
    name: String,
    kind: &'static str,
    roles: Vec<String>,
    command: &'static str,
    /// What its condition lets clients reach.
    facts: Vec<String>,
}

/// A SECURITY DEFINER routine.
#[derive(Debug, Clone, Serialize)]
pub struct Definer {
    name: String,
    owner: String,
    path: Option<String>,
    verdict: &'static str,
    is_safe: bool,
    reasons: Vec<String>,
    callers: Vec<String>,
}

impl Page {
    /// Returns what the page shows: `findings` of the audit, the most severe first, exempt ones
    /// included; a context whose snapshot has what policies let clients reach; and the status of
    /// the guard.
    #[must_use]
    pub fn of(
        cx: &Context<'_>,
        findings: &[Finding],
        guard: Vec<GuardPart>,
        head: Head,
        limits: Limits,
    ) -> Self {
        let open = || findings.iter().filter(|finding| exemption(finding).is_none());
        let exempt = findings.iter().filter(|finding| exemption(finding).is_some());
        let conforms = open().all(|finding| finding.severity < Severity::Error);
        let item = |finding| Item::of(cx, finding);
        let mut first: Vec<Item> =
            open().filter(|finding| finding.severity > Severity::Info).map(item).collect();
        // Findings are in order of severity, which remains where exposure is the same.
        first.sort_by_key(|item| (item.exposure == Exposure::Missing, item.rank(), item.exposure));
        Self {
            contract: printable(&cx.contract.name).into_owned(),
            contract_version: cx.contract.version.clone(),
            conforms,
            verdict: verdict(&counts(open())),
            first: List::of(first, limits.first),
            matrix: Matrix::of(cx),
            tables: tables(cx, findings, limits.tables),
            findings: List::of(open().map(item), limits.findings),
            exempt: List::of(exempt.map(item), limits.findings),
            routines: definers(cx, limits.routines),
            guard,
            head,
        }
    }
}

fn verdict(counts: &str) -> String {
    if counts.is_empty() {
        "The database conforms to its contract.".to_owned()
    } else {
        format!("The database differs from its contract: {counts}.")
    }
}

impl Item {
    fn of(cx: &Context<'_>, finding: &Finding) -> Self {
        let Finding { rule, severity, object, detail, fix, fingerprint, evidence, .. } = finding;
        Self {
            severity: severity.as_str(),
            exposure: exposure(cx, finding),
            rule: rule.id,
            title: rule.title,
            why: rule.why,
            object_type: object.type_in_message().to_string(),
            object: printable(&object.identity).into_owned(),
            detail: detail.clone(),
            fix: fix.sql(),
            witness: witness(&evidence["witness"]),
            section: cx.contract.section(rule.id).map(|section| printable(section).into_owned()),
            fingerprint: fingerprint.clone(),
            exempt: exemption(finding).map(|reason| printable(reason).into_owned()),
        }
    }

    /// Returns the place of the severity, the worst first.
    fn rank(&self) -> usize {
        Severity::ALL.iter().position(|of| of.as_str() == self.severity).unwrap_or_default()
    }
}

/// The rules about something that is declared and does not exist.
static MISSING: [&Rule; 3] =
    [&required_object_missing::RULE, &rls_policy_missing::RULE, &role_missing::RULE];

/// Returns who is concerned by a finding.
fn exposure(cx: &Context<'_>, finding: &Finding) -> Exposure {
    let is_missing = finding.evidence["problem"] == "missing";
    if is_missing || MISSING.iter().any(|rule| rule.id == finding.rule.id) {
        return Exposure::Missing;
    }
    let sessions = &cx.contract.identities().sessions;
    let is_anyone = |role: &String| {
        role == "PUBLIC"
            || cx.snapshot.anonymous.contains(role)
            || sessions.get(role) == Some(&Caller::Without)
    };
    let is_client = |role: &String| cx.clients.iter().any(|client| client.name == *role);
    if finding.roles.iter().any(is_anyone) {
        Exposure::Anyone
    } else if finding.roles.iter().any(is_client) {
        Exposure::Clients
    } else {
        Exposure::Others
    }
}

/// Returns the example of a finding: its parts, joined.
fn witness(witness: &Value) -> Option<String> {
    let text = match witness {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(printable(&text).into_owned())
}

impl Matrix {
    fn of(cx: &Context<'_>) -> Self {
        let cells = role_matrix(cx);
        let mut roles: Vec<String> = Vec::new();
        let mut rows: Vec<MatrixRow> = Vec::new();
        let mut by_role: BTreeMap<String, usize> = BTreeMap::new();
        for cell in cells {
            let number = *by_role.entry(cell.role.clone()).or_insert_with(|| {
                roles.push(printable(&cell.role).into_owned());
                roles.len() - 1
            });
            let schema = printable(&cell.schema).into_owned();
            if rows.last().is_none_or(|row| row.schema != schema) {
                rows.push(MatrixRow { schema, cells: Vec::new() });
            }
            let row = rows.last_mut().expect("a row has been added");
            debug_assert_eq!(row.cells.len(), number, "each row has the same roles");
            row.cells.push(MatrixCell {
                most: most(cell.actual.as_deref()),
                declared: cell.declared,
                actual: cell.actual,
                conforms: cell.conforms,
            });
        }
        Self { roles, rows }
    }
}

/// Returns the most that is among privileges which are written as words.
fn most(privileges: Option<&str>) -> &'static str {
    let Some(text) = privileges else { return "absent" };
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["ALL", "CREATE", "TRUNCATE"]) {
        "all"
    } else if has(&["INSERT", "UPDATE", "DELETE"]) {
        "write"
    } else if has(&["SELECT", "EXECUTE"]) {
        "read"
    } else if has(&["USAGE"]) {
        "usage"
    } else {
        "none"
    }
}

/// Returns the tables that clients can access, and those with policies.
fn tables(cx: &Context<'_>, findings: &[Finding], most: usize) -> List<Table> {
    let mut policies: BTreeMap<(String, String), Vec<Policy>> = BTreeMap::new();
    for row in rls_policies(cx) {
        let key = (row.schema.to_owned(), row.table.to_owned());
        policies.entry(key).or_default().push(Policy::of(row));
    }
    let mut problems: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings.iter().filter(|of| exemption(of).is_none()) {
        // A policy is on the table that its identity ends with.
        let identity = finding.object.identity.as_str();
        let table = identity.rsplit_once(" on ").map_or(identity, |(_, table)| table);
        *problems.entry(table).or_default() += 1;
    }
    let of = |(relation, schema): (&Relation, &Schema)| {
        let policies = policies.remove(&(schema.name.clone(), relation.name.clone()));
        let access = access(cx, relation, schema);
        let identity = cx.snapshot.relation_identity(relation);
        (policies.is_some() || !access.is_empty()).then(|| Table {
            problems: problems.get(identity.as_str()).copied().unwrap_or_default(),
            name: printable(&identity).into_owned(),
            row_security: relation.row_security,
            access,
            policies: policies.unwrap_or_default(),
        })
    };
    let governed = cx.snapshot.relations.iter().filter(|of| of.kind.has_row_security());
    let governed = governed.filter_map(|relation| {
        cx.governed(relation.schema)?;
        Some((relation, cx.snapshot.schema(relation.schema)?))
    });
    let mut of = of;
    let mut found: Vec<Table> = governed.filter_map(&mut of).collect();
    found.sort_by(|a, b| (b.problems > 0, &a.name).cmp(&(a.problems > 0, &b.name)));
    List::of(found, most)
}

fn access(cx: &Context<'_>, relation: &Relation, schema: &Schema) -> Vec<Access> {
    let in_schema = |role| {
        cx.access
            .privileges(role, schema.owner, schema.acl.as_ref(), ObjectKind::Schema)
            .contains(Privileges::USAGE)
    };
    let of = |client: &&crate::catalog::Role| {
        let held = cx.access.relation_privileges(client.oid, relation);
        let commands = Command::ALL.into_iter();
        let commands = commands.filter(|command| held.contains(command.privilege()));
        let commands: Vec<&'static str> = commands.map(Command::as_str).collect();
        (!commands.is_empty() && in_schema(client.oid)).then(|| Access {
            role: printable(&client.name).into_owned(),
            commands,
            is_unlimited: !relation.row_security
                || !cx.access.is_limited_by_policies(client.oid, relation),
        })
    };
    cx.clients.iter().filter_map(of).collect()
}

impl Policy {
    fn of(row: PolicyRow<'_>) -> Self {
        let roles = row.roles.iter().map(|role| printable(role).into_owned());
        Self {
            name: printable(&row.policy.name).into_owned(),
            kind: if row.policy.permissive { "permissive" } else { "restrictive" },
            roles: roles.collect(),
            command: row.policy.command.map_or("ALL", Command::as_str),
            facts: row.reach.map(facts).unwrap_or_default(),
        }
    }
}

/// Returns what a policy lets clients reach, each with a word for what it is.
fn facts(reach: Reach) -> Vec<String> {
    let Reach { ties, open_when, lookups, unknown_because } = reach;
    let is_tied = !ties.is_empty();
    let each = [
        ("tied by", ties),
        ("open:", open_when),
        ("looks up", lookups),
        ("not read:", unknown_because),
    ];
    let each = each.into_iter().filter(|(_, all)| !all.is_empty());
    let mut facts: Vec<String> =
        each.map(|(word, all)| format!("{word} {}", printable(&all.join(", ")))).collect();
    if !is_tied {
        facts.insert(0, "not tied to the caller".to_owned());
    }
    facts
}

/// Returns the SECURITY DEFINER routines of governed schemas, those with a problem first.
fn definers(cx: &Context<'_>, most: usize) -> List<Definer> {
    let is_shown =
        |routine: &&Routine| routine.security_definer && cx.governed(routine.schema).is_some();
    let of = |routine: &Routine| {
        let assessment = cx.paths.routine(routine);
        let executes = |oid| {
            cx.access
                .privileges(oid, routine.owner, routine.acl.as_ref(), ObjectKind::Routine)
                .contains(Privileges::EXECUTE)
        };
        let mut callers: Vec<String> = Vec::new();
        if executes(PUBLIC) {
            callers.push("PUBLIC".to_owned());
        } else {
            let clients = cx.clients.iter().filter(|client| executes(client.oid));
            callers.extend(clients.map(|client| printable(&client.name).into_owned()));
        }
        let path = routine.config.iter().find(|of| of.starts_with("search_path="));
        Definer {
            name: printable(&cx.snapshot.routine_identity(routine)).into_owned(),
            owner: printable(&cx.snapshot.role_name(routine.owner)).into_owned(),
            path: path.map(|path| printable(&path["search_path=".len()..]).into_owned()),
            verdict: assessment.verdict.as_str(),
            is_safe: assessment.verdict == Verdict::Safe,
            reasons: assessment.reasons.iter().map(ToString::to_string).collect(),
            callers,
        }
    };
    let mut found: Vec<Definer> = cx.snapshot.routines.iter().filter(is_shown).map(of).collect();
    found.sort_by(|a, b| {
        let key = |of: &Definer| (of.is_safe, of.callers.is_empty());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    List::of(found, most)
}
