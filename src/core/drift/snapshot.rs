//! A snapshot of some schemas, and its fingerprint.

use super::properties::Properties;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The definition of some schemas of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The version of the format, [`super::FORMAT`].
    pub format: u32,
    /// The release of the server. It is not part of the fingerprint.
    pub server: Release,
    /// The schemas that were read, including schemas that do not exist. They are not part of the
    /// fingerprint.
    pub schemas: Vec<String>,
    /// The objects in the schemas.
    pub objects: Vec<Object>,
}

/// A release of PostgreSQL. One that was stored by an earlier version of the extension has no minor
/// version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Release {
    major: u32,
    minor: Option<u32>,
}

/// The factor of the major version in `server_version_num`. Smaller numbers are major versions.
const MAJOR: u32 = 10_000;

impl Release {
    /// Returns the release of a `server_version_num`, or of a major version.
    #[must_use]
    pub fn of_number(number: u32) -> Self {
        match number {
            0..MAJOR => Self { major: number, minor: None },
            _ => Self { major: number / MAJOR, minor: Some(number % MAJOR) },
        }
    }

    /// Whether both are the same release, as far as their versions are known.
    #[must_use]
    pub fn may_equal(self, other: Self) -> bool {
        let both = self.minor.zip(other.minor);
        self.major == other.major && both.is_none_or(|(one, other)| one == other)
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}.{minor}", self.major),
            None => write!(f, "{}", self.major),
        }
    }
}

impl Serialize for Release {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = self.minor.map_or(self.major, |minor| self.major * MAJOR + minor);
        serializer.serialize_u32(number)
    }
}

/// An object, for example a table, a column, a routine or a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// The object type, as `pg_identify_object` returns it.
    #[serde(rename = "type")]
    pub object_type: String,
    /// The schema; `None` for an object in no schema (global default privileges).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The identity, as `pg_identify_object` returns it.
    #[serde(rename = "object")]
    pub identity: String,
    /// The identity of the object that it is a part of, for example the table of a column. A part
    /// is created and dropped with the whole.
    #[serde(default, rename = "of", skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// The names of the columns, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The properties and their values as text. Properties with default values are omitted.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
}

impl Object {
    /// Returns an object without properties.
    #[must_use]
    pub fn new(object_type: &str, schema: Option<&str>, identity: String) -> Self {
        Self {
            object_type: object_type.into(),
            schema: schema.map(Into::into),
            identity,
            ..Self::default()
        }
    }

    /// Returns the object as a part of `whole`.
    #[must_use]
    pub fn of(self, whole: &str) -> Self {
        Self { part_of: Some(whole.into()), ..self }
    }

    /// Sets a property.
    pub fn set(&mut self, property: impl AsRef<str>, text: impl AsRef<str>) {
        self.properties.insert(property.as_ref(), text.as_ref());
    }

    /// Sets a property if it has a value.
    pub fn set_some(&mut self, property: &str, text: Option<impl AsRef<str>>) {
        if let Some(text) = text {
            self.set(property, text);
        }
    }

    /// Sets a property to `true` if `is_set`.
    pub fn set_if(&mut self, property: &str, is_set: bool) {
        if is_set {
            self.set(property, "true");
        }
    }

    /// Returns the object type and identity, which are unique in a snapshot.
    pub(super) fn key(&self) -> (&str, &str) {
        (&self.object_type, &self.identity)
    }
}

impl Snapshot {
    /// Sorts the objects by schema, each followed by its parts.
    pub fn sort(&mut self) {
        self.schemas.sort();
        self.schemas.dedup();
        self.objects.sort_by(|a, b| order(a).cmp(&order(b)));
    }

    /// Removes the objects of other schemas. Objects in no schema remain, because global default
    /// privileges apply to new objects in every schema.
    #[must_use]
    pub fn within(mut self, schemas: &[String]) -> Self {
        self.schemas.retain(|name| schemas.contains(name));
        self.objects
            .retain(|object| object.schema.as_ref().is_none_or(|name| schemas.contains(name)));
        self
    }

    /// Returns the SHA-256 hash of the objects in hexadecimal; it does not depend on their order.
    /// Every text is preceded by its length and every list by its count, so that different
    /// snapshots are different input.
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
            hash.count(object.properties.iter().len());
            for (property, text) in object.properties.iter() {
                hash.text(property);
                hash.text(text);
            }
        }
        hash.hex()
    }
}

/// Returns the hash of a text that is too long to be shown, for example the body of a routine.
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

/// Returns the sort key of an object: a schema comes before its objects, and a whole before its
/// parts.
pub(super) fn order(object: &Object) -> (Option<&str>, bool, &str, bool, &str, &str) {
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
