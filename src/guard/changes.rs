//! Records what a transaction has changed, and which of it has yet to be checked. The hooks tell
//! it; it calls nobody.
//!
//! What was changed stays recorded until the transaction ends: commands nest, and a nested
//! command's end must not let the outer one go unchecked. What a subtransaction did, changing or
//! checking, is undone with it.

use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Something that a transaction may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// A routine.
    Routine(Oid),
    /// A table, view or sequence; or an index or what else has a row in `pg_class`.
    Relation(Oid),
    /// A type or an operator, by its catalog.
    Other(Oid, Oid),
    /// An extension: its members.
    Extension(Oid),
    /// An event trigger, or something else that the guard depends on and no cache tells of.
    Own,
    /// Anything else that may come to depend on a temporary object, by its catalog.
    Object(Oid, Oid),
    /// Rows of a catalog, written directly.
    Catalogs,
    /// Some schema.
    Schemas,
    /// Some default privileges.
    DefaultAcls,
    /// Some role, membership or database.
    Roles,
}

/// The number of a subtransaction.
type Subtransaction = pg_sys::SubTransactionId;

/// Everything changed in one transaction.
#[derive(Debug, Default)]
struct Changes {
    /// With the subtransaction of the first change.
    first: HashMap<Changed, Subtransaction>,
    /// Changed, or their check undone, since they were checked.
    unchecked: HashSet<Changed>,
    /// Which subtransaction changed or checked what, in that order: a subtransaction's own entries
    /// are always the last.
    history: Vec<(Subtransaction, Changed)>,
}

impl Changes {
    fn note(&mut self, changed: Changed, now: Subtransaction) {
        let first = *self.first.entry(changed).or_insert(now);
        // Unchecked since this very subtransaction changed it first: the history says so already.
        if self.unchecked.insert(changed) || first != now {
            self.history.push((now, changed));
        }
    }

    fn checked(&mut self, all: &[Changed], now: Subtransaction) {
        for changed in all {
            self.unchecked.remove(changed);
            self.history.push((now, *changed));
        }
    }

    /// The first entry of the last subtransaction, if that is `own`.
    fn start_of(&self, own: Subtransaction) -> usize {
        self.history.iter().rposition(|(id, _)| *id != own).map_or(0, |last| last + 1)
    }

    /// What the subtransaction changed first goes with it; what it changed or checked again must be
    /// checked again.
    fn roll_back(&mut self, own: Subtransaction) {
        let start = self.start_of(own);
        for (_, changed) in self.history.split_off(start) {
            if self.first.get(&changed) == Some(&own) {
                self.first.remove(&changed);
                self.unchecked.remove(&changed);
            } else if self.first.contains_key(&changed) {
                self.unchecked.insert(changed);
            }
        }
    }

    /// What the subtransaction did, its parent did.
    fn release(&mut self, own: Subtransaction, parent: Subtransaction) {
        let start = self.start_of(own);
        for (id, changed) in &mut self.history[start..] {
            *id = parent;
            if let Some(first) = self.first.get_mut(changed).filter(|first| **first == own) {
                *first = parent;
            }
        }
    }
}

thread_local! {
    static CHANGES: RefCell<Changes> = RefCell::default();
}

/// Returns what has yet to be checked.
pub fn unchecked() -> Vec<Changed> {
    CHANGES.with_borrow(|changes| changes.unchecked.iter().copied().collect())
}

/// Returns everything that has been changed.
pub fn all() -> Vec<Changed> {
    CHANGES.with_borrow(|changes| changes.first.keys().copied().collect())
}

/// Records that something has been changed.
pub fn note(changed: Changed) {
    let now = subtransaction();
    CHANGES.with_borrow_mut(|changes| changes.note(changed, now));
}

/// Records that those have been checked, and may stay as they are.
pub fn checked(all: &[Changed]) {
    let now = subtransaction();
    CHANGES.with_borrow_mut(|changes| changes.checked(all, now));
}

/// Records that a subtransaction has been rolled back.
pub fn subtransaction_aborted(own: Subtransaction) {
    CHANGES.with_borrow_mut(|changes| changes.roll_back(own));
}

/// Records that a subtransaction has been released into its parent.
pub fn subtransaction_committed(own: Subtransaction, parent: Subtransaction) {
    CHANGES.with_borrow_mut(|changes| changes.release(own, parent));
}

/// Forgets everything: the transaction is over, or what it has done is not to be checked.
pub fn forget() {
    CHANGES.with_borrow_mut(|changes| {
        if !changes.history.is_empty() {
            *changes = Changes::default();
        }
    });
}

fn subtransaction() -> Subtransaction {
    // SAFETY: reads the state of the current transaction.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Changed = Changed::Relation(16_384);
    const ROUTINE: Changed = Changed::Routine(16_385);

    fn unchecked(changes: &Changes) -> Vec<Changed> {
        let mut found: Vec<_> = changes.unchecked.iter().copied().collect();
        found.sort_by_key(|changed| format!("{changed:?}"));
        found
    }

    #[test]
    fn change_is_unchecked_until_checked() {
        let mut changes = Changes::default();
        changes.note(TABLE, 1);
        assert_eq!(unchecked(&changes), [TABLE]);
        changes.checked(&[TABLE], 1);
        assert_eq!(unchecked(&changes), []);
        assert!(changes.first.contains_key(&TABLE), "it stays recorded until the transaction ends");
        changes.note(TABLE, 1);
        assert_eq!(unchecked(&changes), [TABLE], "it has been changed again");
    }

    #[test]
    fn rolled_back_change_is_forgotten() {
        let mut changes = Changes::default();
        changes.note(TABLE, 1);
        changes.note(ROUTINE, 2);
        changes.roll_back(2);
        assert_eq!(unchecked(&changes), [TABLE]);
        assert!(!changes.first.contains_key(&ROUTINE));
    }

    #[test]
    fn rolled_back_check_is_undone() {
        let mut changes = Changes::default();
        changes.note(TABLE, 1);
        changes.checked(&[TABLE], 2);
        changes.roll_back(2);
        assert_eq!(unchecked(&changes), [TABLE]);
    }

    #[test]
    fn rolled_back_second_change_is_checked_again() {
        let mut changes = Changes::default();
        changes.note(TABLE, 1);
        changes.checked(&[TABLE], 1);
        changes.note(TABLE, 2);
        changes.checked(&[TABLE], 2);
        changes.roll_back(2);
        assert_eq!(unchecked(&changes), [TABLE], "the state that was checked is gone");
    }

    #[test]
    fn released_change_is_the_parents() {
        let mut changes = Changes::default();
        changes.note(TABLE, 1);
        changes.note(ROUTINE, 3);
        changes.release(3, 2);
        assert_eq!(changes.first[&ROUTINE], 2);
        changes.roll_back(2);
        assert_eq!(unchecked(&changes), [TABLE]);
        assert!(!changes.first.contains_key(&ROUTINE));
    }

    #[test]
    fn repeated_change_is_recorded_once_per_subtransaction() {
        let mut changes = Changes::default();
        (0..3).for_each(|_| changes.note(TABLE, 1));
        assert_eq!(changes.history.len(), 1);
        changes.note(TABLE, 2);
        assert_eq!(changes.history, [(1, TABLE), (2, TABLE)]);
    }
}
