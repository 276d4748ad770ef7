//! What the bodies of SECURITY DEFINER routines let clients do, for the rules about it.

use super::exposed::{is_of_privileged, when};
use super::reached::of_policy;
use crate::catalog::{
    BodyAccess, BodyWay, Command, DefinerBody, ObjectKind, Oid, Opening, Privileges, Relation,
    Role, Routine,
};
use crate::contract::{Severity, TableDecl};
use crate::finding::{Draft, Measure, Predicate, Verb};
use crate::fix::Fix;
use crate::rule::Rule;
use crate::rules::context::Context;
use crate::sql::{listed, safe_ident};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is wrong with the rows that a body reaches; the last is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An argument says whose rows they are.
    ByArgument,
    /// They belong to the caller in no way.
    Unscoped,
    /// A name was meant to be another one.
    NameCaptured,
}

/// Returns the clients that may call a SECURITY DEFINER routine by its name.
#[must_use]
pub fn callers<'a>(cx: &Context<'a>, routine: &Routine) -> Vec<&'a Role> {
    // Only a trigger can call these.
    if !routine.security_definer || routine.is_trigger {
        return Vec::new();
    }
    let may_execute = |role: &&Role| {
        let (owner, acl) = (routine.owner, routine.acl.as_ref());
        let held = cx.access.privileges(role.oid, owner, acl, ObjectKind::Routine);
        held.contains(Privileges::EXECUTE)
    };
    cx.clients_with_usage(routine.schema).into_iter().filter(may_execute).collect()
}

