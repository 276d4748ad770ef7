//! Where in a contract a name is declared: a contract inferred from a large database declares tens
//! of thousands of objects.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Positions in the lists of a contract, by schema and name. Made when somebody asks for the first
/// time; what is changed after that is not seen, but by a clone.
#[derive(Debug, Default)]
pub struct Index(OnceLock<Positions>);

/// No part of what a contract says: every two are equal, and a clone begins anew.
impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Index {
    /// Returns the positions, made by `build` when they are asked for the first time.
    pub(super) fn positions(&self, build: impl FnOnce() -> Positions) -> &Positions {
        self.0.get_or_init(build)
    }
}

/// Positions in each list of a contract.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub tables: Names,
    pub views: Names,
    pub sequences: Names,
    pub functions: Names,
}

/// Of everything that is declared under one name: for functions there may be several.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, HashMap<String, Vec<usize>>>);

impl Names {
    pub fn of<'a>(declared: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let mut names = Self::default();
        for (i, (schema, name)) in declared.enumerate() {
            names.0.entry(schema.clone()).or_default().entry(name.clone()).or_default().push(i);
        }
        names
    }

    pub fn find(&self, schema: &str, name: &str) -> &[usize] {
        self.0.get(schema).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }
}
