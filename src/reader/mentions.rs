//! Bodies that are text: what they mention that the role which runs them may not use.

use crate::snapshot::{Objects, base};
use crate::source::State;
use crate::texts;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Oid, Routine, Snapshot};
use dragonfly_core::contract::Contract;
use dragonfly_core::explain::TextBody;
use dragonfly_core::plan::{Mentioned, Text};
use dragonfly_core::rules::Context;
use dragonfly_core::sql::body::Mentions;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The texts of some routines, and the objects that have a name in them.
pub struct TextBodies<'s> {
    state: &'s dyn State,
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

impl<'s> TextBodies<'s> {
    /// Reads the texts of routines; those without text are ignored.
    pub fn read(state: &'s dyn State, routines: &BTreeSet<Oid>) -> Self {
        let texts = texts::of(state, routines);
        let mut names = HashSet::new();
        for text in texts.values() {
            state.interrupts();
            let Mentions { words, qualified, .. } = Mentions::of(&text.source, text.language);
            names.extend(words.into_keys().chain(qualified.into_keys()));
        }
        let mut objects = Objects::default();
        if !names.is_empty() {
            let (relations, of_name) = texts::named(state, &names);
            objects.relations.extend(relations);
            objects.routines.extend(of_name);
        }
        objects.routines.extend(texts.keys());
        let snapshot = objects.snapshot(state, base(state).complete());
        Self { state, texts, snapshot }
    }

    /// Tells about the texts of routines as roles run them. Pairs of other routines are ignored.
    pub fn tell(
        &self,
        contract: &Contract,
        runs: impl IntoIterator<Item = (Oid, Oid)>,
    ) -> HashMap<(Oid, Oid), Told> {
        let access = Access::new(&self.snapshot);
        let interrupts = || self.state.interrupts();
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

/// Returns the bodies that are text which a statement of `role` runs. `runs` are the routines in
/// the order of the calls, each with the role that runs it, where that is another one.
pub fn text_bodies<'s>(
    state: &dyn State,
    contract: &Contract,
    runs: &[(Oid, Option<Oid>)],
    role: Oid,
    routine: impl Fn(Oid) -> Option<&'s Routine>,
) -> Vec<TextBody<'s>> {
    let as_role = |(of, by): &(Oid, Option<Oid>)| (*of, by.unwrap_or(role));
    let routines = runs.iter().map(|(of, _)| *of).collect();
    let told = TextBodies::read(state, &routines).tell(contract, runs.iter().map(as_role));
    let text = |run: &(Oid, Option<Oid>)| {
        let Told { names_objects, missing } = told.get(&as_role(run)).cloned()?;
        Some(TextBody { routine: routine(run.0)?, names_objects, missing })
    };
    runs.iter().filter_map(text).collect()
}
