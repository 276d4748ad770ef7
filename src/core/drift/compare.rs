//! How one snapshot differs from another.

use super::{Object, Snapshot, order};
use crate::sql::quote_ident;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there, and should not be.
    Added,
    /// It should be there, and is not.
    Removed,
    /// It is something else than it should be.
    Changed,
}

impl Change {
    /// `added`, `removed`, `changed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What became of the object.
    pub change: Change,
    /// As `pg_identify_object` says it.
    pub object_type: String,
    /// Its schema.
    pub schema: Option<String>,
    /// Its identity.
    pub identity: String,
    /// The property that changed; `None` for an object that was added or removed.
    pub what: Option<String>,
    /// As it should be; `None` where there is nothing.
    pub expected: Option<String>,
    /// As it is; `None` where there is nothing.
    pub actual: Option<String>,
}

impl Difference {
    fn of(object: &Object, change: Change) -> Self {
        Self {
            change,
            object_type: object.object_type.clone(),
            schema: object.schema.clone(),
            identity: object.identity.clone(),
            what: None,
            expected: None,
            actual: None,
        }
    }
}

/// How many steps a part is from the whole at most: an identity sequence, its column, the table.
const DEEPEST: usize = 8;

/// Every difference of `actual` from `expected`, schema by schema. What came or went with the
/// object that it is a part of is not listed by itself.
#[must_use]
pub fn compare(expected: &Snapshot, actual: &Snapshot) -> Vec<Difference> {
    let (before, after) = (by_key(expected), by_key(actual));
    let removed: Vec<&Object> =
        before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(_, o)| *o).collect();
    let added: Vec<&Object> =
        after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, o)| *o).collect();
    // The tables of which a column came or went.
    let touched: HashSet<&str> =
        removed.iter().chain(&added).filter_map(|object| object.part_of.as_deref()).collect();
    let mut found: Vec<(&Object, Difference)> = Vec::new();
    found.extend(
        tops(&removed).into_iter().map(|object| (object, Difference::of(object, Change::Removed))),
    );
    found.extend(
        tops(&added).into_iter().map(|object| (object, Difference::of(object, Change::Added))),
    );
    let reported: HashSet<&str> =
        found.iter().filter_map(|(object, _)| object.part_of.as_deref()).collect();
    for (key, was) in &before {
        let Some(is) = after.get(key) else { continue };
        let columns = column_order(
            was,
            is,
            touched.contains(was.identity.as_str()) && reported.contains(was.identity.as_str()),
        );
        found.extend(
            columns.into_iter().chain(properties(was, is)).map(|difference| (*is, difference)),
        );
    }
    // The sort is stable: what became of one object stays together, by property.
    found.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    found.into_iter().map(|(_, difference)| difference).collect()
}

fn by_key(snapshot: &Snapshot) -> BTreeMap<(&str, &str), &Object> {
    snapshot.objects.iter().map(|object| (object.key(), object)).collect()
}

/// Without those that are a part of another of them.
fn tops<'o>(objects: &[&'o Object]) -> Vec<&'o Object> {
    let wholes: HashMap<&str, Option<&str>> = objects
        .iter()
        .map(|object| (object.identity.as_str(), object.part_of.as_deref()))
        .collect();
    let is_covered = |object: &&&Object| {
        let mut at = object.part_of.as_deref();
        for step in 0..DEEPEST {
            match at.and_then(|whole| wholes.get(whole)) {
                Some(further) => at = *further,
                None => return step > 0,
            }
        }
        // A snapshot that somebody wrote by hand may go round in a circle.
        false
    };
    objects.iter().filter(|object| !is_covered(object)).copied().collect()
}

/// The columns are in another order. That columns came or went is said of them, where
/// `parts_are_listed`, and no change of the order of the others.
fn column_order(was: &Object, is: &Object, parts_are_listed: bool) -> Option<Difference> {
    // Of a table that inherits, the order does not count.
    let inherits = |object: &Object| object.properties.contains_key("inherits");
    if was.columns == is.columns || inherits(was) != inherits(is) {
        return None;
    }
    let common = |mine: &[String], other: &[String]| -> Vec<String> {
        let other: HashSet<&String> = other.iter().collect();
        mine.iter().filter(|column| other.contains(column)).cloned().collect()
    };
    if parts_are_listed && common(&was.columns, &is.columns) == common(&is.columns, &was.columns) {
        return None;
    }
    let list = |columns: &[String]| {
        columns.iter().map(|column| quote_ident(column)).collect::<Vec<_>>().join(", ")
    };
    Some(Difference {
        what: Some("column order".into()),
        expected: Some(list(&was.columns)),
        actual: Some(list(&is.columns)),
        ..Difference::of(is, Change::Changed)
    })
}

