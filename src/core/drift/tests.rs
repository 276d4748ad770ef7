//! Tests of the fingerprint together with comparing, writing and reading.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Generates snapshots of few different words, so that two of them have much in common. Keys are
/// unique.
fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let word = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let properties = prop::collection::btree_map(
        word().prop_map(String::from),
        word().prop_map(String::from),
        0..3,
    );
    let columns = prop::collection::vec(word().prop_map(String::from), 0..4);
    let object =
        (word(), prop::option::of(word()), word(), prop::option::of(word()), columns, properties);
    let server = prop::sample::select(vec![15, 150_018, 180_006]);
    (prop::collection::vec(object, 0..8), server).prop_map(|(objects, server)| {
        let mut all: BTreeMap<(String, String), Object> = BTreeMap::new();
        for (object_type, schema, identity, whole, columns, properties) in objects {
            let mut object = Object::new(object_type, schema, identity.into());
            object.part_of = whole.map(Into::into);
            (object.columns, object.properties) = (columns, properties.into());
            all.insert((object_type.into(), identity.into()), object);
        }
        Snapshot {
            format: FORMAT,
            server: Release::of_number(server),
            schemas: vec![],
            objects: all.into_values().collect(),
        }
    })
}

proptest! {
    #[test]
    fn fingerprints_are_equal_exactly_if_no_difference_is_found(
        a in any_snapshot(),
        b in any_snapshot(),
    ) {
        prop_assert_eq!(compare(&a, &a), vec![]);
        prop_assert_eq!(a.fingerprint() == b.fingerprint(), compare(&a, &b).is_empty());
    }

    #[test]
    fn order_of_objects_does_not_matter(
        a in any_snapshot(),
        b in any_snapshot(),
        middle in 0usize..8,
    ) {
        let mut reordered = a.clone();
        reordered.objects.reverse();
        let middle = middle.min(reordered.objects.len());
        reordered.objects.rotate_left(middle);
        prop_assert_eq!(reordered.fingerprint(), a.fingerprint());
        prop_assert_eq!(compare(&reordered, &b), compare(&a, &b));
        reordered.sort();
        prop_assert_eq!(reordered.fingerprint(), a.fingerprint());
    }

    #[test]
    fn written_snapshot_is_read_back(a in any_snapshot()) {
        let text = serde_json::to_string(&a).unwrap();
        prop_assert_eq!(read(&text, &|| {}), Ok(a));
    }
}

#[test]
fn server_and_schemas_are_not_part_of_the_fingerprint() {
    let a = Snapshot {
        server: Release::of_number(150_018),
        schemas: vec!["a".into()],
        ..Snapshot::default()
    };
    let b = Snapshot { server: Release::of_number(18), ..Snapshot::default() };
    assert_eq!(a.fingerprint(), b.fingerprint());
}

#[test]
fn releases_differ_in_their_minor_version_where_both_have_one() {
    let [old, minor, other, next] = [15, 150_018, 150_020, 160_001].map(Release::of_number);
    assert!(old.may_equal(minor) && minor.may_equal(old) && minor.may_equal(minor));
    assert!(!minor.may_equal(other) && !old.may_equal(next) && !other.may_equal(next));
    assert_eq!([old, other, next].map(|r| r.to_string()), ["15", "15.20", "16.1"]);
}

#[test]
fn fingerprint_is_stable() {
    let mut table = Object::new("table", Some("public"), "public.t".into());
    table.set("owner", "postgres");
    table.columns = vec!["id".into()];
    let snapshot = Snapshot { objects: vec![table], ..Snapshot::default() };
    assert_eq!(
        snapshot.fingerprint(),
        "7cba031f5fdd10a9a58d9c2fdf4245997f29f4dcd19de71020019754c9de4800"
    );
}
