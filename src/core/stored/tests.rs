//! Trees as servers have stored them, in `fixtures` for the major versions that changed the format:
//! what was stored, its tree in several lines, an empty line.

use super::{Expression, Query, Range, RangeEntry, expression, expressions, query};
use crate::catalog::RelationKind;

const VERSIONS: [&str; 3] = [
    include_str!("fixtures/15.txt"),
    include_str!("fixtures/16.txt"),
    include_str!("fixtures/18.txt"),
];

/// Returns the trees of a version by what was stored: conditions, and at the end a view, an SQL
/// body and default arguments.
fn trees(version: &str) -> Vec<(&str, &str)> {
    version.split("\n\n").filter_map(|tree| tree.split_once('\n')).collect()
}

/// Returns the text of a tree in which objects of the database have no numbers.
fn comparable(read: &dyn std::fmt::Debug) -> String {
    let text = format!("{read:?}");
    let words = text.split_inclusive(|c: char| !c.is_ascii_digit());
    words
        .map(|word| {
            let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
            let is_object = digits.parse::<u32>().is_ok_and(|oid| oid >= 16384);
            if is_object { word.replacen(digits, "N", 1) } else { word.to_owned() }
        })
        .collect()
}

fn read(condition: &str, tree: &str) -> String {
    match condition {
        "view" | "SQL body" | "default arguments" => String::new(),
        _ => comparable(&expression(tree).unwrap()),
    }
}

#[test]
fn condition_is_the_same_tree_in_each_version() {
    let [first, others @ ..] = VERSIONS.map(trees);
    assert_eq!(first.len(), 21);
    for version in others {
        for ((condition, tree), (other, other_tree)) in first.iter().zip(&version) {
            assert_eq!(condition, other);
            // PostgreSQL 18 gives the columns of GROUP BY an entry of their own.
            if other_tree.contains("*GROUP*") {
                continue;
            }
            assert_eq!(read(condition, tree), read(condition, other_tree), "{condition}");
        }
    }
}

#[test]
fn nothing_in_a_stored_condition_is_unknown() {
    for version in VERSIONS {
        for (condition, tree) in trees(version) {
            let read = read(condition, tree);
            assert!(!read.contains("Unknown") && !read.contains("Other"), "{condition}: {read}");
        }
    }
}

#[test]
fn view_body_and_defaults_are_read() {
    for version in VERSIONS {
        let [.., view, body, defaults] = &trees(version)[..] else { panic!() };
        let view: Query = query(view.1).unwrap().unwrap();
        assert!(matches!(view.entries[..], [.., ref last] if last.name == "u"));
        assert_eq!(view.targets.len(), 2);
        let body = query(body.1).unwrap().unwrap();
        assert!(matches!(body.targets[0].expression, Expression::Subquery { .. }));
        let defaults = expressions(defaults.1).unwrap();
        assert!(matches!(&defaults[..], [Expression::Constant(three)]
            if three.value.as_deref() == Some(&[3, 0, 0, 0, 0, 0, 0, 0])));
    }
}

#[test]
fn common_table_expression_is_found_by_its_name() {
    let (_, tree) = trees(VERSIONS[0])
        .into_iter()
        .find(|(condition, _)| condition.contains("WITH r AS"))
        .unwrap();
    let Ok(Expression::Subquery { query, .. }) = expression(tree) else { panic!() };
    assert_eq!(query.with[0].0, "r");
    assert!(matches!(&query.entries[0].range, Range::With { name, level: 0, .. } if name == "r"));
}

#[test]
fn relation_has_the_kind_that_it_had() {
    for version in VERSIONS {
        let [.., view, _, _] = &trees(version)[..] else { panic!() };
        let view = query(view.1).unwrap().unwrap();
        let kind = |entry: &RangeEntry| match entry.range {
            Range::Relation { kind, is_sample: false, .. } => Some(kind.unwrap()),
            _ => None,
        };
        let kinds: Vec<_> = view.entries.iter().filter_map(kind).collect();
        assert!(kinds.contains(&RelationKind::Table), "{kinds:?}");
    }
}
