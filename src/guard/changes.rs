//! Records the changes of a transaction and which of them have not been checked yet. The hooks
//! report the changes.
//!
//! A change stays recorded until the transaction ends: commands nest, and the end of a nested
//! command must not leave changes of the outer one unchecked. The rollback of a subtransaction
//! undoes the changes and the checks that it recorded.

use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// An object, or kind of object, that a transaction may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// A routine.
    Routine(Oid),
    /// The catalog row of a routine, which this session or another one has written. GRANT and
    /// DROP OWNED write only that.
    RoutineRow(Oid),
    /// EXECUTE on a routine has been granted to PUBLIC by a statement.
    GrantToPublic(Oid),
    /// A relation of any kind, indexes included.
    Relation(Oid),
    /// A type or an operator: its catalog and its OID.
    Other(Oid, Oid),
    /// An extension, and with it its members.
    Extension(Oid),
    /// An event trigger, or another object that the guard depends on.
    Own,
    /// A large object that has been altered, or another object that may depend on a temporary
    /// object: its catalog and its OID.
    Object(Oid, Oid),
    /// A part of an object, such as a policy, a default or the body of a routine, has been dropped,
    /// altered or replaced, so that the object may use another one no longer.
    Parts,
    /// Rows of a catalog, written directly.
    Catalogs,
    /// At least one schema.
    Schemas,
    /// Default privileges.
    DefaultAcls,
    /// Privileges on objects of the server, or their owners.
    ServerObjects,
    /// At least one role, membership or database.
    Roles,
}

/// The number of a subtransaction.
type Subtransaction = pg_sys::SubTransactionId;

/// The changes of one transaction.
#[derive(Debug, Default)]
struct Changes {
    /// The changes with the subtransaction that made them first.
    first: HashMap<Changed, Subtransaction>,
    /// The changes that have not been checked since they were made last, or whose check has been
    /// rolled back.
    unchecked: HashSet<Changed>,
    /// Changes and checks with their subtransactions, in order: the entries of the current
    /// subtransaction are the last.
    history: Vec<(Subtransaction, Changed)>,
    /// The routines whose catalog rows have been written since the last statement started.
    rows: HashSet<Oid>,
}

impl Changes {
    fn note(&mut self, changed: Changed, now: Subtransaction) {
        let first = *self.first.entry(changed).or_insert(now);
        // The history already has an entry if this subtransaction made the change first and it has
        // not been checked since.
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

    /// Forgets those of some changes that the current subtransaction has made first: where it is
    /// rolled back, so are they.
    fn discard(&mut self, irrelevant: &[Changed], now: Subtransaction) {
        for changed in irrelevant {
            if self.first.get(changed) == Some(&now) {
                self.first.remove(changed);
                self.unchecked.remove(changed);
            }
        }
    }

    /// Returns the index of the first entry of `own`, the current subtransaction.
    fn start_of(&self, own: Subtransaction) -> usize {
        self.history.iter().rposition(|(id, _)| *id != own).map_or(0, |last| last + 1)
    }

    /// Forgets the changes that the subtransaction made first. The others that it made or checked
    /// must be checked again.
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

    /// Assigns the entries of the subtransaction to its parent.
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

/// Returns the changes that have not been checked yet.
pub fn unchecked() -> Vec<Changed> {
    CHANGES.with_borrow(|changes| changes.unchecked.iter().copied().collect())
}

/// Returns all changes.
pub fn all() -> Vec<Changed> {
    CHANGES.with_borrow(|changes| changes.first.keys().copied().collect())
}

/// Whether the transaction has made a change.
pub fn has(changed: Changed) -> bool {
    CHANGES.with_borrow(|changes| changes.first.contains_key(&changed))
}

/// Records a change.
pub fn note(changed: Changed) {
    let now = subtransaction();
    CHANGES.with_borrow_mut(|changes| changes.note(changed, now));
}

/// Records that the catalog row of a routine has been written. The routine is checked unless that
/// is to be done anyway.
pub fn note_routine_row(routine: Oid) {
    let is_known = CHANGES.with_borrow_mut(|changes| {
        changes.rows.insert(routine);
        changes.unchecked.contains(&Changed::Routine(routine))
    });
    if !is_known {
        note(Changed::RoutineRow(routine));
    }
}

/// Records that a statement starts.
pub fn statement_starts() {
    CHANGES.with_borrow_mut(|changes| changes.rows.clear());
}

/// Returns the routines whose catalog rows have been written since the last statement started.
pub fn written_since_start() -> Vec<Oid> {
    CHANGES.with_borrow(|changes| changes.rows.iter().copied().collect())
}

/// Records that these changes have been checked and allowed.
pub fn checked(all: &[Changed]) {
    let now = subtransaction();
    CHANGES.with_borrow_mut(|changes| changes.checked(all, now));
}

/// Forgets changes that do not matter.
pub fn discard(irrelevant: &[Changed]) {
    let now = subtransaction();
    CHANGES.with_borrow_mut(|changes| changes.discard(irrelevant, now));
}

/// Records that a subtransaction has been rolled back.
pub fn subtransaction_aborted(own: Subtransaction) {
    CHANGES.with_borrow_mut(|changes| changes.roll_back(own));
}

/// Records that a subtransaction has been committed into its parent.
pub fn subtransaction_committed(own: Subtransaction, parent: Subtransaction) {
    CHANGES.with_borrow_mut(|changes| changes.release(own, parent));
}

/// Forgets all changes: the transaction has ended, or its changes so far are not to be checked.
pub fn forget() {
    CHANGES.with_borrow_mut(|changes| {
        if !changes.history.is_empty() || !changes.rows.is_empty() {
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
    fn discarded_change_is_forgotten_unless_a_parent_has_made_it() {
        let mut changes = Changes::default();
        changes.note(TABLE, 1);
        changes.checked(&[TABLE], 1);
        changes.note(TABLE, 2);
        changes.note(ROUTINE, 2);
        changes.discard(&[TABLE, ROUTINE], 2);
        assert!(!changes.first.contains_key(&ROUTINE));
        changes.roll_back(2);
        assert_eq!(unchecked(&changes), [TABLE], "the parent has changed it as well");
        changes.note(ROUTINE, 1);
        assert_eq!(unchecked(&changes), [TABLE, ROUTINE], "it is changed again");
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
