//! Bodies that are text: what they mention that the role which runs them may not use.

use super::{Callable, Objects};
use crate::catalog;
use crate::pg::heap::{State, interrupts};
use crate::query::Needs;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::explain::TextBody;
use dragonfly_core::plan::{Mentioned, Text};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::body::Mentions;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The texts of some routines, and the objects that have a name in them.
pub struct Texts {
    texts: HashMap<Oid, Text>,
    snapshot: Snapshot,
}

/// What is known about the text of a routine that a role runs.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Whether it may name a relation or routine.
    pub names_objects: bool,
    /// A sentence about what the role may not use.
    pub missing: Option<String>,
}

/// Returns the texts that `role` runs by a statement, in the order of the calls. `told` has what is
/// known about them, by routine and role.
pub fn text_bodies<'s>(
    callable: &Callable<'s>,
    needs: &Needs,
    role: Oid,
    told: &HashMap<(Oid, Oid), Told>,
) -> Vec<TextBody<'s>> {
    let text = |(routine, runs_as): &(Oid, Option<Oid>)| {
        let Told { names_objects, missing } =
            told.get(&(*routine, runs_as.unwrap_or(role))).cloned()?;
        Some(TextBody { routine: callable.get(*routine)?, names_objects, missing })
    };
    needs.texts.iter().filter_map(text).collect()
}

impl Texts {
    /// Reads the texts of routines; those without text are ignored.
    pub fn read(state: &State, routines: &BTreeSet<Oid>) -> Self {
        let texts = catalog::texts_of(state, routines);
        let mut names = HashSet::new();
        for text in texts.values() {
            interrupts();
            let Mentions { words, qualified, .. } = Mentions::of(&text.source, text.language);
            names.extend(words.into_keys().chain(qualified.into_keys()));
        }
        let mut objects = Objects::default();
        if !names.is_empty() {
            let (relations, of_name) = catalog::objects_named(state, &names);
            objects.relations.extend(relations);
            objects.routines.extend(of_name);
        }
        objects.routines.extend(texts.keys());
        let snapshot = objects.snapshot(state, catalog::base(state).complete());
        Self { texts, snapshot }
    }

    /// Tells about the texts of routines as roles run them. Pairs of other routines are ignored.
    pub fn tell(
        &self,
        contract: &Contract,
        runs: impl IntoIterator<Item = (Oid, Oid)>,
    ) -> HashMap<(Oid, Oid), Told> {
        let access = Access::new(&self.snapshot);
        let cx = Context::new(contract, &self.snapshot, &access, &interrupts);
        let mentioned = Mentioned::new(&cx);
        let told = |(routine, role): (Oid, Oid)| {
            let text = self.texts.get(&routine)?;
            let found = self.snapshot.routine(routine)?;
            let missing = mentioned.missing(found, text, self.snapshot.role(role)?);
            let names_objects = mentioned.names_objects(found, text);
            Some(((routine, role), Told { names_objects, missing }))
        };
        runs.into_iter().filter_map(told).collect()
    }
}
