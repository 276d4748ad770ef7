//! The rows that a policy lets a client reach, as the analysis of its condition found.

use crate::catalog::{
    Command, Exposure, Opening, PUBLIC, Policy, PolicyExposure, Relation, Role, Rows, TiedBy,
};
use crate::rules::context::Context;
use std::collections::BTreeSet;

/// Returns what a policy lets roles reach; nothing where that has not been read.
pub(crate) fn of_policy<'a>(
    cx: &Context<'a>,
    policy: &Policy,
) -> impl Iterator<Item = &'a PolicyExposure> + use<'a> {
    let (all, oid) = (&cx.snapshot.exposures, policy.oid);
    let first = all.partition_point(|of| of.policy < oid);
    all[first..].iter().take_while(move |of| of.policy == oid)
}

/// Returns what a policy lets a role reach with a command; `None` where that has not been read.
pub(crate) fn of_role<'a>(
    cx: &Context<'a>,
    policy: &Policy,
    role: &Role,
    command: Command,
    rows: Rows,
) -> Option<&'a Exposure> {
    let is_it =
        |of: &&PolicyExposure| of.role == role.oid && of.command == command && of.rows == rows;
    of_policy(cx, policy).find(is_it).map(|found| &*found.exposure)
}

/// Whether a policy does not restrict the rows that a command of a role reads or writes. Where it
/// has been read, what restrictive policies ask as well counts: they may tie every row to the
/// caller.
pub(crate) fn is_for_all_rows(
    cx: &Context<'_>,
    policy: &Policy,
    role: &Role,
    command: Command,
) -> bool {
    let of_command = |of: &&PolicyExposure| of.role == role.oid && of.command == command;
    let mut known = of_policy(cx, policy).filter(of_command).map(|of| &of.exposure).peekable();
    if known.peek().is_none() {
        return policy.is_for_all_rows(command);
    }
    let is_stated = policy.is_for_all_rows(command);
    known.any(|exposure| {
        let is_always_true = exposure.is_always_true && !exposure.asks_role;
        is_always_true || (is_stated && !exposure.is_bound())
    })
}

/// Whether a permissive policy can let a role through with a command. A policy for PUBLIC, one
/// without TO, does not let anonymous callers through where the search has found that no row passes
/// for them, because a function that the condition calls asks who the caller is. A policy that
/// names the role does.
pub(crate) fn lets_through(
    cx: &Context<'_>,
    policy: &Policy,
    relation: &Relation,
    role: &Role,
    command: Command,
) -> bool {
    let own = cx.own_grantees(role.oid);
    let is_named = policy.roles.iter().any(|of| *of != PUBLIC && own.contains(of));
    let needs_identity =
        || cx.snapshot.is_anonymous(role) && needs_identity(cx, policy, role, command);
    cx.policy_admits(policy, relation, role, command) && (is_named || !needs_identity())
}

/// Whether it is known that a policy, which asks who the caller is, lets no row of a command of a
/// role through, for no other reason than its condition.
fn needs_identity(cx: &Context<'_>, policy: &Policy, role: &Role, command: Command) -> bool {
    let of_command = |of: &&PolicyExposure| of.role == role.oid && of.command == command;
    of_policy(cx, policy).filter(of_command).any(|of| {
        let found = &of.exposure;
        // What cannot be read may be readable later: then the condition may be true.
        let has_read_all =
            found.denied.is_empty() && found.hidden.is_empty() && found.recursive.is_empty();
        found.is_never_true && has_read_all && !found.values_of_caller.is_empty()
    })
}

/// Returns the columns by which every way ties the rows of a table that a role reads to the caller;
/// `None` where no way ties any.
pub(crate) fn tied_by(
    cx: &Context<'_>,
    relation: &Relation,
    role: &Role,
) -> Option<BTreeSet<String>> {
    in_each_way(read(cx, relation, role))
}

/// As [`tied_by`], of the policies by which rows are read that may have been written.
pub(crate) fn tied_by_where_written(
    cx: &Context<'_>,
    (relation, role): (&Relation, &Role),
    written: &Exposure,
) -> Option<BTreeSet<String>> {
    in_each_way(read(cx, relation, role).filter(|exposure| exposure.can_meet(written)))
}

fn in_each_way<'a>(exposures: impl Iterator<Item = &'a Exposure>) -> Option<BTreeSet<String>> {
    let ties = exposures.flat_map(|exposure| &exposure.ties);
    ties.cloned().reduce(|all, columns| &all & &columns)
}

/// Returns what ties rows of a table that a role reads to the caller, in any way; of the policies
/// by which rows are read that may have been written.
pub(crate) fn parts_tied_by<'a>(
    cx: &Context<'a>,
    (relation, role): (&Relation, &Role),
    written: &Exposure,
) -> BTreeSet<&'a TiedBy> {
    let read = read(cx, relation, role).filter(|exposure| exposure.can_meet(written));
    read.flat_map(|exposure| exposure.tied_by.iter().flatten()).collect()
}

/// Returns the columns by which ways tie existing rows that a role changes or deletes to the
/// caller.
pub(crate) fn ties_of_writes<'a>(
    cx: &Context<'a>,
    relation: &Relation,
    role: &Role,
) -> impl Iterator<Item = &'a BTreeSet<String>> {
    let policies = cx.snapshot.policies_of(relation.oid).iter().filter(|of| of.permissive);
    let written = policies.flat_map(move |policy| {
        let commands = [Command::Update, Command::Delete].into_iter();
        commands.filter_map(move |command| of_role(cx, policy, role, command, Rows::Existing))
    });
    written.flat_map(|exposure| &exposure.ties)
}

/// Returns the columns by whose values policies open rows of a table to a role that reads it: where
/// nothing else is asked.
pub(crate) fn opened_by(cx: &Context<'_>, relation: &Relation, role: &Role) -> BTreeSet<String> {
    let open = read(cx, relation, role).flat_map(Exposure::openings);
    open.filter(|open| open.opening == Opening::RowOpen && open.is_flag)
        .flat_map(|open| open.into_owned().columns)
        .collect()
}

/// Returns what each permissive policy of a table lets a role read.
fn read<'a>(
    cx: &Context<'a>,
    relation: &Relation,
    role: &Role,
) -> impl Iterator<Item = &'a Exposure> {
    let policies = cx.snapshot.policies_of(relation.oid).iter().filter(|of| of.permissive);
    policies.filter_map(|of| of_role(cx, of, role, Command::Select, Rows::Existing))
}
