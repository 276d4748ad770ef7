//! The contract in SQL: `ops.declare()` amends it by statements, `ops.accept()` so that it allows a
//! finding, and `ops.contract_sql()` returns it as statements.

use super::contract::{Loaded, put_into_force_and, valid};
use super::{argument, permission};
use crate::audit;
use crate::catalog;
use crate::declare::{Statement, read};
use crate::guard;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::report::Report;
use crate::pg::write::text_datum;
use crate::pg::{setting, statement, subtransaction};
use crate::store::Installation;
use crate::store::contract::{History, next_version as next_after, version};
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::{Contract, Severity, changes};
use dragonfly_core::declare::{
    self, Attempt, Cause, Declaration, On, Section, Target, Unfit, amend, headed,
};
use dragonfly_core::guard::{accept_instead, accept_with_left};
use dragonfly_core::sql::printable;
use pgrx::{PgSqlErrorCode, pg_sys};

sql_function!(
    /// `ops.declare(statements text, note text, run bool DEFAULT false)
    /// RETURNS TABLE (version text, change text)`
    ops_declare => declare
);
fn declare(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let sql = argument::text(call, 0, "statements");
    let note = argument::reason(call, 1, "note");
    let run = argument::flag(call, 2, "run");
    let history = History::open();
    let installed = Installation::now();
    let statements = read(&sql);
    let declarations = accepted(&statements);
    let existing = governed_with(&installed, &declarations);
    let contract = amended(&installed.contract, &statements, &declarations, &existing);
    let wanted = wanted_version(&declarations);
    let loaded = load(&history, &installed.contract, contract, wanted, &note, || {
        if run {
            // Only the result of all statements counts: one may depend on a later one.
            setting::under(&[(c"dragonfly_guard.check_at", c"commit")], || {
                statements.iter().filter(|one| one.is_executable).for_each(execute);
                let texts: Vec<&str> = statements.iter().map(|one| one.text.trim()).collect();
                // A comment at the end of one must not contain what follows.
                let end = if sql.contains("--") { "\n; " } else { "; " };
                guard::check_after_declaring(&texts.join(end));
            });
        }
    });
    rows(call, loaded)
}

/// Returns the catalog of the governed schemas and of those that the statements declare.
fn governed_with(installed: &Installation, declared: &[(usize, Declaration)]) -> Snapshot {
    let mut contract = (*installed.contract).clone();
    let is_schema = |one: &&Declaration| matches!(one, Declaration::Create(Target::Schema(_)));
    let schemas: Vec<Declaration> =
        declared.iter().map(|(_, one)| one).filter(is_schema).cloned().collect();
    if let Ok(amended) = amend(&contract, &schemas, None, &interrupts) {
        contract = amended;
    }
    catalog::full(&installed.state, &contract, &installed.own)
}

/// Returns what all statements declare. Raises an error for the first that a contract cannot
/// express.
fn accepted(statements: &[Statement]) -> Vec<(usize, Declaration)> {
    let mut all = Vec::new();
    for (place, statement) in statements.iter().enumerate() {
        match &statement.declared {
            Ok(declared) => all.extend(declared.iter().map(|one| (place, one.clone()))),
            Err(reason) => reject(reason, statements, place),
        }
    }
    all
}

/// Raises the error for a statement that does not fit.
fn reject(reason: &Unfit, statements: &[Statement], place: usize) -> ! {
    let text = printable(&statements[place].text).into_owned();
    Report {
        message: reason.message.clone(),
        detail: match statements.len() {
            1 => format!("Statement: {text}"),
            _ => format!("Statement {}: {text}", place + 1),
        },
        hint: reason.hint.clone(),
    }
    .error(match reason.cause {
        Cause::Invalid => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        Cause::Inexpressible => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        Cause::Unknown => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
    })
}

/// Returns the contract in force with the amendments. Raises an error where one does not fit.
fn amended(
    contract: &Contract,
    statements: &[Statement],
    declarations: &[(usize, Declaration)],
    existing: &Snapshot,
) -> Contract {
    let all: Vec<Declaration> = declarations.iter().map(|(_, one)| one.clone()).collect();
    amend(contract, &all, Some(existing), &interrupts)
        .unwrap_or_else(|(at, reason)| reject(&reason, statements, declarations[at].0))
}

