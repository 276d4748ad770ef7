//! The bodies of routines that run with the privileges of their callers. What they need is not
//! declared, so a privilege that a plan revokes may be one that they use.

use super::step::{Revoked, Risk, Step};
use crate::catalog::{Command, Oid, PUBLIC, RoutineKind};
use crate::contract::RoleKind;
use crate::rules::Context;
use std::collections::{HashMap, HashSet};

/// A routine whose body runs with the privileges of its caller.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// The routine.
    pub routine: Oid,
    /// The routine in a sentence.
    pub name: String,
    /// The roles that may execute it by the contract, also as a trigger.
    pub roles: HashSet<Oid>,
}

/// Returns the SECURITY INVOKER routines that declared roles may execute by the contract: directly,
/// or as triggers of tables to which they may write. `triggers` are pairs of table and function.
#[must_use]
pub fn invoked(cx: &Context<'_>, triggers: &[(Oid, Oid)]) -> Vec<Invoked> {
    let roles: Vec<_> = cx
        .contract
        .roles
        .iter()
        .filter(|r| r.kind != RoleKind::Owner)
        .filter_map(|r| cx.snapshot.role_named(&r.name))
        .collect();
    let mut writers: HashMap<Oid, HashSet<Oid>> = HashMap::new();
    for (table, function) in triggers {
        let Some(table) = cx.snapshot.relation(*table) else { continue };
        let Some(schema) = cx.governed(table.schema) else { continue };
        let may_write = |role: &&&crate::catalog::Role| {
            let declared = cx.declared_on_relation(table, schema, role);
            [Command::Insert, Command::Update, Command::Delete]
                .iter()
                .any(|command| declared.contains(command.privilege()))
        };
        let of_table = roles.iter().filter(may_write).map(|role| role.oid);
        writers.entry(*function).or_default().extend(of_table);
    }
    let mut found = Vec::new();
    for (routine, schema) in cx.routines().filter(|(r, _)| !r.security_definer) {
        if routine.kind == RoutineKind::Aggregate {
            continue;
        }
        let callers = roles.iter().filter(|role| cx.declares_execute(routine, schema, role));
        let mut of_routine: HashSet<Oid> = callers.map(|role| role.oid).collect();
        of_routine.extend(writers.remove(&routine.oid).unwrap_or_default());
        if !of_routine.is_empty() {
            let kind = routine.object_type();
            let name = format!("{kind} {}", cx.snapshot.routine_message(routine));
            found.push(Invoked { routine: routine.oid, name, roles: of_routine });
        }
    }
    found
}

/// A body, and the words in it.
pub(super) struct Body {
    invoked: Invoked,
    source: String,
    words: HashSet<String>,
}

impl Body {
    pub(super) fn new(invoked: Invoked, source: &str) -> Self {
        let source = source.to_lowercase();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let words = source.split(|c| !is_part(c)).map(str::to_owned).collect();
        Self { invoked, source, words }
    }

    /// Whether the body mentions an object whose privilege one of the roles that run it loses.
    fn uses(&self, revoked: &Revoked) -> bool {
        let name = revoked.name.to_lowercase();
        let is_run =
            revoked.roles.iter().any(|role| *role == PUBLIC || self.invoked.roles.contains(role));
        let is_word = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
        is_run && if is_word { self.words.contains(&name) } else { self.source.contains(&name) }
    }
}

/// Raises the risk of the steps that revoke a privilege on an object which a body mentions.
pub(super) fn raise_risks(steps: &mut [Step], bodies: &[Body]) {
    for step in steps {
        let Some(revoked) = &step.revoked else { continue };
        let mut names: Vec<&str> =
            bodies.iter().filter(|b| b.uses(revoked)).map(|b| b.invoked.name.as_str()).collect();
        let Some(first) = names.first().copied() else { continue };
        names.dedup();
        let others = match names.len() - 1 {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        step.level = Some(Risk::High);
        step.risk = format!(
            "high: the body of {first}{others} mentions it and runs with the privileges of its \
             caller"
        );
    }
}
