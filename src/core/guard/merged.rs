//! One error about several violations: its DETAIL lists them, and its HINT covers all of them.

use super::accepting::{
    Allowing, Read, accept_hint, intended, is_about_guard, is_by_default_privileges, is_gone,
    joined, new_name,
};
use super::change::Regression;
use super::completion::{Cause, CauseKind, Completion};
use super::declared::{Declared, with_more};
use super::follow::renames;
use super::rejection::{RUN_ANYWAY, RejectedAt, Rejection, source};
use crate::contract::Contract;
use crate::fix::Fix;
use crate::rules::{schema_create, security_definer_search_path};
use crate::sql::{call_running, listed, quote_literal};
use std::collections::{BTreeSet, HashSet};

/// How many problems a DETAIL lists.
const MOST_PROBLEMS: usize = 200;

/// How many texts about what to change in the statements themselves a HINT has.
const MOST_TEXTS: usize = 5;

/// How many statements, and how many bytes of them, a HINT has.
const MOST_STATEMENTS: usize = 40;
const LONGEST_STATEMENTS: usize = 6_000;

/// Merges the rejections of one command or transaction into the first one: `blocked`, and those
/// that would only be `warned` about. Where there are several, its DETAIL lists each of them in a
/// line, after the lines about their causes. Its HINT covers all of them. `None` where nothing is
/// blocked.
#[must_use]
pub fn merged(
    contract: &Contract,
    blocked: Vec<Rejection>,
    warned: Vec<Rejection>,
    completion: &Completion,
    at: RejectedAt,
) -> Option<Rejection> {
    let hint = merged_hint(contract, &blocked, &warned, completion, at);
    let detail = merged_detail(contract, &blocked, &warned, completion);
    let first = blocked.into_iter().next()?;
    Some(Rejection { detail, hint, ..first })
}

fn merged_detail(
    contract: &Contract,
    blocked: &[Rejection],
    warned: &[Rejection],
    completion: &Completion,
) -> String {
    let mut lines: Vec<String> = completion.causes.iter().map(|c| c.problem.clone()).collect();
    let causes = lines.len();
    let mut known: HashSet<&str> = HashSet::new();
    for (place, rejection) in blocked.iter().chain(warned).enumerate() {
        if !known.insert(&rejection.problem) {
            continue;
        }
        if place == 0 {
            lines.push(rejection.detail.clone());
        } else {
            lines.push(format!("{} {}", rejection.problem, source(contract, rejection.rule)));
        }
    }
    let most = causes + MOST_PROBLEMS;
    if lines.len() > most {
        let more = format!("And {} more.", lines.len() - most);
        lines.truncate(most);
        lines.push(more);
    }
    lines.join("\n")
}

