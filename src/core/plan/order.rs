//! The order of a plan: create required objects, then restrict, then grant.

use crate::catalog::ObjectId;
use crate::finding::Finding;
use crate::fix::{AclStatement, Change, Securable, Statement, Verb};
use std::collections::HashMap;
use std::rc::Rc;

/// A statement with the findings that it fixes.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub statement: Statement,
    pub findings: Vec<Rc<Finding>>,
}

/// Returns the position of a statement in a plan, as a number that grows.
pub(super) fn phase(statement: &Statement) -> u8 {
    match statement {
        Statement::Ddl(ddl) => match &ddl.change {
            Change::Guard | Change::DropRoutine(..) => 0,
            Change::AddRole(_) | Change::AlterRole { .. } | Change::ResetSetting(_) => 1,
            Change::RevokeMembership(_) => 2,
            Change::AddSchema(_) | Change::ChangeOwner { object: ObjectId::Schema(_), .. } => 3,
            Change::RevokeDefault { .. } => 4,
            Change::RevokeOnServerObject { .. } => 6,
            Change::AddRelation(..) => 5,
            // An object of a client in a schema makes every path through the schema unsafe.
            Change::ChangeOwner { .. } => 7,
            Change::AlterRoutine(..) => 8,
            Change::DropPolicy(_) | Change::PolicyRoles(..) => 9,
            // A table without policies may need no row security.
            Change::EnableRowSecurity(_) | Change::ForceRowSecurity(_) => 10,
        },
        Statement::Acl(AclStatement { verb: Verb::Grant | Verb::GrantWithOption, .. }) => 11,
        Statement::Acl(_) => 6,
    }
}

/// Returns the statements in the order of a plan: merged where one statement can do the work of
/// several, sorted by phase and object.
pub(super) fn in_order(chosen: &[Wanted]) -> Vec<Wanted> {
    let mut ordered = merge_grantees(merge_privileges(chosen));
    sort(&mut ordered);
    ordered
}

/// Merges the statements about the privileges of one role on one object.
fn merge_privileges(chosen: &[Wanted]) -> Vec<Wanted> {
    let mut merged: Vec<Wanted> = Vec::new();
    let mut places: HashMap<(Securable, Verb), Vec<usize>> = HashMap::new();
    for wanted in chosen {
        let Statement::Acl(statement) = &wanted.statement else {
            merged.push(wanted.clone());
            continue;
        };
        let same = places.entry((statement.on.clone(), statement.verb)).or_default();
        let of_role = same.iter().copied().find(|i| {
            matches!(
                &merged[*i].statement,
                Statement::Acl(known) if known.grantees == statement.grantees
            )
        });
        let Some(i) = of_role else {
            same.push(merged.len());
            merged.push(wanted.clone());
            continue;
        };
        if let Statement::Acl(known) = &mut merged[i].statement {
            known.privileges |= statement.privileges;
            known.cascade |= statement.cascade;
            let is_new = |next: &&AclStatement| !known.then.contains(next);
            let new: Vec<_> = statement.then.iter().filter(is_new).cloned().collect();
            known.then.extend(new);
        }
        merged[i].findings.extend(wanted.findings.iter().cloned());
    }
    merged
}

/// Merges the statements that grant or revoke the same for several roles.
fn merge_grantees(statements: Vec<Wanted>) -> Vec<Wanted> {
    let mut merged: Vec<Wanted> = Vec::new();
    let mut places: HashMap<AclStatement, usize> = HashMap::new();
    for wanted in statements {
        if let Statement::Acl(statement) = &wanted.statement {
            let key = AclStatement { grantees: vec![], ..statement.clone() };
            if let Some(i) = places.get(&key) {
                let known = &mut merged[*i];
                if let Statement::Acl(known) = &mut known.statement {
                    known.grantees.extend(statement.grantees.iter().cloned());
                }
                known.findings.extend(wanted.findings);
                continue;
            }
            places.insert(key, merged.len());
        }
        merged.push(wanted);
    }
    merged
}

/// Sorts by phase. Within a phase, the changes to the ACL of one object stay together, and the
/// grants that keep declared privileges come before the REVOKE from PUBLIC.
pub(super) fn sort(statements: &mut [Wanted]) {
    let mut objects: HashMap<ObjectId, usize> = HashMap::new();
    statements.sort_by_cached_key(|wanted| {
        let (place, after) = match &wanted.statement {
            Statement::Acl(s) if s.verb != Verb::Grant => {
                let next = objects.len();
                (*objects.entry(s.on.id).or_insert(next), s.verb != Verb::Keep)
            }
            _ => (0, false),
        };
        (phase(&wanted.statement), place, after)
    });
}