/// Calls `work` with each routine of a governed schema whose body has been read, and with the
/// clients that may call it.
pub(crate) fn each<'a>(
    cx: &Context<'a>,
    mut work: impl FnMut(&'a Routine, &'a DefinerBody, &[&'a Role]),
) {
    let bodies = &cx.snapshot.definer_bodies;
    if bodies.is_empty() {
        return;
    }
    for (routine, _) in cx.routines() {
        let Ok(at) = bodies.binary_search_by_key(&routine.oid, |body| body.routine) else {
            continue;
        };
        let callers = callers(cx, routine);
        if !callers.is_empty() {
            work(routine, &bodies[at], &callers);
        }
    }
}

/// Returns the draft of a finding about a routine and a client: that it lets the client do this.
pub(crate) fn draft(
    cx: &Context<'_>,
    rule: &Rule,
    (routine, role): (&Routine, &Role),
    severity: Severity,
    (kind, what): (&str, &str),
    evidence: Value,
) -> Draft {
    let object = cx.routine_object(routine);
    let word = if object.object_type == "procedure" { "Procedure" } else { "Function" };
    let name = cx.snapshot.routine_message(routine);
    let predicate =
        Predicate { verb: Verb::Of(format!("{word} {name} lets")), rest: format!("{what}.") };
    let grantee = (role.oid, role.name.as_str());
    Draft::of_grantee(object, severity, grantee, predicate)
        .key(kind)
        .evidence(evidence)
        .fix(Fix::Proposal(format!("{word} {name}:\n{}", rule.fix)))
        .measure(Measure::excess(kind, vec![]))
}

/// Adds a finding for each table, command and client whose worst fault is this one.
pub(crate) fn report(
    cx: &Context<'_>,
    rule: &Rule,
    fault: Fault,
    describe: &dyn Fn(&BodyWay) -> String,
    out: &mut Vec<Draft>,
) {
    each(cx, |routine, body, callers| {
        if is_declared(cx, routine) {
            return;
        }
        for role in callers {
            let accesses = body.accesses.iter().filter(|(client, _)| *client == role.oid);
            let accesses: Vec<&BodyAccess> = accesses.flat_map(|(_, of)| of).collect();
            for (relation, command) in targets(cx, &accesses) {
                let table = Table::of(cx, relation, role, command);
                let of_table = accesses
                    .iter()
                    .filter(|of| (of.relation, of.command) == (relation.oid, command));
                let faults = of_table.flat_map(|access| {
                    let ways = access.ways.iter();
                    ways.filter_map(|way| {
                        Some((table.fault(way)?, table.severity(access, way), way))
                    })
                });
                // Of several ways, the worst is reported: with the shortest example.
                let worst = faults.max_by_key(|(fault, severity, way)| {
                    (*severity, *fault, std::cmp::Reverse(way.witness.len()))
                });
                let Some((_, severity, way)) = worst.filter(|(found, ..)| *found == fault) else {
                    continue;
                };
                let is_asked_only = of_only_asked(&accesses, relation.oid, command);
                let verb = match command {
                    Command::Select if is_asked_only => "ask for",
                    Command::Select => "read",
                    Command::Insert => "insert",
                    Command::Update => "update",
                    Command::Delete => "delete",
                };
                let name = cx.snapshot.relation_sql(relation);
                let what = format!("{verb} rows of table {name} {}", describe(way));
                let evidence = json!({
                    "table": name,
                    "command": command.as_str(),
                    "witness": way.witness,
                });
                let kind = format!("{} {name}", command.as_str());
                let severity = severity.min(rule.severity);
                out.push(draft(cx, rule, (routine, role), severity, (&kind, &what), evidence));
            }
        }
    });
}

/// Adds a finding for each client and table that a body names and that is not read in it, unless
/// something is found about the rows of the table.
pub(crate) fn report_unread(cx: &Context<'_>, rule: &Rule, out: &mut Vec<Draft>) {
    each(cx, |routine, body, callers| {
        let Some(why) = &body.unread else { return };
        // Text of the caller's can do anything: that is reported.
        if is_declared(cx, routine) || body.executed.is_some() {
            return;
        }
        for role in callers {
            let accesses = body.accesses.iter().filter(|(client, _)| *client == role.oid);
            let accesses: Vec<&BodyAccess> = accesses.flat_map(|(_, of)| of).collect();
            let is_found = |relation: &&Relation| {
                let of_table = accesses.iter().filter(|of| of.relation == relation.oid);
                of_table.into_iter().any(|access| {
                    let table = Table::of(cx, relation, role, access.command);
                    access.ways.iter().any(|way| table.fault(way).is_some())
                })
            };
            let tables = body.named.iter().filter_map(|oid| cx.snapshot.relation(*oid));
            let names: Vec<String> = tables
                .filter(|relation| !is_found(relation))
                .filter(|relation| !reaches_all_of(cx, body, relation, role))
                .map(|relation| cx.snapshot.relation_sql(relation))
                .collect();
            if names.is_empty() {
                continue;
            }
            let word = if names.len() == 1 { "table" } else { "tables" };
            let what = format!("reach {word} {} in a way that is not known: {why}", listed(&names));
            let evidence = json!({"tables": names, "why": why});
            let of = (routine, *role);
            out.push(draft(cx, rule, of, Severity::Info, ("unread", &what), evidence));
        }
    });
}

/// Whether a client reaches every row of a table without a routine whose body is not read: to read
/// it, and to do what statements in the body do.
fn reaches_all_of(cx: &Context<'_>, body: &DefinerBody, relation: &Relation, role: &Role) -> bool {
    let written = body.written.iter().filter(|(oid, _)| *oid == relation.oid);
    let written = written.map(|(_, command)| *command);
    std::iter::once(Command::Select).chain(written).all(|command| {
        let table = Table::of(cx, relation, role, command);
        table.reaches_all || table.may_append()
    })
}

/// Returns ` when `, and what holds for the rows.
pub(crate) fn when_of(way: &BodyWay) -> String {
    when(&way.witness)
}

/// Whether the contract says that the rows a routine reaches are not its caller's.
fn is_declared(cx: &Context<'_>, routine: &Routine) -> bool {
    let schema = cx.snapshot.schema_name(routine.schema);
    let mut named = cx.contract.functions_named(schema, &routine.name);
    named.any(|of| of.all_rows && cx.has_arguments(routine, of.arguments.as_deref()))
}

fn of_only_asked(accesses: &[&BodyAccess], relation: Oid, command: Command) -> bool {
    let mut of_table =
        accesses.iter().filter(|of| (of.relation, of.command) == (relation, command));
    of_table.all(|of| of.is_asked_only)
}

/// Returns the governed tables with row security, and what is done with their rows.
fn targets<'a>(cx: &Context<'a>, accesses: &[&BodyAccess]) -> Vec<(&'a Relation, Command)> {
    let mut found: Vec<(&Relation, Command)> = Vec::new();
    for access in accesses {
        let relation = cx
            .snapshot
            .relation(access.relation)
            .filter(|relation| relation.row_security && cx.governed(relation.schema).is_some());
        let Some(relation) = relation else { continue };
        if !found.iter().any(|(of, command)| (of.oid, *command) == (relation.oid, access.command)) {
            found.push((relation, access.command));
        }
    }
    found
}

/// What is known of the rows of a table that a client reaches without the routine.
struct Table<'a> {
    cx: &'a Context<'a>,
    declared: Option<&'a TableDecl>,
    role: &'a Role,
    command: Command,
    /// The columns by which rows belong to callers.
    keys: BTreeSet<String>,
    /// Whether the client reaches every row.
    reaches_all: bool,
    /// The columns of which a value opens a row to the client.
    opened_by: Vec<BTreeSet<String>>,
}

