//! Drift: a snapshot of what some schemas hold, made of names and texts alone, its fingerprint, and
//! how one differs from another.
//!
//! The edge reads `pg_catalog` into a [`Snapshot`]; everything here is the same on every server.
//! There are no OIDs in it and no grantors, and nothing depends on the order in which things were
//! made. So two databases have one fingerprint exactly when [`compare`] finds no difference between
//! them.

mod acl;
mod compare;
mod declared;
mod document;

pub use acl::{AclKind, grants};
pub use compare::{Change, Difference, compare};
pub use declared::from_findings;
pub use document::{FORMAT, LARGEST, read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything that counts in some schemas of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The version of the format: [`FORMAT`].
    pub format: u32,
    /// The major version of the server that wrote it down; no part of the fingerprint.
    pub server: u32,
    /// The schemas that were looked at, whether they were there or not; no part of the fingerprint.
    pub schemas: Vec<String>,
    /// What there is.
    pub objects: Vec<Object>,
}

/// An object: a table, a column, a routine, a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// As `pg_identify_object` says it.
    #[serde(rename = "type")]
    pub object_type: String,
    /// `None` for what is in no schema: global default privileges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Its identity, as `pg_identify_object` says it.
    #[serde(rename = "object")]
    pub identity: String,
    /// The identity of the object that it is a part of, comes and goes with: a column's table.
    #[serde(default, rename = "of", skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// The names of its columns, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// What it is like: property and text. What is as it is without anybody saying so is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

impl Object {
    /// An object without properties.
    #[must_use]
    pub fn new(object_type: &str, schema: Option<&str>, identity: String) -> Self {
        Self {
            object_type: object_type.into(),
            schema: schema.map(Into::into),
            identity,
            ..Self::default()
        }
    }

    /// The same as a part of another.
    #[must_use]
    pub fn of(self, whole: &str) -> Self {
        Self { part_of: Some(whole.into()), ..self }
    }

    /// Notes a property.
    pub fn set(&mut self, property: impl Into<String>, text: impl Into<String>) {
        self.properties.insert(property.into(), text.into());
    }

    /// Notes a property where it is there.
    pub fn set_some(&mut self, property: &str, text: Option<impl Into<String>>) {
        if let Some(text) = text {
            self.set(property, text);
        }
    }

    /// Notes that something is so, where it is.
    pub fn set_if(&mut self, property: &str, so: bool) {
        if so {
            self.set(property, "true");
        }
    }

    /// What tells it from other objects of its snapshot.
    fn key(&self) -> (&str, &str) {
        (&self.object_type, &self.identity)
    }
}

impl Snapshot {
    /// Puts the objects in order: schema by schema, each object followed by its parts.
    pub fn sort(&mut self) {
        self.schemas.sort();
        self.schemas.dedup();
        self.objects.sort_by(|a, b| order(a).cmp(&order(b)));
    }

    /// Without what is in other schemas than these. What is in no schema stays: it says what new
    /// objects will be like in all of them.
    #[must_use]
    pub fn within(mut self, schemas: &[String]) -> Self {
        self.schemas.retain(|name| schemas.contains(name));
        self.objects
            .retain(|object| object.schema.as_ref().is_none_or(|name| schemas.contains(name)));
        self
    }

    /// SHA-256 over everything that counts, in hexadecimal, whatever the order of the objects.
    /// Every text is preceded by its length and every list by its count, so that no two snapshots
    /// that differ read the same.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut objects: Vec<&Object> = self.objects.iter().collect();
        objects.sort_by(|a, b| a.key().cmp(&b.key()));
        let mut hash = Hash(Sha256::new());
        hash.count(objects.len());
        for object in objects {
            hash.text(&object.object_type);
            hash.text(&object.identity);
            hash.count(object.columns.len());
            object.columns.iter().for_each(|column| hash.text(column));
            hash.count(object.properties.len());
            for (property, text) in &object.properties {
                hash.text(property);
                hash.text(text);
            }
        }
        hash.hex()
    }
}

/// A hash of a text, for what is too long to be shown: the body of a routine.
#[must_use]
pub fn hash_of(text: &str) -> String {
    format!("sha256 {}", hex(&Sha256::digest(text.as_bytes())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

struct Hash(Sha256);

impl Hash {
    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Where an object stands in a list: the schema itself first, parts after what they are parts of.
fn order(object: &Object) -> (Option<&str>, bool, &str, bool, &str, &str) {
    let whole = object.part_of.as_deref().unwrap_or(&object.identity);
    let is_content = object.object_type != "schema";
    (
        object.schema.as_deref(),
        is_content,
        whole,
        object.part_of.is_some(),
        &object.object_type,
        &object.identity,
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A snapshot of few words, so that two of them have much in common: keys are unique,
    /// everything else is as it comes.
    pub(crate) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        let word = || prop::sample::select(vec!["a", "b", "c", "d"]);
        let properties = prop::collection::btree_map(
            word().prop_map(String::from),
            word().prop_map(String::from),
            0..3,
        );
        let columns = prop::collection::vec(word().prop_map(String::from), 0..4);
        let object = (
            word(),
            prop::option::of(word()),
            word(),
            prop::option::of(word()),
            columns,
            properties,
        );
        prop::collection::vec(object, 0..8).prop_map(|objects| {
            let mut all: BTreeMap<(String, String), Object> = BTreeMap::new();
            for (object_type, schema, identity, whole, columns, properties) in objects {
                let mut object = Object::new(object_type, schema, identity.into());
                object.part_of = whole.map(Into::into);
                (object.columns, object.properties) = (columns, properties);
                all.insert((object_type.into(), identity.into()), object);
            }
            Snapshot {
                format: FORMAT,
                server: 15,
                schemas: vec![],
                objects: all.into_values().collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn fingerprints_are_equal_exactly_when_nothing_differs(a in any_snapshot(), b in any_snapshot()) {
            prop_assert_eq!(compare(&a, &a), vec![]);
            prop_assert_eq!(a.fingerprint() == b.fingerprint(), compare(&a, &b).is_empty());
        }

        #[test]
        fn the_order_of_objects_never_counts(a in any_snapshot(), b in any_snapshot(), turn in 0usize..8) {
            let mut turned = a.clone();
            turned.objects.reverse();
            let middle = turn.min(turned.objects.len());
            turned.objects.rotate_left(middle);
            prop_assert_eq!(turned.fingerprint(), a.fingerprint());
            prop_assert_eq!(compare(&turned, &b), compare(&a, &b));
            turned.sort();
            prop_assert_eq!(turned.fingerprint(), a.fingerprint());
        }

        #[test]
        fn what_is_written_is_read_back(a in any_snapshot()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(read(&text, &|| {}), Ok(a));
        }
    }

    #[test]
    fn neither_server_nor_schemas_count() {
        let a = Snapshot { server: 15, schemas: vec!["a".into()], ..Snapshot::default() };
        let b = Snapshot { server: 18, ..Snapshot::default() };
        assert_eq!(a.fingerprint(), b.fingerprint());
    }

    #[test]
    fn the_fingerprint_never_changes() {
        let mut table = Object::new("table", Some("public"), "public.t".into());
        table.set("owner", "postgres");
        table.columns = vec!["id".into()];
        let snapshot = Snapshot { objects: vec![table], ..Snapshot::default() };
        assert_eq!(
            snapshot.fingerprint(),
            "7cba031f5fdd10a9a58d9c2fdf4245997f29f4dcd19de71020019754c9de4800"
        );
    }
}