/// Returns the HINT for all rejections: what to change in the statements themselves, how to accept
/// what may be intended, and last the statements that complete the transaction.
fn merged_hint(
    contract: &Contract,
    blocked: &[Rejection],
    warned: &[Rejection],
    completion: &Completion,
    at: RejectedAt,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    let follows = completion.renamed.as_ref();
    let is_path_followed =
        |r: &Rejection| is_about_path(r) && follows.is_some_and(|one| !one.together().is_empty());
    let texts = blocked
        .iter()
        .filter(|r| r.regression.is_none() && !is_path_followed(r))
        .map(|r| r.hint.clone());
    texts.take(MOST_TEXTS).for_each(|text| add(&mut parts, text));
    blocked.iter().filter_map(|r| r.remedy.clone()).for_each(|text| add(&mut parts, text));
    let all = || blocked.iter().filter_map(|r| r.regression.as_ref());
    for regression in all().filter(|r| is_about_guard(r)) {
        if let Fix::Proposal(text) = &regression.finding.fix {
            add(&mut parts, text.clone());
        }
    }
    if all().any(is_about_guard) {
        add(&mut parts, RUN_ANYWAY.to_owned());
    }
    let regressions = || all().filter(|r| !is_about_guard(r));
    let moved: Vec<&str> = completion.causes.iter().filter_map(new_name).collect();
    let mut intended = intended(regressions(), &completion.causes);
    intended.retain(|r| !follows.is_some_and(|one| one.covers(&[r])));
    if blocked.iter().any(is_about_path) {
        // The statement would still be rejected.
        intended.retain(|r| *r.finding.rule != schema_create::RULE);
    }
    let choices = parts.len();
    if !intended.is_empty() {
        let read = if at == RejectedAt::Statement { Read::AtStatement } else { Read::AtCommit };
        let accept = accept_hint(&intended, read, Allowing::Known(&completion.declared));
        match completion.kept.as_ref().and_then(kept_hint) {
            Some(kept) => {
                add(&mut parts, kept);
                let all = "If everything that is granted is intended";
                add(&mut parts, accept.replacen("If this is intended", all, 1));
            }
            None => add(&mut parts, accept),
        }
    }
    let schemas: Vec<&Cause> =
        completion.causes.iter().filter(|cause| cause.is_renamed_schema()).collect();
    if let Some(text) =
        follows.and_then(|renamed| follow_hint(contract, renamed, &completion.causes))
    {
        add(&mut parts, text);
    }
    let is_covered = |r: &&Regression| {
        is_gone(r) && !moved.is_empty()
            || completion.declared.iter().chain(follows).any(|d| d.covers(&[r]))
    };
    let is_left = |r: &&Regression| {
        r.can_be_completed && !completion.fixes.contains(&r.finding.fingerprint) && !is_covered(r)
    };
    let is_choice = |r: &Regression| intended.iter().any(|one| std::ptr::eq(*one, r));
    let text = |r: &Regression| {
        let fix = r.finding.rule.fix;
        if is_choice(r) { otherwise(fix) } else { fix.to_owned() }
    };
    regressions().filter(is_left).map(text).for_each(|text| add(&mut parts, text));
    let is_first = intended.is_empty() && moved.is_empty() && schemas.is_empty();
    // No statement has asked for what default privileges grant.
    let is_safest = !intended.is_empty() && is_by_default_privileges(&intended, &completion.causes);
    // A statement that is alone is reverted already; what it has created can be completed.
    let is_completed =
        regressions().any(|r| !r.existed && !is_gone(r)) && !completion.statements.is_empty();
    let is_reverted = !completion.statements.is_empty()
        || schemas.iter().any(|cause| !cause.statements.is_empty());
    // Statements cannot bring back what has been dropped, and end nothing where only a part of the
    // violations is fixed and nothing is said about the others.
    let is_final = |r: &Regression| {
        !completion.fixes.contains(&r.finding.fingerprint)
            && (is_gone(r) || !intended.is_empty() && !is_left(&r))
    };
    if !regressions().any(is_final) && (is_completed || is_reverted && at != RejectedAt::Alone) {
        let run = if is_first || is_safest { "Run" } else { "Otherwise run" };
        let regressions = || blocked.iter().chain(warned).filter_map(|r| r.regression.as_ref());
        let place = if is_safest { choices } else { parts.len() };
        let text = match &completion.again {
            None => Some(run_hint(run, regressions(), completion, at)),
            Some(statements) => run_again_hint(run, statements, completion),
        };
        text.into_iter().for_each(|text| parts.insert(place, text));
    }
    joined(&parts)
}

/// Adds a part that says something and is not there yet.
fn add(parts: &mut Vec<String>, part: String) {
    if !part.is_empty() && !parts.contains(&part) {
        parts.push(part);
    }
}

/// Returns how new tables keep the privileges that their policies give a use, and no others.
fn kept_hint(kept: &Declared) -> Option<String> {
    let call = kept.calls(false)?;
    Some(format!(
        "To keep what the policies allow, declare it first: {call}\nThen run in the same \
         transaction:\n{}",
        kept.together().join("\n")
    ))
}

