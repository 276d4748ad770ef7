//! Compares two snapshots.

use super::snapshot::{Object, Snapshot, order};
use crate::sql::quote_ident;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The object exists but is not expected.
    Added,
    /// The object is expected but does not exist.
    Removed,
    /// The object differs from what is expected.
    Changed,
}

impl Change {
    /// Returns `added`, `removed` or `changed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The kind of the difference.
    pub change: Change,
    /// The object type, as `pg_identify_object` returns it.
    pub object_type: String,
    /// The schema of the object.
    pub schema: Option<String>,
    /// The identity of the object.
    pub identity: String,
    /// The changed property; `None` if the object was added or removed.
    pub property: Option<String>,
    /// The expected value; `None` if the property is not expected.
    pub expected: Option<String>,
    /// The actual value; `None` if the property does not exist.
    pub actual: Option<String>,
}

impl Difference {
    fn of(object: &Object, change: Change) -> Self {
        Self {
            change,
            object_type: object.object_type.clone(),
            schema: object.schema.clone(),
            identity: object.identity.clone(),
            property: None,
            expected: None,
            actual: None,
        }
    }
}

/// The maximum number of steps from a part to its whole. The deepest known parts have two: identity
/// sequence, column, table.
const MAX_DEPTH: usize = 8;

/// Returns the differences of `actual` from `expected`, schema by schema. A part that was added or
/// removed with its whole is not listed.
#[must_use]
pub fn compare(expected: &Snapshot, actual: &Snapshot) -> Vec<Difference> {
    let (before, after) = (by_key(expected), by_key(actual));
    let removed = without_covered_parts(&missing_from(&after, &before));
    let added = without_covered_parts(&missing_from(&before, &after));
    let mut found: Vec<(&Object, Difference)> = Vec::new();
    found.extend(removed.iter().map(|object| (*object, Difference::of(object, Change::Removed))));
    found.extend(added.iter().map(|object| (*object, Difference::of(object, Change::Added))));
    // The tables with a listed column, index or other part.
    let with_listed_parts: HashSet<&str> =
        removed.iter().chain(&added).filter_map(|object| object.part_of.as_deref()).collect();
    for (key, was) in &before {
        let Some(is) = after.get(key) else { continue };
        let columns = column_order(was, is, with_listed_parts.contains(was.identity.as_str()));
        let differences = columns.into_iter().chain(properties(was, is));
        found.extend(differences.map(|difference| (*is, difference)));
    }
    // The sort is stable: the differences of one object stay together, by property.
    found.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    found.into_iter().map(|(_, difference)| difference).collect()
}

type ByKey<'o> = BTreeMap<(&'o str, &'o str), &'o Object>;

fn by_key(snapshot: &Snapshot) -> ByKey<'_> {
    snapshot.objects.iter().map(|object| (object.key(), object)).collect()
}

/// Returns the objects of `some` that `other` does not hold.
fn missing_from<'o>(other: &ByKey<'_>, some: &ByKey<'o>) -> Vec<&'o Object> {
    some.iter().filter(|(key, _)| !other.contains_key(*key)).map(|(_, object)| *object).collect()
}

/// Returns the objects that are not a part of another one in the list.
fn without_covered_parts<'o>(objects: &[&'o Object]) -> Vec<&'o Object> {
    let wholes: HashMap<&str, Option<&str>> = objects
        .iter()
        .map(|object| (object.identity.as_str(), object.part_of.as_deref()))
        .collect();
    let is_covered = |object: &&&Object| {
        let mut at = object.part_of.as_deref();
        for step in 0..MAX_DEPTH {
            match at.and_then(|whole| wholes.get(whole)) {
                Some(further) => at = *further,
                None => return step > 0,
            }
        }
        // A snapshot that was edited by hand may have a cycle.
        false
    };
    objects.iter().filter(|object| !is_covered(object)).copied().collect()
}

/// Returns the difference between the orders of the columns. If `parts_are_listed`, added and
/// removed columns are differences of their own, and only the order of the other columns is
/// compared.
fn column_order(was: &Object, is: &Object, parts_are_listed: bool) -> Option<Difference> {
    // The order of inherited columns does not matter.
    let inherits = |object: &Object| object.properties.get("inherits").is_some();
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
        property: Some("column order".into()),
        expected: Some(list(&was.columns)),
        actual: Some(list(&is.columns)),
        ..Difference::of(is, Change::Changed)
    })
}

fn properties(was: &Object, is: &Object) -> Vec<Difference> {
    let both = was.properties.iter().chain(is.properties.iter());
    let mut names: Vec<&str> = both.map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| (name, was.properties.get(name), is.properties.get(name)))
        .filter(|(_, expected, actual)| expected != actual)
        .map(|(name, expected, actual)| Difference {
            property: Some(name.to_owned()),
            expected: expected.map(str::to_owned),
            actual: actual.map(str::to_owned),
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
                .property
                .map(|w| format!(" {w}: {:?} -> {:?}", d.expected, d.actual))
                .unwrap_or_default();
            format!("{} {} {}{what}", d.change.as_str(), d.object_type, d.identity)
        };
        compare(&snapshot(before), &snapshot(after)).into_iter().map(text).collect()
    }

    #[test]
    fn added_or_removed_table_covers_its_columns() {
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
    fn removed_column_does_not_change_the_order_of_others() {
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
    fn each_changed_property_is_one_difference() {
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
    fn view_in_place_of_a_table_is_another_object() {
        let view = Object::new("view", Some("public"), "public.t".into());
        assert_eq!(
            found(table("t", &["a"]), vec![view]),
            ["removed table public.t", "added view public.t"]
        );
    }
}
