//! The hash of an object's definition. An exemption stores it and ends when it changes. The hash is
//! computed from names and deparsed texts, so that it does not change by dump and restore and does
//! not depend on the settings of the session.

use super::deparse::{Deparse, call, canonical, deparsed, language_name, role_name, setting};
use super::oids;
use crate::pg::heap::{Row, State, Table};
use crate::pg::text::from_server;
use dragonfly_core::catalog::ObjectId;
use dragonfly_core::finding::fingerprint;
use dragonfly_core::sql::safe_qualified;
use dragonfly_reader::Column;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;

/// When a query is deparsed. Deparsing locks the relations in it and may wait for these locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// At the time of the call.
    Fresh,
    /// At an earlier time in this session, unless the query has been stored again since. For
    /// callers that must not wait.
    Cached,
    /// Never: the stored form is used. For comparisons of two states of the catalogs.
    Stored,
    /// At an earlier time in this session. What cannot be deparsed as it was in an earlier state of
    /// the catalogs is [`UNKNOWN`].
    Earlier,
}

/// Returns the hash of an object; `None` for other kinds of objects and for objects that do not
/// exist.
///
/// - Routine: declaration, body and settings.
/// - Relation: owner, columns, triggers, rules, restrictive policies, sources of its rows, and the
///   queries of the views that it depends on.
/// - Policy: roles and conditions, and the relations in them.
pub fn object_hash(state: &State, object: ObjectId, freshness: Freshness) -> Option<String> {
    parts(state, object, freshness).map(|parts| hash_of(&parts))
}

fn parts(state: &State, object: ObjectId, freshness: Freshness) -> Option<Vec<String>> {
    match object {
        ObjectId::Routine(oid) => routine(state, oid, freshness),
        ObjectId::Relation(oid) => relation(state, oid, freshness),
        ObjectId::Policy(oid) => policy(state, oid, freshness),
        _ => None,
    }
}

