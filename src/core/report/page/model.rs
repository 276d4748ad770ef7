//! What the page shows, in the order in which it shows it.

use super::super::formats::{exemption, verdict};
use super::super::overview::{Cell, role_matrix};
use super::super::policies::{PolicyRow, Reach, rls_policies};
use super::super::priority::{Concerned, Exposure};
use crate::catalog::{Command, ObjectId, Oid, Relation, RelationKind, Role, Routine};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rules::Context;
use crate::rules::shared::definer_bodies::callers;
use crate::search_path::{Verdict, settings};
use crate::sql::printable;
use serde::Serialize;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::HashMap;

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
    pub views: List<View>,
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
    /// Shows the first elements; nothing is made of the others.
    fn of<E>(all: Vec<E>, most: usize, show: impl Fn(E) -> T) -> Self {
        let others = all.len().saturating_sub(most);
        Self { shown: all.into_iter().take(most).map(show).collect(), others }
    }
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    severity: &'static str,
    exposure: Exposure,
    rule: &'static str,
    title: &'static str,
    why: &'static str,
    object_type: &'static str,
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
    problems: usize,
}

/// A view that clients can access.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    name: String,
    kind: &'static str,
    /// The role whose privileges it reads with; `None` for its caller.
    owner: Option<String>,
    access: Vec<Access>,
    problems: usize,
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
        let (exempt, open): (Vec<&Finding>, Vec<&Finding>) =
            findings.iter().partition(|finding| exemption(finding).is_some());
        let concerned = Concerned::of(cx);
        let item = |finding: &Finding| Item::of(cx, finding, concerned.by(finding));
        let first = concerned.to_fix(&open);
        let problems = problems(&open);
        let count = |object| problems.get(&object).copied().unwrap_or_default();
        Self {
            contract: printable(&cx.contract.name).into_owned(),
            contract_version: cx.contract.version.clone(),
            conforms: open.iter().all(|finding| finding.severity < Severity::Error),
            verdict: verdict(&open),
            first: List::of(first, limits.first, item),
            matrix: Matrix::of(cx),
            tables: tables(cx, &count, limits.tables),
            views: views(cx, &count, limits.tables),
            routines: definers(cx, &count, limits.routines),
            findings: List::of(open, limits.findings, item),
            exempt: List::of(exempt, limits.findings, item),
            guard,
            head,
        }
    }
}

impl Item {
    fn of(cx: &Context<'_>, finding: &Finding, exposure: Exposure) -> Self {
        let Finding { rule, severity, object, detail, fix, fingerprint, evidence, .. } = finding;
        Self {
            severity: severity.as_str(),
            exposure,
            rule: rule.id,
            title: rule.title,
            why: rule.why,
            object_type: object.type_in_message(),
            object: printable(&object.identity).into_owned(),
            detail: detail.clone(),
            fix: fix.sql(),
            witness: witness(&evidence["witness"]),
            section: cx.contract.section(rule.id).map(|section| printable(section).into_owned()),
            fingerprint: fingerprint.clone(),
            exempt: exemption(finding).map(|reason| printable(reason).into_owned()),
        }
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
        let shown = |text: &str| printable(text).into_owned();
        // The cells of each schema are about the same roles, in the same order.
        let by_schema = || cells.chunk_by(|one, other| one.schema == other.schema);
        let roles = by_schema().next().unwrap_or_default().iter().map(|cell| shown(&cell.role));
        let rows = by_schema().map(|cells| MatrixRow {
            schema: shown(&cells[0].schema),
            cells: cells.iter().map(MatrixCell::of).collect(),
        });
        Self { roles: roles.collect(), rows: rows.collect() }
    }
}

