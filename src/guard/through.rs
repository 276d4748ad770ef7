//! What declared views and routines access as another role: privileges of that role, and row
//! security for it, which may change while the view and the routine stay the same.

use super::plan::Plan;
use super::reasons::around;
use super::snapshots::Snapshots;
use crate::catalog;
use crate::pg::heap::State;
use dragonfly_core::catalog::{ObjectId, Oid, RelationKind, Snapshot};
use dragonfly_core::guard::{Changed, Through, Way, concerned, owners_differ};
use std::collections::HashSet;

/// What has changed that views and routines may access with another result.
pub enum Concerned {
    /// Roles that own some of them.
    Owners,
    /// Some relations.
    Relations(Vec<Oid>),
}

impl Concerned {
    /// Compares both states; `None` where nothing has changed. This reads no catalog.
    pub fn of(states: &Snapshots) -> Option<Self> {
        let Snapshots { before, after, plan, .. } = states;
        if *plan == Plan::Everything && owners_differ(before, after) {
            return Some(Self::Owners);
        }
        let relations = concerned(before, after);
        (!relations.is_empty()).then_some(Self::Relations(relations))
    }

    /// Reads both states with the views and routines that access what has changed.
    pub fn read(&self, states: &Snapshots, [then, now]: [&State; 2]) -> [Snapshot; 2] {
        let Self::Relations(relations) = self else {
            return [
                catalog::with_parts(then, states.before.clone()),
                catalog::with_parts(now, states.after.clone()),
            ];
        };
        let mut objects: HashSet<Oid> = relations.iter().copied().collect();
        for relation in relations {
            for state in [then, now] {
                if catalog::is_view(state, *relation) {
                    objects.extend(catalog::behind_view(state, *relation));
                }
            }
        }
        let mut objects: Vec<Oid> = objects.into_iter().collect();
        objects.sort_unstable();
        let objects: Vec<ObjectId> = objects.into_iter().map(ObjectId::Relation).collect();
        [around(then, &states.before, &objects), around(now, &states.after, &objects)]
    }
}

/// Whether an access that the server denies now was possible at all, without the privileges for
/// writes that it never used: a statement on a view changes one table at most.
pub fn was_possible(now: &State, through: &mut Through<'_>) -> bool {
    let (Way::View(view), Changed::Denied(missing)) = (through.way, &mut through.changed) else {
        return true;
    };
    if through.relation.kind == RelationKind::View {
        return true;
    }
    for command in catalog::WRITES {
        if missing.contains(command.privilege())
            && !catalog::may_write(now, view.oid, through.relation.oid, command)
        {
            *missing = *missing & !command.privilege();
        }
    }
    !missing.is_empty()
}
