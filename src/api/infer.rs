//! `ops.infer_contract()`: drafts a contract from the current state of the database, and
//! `ops.infer_exemptions()`: drafts the exemptions for what remains.

use super::argument;
use crate::access::declared::{self, LockTimeout};
use crate::audit;
use crate::catalog::{self, Freshness};
use crate::pg::call::{Call, Value, object_datum, sql_function};
use crate::pg::clock;
use crate::pg::heap::interrupts;
use crate::pg::jsonb::Member;
use crate::pg::progress::{self, Progress};
use crate::pg::report::{Report, unknown_argument, unknown_schema};
use crate::pg::text::utc;
use crate::store::Installation;
use crate::store::contract::{highest_version, next_version};
use crate::store::exemptions::Current;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Snapshot, extension, owner_of_reserved_schema};
use dragonfly_core::contract::{Contract, RoleKind, Severity};
use dragonfly_core::finding::Finding;
use dragonfly_core::infer::exempt::{Remaining, remaining};
use dragonfly_core::infer::schemas_of_application;
use dragonfly_core::infer::{
    Answer, DefinerPaths, Inferred, LeftOut, Mode, ToConfirm, heirs, infer, roles,
    roles_to_confirm, seed, with_preset,
};
use dragonfly_core::rules::{Context, RULES};
use dragonfly_core::sql::{listed, printable, quote_literal};
use pgrx::{PgSqlErrorCode, pg_sys};
use serde::Serialize;
use serde_json::Value as Json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

sql_function!(
    /// `ops.infer_contract(schemas name[] DEFAULT NULL, mode text DEFAULT 'strict') RETURNS jsonb`
    ops_infer_contract => infer_contract
);
fn infer_contract(call: Call) -> pg_sys::Datum {
    inferred(call, argument::names(call, 0, "schemas"))
}

sql_function!(
    /// `ops.infer_contract(schemas text, mode text DEFAULT 'strict') RETURNS jsonb`
    ops_infer_contract_text => infer_contract_text
);
fn infer_contract_text(call: Call) -> pg_sys::Datum {
    inferred(call, argument::names_in_text(call, 0, "schemas"))
}

fn inferred(call: Call, schemas: Option<Vec<String>>) -> pg_sys::Datum {
    let mode = mode(call, 1);
    let installation = Installation::now();
    let _progress = Progress::begin("inferring the contract", 5);
    let contract = with_inferred(&installation, schemas, mode, |cx, inferred| {
        let Inferred { contract, left_out: failing } = inferred;
        report_kinds(&roles_to_confirm(cx, mode));
        if contract.security_definer.accept_empty && !cx.contract.security_definer.accept_empty {
            report_empty_paths(&DefinerPaths::of(cx));
        }
        report_failing(&failing);
        let Installation { state, own, .. } = &installation;
        progress::step("applying the rules");
        let current = Current::read(state, own, Freshness::Fresh);
        let mut undeclared = Undeclared::default();
        audit::each_reported_in(&contract, cx.snapshot, &current, &mut |f| undeclared.add(f));
        report_left_out(cx, &undeclared, mode);
        contract
    });
    document(contract)
}

/// Returns a contract as a value of type jsonb. Its declarations of objects are converted one after
/// the other.
fn document(mut contract: Contract) -> pg_sys::Datum {
    fn list<'m, T: Serialize + 'm>(declared: &mut Vec<T>) -> Member<'m> {
        let declared = std::mem::take(declared);
        let value = |one: T| {
            interrupts();
            json(serde_json::to_value(one))
        };
        Member::List(declared.len(), Box::new(declared.into_iter().map(value)))
    }
    let lists = [
        ("tables", list(&mut contract.tables)),
        ("views", list(&mut contract.views)),
        ("sequences", list(&mut contract.sequences)),
        ("functions", list(&mut contract.functions)),
    ];
    let Json::Object(rest) = json(serde_json::to_value(contract)) else {
        unreachable!("a contract is an object")
    };
    let members = rest.iter().map(|(name, value)| (name.as_str(), Member::Value(value.clone())));
    // As in every contract, an empty list is omitted.
    let lists = lists.into_iter().filter(|(_, list)| !matches!(list, Member::List(0, _)));
    object_datum(members.chain(lists).collect())
}