fn hash_of(parts: &[String]) -> String {
    fingerprint(&parts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether the definition of a relation or a routine, or of a policy of the relation, differs
/// between two states of the catalogs.
pub fn is_redefined(then: &State, now: &State, object: ObjectId) -> bool {
    let hashes = |state: &State| -> Vec<Option<String>> {
        let policies = match object {
            ObjectId::Relation(relation) => policies_of(state, relation),
            _ => vec![],
        };
        let policies = policies.into_iter().map(ObjectId::Policy);
        let objects = std::iter::once(object).chain(policies);
        objects.map(|object| object_hash(state, object, Freshness::Stored)).collect()
    };
    hashes(then) != hashes(now)
}

/// Stands for the text of something that has changed since.
const UNKNOWN: &str = "not known";

/// Returns the hash that an object had in an earlier state of the catalogs, after its present hash
/// has been computed; `None` where it is not known, because deparsing shows the present only.
pub fn earlier_hash(then: &State, object: ObjectId) -> Option<String> {
    let parts = parts(then, object, Freshness::Earlier)?;
    let is_known = parts.iter().all(|part| part != UNKNOWN);
    is_known.then(|| hash_of(&parts))
}

/// Whether the hash of one object differs between two states of the catalogs.
pub fn hash_differs(then: &State, now: &State, object: ObjectId) -> bool {
    let hash = |state: &State| object_hash(state, object, Freshness::Stored);
    hash(then) != hash(now)
}

/// Deparses some relations and routines with everything that their hashes depend on, for later
/// calls with [`Freshness::Cached`]. Earlier entries are discarded, because names may have changed
/// that the stored form does not contain.
pub fn cache(state: &State, objects: impl Iterator<Item = ObjectId>) {
    DEPARSED.with_borrow_mut(HashMap::clear);
    for object in objects {
        if let ObjectId::Relation(relation) = object {
            for policy in policies_of(state, relation) {
                object_hash(state, ObjectId::Policy(policy), Freshness::Fresh);
            }
        }
        object_hash(state, object, Freshness::Fresh);
    }
}

fn routine(state: &State, routine: u32, freshness: Freshness) -> Option<Vec<String>> {
    let table = Table::open(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, owner, language, config) =
        (column("oid"), column("proowner"), column("prolang"), column("proconfig"));
    let (source, library, body) = (column("prosrc"), column("probin"), column("prosqlbody"));
    let letters = [column("prokind"), column("provolatile")];
    let flags =
        [column("prosecdef"), column("proisstrict"), column("proretset"), column("proleakproof")];
    let mut parts = None;
    let (mut is_parsed, mut is_aggregate) = (false, false);
    table.lookup(state, oids::PG_PROC_OID_INDEX, &[(oid, routine)], |row: Row<'_>| {
        is_aggregate = row.char(letters[0]) == b'a';
        let mut all = vec![role_name(row.oid(owner)), language_name(row.oid(language))];
        all.extend(letters.map(|column| char::from(row.char(column)).to_string()));
        all.extend(flags.map(|column| row.bool(column).to_string()));
        // Deparsing arguments and result acquires no lock.
        for declared in
            [pg_sys::pg_get_function_arguments as Deparse, pg_sys::pg_get_function_result]
        {
            all.push(deparsed(|| call(declared, &[pg_sys::Datum::from(routine)])));
        }
        if let Some(stored) = row.text(body) {
            let write = || call(pg_sys::pg_get_function_sqlbody, &[pg_sys::Datum::from(routine)]);
            all.push(cached(freshness, (oids::PG_PROC, routine), &stored, write));
            is_parsed = true;
        }
        all.extend([row.text(source), row.text(library)].map(Option::unwrap_or_default));
        all.extend(row.texts(config).into_iter().map(|item| setting(&item)));
        parts = Some(all);
    });
    if let Some(parts) = parts.as_mut().filter(|_| is_parsed) {
        views_behind(state, relations_of(state, oids::PG_PROC, routine), freshness, parts);
    }
    if let Some(parts) = parts.as_mut().filter(|_| is_aggregate) {
        aggregate(state, routine, freshness, parts);
    }
    parts
}

/// Adds what an aggregate executes: the functions that it calls, as they are, and its first state.
fn aggregate(state: &State, routine: u32, freshness: Freshness, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_AGGREGATE);
    let by = table.column("aggfnoid");
    let functions = oids::AGGREGATE_FUNCTIONS.map(|name| table.column(name));
    let first = [table.column("agginitval"), table.column("aggminitval")];
    let mut called = vec![];
    table.lookup(state, oids::PG_AGGREGATE_FNOID_INDEX, &[(by, routine)], |row: Row<'_>| {
        called.extend(functions.map(|column| row.oid(column)));
        parts.extend(first.map(|column| row.text(column).unwrap_or_default()));
    });
    for function in called {
        let own = (function != 0).then(|| self::routine(state, function, freshness)).flatten();
        let name = super::identity(state, ObjectId::Routine(function)).filter(|_| function != 0);
        parts.push(name.unwrap_or_default());
        parts.extend(own.unwrap_or_default());
    }
}

fn relation(state: &State, relation: u32, freshness: Freshness) -> Option<Vec<String>> {
    let mut parts = vec![];
    if !head(state, relation, &mut parts) {
        return None;
    }
    columns(state, relation, &mut parts);
    triggers(state, relation, freshness, &mut parts);
    restrictive(state, relation, freshness, &mut parts);
    views_behind(state, vec![relation], freshness, &mut parts);
    Some(parts)
}

/// Adds owner, kind and security options of a relation; false where the relation does not exist.
fn head(state: &State, relation: u32, parts: &mut Vec<String>) -> bool {
    let table = Table::open(oids::PG_CLASS);
    let column = |name| table.column(name);
    let (oid, owner, kind, options) =
        (column("oid"), column("relowner"), column("relkind"), column("reloptions"));
    let mut found = false;
    table.lookup(state, oids::PG_CLASS_OID_INDEX, &[(oid, relation)], |row: Row<'_>| {
        parts.extend([role_name(row.oid(owner)), char::from(row.char(kind)).to_string()]);
        parts.extend(
            row.texts(options).into_iter().filter(|option| option.starts_with("security_")),
        );
        found = true;
    });
    found
}