/// Returns the version that the statements ask for. Those of `ops.contract_sql()`, which begin with
/// RESET ALL, only say which version they were printed from.
fn wanted_version(declared: &[(usize, Declaration)]) -> Option<&str> {
    let mut wanted = None;
    for (_, one) in declared {
        match one {
            Declaration::ResetAll => return None,
            Declaration::Set(path, values) if *path == ["version"] => {
                wanted = values.first().map(String::as_str);
            }
            _ => {}
        }
    }
    wanted
}

/// Puts an amended contract into force, as the `wanted` version or the next one, and does `then`
/// before its findings are counted. `None` where nothing has changed.
fn load(
    history: &History,
    contract: &Contract,
    mut amended: Contract,
    wanted: Option<&str>,
    note: &str,
    then: impl FnOnce(),
) -> Option<(String, Loaded)> {
    let next = next_version(history, contract, &amended);
    amended.version.clone_from(&contract.version);
    let is_same = changes(contract, &amended).is_empty();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != next)
        && !(is_same && wanted == contract.version)
    {
        reject_version(history, wanted);
    }
    if is_same && wanted.is_none_or(|wanted| wanted == contract.version) {
        Report { message: "the contract already declares this".into(), ..Report::default() }
            .notice();
        then();
        return None;
    }
    amended.version.clone_from(&next);
    let document = serde_json::to_string(&amended).expect("a contract is JSON");
    let loaded = put_into_force_and(history, &valid(&document), &document, Some(note), then);
    Some((next, loaded))
}

