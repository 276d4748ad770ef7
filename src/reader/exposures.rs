//! What policies let roles reach.

use crate::expressions::Mentioned;
use crate::objects::relation_named;
use crate::question::{Conditions, QUESTIONS};
use crate::rights::Rights;
use crate::row_triggers::RowTriggers;
use crate::source::State;
use crate::stored_policies::{StoredPolicy, stored_policies};
use crate::unique_keys::unique_keys;
use dragonfly_core::catalog::{
    Command, Exposure, Oid, PolicyExposure, Relation, RelationKind, Rows, Snapshot, StoragePolicy,
    UniqueKey,
};
use dragonfly_core::contract::{SchemaDecl, TableDecl};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{Question, exposure, is_covered};
use dragonfly_core::rules::Context;
use dragonfly_core::stored::Expression;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Returns what the policies of governed tables let clients reach: of those tables that are wanted.
/// The others are returned for which there is no more time.
///
/// Everything is read in the state of `catalog`; see [`Mentioned::earlier`] for the one exception.
pub fn exposures_of_clients(
    state: &dyn State,
    cx: &Context<'_>,
    (catalog, identities): (&Mentioned<'_>, &Identities),
    is_wanted: &dyn Fn(Option<&TableDecl>) -> bool,
    most: Option<Duration>,
) -> (Rc<Vec<PolicyExposure>>, Vec<Oid>) {
    let start = Instant::now();
    let wanted = |(table, schema): &(&Relation, &SchemaDecl)| {
        table.row_security && is_wanted(cx.contract.table(&schema.name, &table.name))
    };
    let tables = cx.relations().filter(wanted).map(|(table, _)| table);
    let read = tables
        .filter(|table| !cx.snapshot.policies_of(table.oid).is_empty())
        .map(|table| (table.oid, cx.clients_limited_by_policies(table)))
        .filter(|(_, clients)| !clients.is_empty());
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for (table, clients) in read {
        if most.is_some_and(|most| start.elapsed() > most) {
            unread.push(table);
            continue;
        }
        let policies = stored_policies(state, table);
        let ends = || most.is_some_and(|most| start.elapsed() > most || catalog.is_locked());
        let asked = (None, &*clients);
        match exposures_until(catalog, identities, table, &policies, asked, &ends) {
            Some(of_table) => found.extend(of_table),
            None => unread.push(table),
        }
    }
    found.sort_by_key(|found| found.policy);
    (Rc::new(found), unread)
}

/// Returns the unique keys of the tables of which policies hide rows from clients.
pub fn keys_of_hidden_rows(state: &dyn State, cx: &Context<'_>) -> Rc<Vec<UniqueKey>> {
    let tables = cx.relations().map(|(table, _)| table).filter(|table| table.row_security);
    let limited = tables.filter(|table| !cx.clients_limited_by_policies(table).is_empty());
    Rc::new(limited.flat_map(|table| unique_keys(state, table.oid)).collect())
}

/// Returns the permissive policies of storage.objects, if there is such a table, with what they let
/// clients reach. The platform manages the table, and the application its policies.
pub fn files_of_storage(
    state: &dyn State,
    cx: &Context<'_>,
    (catalog, identities): (&Mentioned<'_>, &Identities),
) -> Rc<Vec<StoragePolicy>> {
    let schema = cx.snapshot.schema_named("storage");
    let Some(table) = schema.and_then(|schema| relation_named(state, schema.oid, "objects")) else {
        return Rc::default();
    };
    let clients = cx.clients.iter().map(|client| client.oid);
    let limited: Vec<Oid> =
        clients.filter(|role| catalog.rights().is_limited(*role, table)).collect();
    if limited.is_empty() {
        return Rc::default();
    }
    let policies = stored_policies(state, table);
    let mut found = exposures(catalog, identities, table, &policies, None, &limited);
    let permissive = policies.into_iter().filter(|policy| policy.is_permissive);
    let with_exposures = permissive.map(|policy| StoragePolicy {
        oid: policy.oid,
        exposures: found.extract_if(.., |of| of.policy == policy.oid).collect(),
        name: policy.name,
    });
    Rc::new(with_exposures.collect())
}

/// The maximum number of tables whose policies are read: a view can read hundreds.
const MOST_TABLES: usize = 50;

/// Returns what the policies of the tables of a snapshot let these roles reach: the one that asks,
/// and those as which views and routines are executed.
pub fn exposures_of_readers(
    (catalog, identities): (&Mentioned<'_>, &Identities),
    snapshot: &Snapshot,
    role: &str,
) -> Rc<Vec<PolicyExposure>> {
    let views = snapshot.relations.iter().filter(|relation| relation.kind == RelationKind::View);
    let definers = snapshot.routines.iter().filter(|routine| routine.security_definer);
    let roles: BTreeSet<Oid> = views
        .map(|view| view.owner)
        .chain(definers.map(|routine| routine.owner))
        .chain(snapshot.role_named(role).map(|role| role.oid))
        .collect();
    let tables = snapshot
        .relations
        .iter()
        .filter(|table| table.row_security && !snapshot.policies_of(table.oid).is_empty());
    let mut found = Vec::new();
    for table in tables.take(MOST_TABLES).map(|table| table.oid) {
        let is_limited = |role: &Oid| catalog.rights().is_limited(*role, table);
        let limited: Vec<Oid> = roles.iter().copied().filter(is_limited).collect();
        if !limited.is_empty() {
            let policies = stored_policies(catalog.state(), table);
            found.extend(exposures(catalog, identities, table, &policies, None, &limited));
        }
    }
    found.sort_by_key(|found| found.policy);
    Rc::new(found)
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
    let asked = (asked_for, roles);
    let all = exposures_until(catalog, identities, relation, policies, asked, &|| false);
    all.unwrap_or_default()
}

/// As [`exposures`], of the policies that are asked for and some roles; `None` where it `ends`
/// before all is read.
fn exposures_until(
    catalog: &Mentioned<'_>,
    identities: &Identities,
    relation: Oid,
    policies: &[StoredPolicy],
    (asked_for, roles): (Option<&str>, &[Oid]),
    ends: &dyn Fn() -> bool,
) -> Option<Vec<PolicyExposure>> {
    let (mut found, rights) = (Vec::new(), catalog.rights());
    let triggers = RowTriggers::of(catalog.state(), relation);
    let is_asked = |of: &&StoredPolicy| of.is_permissive && asked_for.is_none_or(|n| of.name == n);
    for policy in policies.iter().filter(is_asked) {
        for role in roles {
            // Most commands ask the same conditions.
            let mut known: HashMap<Asked, Rc<Exposure>> = HashMap::new();
            for (command, rows) in QUESTIONS {
                catalog.state().interrupts();
                let has_privilege = rights.on_part(*role, relation, command.privilege());
                if !policy.is_for(command, *role, rights) || !has_privilege {
                    continue;
                }
                let conditions = Conditions::of(policy, policies, *role, (command, rows), rights);
                let question = conditions.question((catalog, identities), relation, *role);
                let asked = (
                    question.condition.map(std::ptr::from_ref),
                    conditions.restrictive.iter().map(|of| std::ptr::from_ref(*of)).collect(),
                    question.written.is_some().then_some(command),
                );
                let exposure = known.entry(asked).or_insert_with(|| exposure(&question).into());
                let exposure = Rc::clone(exposure);
                if ends() {
                    return None;
                }
                let is_alone = asked_for.is_some() || exposure.is_never_true;
                let covered_by = if is_alone {
                    None
                } else {
                    covering(&question, rights, policies, policy, (command, rows))
                };
                found.push(PolicyExposure {
                    policy: policy.oid,
                    role: *role,
                    command,
                    rows,
                    exposure,
                    covered_by,
                    triggers: triggers.before(command, roles, rights),
                });
            }
        }
    }
    leave_open(&mut found);
    Some(found)
}

/// The maximum number of permissive policies of a table that are compared with each other.
const MOST_COMPARED: usize = 20;

/// Returns a permissive policy that lets through what another one does. Of two that let the same
/// through, it is the first.
fn covering(
    question: &Question<'_>,
    rights: &dyn Rights,
    policies: &[StoredPolicy],
    policy: &StoredPolicy,
    (command, rows): (Command, Rows),
) -> Option<Oid> {
    let role = question.role;
    let is_other = |of: &&StoredPolicy| of.is_permissive && of.is_for(command, role, rights);
    let all: Vec<&StoredPolicy> = policies.iter().filter(is_other).collect();
    if all.len() > MOST_COMPARED {
        return None;
    }
    let mut is_earlier = true;
    let other = all.into_iter().find(|other| {
        question.catalog.interrupts();
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

/// A condition and those of restrictive policies, by where they are, and the command that writes
/// new rows.
type Asked = (Option<*const Expression>, Vec<*const Expression>, Option<Command>);
