//! Whether the accesses that a contract declares work, as far as the catalogs tell.

use crate::needs::{Callable, Needs};
use crate::objects;
use crate::snapshot::{Objects, base};
use crate::source::State;
use crate::statement::{Finder, Statement};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Privileges, Snapshot};
use dragonfly_core::doctor::{AccessOutcome, DeclaredAccess, Target};
use dragonfly_core::explain::{denied, denied_execution, denied_usage};
use dragonfly_core::rules::Context;
use std::collections::HashMap;
use std::rc::Rc;

/// How many accesses are read before they are checked: what a statement needs is larger than the
/// outcome.
const AT_ONCE: usize = 20_000;

/// Calls `each` with the outcomes of some declared accesses.
pub fn each_outcome(
    cx: &Context<'_>,
    state: &dyn State,
    accesses: Vec<DeclaredAccess>,
    each: &mut dyn FnMut(DeclaredAccess, AccessOutcome),
) {
    let base = base(state).complete();
    let mut accesses = accesses.into_iter();
    while accesses.len() > 0 {
        let some: Vec<DeclaredAccess> = accesses.by_ref().take(AT_ONCE).collect();
        outcomes(cx, state, &base, some, each);
    }
}

fn outcomes(
    cx: &Context<'_>,
    state: &dyn State,
    base: &Snapshot,
    accesses: Vec<DeclaredAccess>,
    each: &mut dyn FnMut(DeclaredAccess, AccessOutcome),
) {
    let of_roles = Access::new(base);
    let rights = state.rights(base, &of_roles);
    let mut known = Known::default();
    let mut objects = Objects::default();
    let mut read = Vec::with_capacity(accesses.len());
    for access in accesses {
        state.interrupts();
        match access.target {
            Target::Relation(oid) => drop(objects.relations.insert(oid)),
            Target::Routine(oid) => drop(objects.routines.insert(oid)),
            Target::Schema(_) => {}
        }
        let finder = Finder { state, rights: &*rights, role: access.role };
        let needs = known.needs(&finder, &access);
        needs.add_to(&mut objects);
        read.push((access, needs));
    }
    let snapshot = objects.snapshot(state, base.clone());
    let access = Access::new(&snapshot);
    let interrupts = || state.interrupts();
    let cx = &Context::new(cx.contract, &snapshot, &access, &interrupts).with_needs_of(cx);
    let callable = Callable::new(&snapshot);
    for (access, needs) in read {
        state.interrupts();
        let outcome = outcome(cx, state, &callable, &access, &needs);
        each(access, outcome);
    }
}

/// What accesses need that is the same for every role.
#[derive(Default)]
struct Known(HashMap<(Target, Privileges, Vec<String>), Rc<Needs>>);

impl Known {
    fn needs(&mut self, finder: &Finder<'_>, access: &DeclaredAccess) -> Rc<Needs> {
        let DeclaredAccess { target, privilege, ref columns, .. } = *access;
        let key = (target, privilege, columns.clone());
        if let Some(known) = self.0.get(&key) {
            return Rc::clone(known);
        }
        let needs = Rc::new(match target {
            Target::Schema(_) => Needs::default(),
            Target::Routine(oid) => finder.of_call(oid),
            Target::Relation(relation) => {
                finder.of_statement(&Statement { relation, privilege, columns, form: None })
            }
        });
        // Which policies apply depends on the role.
        if !needs.of_caller().any(|of| objects::has_row_security(finder.state, of.relation)) {
            self.0.insert(key, Rc::clone(&needs));
        }
        needs
    }
}

/// Returns whether an access works, given what it needs. `callable` has the routines of the
/// snapshot.
#[must_use]
pub fn outcome(
    cx: &Context<'_>,
    state: &dyn State,
    callable: &Callable<'_>,
    access: &DeclaredAccess,
    needs: &Needs,
) -> AccessOutcome {
    // What has been dropped in the meantime is reported by the rules.
    let Some(role) = cx.snapshot.role(access.role) else { return AccessOutcome::Works };
    if needs.is_cut {
        return AccessOutcome::Unchecked("it depends on too much".to_owned());
    }
    let denial = match access.target {
        Target::Schema(oid) => {
            cx.snapshot.schema(oid).and_then(|schema| denied_usage(cx, role, schema))
        }
        Target::Routine(oid) => callable
            .get(oid)
            .and_then(|routine| denied_execution(cx, role, &callable.execution(routine, needs))),
        Target::Relation(oid) => cx.snapshot.relation(oid).and_then(|relation| {
            let unusable = objects::unusable(state, relation, access.privilege);
            let attempt = callable.attempt(relation, needs, unusable);
            denied(cx, role, &attempt, access.privilege)
        }),
    };
    denial.map_or(AccessOutcome::Works, AccessOutcome::Denied)
}
