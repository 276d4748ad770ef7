//! What policies let roles reach.

use super::expressions::{Mentioned, has_active_policies};
use super::objects::{relation_named, schema_named};
use super::publications::publications;
use super::stored_policies::{StoredPolicy, stored_policies};
use super::unique_keys::unique_keys;
use crate::pg::heap::{State, interrupts};
use crate::pg::privileges;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{
    Command, Exposure, Oid, PolicyExposure, Relation, Rows, Snapshot, StoragePolicy,
};
use dragonfly_core::contract::{Contract, SchemaDecl, TableDecl};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Question, exposure, is_covered};
use dragonfly_core::rules::Context;
use dragonfly_core::stored::Expression;
use pgrx::pg_sys;
use std::collections::{HashMap, HashSet};
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

/// Adds to a snapshot of the whole catalog, as it is now, what tells of rows that policies hide:
/// unique keys and publications; and what the policies of storage.objects let clients reach.
pub fn add_hidden_rows(state: &State, contract: &Contract, snapshot: &mut Snapshot) {
    snapshot.publications = Rc::new(publications(state));
    let access = Access::new(snapshot);
    let cx = Context::new(contract, snapshot, &access, &interrupts);
    let clients: Vec<Oid> = cx.clients.iter().map(|client| client.oid).collect();
    let (catalog, identities) = (Mentioned::with_texts(state), contract.identities());
    let files = files_of_storage(state, &catalog, &identities, &clients);
    let tables = cx.relations().map(|(table, _)| table).filter(|table| table.row_security);
    let limited = tables.filter(|table| !cx.clients_limited_by_policies(table).is_empty());
    let keys = limited.flat_map(|table| unique_keys(state, table.oid)).collect();
    snapshot.unique_keys = Rc::new(keys);
    snapshot.storage_policies = Rc::new(files);
}

/// Returns the roles that policies limit on a table.
fn limited(roles: &[Oid], table: Oid) -> Vec<Oid> {
    roles.iter().copied().filter(|role| has_active_policies(*role, table)).collect()
}

/// Returns the permissive policies of storage.objects, if there is such a table, with what they let
/// clients reach. The platform manages the table, and the application its policies.
fn files_of_storage(
    state: &State,
    catalog: &Mentioned<'_>,
    identities: &Identities,
    clients: &[Oid],
) -> Vec<StoragePolicy> {
    let schema = schema_named(c"storage");
    let Some(table) = schema.and_then(|schema| relation_named(schema, "objects")) else {
        return Vec::new();
    };
    let limited = limited(clients, table);
    if limited.is_empty() {
        return Vec::new();
    }
    let policies = stored_policies(state, table);
    let mut found = exposures(catalog, identities, table, &policies, None, &limited);
    let permissive = policies.into_iter().filter(|policy| policy.is_permissive);
    let with_exposures = permissive.map(|policy| StoragePolicy {
        oid: policy.oid,
        exposures: found.extract_if(.., |of| of.policy == policy.oid).collect(),
        name: policy.name,
    });
    with_exposures.collect()
}

/// Returns what permissive policies of a table let roles reach with the commands that they have a
/// privilege for: those that are `asked_for`, of all policies of the table. Row security applies to
/// the roles.
pub fn exposures(
    catalog: &Mentioned<'_>,
    identities: &Identities,
    relation: Oid,
    policies: &[StoredPolicy],
    asked_for: Option<&str>,
    roles: &[Oid],
) -> Vec<PolicyExposure> {
    let mut found = Vec::new();
    let is_asked = |of: &&StoredPolicy| of.is_permissive && asked_for.is_none_or(|n| of.name == n);
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
                let exposure = Rc::clone(exposure);
                let is_alone = asked_for.is_some() || exposure.is_never_true;
                let covered_by = if is_alone {
                    None
                } else {
                    covering(&question, policies, policy, (command, rows))
                };
                found.push(PolicyExposure {
                    policy: policy.oid,
                    role: *role,
                    command,
                    rows,
                    exposure,
                    covered_by,
                });
            }
        }
    }
    leave_open(&mut found);
    found
}

/// The maximum number of permissive policies of a table that are compared with each other.
const MOST_COMPARED: usize = 20;

/// Returns a permissive policy that lets through what another one does. Of two that let the same
/// through, it is the first.
fn covering(
    question: &Question<'_>,
    policies: &[StoredPolicy],
    policy: &StoredPolicy,
    (command, rows): (Command, Rows),
) -> Option<Oid> {
    let is_other = |of: &&StoredPolicy| of.is_permissive && of.is_for(command, question.role);
    let all: Vec<&StoredPolicy> = policies.iter().filter(is_other).collect();
    if all.len() > MOST_COMPARED {
        return None;
    }
    let mut is_earlier = true;
    let other = all.into_iter().find(|other| {
        interrupts();
        if other.oid == policy.oid {
            is_earlier = false;
            return false;
        }
        let Some(condition) = other.condition(rows) else { return false };
        let turned = Question { condition: Some(condition), ..*question };
        is_covered(question, condition)
            && (is_earlier || question.condition.is_some_and(|own| !is_covered(&turned, own)))
    });
    other.map(|other| other.oid)
}

/// Leaves out where a policy adds nothing to one that opens every row: that one is at fault.
fn leave_open(found: &mut [PolicyExposure]) {
    let is_open = |of: &&PolicyExposure| of.exposure.is_always_true || of.exposure.ignores_row;
    let key = |of: &PolicyExposure| (of.policy, of.role, of.command, of.rows == Rows::New);
    let open: HashSet<_> = found.iter().filter(is_open).map(key).collect();
    for of in found {
        let (role, command, is_new) = (of.role, of.command, of.rows == Rows::New);
        of.covered_by =
            of.covered_by.filter(|other| !open.contains(&(*other, role, command, is_new)));
    }
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