/// Adds the rules of some relations (the query of a view is one), the owners of those with rules,
/// and where the rows of each come from: a foreign server, and tables that inherit from it. The
/// same of all relations that these depend on.
fn views_behind(state: &State, relations: Vec<u32>, freshness: Freshness, parts: &mut Vec<String>) {
    let mut seen: HashSet<u32> = relations.iter().copied().collect();
    let mut queue = relations;
    while let Some(relation) = queue.pop() {
        crate::pg::heap::interrupts();
        foreign(state, relation, parts);
        let children = children(state, relation, parts);
        queue.extend(children.into_iter().filter(|oid| seen.insert(*oid)));
        let rules = rules(state, relation);
        if !rules.is_empty() {
            head(state, relation, parts);
        }
        for rule in rules {
            parts.push(char::from(rule.enabled).to_string());
            let write = || {
                if rule.is_view {
                    let view = call(pg_sys::pg_get_viewdef, &[pg_sys::Datum::from(relation)]);
                    reparsed(state, relation, view)
                } else {
                    call(pg_sys::pg_get_ruledef, &[pg_sys::Datum::from(rule.oid)])
                }
            };
            parts.push(cached(freshness, (oids::PG_REWRITE, rule.oid), &rule.stored, write));
            queue.extend(
                relations_of(state, oids::PG_REWRITE, rule.oid)
                    .into_iter()
                    .filter(|oid| seen.insert(*oid)),
            );
        }
    }
}

/// Returns into how many statements the rules of a relation, and of the views that it depends on,
/// may rewrite one statement: an estimate without rewriting, at most `limit`.
pub fn products(state: &State, relation: u32, limit: u64) -> u64 {
    fn count(state: &State, relation: u32, limit: u64, known: &mut HashMap<u32, u64>) -> u64 {
        if let Some(known) = known.get(&relation) {
            return *known;
        }
        crate::pg::heap::interrupts();
        // The server rejects infinite recursion.
        known.insert(relation, 1);
        let mut found = 1;
        for rule in rules(state, relation) {
            for named in named_by(state, oids::PG_REWRITE, rule.oid, oids::PG_CLASS) {
                if named != relation && found < limit {
                    found = (found + count(state, named, limit, known)).min(limit);
                }
            }
        }
        known.insert(relation, found);
        found
    }
    count(state, relation, limit, &mut HashMap::new())
}

/// Returns the relations that the parsed body of a routine names.
pub fn relations_of_body(state: &State, routine: u32) -> Vec<u32> {
    named_by(state, oids::PG_PROC, routine, oids::PG_CLASS)
}

/// Returns the objects of one catalog that an object depends on.
fn named_by(state: &State, catalog: u32, object: u32, of: u32) -> Vec<u32> {
    let table = Table::open(oids::PG_DEPEND);
    let (class, on, to_class, to_object) = (
        table.column("classid"),
        table.column("objid"),
        table.column("refclassid"),
        table.column("refobjid"),
    );
    let mut found = Vec::new();
    table.lookup(state, oids::PG_DEPEND_DEPENDER_INDEX, &[(class, catalog), (on, object)], |row| {
        if row.oid(to_class) == of {
            found.push(row.oid(to_object));
        }
    });
    found
}

/// Returns the relations that an object depends on, ordered by name.
fn relations_of(state: &State, catalog: u32, object: u32) -> Vec<u32> {
    let mut found = named_by(state, catalog, object, oids::PG_CLASS);
    // The order must not depend on OIDs.
    found.sort_by_cached_key(|oid| super::name(oids::PG_CLASS, *oid));
    found.dedup();
    found
}

/// Adds the server and the options of a foreign table.
fn foreign(state: &State, relation: u32, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_FOREIGN_TABLE);
    let (on, server, options) =
        (table.column("ftrelid"), table.column("ftserver"), table.column("ftoptions"));
    table.lookup(state, oids::PG_FOREIGN_TABLE_RELATION_INDEX, &[(on, relation)], |row| {
        // SAFETY: the server exists because the table depends on it; a C string.
        let server = unsafe {
            let server = pg_sys::GetForeignServer(row.oid(server).into());
            from_server(CStr::from_ptr((*server).servername).to_bytes())
        };
        parts.push(server);
        parts.extend(row.texts(options));
    });
}

