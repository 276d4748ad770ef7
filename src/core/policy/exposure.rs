//! Which rows a policy lets a role reach, apart from those that are tied to the caller.

use super::asked::{Asked, Question};
use super::asks::Ask;
use super::literals::{Literal, Session};
use super::opening::Way;
use super::search::TooLarge;
use super::term::Row;
use super::witness::Names;
use super::writable::Writers;
use crate::catalog::{CapturedArgument, Exposure, Oid, Open, Opening, TiedBy, Unindexed};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

/// Returns what a policy lets a role reach.
#[must_use]
pub fn exposure(question: &Question<'_>) -> Exposure {
    let asked = Asked::read(*question);
    let catalog = question.catalog;
    let names = |oids: &mut dyn Iterator<Item = Oid>| -> BTreeSet<String> {
        oids.filter_map(|oid| catalog.relation_name(oid)).collect()
    };
    let found = &asked.found;
    let lookups = found.rows.iter().filter(|(row, _)| **row != Row::CHECKED).map(|(_, oid)| *oid);
    let common = Exposure {
        caller: asked.caller,
        lookups: names(&mut lookups.collect::<BTreeSet<_>>().into_iter()),
        denied: names(&mut found.denied.iter().copied()),
        hidden: names(&mut found.hidden.iter().copied()),
        recursive: names(&mut found.recursive.iter().copied()),
        immutable: found.immutable.clone(),
        captured: found.captured.clone(),
        not_executable: found.not_executable.clone(),
        calls: asked.calls.clone(),
        unknown: asked.unknown.clone(),
        values_of_caller: asked.values_of_caller(),
        unique: unique(question),
        ..Exposure::default()
    };
    if asked.has_given() {
        // A new row that is the caller's whatever is asked of it.
        let bound = answer(question, &asked, common.clone());
        if let Ok(bound) = bound
            && bound.is_bound()
            && !bound.is_never_true
        {
            return bound;
        }
        return exposure(&Question { written: None, ..*question });
    }
    answer(question, &asked, common.clone()).unwrap_or_else(|TooLarge| {
        let mut unknown = common.unknown.clone();
        unknown.insert("a condition that is too large".to_owned());
        Exposure { unknown, ..common }
    })
}

fn answer(
    question: &Question<'_>,
    asked: &Asked<'_>,
    mut exposure: Exposure,
) -> Result<Exposure, TooLarge> {
    exposure.is_always_true = !asked.can_fail(&Session::default())?;
    exposure.asks_role = asked.found.asks_user;
    let (mut can_pass, mut can_fail) = (false, false);
    for session in &asked.sessions {
        can_pass |= asked.can_pass(session)?;
        can_fail |= asked.can_fail(session)?;
    }
    exposure.is_never_true = !can_pass;
    exposure.ignores_row = can_pass && !can_fail;
    add_ways(question, asked, &mut exposure)?;
    if exposure.recursive.is_empty()
        && !(asked.found.hidden.is_empty() && exposure.denied.is_empty())
    {
        add_latent(question, asked, &mut exposure)?;
    }
    Ok(exposure)
}

/// Adds the ways in which a row would pass if lookups could be read, and leaves only those hidden
/// tables without which one would pass.
fn add_latent(
    question: &Question<'_>,
    asked: &Asked<'_>,
    exposure: &mut Exposure,
) -> Result<(), TooLarge> {
    let catalog = question.catalog;
    let readable = Asked::read_where_readable(*question);
    let mut hidden: BTreeSet<Oid> = BTreeSet::new();
    let mut open: BTreeMap<Opening, Opened> = BTreeMap::new();
    let mut can_pass = false;
    readable.each_way(&mut |literals, way| {
        can_pass = true;
        let lookups = way.lookups().into_iter();
        let unreadable: BTreeSet<Oid> = lookups
            .filter(|(row, _)| readable.found.unreadable.contains(row))
            .map(|(_, relation)| relation)
            .collect();
        let ties = way.ties(&BTreeSet::new());
        if !unreadable.is_empty() && ties.columns.is_empty() && !way.is_privileged(&ties) {
            open.entry(way.opening()).or_insert_with(|| Opened::of(literals)).add(way, literals);
        }
        hidden.extend(unreadable);
        ControlFlow::Continue(())
    })?;
    exposure.latent = opened(question, &readable, open);
    let is_reason = |of: &&Oid| (exposure.is_never_true && can_pass) || hidden.contains(*of);
    let reasons = asked.found.hidden.iter().filter(is_reason);
    exposure.hidden = reasons.filter_map(|oid| catalog.relation_name(*oid)).collect();
    Ok(())
}

