//! Whether the accesses that the contract declares work: the answers of `ops.explain_access()`, for
//! all of them at once.

use super::{Objects, Statement, is_too_complex, needed};
use crate::catalog;
use crate::pg::heap::{State, interrupts};
use crate::pg::inert::Trust;
use crate::pg::scratch::Scratch;
use crate::pg::{progress, setting, subtransaction};
use crate::query::{self, Unreadable};
use crate::settings;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{FIRST_UNPINNED, Oid, OidMap, Privileges, RoutineKind, Snapshot};
use dragonfly_core::doctor::{
    AccessName, AccessOutcome, DeclaredAccess, Target, declared_accesses,
};
use dragonfly_core::rules::Context;
use dragonfly_reader::declared::outcome;
use dragonfly_reader::needs::{Callable, Needs};
use pgrx::pg_sys::panic::CaughtError;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::rc::Rc;

/// Statements on relations whose rules make more of them are not read.
const MOST_PRODUCTS: u64 = 200;

/// How many accesses are read before they are checked: what a statement requires is larger than the
/// outcome.
const AT_ONCE: usize = 20_000;

/// Returns every declared access with its outcome, by names, so that the outcomes before and after
/// a change can be compared. `cx` is the whole catalog, as `state` shows it.
pub fn outcomes_by_name(cx: &Context<'_>, state: &State) -> BTreeMap<AccessName, AccessOutcome> {
    let outcomes = outcomes(cx, state, declared_accesses(cx), &LockTimeout::default());
    let named = |(access, outcome): (DeclaredAccess, _)| Some((access.name(cx.snapshot)?, outcome));
    outcomes.into_iter().filter_map(named).collect()
}

/// Returns some declared accesses with their outcomes. Nothing is executed: each statement is read
/// as the server rewrites it, see [`crate::query`].
pub fn outcomes(
    cx: &Context<'_>,
    state: &State,
    accesses: Vec<DeclaredAccess>,
    timeout: &LockTimeout,
) -> Vec<(DeclaredAccess, AccessOutcome)> {
    let mut found = Vec::with_capacity(accesses.len());
    each_outcome(cx, state, accesses, timeout, &mut |access, outcome| {
        found.push((access, outcome));
    });
    found
}

/// Calls `each` with the outcomes of some declared accesses, as [`outcomes`] returns them.
pub fn each_outcome(
    cx: &Context<'_>,
    state: &State,
    accesses: Vec<DeclaredAccess>,
    timeout: &LockTimeout,
    each: &mut dyn FnMut(DeclaredAccess, AccessOutcome),
) {
    let base = catalog::base(state).complete();
    let mut reader = Reader::new(cx, state, &base, timeout);
    progress::parts(accesses.len());
    let mut accesses = accesses.into_iter();
    while accesses.len() > 0 {
        let some: Vec<DeclaredAccess> = accesses.by_ref().take(AT_ONCE).collect();
        for (access, outcome) in some_outcomes(cx, state, &base, &mut reader, some) {
            each(access, outcome);
        }
        reader.known.clear();
    }
}

fn some_outcomes(
    cx: &Context<'_>,
    state: &State,
    base: &Snapshot,
    reader: &mut Reader<'_>,
    accesses: Vec<DeclaredAccess>,
) -> Vec<(DeclaredAccess, AccessOutcome)> {
    let read: Vec<_> = accesses
        .into_iter()
        .map(|access| {
            interrupts();
            progress::part_done();
            let required = reader.read(&access);
            (access, required)
        })
        .collect();
    let mut objects = Objects::default();
    for (access, required) in &read {
        interrupts();
        match access.target {
            Target::Relation(oid) => drop(objects.relations.insert(oid)),
            Target::Routine(oid) => drop(objects.routines.insert(oid)),
            Target::Schema(_) => {}
        }
        if let Ok(required) = required {
            required.add_to(&mut objects);
        }
    }
    let snapshot = objects.snapshot(state, base.clone());
    let access = Access::new(&snapshot);
    let cx = &Context::new(cx.contract, &snapshot, &access, &interrupts).with_needs_of(cx);
    let callable = Callable::new(&snapshot);
    read.into_iter()
        .map(|(access, required)| {
            interrupts();
            let found = match required {
                Ok(required) => outcome(cx, state, &callable, &access, &required),
                Err(why) => AccessOutcome::Unchecked(why),
            };
            (access, found)
        })
        .collect()
}

/// Reads what declared accesses need. What does not depend on the role is read once.
struct Reader<'a> {
    state: &'a State,
    memory: Scratch,
    trust: Trust,
    /// The owners whose nested views are read.
    owners: HashSet<Oid>,
    timeout: &'a LockTimeout,
    snapshot: &'a Snapshot,
    /// Whether the call of a routine needs EXECUTE on it and nothing else.
    is_plain_call: OidMap<bool>,
    /// Why statements on a relation are not checked.
    unchecked: HashMap<Oid, Option<&'static str>>,
    has_row_security: HashMap<Oid, bool>,
    /// What is the same for every role.
    known: HashMap<(Target, Privileges, Vec<String>), Rc<Needs>>,
}