impl MatrixCell {
    fn of(cell: &Cell) -> Self {
        Self {
            most: most(cell.actual.as_deref()),
            declared: cell.declared.clone(),
            actual: cell.actual.clone(),
            conforms: cell.conforms,
        }
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

/// Returns the tables that clients can access, and those with policies, the ones with findings
/// first.
fn tables(cx: &Context<'_>, count: &dyn Fn(ObjectId) -> usize, most: usize) -> List<Table> {
    let mut policies: HashMap<Oid, Vec<Policy>> = HashMap::new();
    let mut of_policies: HashMap<Oid, usize> = HashMap::new();
    for row in rls_policies(cx) {
        *of_policies.entry(row.policy.relation).or_default() +=
            count(ObjectId::Policy(row.policy.oid));
        policies.entry(row.policy.relation).or_default().push(Policy::of(row));
    }
    let mut found: Vec<Table> = Vec::new();
    for (relation, _) in cx.relations().filter(|(of, _)| of.kind.has_row_security()) {
        let policies = policies.remove(&relation.oid).unwrap_or_default();
        let access = access(cx, relation);
        if !policies.is_empty() || !access.is_empty() {
            found.push(Table {
                name: printable(&cx.snapshot.relation_identity(relation)).into_owned(),
                row_security: relation.row_security,
                access,
                policies,
                problems: count(ObjectId::Relation(relation.oid))
                    + of_policies.get(&relation.oid).copied().unwrap_or_default(),
            });
        }
    }
    found.sort_by(|a, b| b.problems.cmp(&a.problems).then_with(|| a.name.cmp(&b.name)));
    List::of(found, most, |table| table)
}

/// Returns the views that clients can access, those with the most findings first.
fn views(cx: &Context<'_>, count: &dyn Fn(ObjectId) -> usize, most: usize) -> List<View> {
    let is_view =
        |of: &&Relation| matches!(of.kind, RelationKind::View | RelationKind::MaterializedView);
    let mut found: Vec<View> = cx
        .snapshot
        .relations
        .iter()
        .filter(is_view)
        .map(|view| View {
            name: printable(&cx.snapshot.relation_identity(view)).into_owned(),
            kind: view.kind.object_type(),
            owner: (!view.security_invoker)
                .then(|| printable(&cx.snapshot.role_name(view.owner)).into_owned()),
            access: access(cx, view),
            problems: count(ObjectId::Relation(view.oid)),
        })
        .filter(|view| !view.access.is_empty())
        .collect();
    found.sort_by(|a, b| b.problems.cmp(&a.problems).then_with(|| a.name.cmp(&b.name)));
    List::of(found, most, |view| view)
}

/// Returns how many findings are about each object.
fn problems(findings: &[&Finding]) -> HashMap<ObjectId, usize> {
    let mut found = HashMap::new();
    findings.iter().for_each(|finding| *found.entry(finding.object.id).or_default() += 1);
    found
}

/// Returns what each client may do with rows of a table.
fn access(cx: &Context<'_>, relation: &Relation) -> Vec<Access> {
    let of = |client: &Role| {
        let held = cx.access.relation_privileges(client.oid, relation);
        let commands = Command::ALL.into_iter();
        let commands = commands.filter(|command| held.contains(command.privilege()));
        let commands: Vec<&'static str> = commands.map(Command::as_str).collect();
        (!commands.is_empty()).then(|| Access {
            role: printable(&client.name).into_owned(),
            commands,
            is_unlimited: !relation.row_security
                || !cx.access.is_limited_by_policies(client.oid, relation),
        })
    };
    cx.clients_with_usage(relation.schema).into_iter().filter_map(of).collect()
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
fn definers(cx: &Context<'_>, count: &dyn Fn(ObjectId) -> usize, most: usize) -> List<Definer> {
    let of = |routine: &Routine| {
        let assessment = cx.paths.routine(routine);
        let callers = callers(cx, routine).into_iter();
        let path = settings(&routine.config).last().map(|path| printable(path).into_owned());
        Definer {
            name: printable(&cx.snapshot.routine_identity(routine)).into_owned(),
            owner: printable(&cx.snapshot.role_name(routine.owner)).into_owned(),
            path,
            verdict: assessment.verdict.as_str(),
            is_safe: assessment.verdict == Verdict::Safe,
            reasons: assessment.reasons.iter().map(ToString::to_string).collect(),
            problems: count(ObjectId::Routine(routine.oid)),
            callers: callers.map(|client| printable(&client.name).into_owned()).collect(),
        }
    };
    let routines = cx.routines().map(|(routine, _)| routine);
    let mut found: Vec<Definer> = routines.filter(|of| of.security_definer).map(of).collect();
    found.sort_by(|a, b| {
        let key = |of: &Definer| (of.is_safe, Reverse(of.problems), of.callers.is_empty());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    List::of(found, most, |routine| routine)
}