fn json(of: Result<Json, serde_json::Error>) -> Json {
    of.expect("a contract is JSON")
}

/// Infers the contract of some schemas (`None` for all of the application), which has the next
/// minor version. Calls `work` with it, and with the context in which it was inferred.
pub(super) fn with_inferred<T>(
    installation: &Installation,
    schemas: Option<Vec<String>>,
    mode: Mode,
    work: impl FnOnce(&Context<'_>, Inferred) -> T,
) -> T {
    let Installation { state, own, contract: base } = installation;
    progress::step("reading the catalog");
    let present = catalog::base(state).complete();
    let base = with_preset(base, &present, &|schema, name| {
        catalog::relation_named(schema.oid, name).is_some()
    });
    let schemas =
        schemas.map_or_else(|| user_schemas(&base, &present), |wanted| existing(wanted, &present));
    let seed = seed(&base, &schemas);
    let version = next_version(&highest_version(state, own)).to_string();
    let ask = |cx: &Context<'_>, accesses, answer: &mut Answer<'_>| {
        declared::each_outcome(cx, state, accesses, &LockTimeout::default(), answer);
    };
    let mut snapshot = catalog::with_parts(state, catalog::objects_of(state, &seed, own));
    progress::step("determining the kinds of roles");
    // Which roles are clients is inferred first: what these reach is read.
    let roles = {
        let access = Access::new(&snapshot);
        let cx = Context::new(&seed, &snapshot, &access, &interrupts);
        roles(&cx, mode)
    };
    let mut with_roles = seed.clone();
    with_roles.roles = roles;
    progress::step("reading policies and bodies");
    catalog::add_reach(state, &with_roles, &mut snapshot);
    let access = Access::new(&snapshot);
    let cx = Context::new(&seed, &snapshot, &access, &interrupts);
    progress::step("checking which access works");
    let inferred = infer(&cx, &version, mode, &ask);
    work(&cx, inferred)
}

/// Reads the argument `mode`.
pub(super) fn mode(call: Call, i: usize) -> Mode {
    let Some(word) = call.text(i) else {
        reject("mode must not be null", "mode is 'strict' or 'as_is'.")
    };
    word.parse().unwrap_or_else(|_| unknown_argument("mode", &word, &Mode::ALL.map(Mode::as_str)))
}

fn reject(message: &str, hint: &str) -> ! {
    Report { message: message.into(), detail: String::new(), hint: hint.into() }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}

/// Every schema of the application. Raises an error where there is none.
fn user_schemas(base: &Contract, present: &Snapshot) -> Vec<String> {
    let schemas = schemas_of_application(base, present);
    if schemas.is_empty() {
        reject("there is no schema to describe", "Name schemas: ops.infer_contract('{...}').")
    }
    schemas
}

/// The schema with the functions of the extension. It is described only if it is asked for.
const FUNCTIONS_SCHEMA: &str = extension::API_SCHEMA;

/// Raises an error where the schema with the functions of the extension is asked for, and has no
/// relation and no routine but those of extensions.
pub(super) fn reject_without_objects(schemas: &[String], snapshot: &Snapshot) {
    let name = FUNCTIONS_SCHEMA;
    if !schemas.iter().any(|wanted| wanted == name) {
        return;
    }
    let Some(oid) = snapshot.schema_named(name).map(|schema| schema.oid) else { return };
    let (relations, routines) = (&snapshot.relation_extension, &snapshot.routine_extension);
    let has_relation =
        snapshot.relations.iter().any(|r| r.schema == oid && !relations.contains_key(&r.oid));
    let has_routine =
        snapshot.routines.iter().any(|r| r.schema == oid && !routines.contains_key(&r.oid));
    if !has_relation && !has_routine {
        reject(
            &format!("schema \"{name}\" has no objects of the application"),
            "Its functions and views belong to extension dragonfly_guard. Leave it out: name the \
             schemas of the application.",
        )
    }
}

/// Returns the schemas sorted, each once. Raises an error where one does not exist, or no contract
/// can govern it.
fn existing(mut wanted: Vec<String>, present: &Snapshot) -> Vec<String> {
    if wanted.is_empty() {
        reject("schemas must not be empty", "Omit schemas, or use NULL, for all.")
    }
    for name in &wanted {
        if let Some(owner) = owner_of_reserved_schema(name) {
            reject(
                &format!("schema \"{}\" belongs to {owner}", printable(name)),
                "Name the schemas of the application: a contract does not govern this one.",
            )
        }
        if present.schema_named(name).is_none() {
            let known: Vec<&str> = present
                .schemas
                .iter()
                .map(|s| s.name.as_str())
                .filter(|s| owner_of_reserved_schema(s).is_none())
                .collect();
            unknown_schema(name, &known);
        }
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Reports which roles were classified as workers, because fewer rules apply to workers than to
/// clients, and as clients although nothing shows it, because they lose more.
fn report_kinds(roles: &[ToConfirm]) {
    report_kind(roles, RoleKind::Worker, |subject| {
        format!(
            "If requests from outside can become {subject}, change its kind to \"client\" and \
             review the contract again."
        )
    });
    report_kind(roles, RoleKind::Client, |subject| {
        format!(
            "If a service uses {subject}, change its kind to \"worker\", load the contract and \
             infer it again: in strict mode, fewer privileges of clients are declared."
        )
    });
}

fn report_kind(roles: &[ToConfirm], kind: RoleKind, hint: fn(&str) -> String) {
    let roles: Vec<&ToConfirm> = roles.iter().filter(|role| role.kind == kind).collect();
    if roles.is_empty() {
        return;
    }
    let line = |of: &&ToConfirm| format!("\"{}\" {}.", printable(&of.role), of.why);
    let lines: Vec<String> = roles.iter().map(line).collect();
    let word = kind.as_str();
    Report {
        message: match roles.len() {
            1 => format!("1 undeclared role was classified as a {word}"),
            n => format!("{n} undeclared roles were classified as {word}s"),
        },
        detail: lines.join("\n"),
        hint: hint(if roles.len() == 1 { "the role" } else { "such a role" }),
    }
    .notice();
}

/// Reports that `search_path = ''` is accepted, because it is not safe.
fn report_empty_paths(paths: &DefinerPaths) {
    Report {
        message: "search_path = '' is accepted, because most SECURITY DEFINER routines have it"
            .into(),
        detail: format!(
            "{} have it, {} have another search_path, {} have none. Those with an empty \
             search_path are warnings, so that they do not hide the others.",
            paths.empty, paths.other, paths.without
        ),
        hint: "To report them as errors, set \"accept_empty\": false.".into(),
    }
    .notice();
}

/// The number of accesses that a NOTICE lists.
const SHOWN: usize = 20;

/// Reports the access that is not declared, because it does not work.
fn report_failing(left_out: &[LeftOut]) {
    if left_out.is_empty() {
        return;
    }
    Report {
        message: LeftOut::message(left_out),
        detail: LeftOut::lines(left_out),
        hint: "SELECT * FROM ops.explain_access('role', 'object', 'privilege') shows what is \
               missing. Grant that first if the access is intended."
            .into(),
    }
    .notice();
}

/// What the contract does not declare.
#[derive(Default)]
struct Undeclared {
    total: usize,
    /// By severity, the highest first, and rule, in the order of the rules: the number of findings,
    /// and the roles that errors and warnings are about.
    kinds: BTreeMap<(Reverse<Severity>, usize), (usize, BTreeSet<String>)>,
}

impl Undeclared {
    fn add(&mut self, finding: &Finding) {
        let rule = RULES.iter().position(|rule| std::ptr::eq(*rule, finding.rule)).unwrap_or(0);
        let (count, roles) = self.kinds.entry((Reverse(finding.severity), rule)).or_default();
        self.total += 1;
        *count += 1;
        if finding.severity > Severity::Info {
            for role in &finding.roles {
                if !roles.contains(role) {
                    roles.insert(role.clone());
                }
            }
        }
    }
}

/// Reports what the contract does not declare: the number of findings of each rule, as
/// `ops.load_contract()` counts them; of errors and warnings, which a plan fixes, also the roles
/// that they are about, and the roles that inherit the privileges of these.
fn report_left_out(cx: &Context<'_>, undeclared: &Undeclared, mode: Mode) {
    let Undeclared { total, kinds } = undeclared;
    let total = *total;
    if total == 0 {
        return;
    }
    let line = |((Reverse(severity), rule), (count, roles)): (&(Reverse<Severity>, usize), &_)| {
        let (severity, rule): (_, &str) = (severity.as_str(), RULES[*rule].id);
        let roles: &BTreeSet<String> = roles;
        let roles: BTreeSet<&str> = roles.iter().map(String::as_str).collect();
        let of = if roles.is_empty() { String::new() } else { format!(" ({})", names(&roles)) };
        format!("{severity} {rule}: {count}{of}")
    };
    let mut lines: Vec<String> = kinds.iter().map(line).collect();
    let roles: BTreeSet<&str> =
        kinds.values().flat_map(|(_, roles)| roles).map(String::as_str).collect();
    for (role, heirs) in heirs(cx, &roles) {
        let heirs: BTreeSet<&str> = heirs.iter().map(String::as_str).collect();
        let verb = if heirs.len() == 1 { "inherits" } else { "inherit" };
        let role = printable(&role);
        lines.push(format!("{} {verb} the privileges of \"{role}\".", names(&heirs)));
    }
    let them = if total == 1 { "it" } else { "them" };
    let hint = match mode {
        Mode::Strict => format!(
            "SELECT * FROM ops.audit_contract(ops.infer_contract(...)) lists {them} with the SQL \
             that fixes {them}. Declare what is intended, or use mode => 'as_is' to declare what \
             exists."
        ),
        Mode::AsIs => "After ops.load_contract(), SELECT * FROM ops.infer_exemptions() lists the \
                       errors and warnings with a statement that exempts each, the worst first."
            .to_owned(),
    };
    Report {
        message: match total {
            1 => "1 finding would remain under the inferred contract".to_owned(),
            n => format!("{n} findings would remain under the inferred contract"),
        },
        detail: lines.join("\n"),
        hint,
    }
    .notice();
}

/// Returns the names of roles as a list, of many the first ones.
fn names(roles: &BTreeSet<&str>) -> String {
    let quoted = |role: &&str| match *role {
        "PUBLIC" => "PUBLIC".to_owned(),
        role => format!("\"{}\"", printable(role)),
    };
    let mut names: Vec<String> = roles.iter().take(SHOWN).map(quoted).collect();
    if roles.len() > SHOWN {
        names.push(format!("{} others", roles.len() - SHOWN));
    }
    listed(&names)
}

sql_function!(
    /// `ops.infer_exemptions(contract jsonb DEFAULT NULL, expires_in interval DEFAULT '90 days')
    /// RETURNS TABLE (severity text, rule text, object text, role_name name, detail text,
    /// reason text, statement text, fingerprint text)`
    ops_infer_exemptions => infer_exemptions
);
fn infer_exemptions(call: Call) -> pg_sys::Datum {
    let expires_at = expires_at(call, 1);
    let Installation { state, own, contract: in_force } = Installation::now();
    let contract =
        call.json_text(0).map_or(in_force, |document| Rc::new(super::contract::valid(&document)));
    let remaining = audit::with_unexempt(&contract, &state, &own, remaining);
    call.table(remaining.into_iter().map(|row| exemption_row(row, expires_at)))
}

/// Returns when exemptions expire, by an argument of type interval; `None` for never.
pub(super) fn expires_at(call: Call, i: usize) -> Option<i64> {
    let now = clock::now();
    let expires_at = call.interval_after(i, now);
    if expires_at.is_some_and(|at| at <= now) {
        reject("expires_in must be positive", "Use NULL for exemptions that do not expire.")
    }
    expires_at
}

fn exemption_row(remaining: Remaining, expires_at: Option<i64>) -> Vec<Value> {
    let Remaining { finding, reason, can_be_exempt } = remaining;
    let until = expires_at
        .map(|at| format!(", expires_at => {}", quote_literal(&utc(at))))
        .unwrap_or_default();
    let role = finding.role().map(str::to_owned);
    let statement = can_be_exempt.then(|| {
        format!(
            "SELECT ops.exempt({}, {}{until});",
            quote_literal(&finding.fingerprint),
            quote_literal(&reason)
        )
    });
    vec![
        Value::Text(finding.severity.as_str().into()),
        Value::Text(finding.rule.id.into()),
        Value::Text(finding.object.identity),
        Value::name(role),
        Value::Text(finding.detail),
        Value::Text(reason),
        Value::text(statement),
        Value::Text(finding.fingerprint),
    ]
}