/// Adds the ways in which a row passes.
fn add_ways(
    question: &Question<'_>,
    asked: &Asked<'_>,
    exposure: &mut Exposure,
) -> Result<(), TooLarge> {
    let Question { catalog, relation, .. } = *question;
    let column_names = |columns: &BTreeSet<i16>| {
        columns.iter().filter_map(|number| catalog.column_name(relation, *number)).collect()
    };
    let writers = Writers::new(*question);
    let mut open: BTreeMap<Opening, Opened> = BTreeMap::new();
    let mut fixed: Option<BTreeSet<i16>> = None;
    let mut values: Option<Values> = None;
    let mut unindexed = BTreeSet::new();
    let (mut all, mut forgeable) = (Vec::new(), Vec::new());
    asked.each_way(&mut |literals, way| {
        all.push(literals.iter().copied().collect::<HashSet<Literal>>());
        let equal = way.equal_columns();
        fixed = Some(fixed.take().map_or_else(|| equal.clone(), |all| &all & &equal));
        let of_way = values_of(question, way);
        values = Some(match values.take() {
            Some(known) => known
                .into_iter()
                .filter_map(|(column, values)| Some((column, &values | of_way.get(&column)?)))
                .collect(),
            None => of_way,
        });
        unindexed.extend(way.unindexed());
        let ties = way.ties(&BTreeSet::new());
        let is_privileged = ties.columns.is_empty() && way.is_privileged(&ties);
        if !ties.columns.is_empty() {
            exposure.ties.insert(column_names(&ties.columns));
            let parts = ties.parts.iter().filter_map(|(number, part)| {
                let column = catalog.column_name(relation, *number)?;
                let part = part.map(|term| {
                    let names = Names::of_term(asked.inspector(), &asked.found, term);
                    names.term(term).replace("R.", "")
                });
                Some(TiedBy { column, part })
            });
            exposure.tied_by.insert(parts.collect());
        } else if is_privileged {
            exposure.has_privileged = true;
        } else {
            open.entry(way.opening()).or_insert_with(|| Opened::of(literals)).add(way, literals);
            return ControlFlow::Continue(());
        }
        let of_way = writers.forgeable(way, &ties);
        if !of_way.is_empty() {
            forgeable.push((all.len() - 1, of_way));
        }
        ControlFlow::Continue(())
    })?;
    exposure.lookup_writers = writers.unknown();
    // What passes in a way passes in another one, too, of which less is asked: that one counts.
    let adds = |index: usize| {
        let mut others = all.iter().filter(|other| other.len() < all[index].len());
        !others.any(|other| other.is_subset(&all[index]))
    };
    let forgeable = forgeable.into_iter().filter(|(index, _)| adds(*index));
    exposure.forgeable.extend(forgeable.flat_map(|(_, of_way)| of_way));
    exposure.fixed = column_names(&fixed.unwrap_or_default());
    let named = |(number, values)| Some((catalog.column_name(relation, number)?, values));
    exposure.values = values.unwrap_or_default().into_iter().filter_map(named).collect();
    exposure.unindexed.extend(unindexed.into_iter().filter_map(|(row, of, columns)| {
        let names = columns.iter().filter_map(|number| catalog.column_name(of, *number));
        let (table, columns) = (catalog.relation_name(of)?, names.collect());
        Some(Unindexed { table, is_lookup: row != Row::CHECKED, columns })
    }));
    exposure.open = opened(question, asked, open);
    Ok(())
}

/// Columns, each with the values of which it has one.
type Values = BTreeMap<i16, BTreeSet<String>>;

/// Returns the columns of the row that have one of certain values in a way.
fn values_of(question: &Question<'_>, way: &Way<'_>) -> Values {
    let reader = way.ask_reader();
    let of_row = |row| (row == Row::CHECKED).then_some(row);
    let asks = way.literals().iter().filter_map(|literal| reader.ask(*literal, &of_row));
    let mut found = Values::new();
    for ask in asks {
        let each = ask.alternatives(question.catalog).unwrap_or_else(|| vec![ask]);
        let each: Option<Vec<(i16, String)>> = each.iter().map(Ask::value_of_column).collect();
        let Some(each) = each else { continue };
        let Some(number) = each.first().map(|(number, _)| *number) else { continue };
        let values: BTreeSet<String> = each.into_iter().map(|(_, value)| value).collect();
        let known = found.entry(number).or_insert_with(|| values.clone());
        *known = &*known & &values;
    }
    found
}

/// Returns ways of which no row is tied to the caller, with the names of what they are about.
fn opened(
    question: &Question<'_>,
    asked: &Asked<'_>,
    open: BTreeMap<Opening, Opened>,
) -> Vec<Open> {
    let Question { catalog, relation, .. } = *question;
    let named = |(opening, of): (Opening, Opened)| {
        let names = Names::of(asked.inspector(), &asked.found, &of.shortest);
        let relations = of.lookups.into_iter().filter_map(|oid| catalog.relation_name(oid));
        let columns = of.columns.iter().filter_map(|n| catalog.column_name(relation, *n));
        Open {
            opening,
            columns: columns.collect(),
            is_flag: of.is_flag,
            lookups: (!of.misses_row).then(|| relations.collect()),
            witness: names.witness(&of.shortest),
            captured: of.captured.filter(|_| opening == Opening::NameCaptured),
        }
    };
    open.into_iter().map(named).collect()
}

/// Returns the columns of which each is a unique key of the table of a question.
fn unique(question: &Question<'_>) -> BTreeSet<String> {
    let Question { catalog, relation, .. } = *question;
    let keys = catalog.unique_keys(relation);
    let single = keys.iter().filter(|key| key.len() == 1).flatten();
    single.filter_map(|number| catalog.column_name(relation, *number)).collect()
}

/// The ways that are one kind of opening.
#[derive(Default)]
struct Opened {
    shortest: Vec<Literal>,
    columns: BTreeSet<i16>,
    lookups: BTreeSet<Oid>,
    misses_row: bool,
    is_flag: bool,
    captured: Option<CapturedArgument>,
}

impl Opened {
    fn of(literals: &[Literal]) -> Self {
        Self { shortest: literals.to_vec(), is_flag: true, ..Self::default() }
    }

    fn add(&mut self, way: &Way<'_>, literals: &[Literal]) {
        self.columns.extend(way.conditions_on_row());
        self.lookups.extend(way.lookups().into_iter().map(|(_, relation)| relation));
        self.misses_row |= way.misses_row();
        self.is_flag &= way.is_by_flags();
        self.captured = self.captured.take().or_else(|| way.captured_argument().cloned());
        if literals.len() < self.shortest.len() {
            self.shortest = literals.to_vec();
        }
    }
}