impl<'a> Reader<'a> {
    fn new(cx: &Context<'a>, state: &'a State, base: &Snapshot, timeout: &'a LockTimeout) -> Self {
        Self {
            state,
            snapshot: cx.snapshot,
            memory: Scratch::new(),
            trust: Trust::of_superusers(base),
            owners: Trust::under(cx.contract, base).owners,
            timeout,
            is_plain_call: OidMap::default(),
            unchecked: HashMap::new(),
            has_row_security: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// # Errors
    /// Why the access is not checked.
    fn read(&mut self, access: &DeclaredAccess) -> Result<Rc<Needs>, String> {
        let key = (access.target, access.privilege, access.columns.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(Rc::clone(known));
        }
        let required = Rc::new(self.required(access)?);
        // The server may reject the policies that apply to one role, such as those that lead to
        // themselves; for another role, they are not read.
        let depends_on_role = required.impossible.is_some()
            || required.of_caller().any(|need| self.has_row_security(need.relation));
        if !depends_on_role {
            self.known.insert(key, Rc::clone(&required));
        }
        Ok(required)
    }

    fn required(&mut self, access: &DeclaredAccess) -> Result<Needs, String> {
        let DeclaredAccess { target, role, privilege, ref columns } = *access;
        let read = match target {
            Target::Schema(_) => return Ok(Needs::default()),
            Target::Routine(oid) if self.is_plain_call(oid) => {
                return Ok(Needs::default());
            }
            Target::Routine(oid) => {
                let relations = catalog::relations_of_body(self.state, oid);
                if let Some(why) = relations.into_iter().find_map(|r| self.too_complex(r)) {
                    return Err(why.into());
                }
                let read = self.patiently(&|| query::of_call(oid, role, &self.trust));
                return needed(read).map_err(unread);
            }
            Target::Relation(relation) => {
                let complex = self.too_complex(relation);
                if let Some(why) = complex {
                    return Err(why.into());
                }
                let kind = catalog::relation_kind(self.state, relation);
                let statement = Statement { relation, kind, privilege, columns, form: None };
                self.patiently(&|| statement.needs(role, &self.trust))
            }
        };
        needed(read).map_err(unread)
    }

    /// Whether the call of a routine needs EXECUTE on it and nothing else: only a domain, the parts
    /// of an aggregate and a parsed body are checked beside the routine.
    fn is_plain_call(&mut self, oid: Oid) -> bool {
        let (state, snapshot) = (self.state, self.snapshot);
        *self.is_plain_call.entry(oid).or_insert_with(|| {
            snapshot.routine(oid).is_some_and(|routine| {
                routine.kind != RoutineKind::Aggregate
                    && routine.arguments.iter().all(|of| *of < FIRST_UNPINNED)
                    && !catalog::has_expressions(state, oid)
            })
        })
    }

    fn patiently<T>(&self, read: &dyn Fn() -> Result<T, Unreadable>) -> Result<T, Unreadable> {
        self.memory.with(|| self.timeout.while_reading(read))
    }

    /// Why statements on a relation are not checked; `None` where they are. Nested views can be
    /// written so that rewriting them takes any amount of time and memory; trusted owners do not do
    /// that.
    fn too_complex(&mut self, relation: Oid) -> Option<&'static str> {
        let (state, owners) = (self.state, &self.owners);
        *self.unchecked.entry(relation).or_insert_with(|| {
            if !catalog::has_rules(state, relation) {
                return None;
            }
            let is_untrusted = |oid: &Oid| {
                catalog::has_rules(state, *oid)
                    && catalog::relation_owner(state, *oid)
                        .is_some_and(|owner| !owners.contains(&owner))
            };
            let behind = catalog::behind_view(state, relation);
            match behind.iter().filter(|oid| is_untrusted(oid)).count() {
                2.. => Some("it depends on nested views or rules of owners that are not trusted"),
                _ => is_too_complex(state, relation, MOST_PRODUCTS)
                    .then_some("it depends on too many views or rules"),
            }
        })
    }

    fn has_row_security(&mut self, relation: Oid) -> bool {
        let state = self.state;
        *self
            .has_row_security
            .entry(relation)
            .or_insert_with(|| catalog::has_row_security(state, relation))
    }
}

/// Why a statement could not be read.
fn unread(error: Box<CaughtError>) -> String {
    subtransaction::report(&error).message().to_owned()
}

/// How long to wait for locks: as long as the session allows, or a short time; a very short one
/// after a lock could not be acquired, because the next statements may need the same lock.
#[derive(Default)]
pub struct LockTimeout {
    was_locked_out: Cell<bool>,
}

impl LockTimeout {
    /// How long to wait where the session does not set lock_timeout.
    const LONG: &'static str = "1s";
    /// How long to wait for further locks.
    const SHORT: &'static str = "10ms";

    /// Returns the value of lock_timeout.
    pub fn value(&self) -> String {
        if self.was_locked_out.get() {
            return Self::SHORT.into();
        }
        let of_session = settings::value("lock_timeout").filter(|value| value != "0");
        of_session.unwrap_or_else(|| Self::LONG.into())
    }

    /// Records that a lock could not be acquired.
    pub fn locked_out(&self) {
        self.was_locked_out.set(true);
    }

    /// Reads what a statement needs, and waits for locks no longer than that.
    fn while_reading<T>(&self, read: &dyn Fn() -> Result<T, Unreadable>) -> Result<T, Unreadable> {
        let timeout = CString::new(self.value()).unwrap_or_default();
        let outcome = setting::under(&[(c"lock_timeout", timeout.as_c_str())], read);
        if let Err(Unreadable::Now(_)) = &outcome {
            self.locked_out();
        }
        outcome
    }
}
