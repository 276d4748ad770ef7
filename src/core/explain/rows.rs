//! Row security: which rows a role with the privileges can access (rowsecurity.c,
//! `get_row_security_policies`; rls.c, `check_enable_rls`).

use super::grant::may_access_rows;
use super::passing::{never_true, passing, why_no_row};
use super::question::{Cause, Link, Need, Verdict, checked_as};
use crate::catalog::{Command, Policy, Privileges, Relation, Role, Rows};
use crate::fix::create_policy;
use crate::rules::{Context, of_role};
use crate::sql::{listed, listed_as_alternatives, printable, safe_ident};

/// Returns a link for each table of the statement that has row security.
pub(super) fn links(
    cx: &Context<'_>,
    role: &Role,
    needs: &[Need],
    verdict: &mut Verdict,
) -> Vec<Link> {
    let mut links = Vec::new();
    for need in needs {
        let (Some(table), Some(holder)) =
            (cx.snapshot.relation(need.relation), checked_as(cx, role, need.check_as))
        else {
            continue;
        };
        let Some(command) = command(need.privileges).filter(|_| table.row_security) else {
            continue;
        };
        // Where row security excludes the rows of another table that a view or a policy reads, the
        // statement may still have rows.
        let (is_target, inserts) = (need.is_target, command == Command::Insert);
        let mut add = |command, checks: Checks| {
            let target = Use { command, checks, is_target };
            links.push(RowSecurity::of(cx, holder, table, target).link(cx, verdict));
        };
        add(command, if inserts { Checks::NewRow } else { Checks::Rows });
        // ON CONFLICT DO UPDATE.
        let updates = inserts && need.privileges.contains(Privileges::UPDATE);
        // A statement that also reads the rows that it writes is restricted by the policies for
        // SELECT too.
        if command != Command::Select && need.privileges.contains(Privileges::SELECT) {
            add(Command::Select, if inserts { Checks::NewRow } else { Checks::Rows });
        }
        if updates {
            add(Command::Update, Checks::ConflictingRow);
        }
    }
    links
}

/// What a statement does with the rows of a table.
#[derive(Clone, Copy)]
struct Use {
    command: Command,
    checks: Checks,
    is_target: bool,
}

/// Which rows the policies check, and what happens to those that they do not allow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checks {
    /// The rows of the table: the others are excluded.
    Rows,
    /// The row that is inserted: the statement fails.
    NewRow,
    /// The row that has the same key: the statement fails.
    ConflictingRow,
}

/// The command whose policies apply.
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

/// Row security of one table for one role and one command.
struct RowSecurity<'a> {
    role: &'a Role,
    table: &'a Relation,
    command: Command,
    checks: Checks,
    /// Whether the result of the statement depends on the rows of this table.
    is_target: bool,
    /// Whether a restrictive policy allows no row.
    is_closed: bool,
    /// The names of the permissive policies that apply.
    permissive: Vec<String>,
    /// The names of the restrictive policies that apply.
    restrictive: Vec<String>,
    /// The names of the permissive policies that allow every row.
    open: Vec<String>,
    /// Sentences about the rows that permissive policies allow, as far as their conditions tell.
    passing: Vec<String>,
    /// Sentences about the policies that allow no row.
    closed: Vec<String>,
}

impl<'a> RowSecurity<'a> {
    fn of(cx: &Context<'a>, role: &'a Role, table: &'a Relation, of: Use) -> Self {
        let Use { command, checks, is_target } = of;
        let applying: Vec<&Policy> = cx
            .snapshot
            .policies_of(table.oid)
            .iter()
            .filter(|p| p.covers(command) && cx.access.policy_applies(p, role.oid))
            .collect();
        // A restrictive policy whose condition is never true excludes every row.
        let is_closed = applying.iter().any(|p| !p.permissive && p.is_for_no_rows(command));
        let rows = if command == Command::Insert { Rows::New } else { Rows::Existing };
        let known = |p: &Policy| {
            let may_pass = p.permissive && !is_closed && !p.is_for_no_rows(command);
            may_pass.then(|| of_role(cx, p, role, command, rows)).flatten()
        };
        let is_never_true = |p: &Policy| known(p).is_some_and(|of| of.is_never_true && !of.fails());
        let counts = |p: &Policy| {
            !p.permissive || !is_closed && !p.is_for_no_rows(command) && !is_never_true(p)
        };
        let (mut passing_rows, mut closed) = (Vec::new(), Vec::new());
        for policy in &applying {
            let name = safe_ident(&policy.name);
            match known(policy) {
                _ if policy.is_for_no_rows(command) => closed.push(never_true(&name)),
                Some(exposure) if is_never_true(policy) => {
                    closed.push(why_no_row(&name, exposure, role));
                }
                Some(exposure) => passing_rows.extend(passing(&name, exposure)),
                None => {}
            }
        }
        let names = |permissive: bool| -> Vec<String> {
            applying
                .iter()
                .filter(|p| p.permissive == permissive && counts(p))
                .map(|p| safe_ident(&p.name).into_owned())
                .collect()
        };
        Self {
            role,
            table,
            command,
            checks,
            is_target,
            is_closed,
            permissive: names(true),
            restrictive: names(false),
            open: applying
                .iter()
                .filter(|p| p.permissive && p.always_true)
                .map(|p| safe_ident(&p.name).into_owned())
                .collect(),
            passing: passing_rows,
            closed,
        }
    }

