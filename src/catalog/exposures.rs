//! What policies let roles reach.

use super::expressions::Mentioned;
use super::stored_policies::{StoredPolicy, stored_policies};
use crate::pg::heap::{State, interrupts};
use crate::pg::privileges;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Command, Exposure, Oid, PolicyExposure, Relation, Rows, Snapshot};
use dragonfly_core::contract::{Contract, SchemaDecl, TableDecl};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Question, exposure};
use dragonfly_core::rules::Context;
use dragonfly_core::stored::Expression;
use pgrx::pg_sys;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Adds to a snapshot what the policies of its governed tables let clients reach: of those tables
/// that are wanted. Returns false, and adds nothing, where that takes longer than it may.
///
/// Conditions and privileges are those of the state. What they look up, and the texts of functions,
/// are read as they are now: a state without the changes of a transaction has only the rows of
/// catalogs.
#[must_use]
pub fn add_exposures(
    state: &State,
    contract: &Contract,
    snapshot: &mut Snapshot,
    is_wanted: &dyn Fn(Option<&TableDecl>) -> bool,
    most: Option<Duration>,
) -> bool {
    if snapshot.policies.is_empty() {
        return true;
    }
    let (start, access) = (Instant::now(), Access::new(snapshot));
    let cx = Context::new(contract, snapshot, &access, &interrupts);
    let wanted = |(table, schema): &(&Relation, &SchemaDecl)| {
        table.row_security && is_wanted(contract.table(&schema.name, &table.name))
    };
    let tables = cx.relations().filter(wanted).map(|(table, _)| table);
    let read: Vec<(Oid, Vec<Oid>)> = tables
        .filter(|table| !snapshot.policies_of(table.oid).is_empty())
        .map(|table| (table.oid, cx.clients_limited_by_policies(table)))
        .filter(|(_, clients)| !clients.is_empty())
        .collect();
    let (catalog, identities) = (Mentioned::with_texts(state), contract.identities());
    let mut found = Vec::new();
    for (table, clients) in read {
        if most.is_some_and(|most| start.elapsed() > most) {
            return false;
        }
        let policies = stored_policies(state, table);
        found.extend(exposures(&catalog, &identities, table, &policies, None, &clients));
    }
    found.sort_by_key(|found| found.policy);
    snapshot.exposures = Rc::new(found);
    true
}

/// Returns what permissive policies of a table let roles reach with the commands that they have a
/// privilege for: those that are `asked` for, of all policies of the table. Row security applies to
/// the roles.
pub fn exposures(
    catalog: &Mentioned<'_>,
    identities: &Identities,
    relation: Oid,
    policies: &[StoredPolicy],
    asked: Option<&str>,
    roles: &[Oid],
) -> Vec<PolicyExposure> {
    let mut found = Vec::new();
    let is_asked = |of: &&StoredPolicy| of.is_permissive && asked.is_none_or(|n| of.name == n);
    for policy in policies.iter().filter(is_asked) {
        for role in roles {
            // Most commands ask the same conditions.
            let mut known: HashMap<Asked, Rc<Exposure>> = HashMap::new();
            for (command, rows) in QUESTIONS {
                interrupts();
                if !policy.is_for(command, *role) || !has_privilege(*role, relation, command) {
                    continue;
                }
                let others = policies.iter().filter(|other| !other.is_permissive);
                let restrictive: Vec<&Expression> = others
                    .filter(|other| other.is_for(command, *role))
                    .filter_map(|other| other.condition(rows))
                    .collect();
                let condition = policy.condition(rows);
                let asked = (
                    condition.map(std::ptr::from_ref),
                    restrictive.iter().map(|of| std::ptr::from_ref(*of)).collect(),
                );
                let question = Question {
                    catalog,
                    identities,
                    relation,
                    role: *role,
                    condition,
                    restrictive: &restrictive,
                };
                let exposure = known.entry(asked).or_insert_with(|| exposure(&question).into());
                found.push(PolicyExposure {
                    policy: policy.oid,
                    role: *role,
                    command,
                    rows,
                    exposure: Rc::clone(exposure),
                });
            }
        }
    }
    found
}

/// A condition and those of restrictive policies, by where they are.
type Asked = (Option<*const Expression>, Vec<*const Expression>);

/// What a policy is asked.
const QUESTIONS: [(Command, Rows); 5] = [
    (Command::Select, Rows::Existing),
    (Command::Insert, Rows::New),
    (Command::Update, Rows::Existing),
    (Command::Update, Rows::New),
    (Command::Delete, Rows::Existing),
];

/// Whether a role has the privilege for a command on a table, or on a column of it.
fn has_privilege(role: Oid, relation: Oid, command: Command) -> bool {
    let privilege = match command {
        Command::Select => pg_sys::ACL_SELECT,
        Command::Insert => pg_sys::ACL_INSERT,
        Command::Update => pg_sys::ACL_UPDATE,
        Command::Delete => pg_sys::ACL_DELETE,
    };
    privileges::on_part(role, relation, privilege)
}