/// Whether a row has null where the number of the user belongs, because there is no user: it is
/// the row of no caller.
fn is_without_owner(way: &BodyWay) -> bool {
    let is_null = |[_, operator, value]: &&[String; 3]| operator == "IS" && value == "NULL";
    let nulls: Vec<&[String; 3]> = way.witness.iter().filter(is_null).collect();
    nulls.iter().any(|[of, ..]| of == "user") && nulls.iter().any(|[of, ..]| of.starts_with("R."))
}

impl<'a> Table<'a> {
    fn of(cx: &'a Context<'a>, relation: &Relation, role: &'a Role, command: Command) -> Self {
        let schema = cx.snapshot.schema_name(relation.schema);
        let declared = cx.contract.table(schema, &relation.name);
        let mut keys: BTreeSet<String> =
            declared.into_iter().flat_map(|table| table.keys.iter().cloned()).collect();
        let all_rows = declared.and_then(|table| table.all_rows_commands(&role.name));
        let mut reaches_all = all_rows.is_some_and(|commands| commands.contains(&command));
        let mut opened_by = Vec::new();
        for policy in cx.snapshot.policies_of(relation.oid).iter().filter(|of| of.permissive) {
            for found in of_policy(cx, policy) {
                keys.extend(found.exposure.ties.iter().flatten().cloned());
                let is_asked = found.role == role.oid && found.command == command;
                if is_asked && cx.reaches(role, relation) {
                    reaches_all |= found.exposure.is_always_true || found.exposure.ignores_row;
                    let open = found.exposure.open.iter();
                    let open = open.filter(|of| of.opening == Opening::RowOpen);
                    opened_by.extend(open.map(|of| of.columns.clone()));
                }
            }
        }
        Self { cx, declared, role, command, keys, reaches_all, opened_by }
    }

    /// Returns what is wrong with a way; `None` where nothing is, or nothing is known of it.
    fn fault(&self, way: &BodyWay) -> Option<Fault> {
        let is_unknown = matches!(
            way.opening,
            Opening::Opaque
                | Opening::ForeignOperator
                | Opening::SettableParameter
                | Opening::Email
        );
        let is_of_privileged = way.opening == Opening::LookupUncorrelated
            && !way.lookups.is_empty()
            && is_of_privileged(self.cx, &way.lookups);
        if self.reaches_all || is_of_privileged || self.is_opened(way) || self.is_meant(way) {
            return None;
        }
        if way.captured.is_some() {
            return Some(Fault::NameCaptured);
        }
        let is_by_key = self.command != Command::Insert
            && way.by_argument.iter().any(|column| self.keys.contains(column));
        match (is_unknown, is_by_key) {
            (true, _) => None,
            (_, true) => Some(Fault::ByArgument),
            // What the caller has no part in is none of its rows.
            _ if self.command == Command::Insert
                && (!way.has_argument || is_without_owner(way)) =>
            {
                None
            }
            _ => Some(Fault::Unscoped),
        }
    }

    /// Whether a policy opens the same rows.
    fn is_opened(&self, way: &BodyWay) -> bool {
        let is_free = way.opening == Opening::RowOpen && !way.has_argument;
        let declared = self.declared.and_then(|table| table.open_rows.get(&self.role.name));
        self.command == Command::Select
            && is_free
            && (self.opened_by.iter().any(|columns| columns.is_superset(&way.columns))
                || declared.is_some_and(|open| way.columns.iter().all(|of| open.contains(of))))
    }

    fn is_meant(&self, way: &BodyWay) -> bool {
        way.captured.is_none() && self.may_append()
    }

    /// Whether the contract says that the client adds rows of any kind.
    fn may_append(&self) -> bool {
        let may_append = |table: &TableDecl| table.append_only_by.contains(&self.role.name);
        self.command == Command::Insert && self.declared.is_some_and(may_append)
    }

    /// Returns the severity: what is only asked for, and rows that a value of a column opens, are
    /// information.
    fn severity(&self, access: &BodyAccess, way: &BodyWay) -> Severity {
        let is_open = way.opening == Opening::RowOpen && !way.has_argument;
        let is_read = self.command == Command::Select;
        match way.captured {
            None if access.is_asked_only || (is_read && is_open) => Severity::Info,
            _ => Severity::Error,
        }
    }
}

/// Returns an argument as a sentence names it.
pub(crate) fn argument(name: &str) -> String {
    // No argument has a name with a dot, unless it is quoted.
    let noun = if name.starts_with("request.") { "setting" } else { "argument" };
    format!("{noun} {}", safe_ident(name))
}