/// Returns how the contract follows what has been renamed: the call and, where the search_path of
/// routines has to follow too, everything else in the order in which it has to be run.
fn follow_hint(contract: &Contract, renamed: &Declared, causes: &[Cause]) -> Option<String> {
    let call = renamed.calls(false)?;
    let schemas = causes.iter().filter_map(|cause| match &cause.kind {
        CauseKind::RenamedSchema(now) => Some(now.as_str()),
        _ => None,
    });
    let schemas: BTreeSet<&str> = schemas.collect();
    let moved: BTreeSet<&str> = causes.iter().filter_map(new_name).collect();
    let is_moved = !moved.is_empty();
    let names: Vec<&str> = moved.union(&schemas).copied().collect();
    let (keep, first) = match (is_moved, names.len()) {
        (false, 1) => ("is meant to keep this name", "that"),
        (false, _) => ("are meant to keep these names", "that"),
        (true, 1) => ("is meant to keep what is declared", "the new name"),
        (true, _) => ("are meant to keep what is declared", "the new names"),
    };
    let hint = format!("If {} {keep}, declare {first} first: {call}", listed(&names));
    if renamed.together().is_empty() {
        return Some(hint);
    }
    let renames = renames(contract, causes).into_iter().map(|one| format!("{one};"));
    let statements = renames.chain(renamed.together().iter().cloned());
    Some(format!(
        "{hint}\nThen run in one transaction:\nBEGIN;\n{}\nCOMMIT;",
        statements.collect::<Vec<_>>().join("\n")
    ))
}

/// Returns a sentence as the last choice of several.
fn otherwise(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    format!("Otherwise, {}{}", first.into_iter().collect::<String>(), letters.as_str())
}

/// Whether a rejection is about the search_path of routines, which no declaration and no exemption
/// allows before the statement.
fn is_about_path(rejection: &Rejection) -> bool {
    *rejection.rule == security_definer_search_path::RULE && rejection.regression.is_none()
}

/// Returns the statements of a completion, or the command that lists them where they are too long
/// for a HINT. The statements that remove a cause come last.
fn run_hint<'r>(
    run: &str,
    regressions: impl Iterator<Item = &'r Regression>,
    completion: &Completion,
    at: RejectedAt,
) -> String {
    let causes = || completion.causes.iter().flat_map(|cause| &cause.statements);
    let statements: Vec<&str> =
        completion.statements.iter().chain(causes()).map(String::as_str).collect();
    let length: usize = statements.iter().map(|sql| sql.len() + 1).sum();
    if statements.len() > MOST_STATEMENTS || length > LONGEST_STATEMENTS {
        return many_statements_hint(run, regressions, completion);
    }
    if at == RejectedAt::Alone {
        let statements = statements.join("\n");
        return format!("{run} BEGIN; before the statement, and after it:\n{statements}\nCOMMIT;");
    }
    let separator = if statements.len() == 1 { " " } else { "\n" };
    format!("{run} in the same transaction:{separator}{}", statements.join("\n"))
}

/// Returns the call of `ops.declare()` that executes the statements of a rejected one, and those
/// that complete it. `None` where none do.
fn run_again_hint(run: &str, statements: &str, completion: &Completion) -> Option<String> {
    let more: Vec<String> =
        completion.statements.iter().map(|sql| sql.trim_end_matches(';').to_owned()).collect();
    (!more.is_empty()).then(|| format!("{run}: {}", call_running(&with_more(statements, &more))))
}

fn many_statements_hint<'r>(
    run: &str,
    regressions: impl Iterator<Item = &'r Regression>,
    completion: &Completion,
) -> String {
    let schemas: BTreeSet<&str> =
        regressions.filter_map(|r| r.finding.object.schema.as_deref()).collect();
    let schemas: Vec<String> = schemas.into_iter().map(quote_literal).collect();
    let statements = match completion.statements.len() {
        1 => "statement".to_owned(),
        n => format!("{n} statements"),
    };
    let mut hint = format!(
        "{run} in the same transaction the {statements} that this query lists before COMMIT:\n\
         SELECT statement FROM ops.golden_sql(schemas => ARRAY[{}]::name[]);",
        schemas.join(", ")
    );
    let causes: Vec<&str> = completion
        .causes
        .iter()
        .flat_map(|cause| &cause.statements)
        .take(MOST_STATEMENTS)
        .map(String::as_str)
        .collect();
    if !causes.is_empty() {
        hint += &format!("\nTo remove the cause, run:\n{}", causes.join("\n"));
    }
    hint
}