    fn link(&self, cx: &Context<'_>, verdict: &mut Verdict) -> Link {
        let sql = cx.snapshot.relation_sql(self.table);
        let name = printable(&self.role.name);
        let state = if self.table.force_row_security {
            "Row security is enabled and forced"
        } else {
            "Row security is enabled"
        };
        let (ok, detail) = if let Some(why) = bypass(cx, self.role, self.table) {
            (true, format!("{state}, but role \"{name}\" {why}."))
        } else if self.permissive.is_empty() {
            let effect = self.deny(&sql, verdict);
            let command = self.command.as_str();
            let why = if self.is_closed {
                format!("a restrictive policy allows role \"{name}\" to {command} no row")
            } else {
                format!("no policy allows role \"{name}\" to {command}")
            };
            (false, sentences(format!("{state}, and {why}: {effect}."), &self.closed))
        } else {
            let limit = format!("{state}; for role \"{name}\" {}.", self.restrict(verdict));
            (true, sentences(limit, &[&self.passing[..], &self.closed].concat()))
        };
        // A further policy changes nothing where a restrictive one allows no row.
        let is_offered =
            !ok && !self.is_closed && may_access_rows(cx, self.role, self.table, self.command);
        let policy = || format!("-- {}", create_policy(&sql, self.role, self.command));
        let fix = is_offered.then(policy);
        Link { step: format!("row security of table {sql}"), ok: Some(ok), detail, fix }
    }

    /// Records that no policy allows a row, and returns the effect on the statement.
    fn deny(&self, sql: &str, verdict: &mut Verdict) -> &'static str {
        let using = if self.checks == Checks::ConflictingRow { " (USING expression)" } else { "" };
        if self.checks != Checks::Rows && self.is_target {
            let table = printable(&self.table.name);
            let error =
                format!("new row violates row-level security policy{using} for table \"{table}\"");
            verdict.deny_for(Cause::RowSecurity, error);
        }
        match self.checks {
            Checks::Rows => {}
            Checks::NewRow => return "every new row is rejected",
            Checks::ConflictingRow => return "every row that exists already is rejected",
        }
        if self.is_target {
            verdict.no_rows.get_or_insert(format!("table {sql}"));
        } else {
            verdict.note(format!(
                "Row security excludes every row of table {sql}, and no error is raised."
            ));
        }
        "every row is excluded, and no error is raised"
    }

    /// Returns which rows the policies allow, and records a restriction.
    fn restrict(&self, verdict: &mut Verdict) -> String {
        let Self { permissive, restrictive, open, .. } = self;
        if !open.is_empty() && restrictive.is_empty() {
            let verb = if open.len() == 1 { "allows" } else { "allow" };
            return format!("{} {verb} every row", listed(open));
        }
        if self.is_target {
            let limited = format!(
                "The rows are limited by policies: {}.",
                listed(&[&permissive[..], restrictive].concat())
            );
            verdict.note(sentences(limited, &self.passing));
        }
        let and = match restrictive.as_slice() {
            [] => String::new(),
            names => format!(", and by {}", listed(names)),
        };
        format!("a row must be allowed by {}{and}", listed_as_alternatives(permissive))
    }
}

/// The maximum number of policies that a link tells of: `ops.explain_policy()` tells of all.
const MOST_TOLD: usize = 4;

/// Returns a sentence with others after it.
fn sentences(first: String, others: &[String]) -> String {
    let told = others.iter().take(MOST_TOLD).map(String::as_str);
    let rest = (others.len() > MOST_TOLD).then_some("See ops.explain_policy() for the others.");
    std::iter::once(first.as_str()).chain(told).chain(rest).collect::<Vec<_>>().join(" ")
}

/// Why a role bypasses the row security of a table, as a predicate; `None` where it does not.
fn bypass(cx: &Context<'_>, role: &Role, table: &Relation) -> Option<&'static str> {
    if role.superuser {
        Some("is a superuser")
    } else if role.bypass_rls {
        Some("has BYPASSRLS")
    } else if !table.force_row_security && cx.access.has_privileges_of(role.oid, table.owner) {
        Some("has the privileges of the owner")
    } else {
        None
    }
}
