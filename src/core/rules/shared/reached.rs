//! The rows that a policy lets a client reach, as the analysis of its condition found.

use crate::catalog::{Command, Exposure, Policy, PolicyExposure, Role, Rows};
use crate::rules::context::Context;

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
    known.any(|exposure| exposure.is_always_true || (is_stated && !exposure.is_bound()))
}