fn properties(was: &Object, is: &Object) -> Vec<Difference> {
    let mut names: Vec<&String> = was.properties.keys().chain(is.properties.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, was.properties.get(name), is.properties.get(name)))
        .filter(|(_, expected, actual)| expected != actual)
        .map(|(name, expected, actual)| Difference {
            what: Some(name.clone()),
            expected: expected.cloned(),
            actual: actual.cloned(),
            ..Difference::of(is, Change::Changed)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str]) -> Vec<Object> {
        let identity = format!("public.{name}");
        let mut table = Object::new("table", Some("public"), identity.clone());
        table.columns = columns.iter().map(|c| (*c).to_owned()).collect();
        table.set("owner", "postgres");
        let column = |name: &&str| {
            let mut column =
                Object::new("table column", Some("public"), format!("{identity}.{name}"))
                    .of(&identity);
            column.set("type", "integer");
            column
        };
        std::iter::once(table).chain(columns.iter().map(column)).collect()
    }

    fn found(before: Vec<Object>, after: Vec<Object>) -> Vec<String> {
        let snapshot = |objects| Snapshot { objects, ..Snapshot::default() };
        let text = |d: Difference| {
            let what = d
                .what
                .map(|w| format!(" {w}: {:?} -> {:?}", d.expected, d.actual))
                .unwrap_or_default();
            format!("{} {} {}{what}", d.change.as_str(), d.object_type, d.identity)
        };
        compare(&snapshot(before), &snapshot(after)).into_iter().map(text).collect()
    }

    #[test]
    fn a_table_comes_and_goes_with_its_columns() {
        assert_eq!(found(vec![], table("t", &["a", "b"])), ["added table public.t"]);
        assert_eq!(found(table("t", &["a"]), vec![]), ["removed table public.t"]);
        let mut sequence = Object::new("sequence", Some("public"), "public.s".into());
        sequence.part_of = Some("public.t.b".into());
        let with_sequence: Vec<Object> =
            table("t", &["a", "b"]).into_iter().chain([sequence]).collect();
        assert_eq!(found(vec![], with_sequence.clone()), ["added table public.t"]);
        assert_eq!(found(table("t", &["a"]), with_sequence), ["added table column public.t.b"]);
    }

    #[test]
    fn a_column_that_went_moves_no_other() {
        assert_eq!(
            found(table("t", &["a", "b", "c"]), table("t", &["a", "c"])),
            ["removed table column public.t.b"]
        );
        assert_eq!(
            found(table("t", &["a", "b"]), table("t", &["b", "a"])),
            [r#"changed table public.t column order: Some("a, b") -> Some("b, a")"#]
        );
        assert_eq!(
            found(table("t", &["a", "b", "x"]), table("t", &["b", "a"])),
            [
                r#"changed table public.t column order: Some("a, b, x") -> Some("b, a")"#,
                "removed table column public.t.x"
            ]
        );
    }

    #[test]
    fn each_property_is_a_difference_of_its_own() {
        let mut changed = table("t", &["a"]);
        changed[0].set("owner", "anon");
        changed[0].set("row security", "enabled");
        changed[1].set("type", "text");
        assert_eq!(
            found(table("t", &["a"]), changed),
            [
                r#"changed table public.t owner: Some("postgres") -> Some("anon")"#,
                r#"changed table public.t row security: None -> Some("enabled")"#,
                r#"changed table column public.t.a type: Some("integer") -> Some("text")"#
            ]
        );
    }

    #[test]
    fn a_view_in_place_of_a_table_is_another_object() {
        let view = Object::new("view", Some("public"), "public.t".into());
        assert_eq!(
            found(table("t", &["a"]), vec![view]),
            ["removed table public.t", "added view public.t"]
        );
    }
}
