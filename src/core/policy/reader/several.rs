//! Subqueries that are used as a value: whether they can return several rows.

use super::Reader;
use crate::catalog::{Oid, Raise};
use crate::policy::facts::Reads;
use crate::policy::formula::Comparison;
use crate::stored::{Expression, FromItem, JoinKind, Logic, Query, Range};
use std::collections::BTreeSet;

/// A column of an entry that is equal to something: to what is outside of the query, or to what
/// other entries have.
struct Equality {
    entry: usize,
    number: i16,
    depends_on: BTreeSet<usize>,
}

impl Reader<'_> {
    /// Notes a table of which a subquery that is used as a value may return several rows: the
    /// server raises an error then.
    pub(super) fn note_several(&mut self, query: &Query) {
        if !self.is_of_role() || self.policies_of.len() > 1 {
            return;
        }
        if let Some(table) = self.several(query)
            && let Some(name) = self.catalog.relation_name(table)
        {
            self.found.calls.raises.insert(Raise::Several(name));
        }
    }

    /// Returns a table of a query no unique key of which is equal to something else; `None` also
    /// where that is not known.
    fn several(&self, query: &Query) -> Option<Oid> {
        let is_one = query.has_aggregates || query.having.is_some();
        let is_cut = query.limit || query.has_distinct || query.group || query.grouping_sets;
        if is_one || is_cut || query.set_operation.is_some() || query.has_set_targets {
            return None;
        }
        let mut tables: Vec<(usize, Oid)> = Vec::new();
        for item in &query.from {
            self.add_tables(query, item, &mut tables)?;
        }
        let mut conditions: Vec<&Expression> = query.condition.iter().collect();
        query.from.iter().for_each(|item| item.add_conditions(&mut conditions));
        let mut equalities = Vec::new();
        conditions.into_iter().for_each(|of| self.add_equalities(of, &mut equalities));
        let user = self.reading_user();
        for (entry, table) in &tables {
            let reads = user.map_or(Reads::All, |user| self.catalog.reads(user, *table));
            self.add_of_policies(&reads, *entry, &mut equalities);
        }
        let mut found: BTreeSet<usize> = BTreeSet::new();
        loop {
            let next = tables.iter().find(|(entry, table)| {
                let of_entry = equalities.iter().filter(|of| of.entry == *entry);
                let known = of_entry.filter(|of| of.depends_on.is_subset(&found));
                let columns: BTreeSet<i16> = known.map(|of| of.number).collect();
                let keys = self.catalog.unique_keys(*table);
                !found.contains(entry) && keys.iter().any(|key| key.is_subset(&columns))
            });
            match next {
                Some((entry, _)) => found.insert(*entry),
                None => break,
            };
        }
        tables.into_iter().find(|(entry, _)| !found.contains(entry)).map(|(_, table)| table)
    }

    /// Adds the tables in a part of FROM; `None` where there is something else in it.
    fn add_tables(
        &self,
        query: &Query,
        item: &FromItem,
        tables: &mut Vec<(usize, Oid)>,
    ) -> Option<()> {
        match item {
            FromItem::Entry(number) => {
                match &query.entries.get(number.checked_sub(1)?)?.range {
                    Range::Relation { oid, .. } if self.catalog.view(*oid).is_none() => {
                        tables.push((*number, *oid));
                    }
                    Range::Result => {}
                    _ => return None,
                }
                Some(())
            }
            FromItem::Join { kind: JoinKind::Inner | JoinKind::Left, left, right, .. } => {
                self.add_tables(query, left, tables)?;
                self.add_tables(query, right, tables)
            }
            FromItem::List { items, .. } => {
                items.iter().try_for_each(|item| self.add_tables(query, item, tables))
            }
            FromItem::Join { .. } | FromItem::Unknown(_) => None,
        }
    }

    /// Adds the equalities that must hold where a condition is true.
    fn add_equalities(&self, condition: &Expression, found: &mut Vec<Equality>) {
        match condition {
            Expression::Logical { logic: Logic::And, arguments } => {
                arguments.iter().for_each(|part| self.add_equalities(part, found));
            }
            Expression::Operator { operator, arguments, .. } => {
                let known = self.catalog.operator(*operator);
                let is_equal = known.is_some_and(|known| {
                    known.is_built_in && known.comparison == Some(Comparison::Equal)
                });
                if let ([a, b], true) = (&arguments[..], is_equal) {
                    found.extend([(a, b), (b, a)].into_iter().filter_map(equality));
                }
            }
            _ => {}
        }
    }

    /// Adds the equalities that the policies of a table ask of the rows that are read: they are
    /// about the only entry.
    fn add_of_policies(&self, reads: &Reads, entry: usize, found: &mut Vec<Equality>) {
        let Reads::Policies(policies) = reads else { return };
        let mut of_policies = Vec::new();
        let only = match &policies.permissive[..] {
            [only] => Some(only),
            _ => None,
        };
        let conditions = policies.restrictive.iter().chain(only);
        conditions.for_each(|condition| self.add_equalities(condition, &mut of_policies));
        found.extend(
            of_policies
                .into_iter()
                .filter(|of| of.depends_on.is_empty())
                .map(|of| Equality { entry, ..of }),
        );
    }
}

/// Returns the equality of a column with something, where the first is one of the query.
fn equality((first, second): (&Expression, &Expression)) -> Option<Equality> {
    let Expression::Column(column) = plain(first) else { return None };
    let mut depends_on = BTreeSet::new();
    add_entries(second, 0, &mut depends_on);
    let is_own = column.level == 0 && !depends_on.contains(&column.entry);
    is_own.then_some(Equality { entry: column.entry, number: column.number, depends_on })
}

/// Returns an expression without conversions that keep different values different.
fn plain(expression: &Expression) -> &Expression {
    match expression {
        Expression::Relabel { argument, .. }
        | Expression::Collate { argument, .. }
        | Expression::ToDomain { argument, .. } => plain(argument),
        _ => expression,
    }
}

/// Adds the entries of the query that an expression is about. Of a subquery that is about rows
/// outside of it, any may be meant: then it depends on an entry that there is not.
fn add_entries(expression: &Expression, level: usize, entries: &mut BTreeSet<usize>) {
    match expression {
        Expression::Column(column) if column.level == level => {
            entries.insert(column.entry);
        }
        Expression::Subquery { query, .. } if query.is_correlated() => {
            entries.insert(usize::MAX);
        }
        _ => {}
    }
    expression.parts().into_iter().for_each(|part| add_entries(part, level, entries));
}
