//! Row level security: which rows a role that has the privileges reaches (rowsecurity.c,
//! `get_row_security_policies`; rls.c, `check_enable_rls`).

use super::{Attempt, Link, Outcome, checked_as};
use crate::catalog::{Command, Policy, Privileges, Relation, Role};
use crate::fix::create_policy;
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};

/// A link for each table of the statement that has row level security.
pub(super) fn links(
    cx: &Context<'_>,
    role: &Role,
    attempt: &Attempt<'_>,
    outcome: &mut Outcome,
) -> Vec<Link> {
    let mut links = Vec::new();
    for need in &attempt.needs {
        let (Some(table), Some(who)) =
            (cx.snapshot.relation(need.relation), checked_as(cx, role, need.check_as))
        else {
            continue;
        };
        let Some(command) = command(need.privileges).filter(|_| table.row_security) else {
            continue;
        };
        // Of the tables that a view or a policy reads some may be without rows, and the statement
        // not.
        links.push(link(cx, who, table, command, need.is_target, outcome));
        // Whoever changes rows that it also reads reaches those alone that it sees.
        if matches!(command, Command::Update | Command::Delete)
            && need.privileges.contains(Privileges::SELECT)
        {
            links.push(link(cx, who, table, Command::Select, need.is_target, outcome));
        }
    }
    links
}

/// The command whose policies count.
fn command(privileges: Privileges) -> Option<Command> {
    [
        (Privileges::INSERT, Command::Insert),
        (Privileges::UPDATE, Command::Update),
        (Privileges::DELETE, Command::Delete),
        (Privileges::SELECT, Command::Select),
    ]
    .into_iter()
    .find(|(privilege, _)| privileges.contains(*privilege))
    .map(|(_, command)| command)
}

fn link(
    cx: &Context<'_>,
    who: &Role,
    table: &Relation,
    command: Command,
    is_asked: bool,
    outcome: &mut Outcome,
) -> Link {
    let (sql, name) = (cx.snapshot.relation_sql(table), printable(&who.name));
    let step = format!("row level security of table {sql}");
    let forced = if table.force_row_security { "on and forced on its owner" } else { "on" };
    if let Some(why) = bypass(cx, who, table) {
        return Link {
            step,
            ok: Some(true),
            detail: format!("It is {forced}, but role \"{name}\" {why}."),
            fix: None,
        };
    }
    let applying: Vec<&Policy> = cx
        .snapshot
        .policies_of(table.oid)
        .iter()
        .filter(|p| p.covers(command) && cx.access.policy_applies(p, who.oid))
        .collect();
    let names = |permissive: bool| -> Vec<String> {
        applying
            .iter()
            .filter(|p| p.permissive == permissive)
            .map(|p| safe_ident(&p.name).into_owned())
            .collect()
    };
    let (permissive, restrictive) = (names(true), names(false));
    if permissive.is_empty() {
        let fix = format!("-- {}", create_policy(&sql, who, command));
        let none = format!("no policy allows role \"{name}\" to {}", command.as_str());
        let detail = match command {
            Command::Insert => {
                let error = format!(
                    "new row violates row-level security policy for table \"{}\"",
                    printable(&table.name)
                );
                if is_asked {
                    outcome.deny(error);
                }
                format!("It is {forced}, and {none}: every row is rejected.")
            }
            _ => {
                if is_asked {
                    outcome.no_rows.get_or_insert(format!("table {sql}"));
                } else {
                    outcome.note.get_or_insert(format!(
                        "It reaches no row of table {sql}, and no error is raised."
                    ));
                }
                format!("It is {forced}, and {none}: it reaches no row, and no error is raised.")
            }
        };
        return Link { step, ok: Some(false), detail, fix: Some(fix) };
    }
    let open = applying.iter().any(|p| p.permissive && p.always_true) && restrictive.is_empty();
    let restricted = match restrictive.as_slice() {
        [] => String::new(),
        names => format!(", and by {}", listed(names)),
    };
    let detail = match open {
        true => {
            format!("It is {forced}; for role \"{name}\" {} allows every row.", listed(&permissive))
        }
        false => {
            format!(
                "It is {forced}; for role \"{name}\" a row must be allowed by {}{restricted}.",
                either(&permissive)
            )
        }
    };
    if is_asked && !open {
        outcome.note.get_or_insert(format!(
            "The rows are limited by policies: {}.",
            listed(&[permissive, restrictive].concat())
        ));
    }
    Link { step, ok: Some(true), detail, fix: None }
}

fn bypass(cx: &Context<'_>, who: &Role, table: &Relation) -> Option<&'static str> {
    match () {
        () if who.superuser => Some("is a superuser"),
        () if who.bypass_rls => Some("bypasses it"),
        () if !table.force_row_security && cx.access.has_privileges_of(who.oid, table.owner) => {
            Some("has the privileges of its owner")
        }
        () => None,
    }
}

/// `a`, `a or b`.
fn either(names: &[String]) -> String {
    listed(names).replace(" and ", " or ")
}
