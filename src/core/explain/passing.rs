//! Which rows a policy lets through for a role, and why none, as far as its condition tells.

use crate::catalog::{Caller, Exposure, Role};
use crate::sql::{listed, listed_set, printable, safe_ident};
use std::collections::BTreeSet;

/// The value that every session with a user has.
const USER: &str = "user";

/// Returns a sentence about the rows that a policy lets through; `None` where there is nothing to
/// say beyond its name.
pub(super) fn passing(policy: &str, exposure: &Exposure) -> Option<String> {
    if exposure.is_never_true {
        return None;
    }
    let ways = ways(exposure);
    if ways.is_empty() {
        return None;
    }
    let values: Vec<&str> =
        exposure.values_of_caller.iter().map(String::as_str).filter(|of| *of != USER).collect();
    let asks = match values.as_slice() {
        [] => String::new(),
        values => format!("; it asks the session for {}", printable(&listed(values))),
    };
    Some(format!("Policy {policy}: {}{asks}.", ways.join("; ")))
}

/// Returns the ways in which a row passes, as clauses.
fn ways(exposure: &Exposure) -> Vec<String> {
    if exposure.is_always_true || exposure.ignores_row {
        return vec!["every row".to_owned()];
    }
    let tied = |columns: &BTreeSet<String>| {
        let names: Vec<_> = columns.iter().map(|name| safe_ident(name)).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        format!("rows whose {} {verb} the caller's", listed(&names))
    };
    let mut ways: Vec<String> = exposure.ties.iter().map(tied).collect();
    if exposure.has_privileged {
        ways.push("rows of others, for callers with a right".to_owned());
    }
    for open in exposure.openings() {
        let example: Vec<String> = open.witness.iter().map(|part| part.join(" ")).collect();
        ways.push(match example.as_slice() {
            [] => format!("rows of others ({})", open.opening.as_str()),
            parts => format!("rows where {}", printable(&parts.join(" AND "))),
        });
    }
    if !exposure.unknown.is_empty() {
        ways.push(format!("not decided: {}", printable(&listed_set(&exposure.unknown))));
    }
    ways
}

/// Returns a sentence about why a policy lets no row through.
pub(super) fn why_no_row(policy: &str, exposure: &Exposure, role: &Role) -> String {
    let why = if !exposure.hidden.is_empty() {
        let tables = printable(&listed_set(&exposure.hidden)).into_owned();
        format!("it looks rows up in {tables}, of which no policy shows any")
    } else if exposure.caller == Some(Caller::Without) && !exposure.values_of_caller.is_empty() {
        format!(
            "it asks the session for {}, and the sessions of role \"{}\" have no user",
            printable(&listed_set(&exposure.values_of_caller)),
            printable(&role.name)
        )
    } else {
        return never_true(policy);
    };
    format!("Policy {policy} lets no row through: {why}.")
}

/// Returns the sentence about a policy whose condition is true for no row and no caller.
pub(super) fn never_true(policy: &str) -> String {
    format!("Policy {policy} lets no row through: its condition is never true.")
}