/// Adds the tables that inherit from a table, because queries of the table read their rows, and
/// returns them. Partitions are not part of the hash.
fn children(state: &State, relation: u32, parts: &mut Vec<String>) -> Vec<u32> {
    let table = Table::open(oids::PG_INHERITS);
    let (child, parent) = (table.column("inhrelid"), table.column("inhparent"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_INHERITS_PARENT_INDEX, &[(parent, relation)], |row| {
        found.push(row.oid(child));
    });
    // SAFETY: a lookup in the system cache.
    found.retain(|child| !unsafe { pg_sys::get_rel_relispartition((*child).into()) });
    // The order must not depend on OIDs.
    found.sort_by_cached_key(|oid| super::name(oids::PG_CLASS, *oid));
    let names = found.iter().filter_map(|oid| super::name(oids::PG_CLASS, *oid));
    parts.extend(names.map(|(schema, name)| safe_qualified(&schema, &name)));
    found
}

fn columns(state: &State, relation: u32, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_ATTRIBUTE);
    let (owner, name, number) =
        (table.column("attrelid"), table.column("attname"), table.column("attnum"));
    let (type_oid, dropped) = (table.column("atttypid"), table.column("attisdropped"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_ATTRIBUTE_RELID_INDEX, &[(owner, relation)], |row| {
        let number = row.int(number) as i16;
        if number > 0 && !row.bool(dropped) {
            found.push(format!(
                "{} {}",
                row.name(name),
                super::type_name::argument_types(&[row.oid(type_oid)])
            ));
        }
    });
    // A restored table may have its columns in another order.
    found.sort();
    parts.append(&mut found);
}

fn triggers(state: &State, relation: u32, freshness: Freshness, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_TRIGGER);
    let (oid, on, internal) =
        (table.column("oid"), table.column("tgrelid"), table.column("tgisinternal"));
    let enabled = table.column("tgenabled");
    let mut found = Vec::new();
    table.lookup(state, oids::PG_TRIGGER_RELID_INDEX, &[(on, relation)], |row| {
        if !row.bool(internal) {
            found.push((row.oid(oid), char::from(row.char(enabled))));
        }
    });
    let definition = |(trigger, enabled): (u32, char)| {
        if freshness == Freshness::Earlier {
            return UNKNOWN.to_owned();
        }
        format!(
            "{enabled} {}",
            deparsed(|| call(pg_sys::pg_get_triggerdef, &[pg_sys::Datum::from(trigger)]))
        )
    };
    let mut found: Vec<String> = found.into_iter().map(definition).collect();
    found.sort();
    parts.append(&mut found);
}

/// A rule of a relation.
struct Rule {
    oid: u32,
    /// Action and condition as they are stored.
    stored: String,
    enabled: u8,
    /// Whether it is the query of a view.
    is_view: bool,
}

