//! Values with which a row falls into a partition that is there.

use super::table::Table;
use super::value::{Chosen, Values};
use crate::pg::setting::{self, SAFE_PATH};
use crate::pg::statement;
use dragonfly_core::catalog::Oid;

/// How many levels of partitions are looked at.
const DEEPEST: usize = 5;

/// Returns values of the columns by which a table is partitioned, and that have none yet: those of
/// a partition that is there. Nothing where any value has a partition, or where it is not known
/// which values have one.
pub fn values(table: &Table, given: &Values, chosen: &mut Chosen) -> Values {
    let mut filled = given.clone();
    if table.is_partitioned
        && setting::under(&[SAFE_PATH], || fill(table.oid, table, &mut filled, chosen, DEEPEST))
    {
        filled.retain(|number, _| !given.contains_key(number));
        return filled;
    }
    Values::new()
}

/// What the rows of a partition have in its key.
#[derive(Debug, PartialEq, Eq)]
enum Bound {
    /// One of some values; `None` is null.
    In(Vec<Option<String>>),
    /// From a row of values on to another one. `None` is MINVALUE or MAXVALUE.
    Range(Vec<Option<String>>, Vec<Option<String>>),
    /// What other partitions have not, or what a hash says.
    Any,
}

/// Adds values for a table or partition that is partitioned; false where there are none.
fn fill(oid: Oid, table: &Table, values: &mut Values, chosen: &mut Chosen, depth: usize) -> bool {
    let (Some(key), true) = (key(oid, table), depth > 0) else { return false };
    let partitions = partitions(oid);
    if partitions.iter().any(|(.., bound)| *bound == Bound::Any) {
        return true;
    }
    partitions.into_iter().any(|(partition, is_partitioned, bound)| {
        let mut tried = values.clone();
        let fits = put(&key, &bound, table, &mut tried, chosen)
            && (!is_partitioned || fill(partition, table, &mut tried, chosen, depth - 1));
        if fits {
            *values = tried;
        }
        fits
    })
}

/// Gives the columns of a key values within a bound; false where they have others.
fn put(
    key: &[i16],
    bound: &Bound,
    table: &Table,
    values: &mut Values,
    chosen: &mut Chosen,
) -> bool {
    match (bound, key) {
        (Bound::In(all), [number]) => match values.get(number) {
            Some(known) => all.contains(known),
            None => match all.iter().flatten().next() {
                Some(first) => values.insert(*number, Some(first.clone())).is_none(),
                None => false,
            },
        },
        // Whether a value is within a range is left to the server.
        (Bound::Range(..), _) if key.iter().any(|number| values.contains_key(number)) => false,
        (Bound::Range(from, to), _) => {
            for (at, number) in key.iter().enumerate() {
                let data_type = &table.columns[number].data_type;
                let (low, high) = (from.get(at).cloned().flatten(), to.get(at).cloned().flatten());
                let value = match (low, high) {
                    // Of the first row of several values, the others follow.
                    (Some(low), _) if key.len() > 1 => Some(low),
                    (Some(low), Some(high)) => {
                        data_type.within(&low, &high, chosen.next()).or(Some(low))
                    }
                    (Some(of), None) => data_type.beside(&of, true),
                    (None, Some(of)) => data_type.beside(&of, false),
                    (None, None) => data_type.any(chosen.next()),
                };
                let Some(value) = value else { return false };
                values.insert(*number, Some(value));
            }
            true
        }
        _ => false,
    }
}

/// Returns the columns by which a table is partitioned; `None` where one of them is an expression.
fn key(oid: Oid, table: &Table) -> Option<Vec<i16>> {
    let names = statement::rows(&format!(
        "SELECT pg_catalog.quote_ident(a.attname)
           FROM pg_partitioned_table p
           CROSS JOIN unnest(p.partattrs::pg_catalog.int2[]) WITH ORDINALITY AS k(number, at)
           LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.number
            AND k.number > 0
          WHERE p.partrelid = {oid} ORDER BY k.at"
    ));
    let number = |row: Vec<Option<String>>| {
        let name = row.into_iter().next()??;
        table.columns.iter().find(|(_, column)| column.name == name).map(|(number, _)| *number)
    };
    names.into_iter().map(number).collect()
}

/// Returns the partitions of a table, each with whether it is partitioned itself, and its bound.
fn partitions(oid: Oid) -> Vec<(Oid, bool, Bound)> {
    let rows = statement::rows(&format!(
        "SELECT c.oid, c.relkind = 'p', pg_catalog.pg_get_expr(c.relpartbound, c.oid)
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
          WHERE i.inhparent = {oid} AND c.relkind IN ('r', 'p') ORDER BY c.oid"
    ));
    let partition = |row: Vec<Option<String>>| match &row[..] {
        [Some(oid), Some(is_partitioned), Some(bound)] => {
            Some((oid.parse().ok()?, is_partitioned == "t", parse(bound)))
        }
        _ => None,
    };
    rows.into_iter().filter_map(partition).collect()
}

/// Reads a bound as the server writes it (ruleutils.c, `get_rule_expr`): lists of constants in
/// parentheses.
fn parse(text: &str) -> Bound {
    let mut lists = lists(text).into_iter();
    match (lists.next(), lists.next()) {
        (Some(all), None) if text.starts_with("FOR VALUES IN") => Bound::In(all),
        (Some(from), Some(to)) => Bound::Range(from, to),
        _ => Bound::Any,
    }
}

/// Returns the constants in each pair of parentheses: `None` for a word that is no value.
fn lists(text: &str) -> Vec<Vec<Option<String>>> {
    let mut lists: Vec<Vec<Option<String>>> = Vec::new();
    let mut is_open = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '(' {
            lists.push(Vec::new());
        }
        is_open = (is_open || c == '(') && c != ')';
        let (true, Some(list)) = (is_open, lists.last_mut()) else { continue };
        let escapes = c == 'E' && chars.next_if_eq(&'\'').is_some();
        if escapes || c == '\'' {
            list.push(Some(quoted(&mut chars, escapes)));
        } else if !"(, ".contains(c) {
            let mut word = String::from(c);
            while let Some(next) = chars.next_if(|c| !", )".contains(*c)) {
                word.push(next);
            }
            let is_value = !["NULL", "MINVALUE", "MAXVALUE"].contains(&word.as_str());
            list.push(is_value.then_some(word));
        }
    }
    lists
}

/// Returns the rest of a quoted constant.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, escapes: bool) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_none() => break,
            '\\' if escapes => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}