/// Raises the error for a version that is not higher than all earlier ones.
fn reject_version(history: &History, wanted: &str) -> ! {
    let highest = history.highest().map(|past| past.version.clone()).expect("a contract");
    let next = next_after(&highest);
    Report {
        message: format!("contract version {} is not higher than {highest}", printable(wanted)),
        detail:
            "Each contract must have a higher version than all earlier ones, so that a version \
                 identifies one contract."
                .into(),
        hint: format!("Omit SET contract.version for version {next}, or use a higher one."),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

/// Returns the version that the statements set, where it is higher than all earlier ones; otherwise
/// the next minor version.
fn next_version(history: &History, contract: &Contract, amended: &Contract) -> String {
    let highest = history.highest().map(|past| past.version.clone());
    let Some(highest) = highest else { return amended.version.clone() };
    if amended.version != contract.version {
        let wanted = semver::Version::parse(&amended.version);
        if wanted.is_ok_and(|wanted| wanted.cmp_precedence(&highest).is_gt()) {
            return amended.version.clone();
        }
    }
    next_after(&version(contract).max(highest)).to_string()
}

/// Executes one of the statements as the caller.
fn execute(statement: &Statement) {
    interrupts();
    // An error of the statement is the caller's; the subtransaction lets SPI clean up.
    match subtransaction::attempt(|| statement::run(&statement.text)) {
        Ok(Ok(())) => {}
        Ok(Err(rejected)) => Report {
            message: format!(
                "statement cannot be executed in a function: {}",
                printable(&statement.text)
            ),
            detail: format!("{}.", rejected.code()),
            hint: "Execute it by itself, after ops.declare() without run.".into(),
        }
        .error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED),
        Err(error) => error.rethrow(),
    }
}

fn rows(call: Call, loaded: Option<(String, Loaded)>) -> pg_sys::Datum {
    let (version, changes) = loaded.map(|(version, l)| (version, l.changes)).unwrap_or_default();
    let row = |change| vec![Value::Text(version.clone()), Value::Text(change)];
    call.table(changes.into_iter().map(row))
}

sql_function!(
    /// `ops.accept(fingerprint text, note text) RETURNS TABLE (version text, change text)`
    ops_accept => accept
);
fn accept(call: Call) -> pg_sys::Datum {
    permission::check(call);
    let fingerprint = argument::text(call, 0, "fingerprint");
    let note = argument::reason(call, 1, "note");
    let amended = audit::with_findings(|cx, findings, _| {
        let Some(finding) = findings.iter().find(|one| one.fingerprint == fingerprint) else {
            Report {
                message: format!("no finding has fingerprint \"{}\"", printable(&fingerprint)),
                detail: String::new(),
                hint: "SELECT fingerprint, rule, object, detail FROM ops.audit_security(); lists \
                       the findings."
                    .into(),
            }
            .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
        };
        match declare::attempt(cx, &[finding]).filter(|attempt| attempt.is_allowed) {
            Some(attempt) if attempt.left.is_empty() => attempt.accepted.contract,
            Some(attempt) => reject_partial(&attempt),
            None => {
                // What a policy opens by columns of its rows is worth knowing, and no violation.
                let rows = declare::meant_rows(cx, finding);
                if let Some(accepted) = rows.filter(|_| finding.severity == Severity::Info) {
                    return accepted.contract;
                }
                let meant = declare::meant(cx, finding);
                let message = match meant {
                    Some(_) => "a person has to say that what this finding is about is meant",
                    None => "no contract can allow this finding",
                };
                Report {
                    message: message.into(),
                    detail: finding.detail.clone(),
                    hint: accept_instead(finding, meant.as_deref()),
                }
                .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
            }
        }
    });
    let contract = Installation::now().contract;
    rows(call, load(&History::open(), &contract, amended, None, &note, || {}))
}

/// Raises the error about a finding that a contract can allow, where others would be left.
fn reject_partial(attempt: &Attempt) -> ! {
    let count = attempt.left.len();
    let details = attempt.left.iter().take(MOST_DETAILS).map(|left| left.detail.clone());
    let mut details: Vec<String> = details.collect();
    if count > MOST_DETAILS {
        details.push(format!("And {} more.", count - MOST_DETAILS));
    }
    let noun = if count == 1 { "finding" } else { "findings" };
    Report {
        message: format!("a contract that allows this finding leaves {count} other {noun}"),
        detail: details.join("\n"),
        hint: accept_with_left(attempt),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// How many findings an error names.
const MOST_DETAILS: usize = 5;

sql_function!(
    /// `ops.contract_sql() RETURNS text`
    ops_contract_sql => contract_sql
);
fn contract_sql(_: Call) -> pg_sys::Datum {
    let contract = Installation::now().contract;
    let mut sections = declare::statements(&contract);
    let omitted: Vec<String> = sections.iter_mut().flat_map(omit_unreadable).collect();
    if !omitted.is_empty() {
        Report {
            message: "a part of the contract cannot be written as SQL".into(),
            detail: format!("Omitted:\n{}", omitted.join("\n")),
            hint: "SELECT ops.contract_json(); prints all of it.".into(),
        }
        .warning(PgSqlErrorCode::ERRCODE_WARNING);
    }
    text_datum(&headed(&sections))
}

/// Leaves out what `ops.declare()` would not read as the same kind of declaration, and returns it:
/// a contract may contain any text as the query of a view or the arguments of a function.
fn omit_unreadable(section: &mut Section) -> Vec<String> {
    let mut omitted = Vec::new();
    section.declarations.retain_mut(|declaration| {
        interrupts();
        if !has_text(declaration) || is_readable(declaration) {
            return true;
        }
        if let Declaration::CreateView { name, definition, .. } = declaration {
            *definition = None;
            omitted.push(format!("the query of view {name}"));
            return true;
        }
        omitted.push(printable(&declaration.to_string()).into_owned());
        false
    });
    omitted
}

/// Whether a declaration contains text that is printed as it is.
fn has_text(declaration: &Declaration) -> bool {
    match declaration {
        Declaration::CreateView { definition, .. } => definition.is_some(),
        Declaration::CreateFunction { .. }
        | Declaration::SecurityDefiner(..)
        | Declaration::Comment(Target::Function(_), _) => true,
        Declaration::Grant(grant) => matches!(grant.on, On::Functions(_)),
        _ => false,
    }
}

fn is_readable(declaration: &Declaration) -> bool {
    let text = format!("{declaration};");
    let same = |one: &Declaration| {
        let has_query =
            |one: &Declaration| matches!(one, Declaration::CreateView { definition: Some(_), .. });
        std::mem::discriminant(one) == std::mem::discriminant(declaration)
            && has_query(one) == has_query(declaration)
    };
    let read = subtransaction::rolled_back(|| {
        let read = read(&text);
        let declared = read.first().and_then(|one| one.declared.as_deref().ok());
        read.len() == 1 && matches!(declared, Some([one]) if same(one))
    });
    read.unwrap_or(false)
}