/// Returns the rules of a relation, ordered by name.
fn rules(state: &State, relation: u32) -> Vec<Rule> {
    let table = Table::open(oids::PG_REWRITE);
    let column = |name| table.column(name);
    let (oid, on, action, condition) =
        (column("oid"), column("ev_class"), column("ev_action"), column("ev_qual"));
    let (name, enabled) = (column("rulename"), column("ev_enabled"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_REWRITE_RELATION_INDEX, &[(on, relation)], |row| {
        found.push(Rule {
            oid: row.oid(oid),
            stored: row.text(action).unwrap_or_default() + &row.text(condition).unwrap_or_default(),
            enabled: row.char(enabled),
            is_view: row.name(name) == "_RETURN",
        });
    });
    found
}

fn policies_of(state: &State, relation: u32) -> Vec<u32> {
    let table = Table::open(oids::PG_POLICY);
    let (oid, on) = (table.column("oid"), table.column("polrelid"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_POLICY_RELID_INDEX, &[(on, relation)], |row| {
        found.push(row.oid(oid));
    });
    found
}

/// Returns the parts of a policy: its own, the restrictive policies on the same relation, and the
/// relations in its conditions.
fn policy(state: &State, policy: u32, freshness: Freshness) -> Option<Vec<String>> {
    let mut parts = vec![];
    let relation = one_policy(state, policy, freshness, &mut parts)?;
    restrictive(state, relation, freshness, &mut parts);
    let others = relations_of(state, oids::PG_POLICY, policy)
        .into_iter()
        .filter(|oid| *oid != relation)
        .collect();
    views_behind(state, others, freshness, &mut parts);
    Some(parts)
}

fn restrictive(state: &State, relation: u32, freshness: Freshness, parts: &mut Vec<String>) {
    let table = Table::open(oids::PG_POLICY);
    let (oid, on, name, permissive) = (
        table.column("oid"),
        table.column("polrelid"),
        table.column("polname"),
        table.column("polpermissive"),
    );
    let mut found = Vec::new();
    table.lookup(state, oids::PG_POLICY_RELID_INDEX, &[(on, relation)], |row| {
        if !row.bool(permissive) {
            found.push((row.name(name), row.oid(oid)));
        }
    });
    found.sort();
    for (_, policy) in found {
        one_policy(state, policy, freshness, parts);
    }
}

/// Adds command, roles and conditions of a policy and returns its relation.
fn one_policy(
    state: &State,
    policy: u32,
    freshness: Freshness,
    parts: &mut Vec<String>,
) -> Option<u32> {
    let table = Table::open(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, on, command, permissive) =
        (column("oid"), column("polrelid"), column("polcmd"), column("polpermissive"));
    let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
    let mut found = None;
    table.lookup(state, oids::PG_POLICY_OID_INDEX, &[(oid, policy)], |row: Row<'_>| {
        let mut names: Vec<String> = row
            .oids(roles)
            .into_iter()
            .map(|role| if role == 0 { "PUBLIC".into() } else { role_name(role) })
            .collect();
        names.sort();
        parts.extend([
            char::from(row.char(command)).to_string(),
            row.bool(permissive).to_string(),
            names.join("\0"),
        ]);
        let relation = row.oid(on);
        let mut condition = |part: u32, column: Column| {
            let stored = row.text(column).unwrap_or_default();
            let write = || {
                let text = row
                    .raw(column)
                    .map(|tree| call(pg_sys::pg_get_expr, &[tree, pg_sys::Datum::from(relation)]));
                match (text, super::name(oids::PG_CLASS, relation)) {
                    (Some(text), Some((schema, name))) => reparsed(
                        state,
                        relation,
                        format!("SELECT ({text}) FROM {}", safe_qualified(&schema, &name)),
                    ),
                    (text, _) => text.unwrap_or_default(),
                }
            };
            parts.push(cached(freshness, (oids::PG_POLICY + part, policy), &stored, write));
        };
        condition(0, using);
        condition(1, check);
        found = Some(relation);
    });
    found
}

/// Parses a query on a relation as the owner of the relation and deparses it again.
fn reparsed(state: &State, relation: u32, query: String) -> String {
    match super::objects::owner(state, relation) {
        Some(reader) => super::deparse::reparsed(query, reader, canonical),
        None => query,
    }
}

thread_local! {
    /// Deparsed objects, by catalog and OID.
    static DEPARSED: RefCell<HashMap<(u32, u32), Deparsed>> = RefCell::default();
}

/// A deparsed object.
struct Deparsed {
    /// The hash of the stored form.
    stored: String,
    text: String,
}

/// The maximum number of cached objects.
const MOST: usize = 10_000;

/// Returns an object deparsed by `deparse`, or its cached text. `stored` is the stored form of the
/// object, `key` its catalog and OID.
fn cached(
    freshness: Freshness,
    key: (u32, u32),
    stored: &str,
    deparse: impl FnOnce() -> String,
) -> String {
    let stored = fingerprint(&[stored]);
    if freshness == Freshness::Stored {
        return stored;
    }
    if matches!(freshness, Freshness::Cached | Freshness::Earlier) {
        let known = DEPARSED.with_borrow(|deparsed| {
            deparsed
                .get(&key)
                .filter(|known| known.stored == stored)
                .map(|known| known.text.clone())
        });
        let other = if freshness == Freshness::Cached { "not looked at" } else { UNKNOWN };
        return known.unwrap_or_else(|| other.to_owned());
    }
    let text = deparsed(deparse);
    DEPARSED.with_borrow_mut(|deparsed| {
        if deparsed.len() >= MOST {
            deparsed.clear();
        }
        deparsed.insert(key, Deparsed { stored, text: text.clone() });
    });
    text
}
