//! Which rows a policy lets a role reach, apart from those that are tied to the caller.

use super::asked::{Asked, Question};
use super::identity::Caller;
use super::literals::{Literal, Session};
use super::opening::Opening;
use super::search::TooLarge;
use super::term::Row;
use super::witness::Names;
use super::writable::{Forgeable, Writers};
use crate::catalog::Oid;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What a policy lets a role reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Every row, whatever the session is.
    pub is_always_true: bool,
    /// No row.
    pub is_never_true: bool,
    /// Every row, in each session of the role.
    pub ignores_row: bool,
    /// Whether the role's sessions have a user.
    pub caller: Option<Caller>,
    /// The columns that tie a row to the caller: those of each way in which it is tied.
    pub ties: BTreeSet<BTreeSet<String>>,
    /// Whether callers with a right reach rows that are not tied to them.
    pub has_privileged: bool,
    /// The ways in which other rows are reached, one of each kind.
    pub open: Vec<Open>,
    /// The tables and views that are looked up.
    pub lookups: BTreeSet<String>,
    /// The columns of lookups that the role can write and by which it can make rows its own.
    pub forgeable: BTreeSet<Forgeable>,
    /// What could not be read.
    pub unknown: BTreeSet<String>,
    /// The relations that the reader of a lookup has no privilege on.
    pub denied: BTreeSet<String>,
    /// The tables of which no policy lets the reader of a lookup read a row.
    pub hidden: BTreeSet<String>,
    /// The functions that are declared IMMUTABLE although they ask the session or tables.
    pub immutable: BTreeSet<String>,
    /// The functions whose caller can give names in their texts to other objects.
    pub captured: BTreeMap<String, BTreeSet<String>>,
    /// The functions that their caller has no privilege on.
    pub not_executable: BTreeSet<String>,
    /// The tables whose policies lead to themselves.
    pub recursive: BTreeSet<String>,
}

/// A way in which a row that is not tied to the caller is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What kind of opening it is.
    pub opening: Opening,
    /// The columns of the row that are asked for something.
    pub columns: BTreeSet<String>,
    /// What holds in this way: a left operand, an operator and a right operand.
    pub witness: Vec<[String; 3]>,
}

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
        unknown: asked.unknown.clone(),
        ..Exposure::default()
    };
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
    let (mut can_pass, mut can_fail) = (false, false);
    for session in &asked.sessions {
        can_pass |= asked.can_pass(session)?;
        can_fail |= asked.can_fail(session)?;
    }
    exposure.is_never_true = !can_pass;
    exposure.ignores_row = can_pass && !can_fail;
    add_ways(question, asked, &mut exposure)?;
    Ok(exposure)
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
    let mut open: BTreeMap<Opening, (Vec<Literal>, BTreeSet<i16>)> = BTreeMap::new();
    asked.each_way(&mut |literals, way| {
        let ties = way.ties(&BTreeSet::new());
        let is_privileged = ties.columns.is_empty() && way.is_privileged(&ties);
        if !ties.columns.is_empty() {
            exposure.ties.insert(column_names(&ties.columns));
        } else if is_privileged {
            exposure.has_privileged = true;
        } else {
            let new = || (literals.to_vec(), BTreeSet::new());
            let (shortest, columns) = open.entry(way.opening()).or_insert_with(new);
            columns.extend(way.conditions_on_row());
            if literals.len() < shortest.len() {
                *shortest = literals.to_vec();
            }
            return ControlFlow::Continue(());
        }
        exposure.forgeable.extend(writers.forgeable(way, &ties));
        ControlFlow::Continue(())
    })?;
    for (opening, (literals, columns)) in open {
        let names = Names::of(asked.inspector(), &asked.found, &literals);
        let witness = literals.iter().filter_map(|literal| names.literal(*literal)).collect();
        exposure.open.push(Open { opening, columns: column_names(&columns), witness });
    }
    Ok(())
}
