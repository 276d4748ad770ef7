//! The index of declared names. A contract inferred from a large database declares tens of
//! thousands of objects.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Positions in the lists of a contract, by schema and name. It is built at the first lookup and
/// does not follow later changes of the contract. A clone builds it again.
#[derive(Debug, Default)]
pub struct Index(OnceLock<Positions>);

/// All indexes are equal, because an index is not part of what a contract declares.
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
    /// Discards the positions, after a change of the contract.
    pub(super) fn forget(&mut self) {
        self.0.take();
    }

    /// Returns the positions. The first call builds them with `build`.
    pub(super) fn positions(&self, build: impl FnOnce() -> Positions) -> &Positions {
        self.0.get_or_init(build)
    }
}

/// The positions in each list of a contract.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub tables: Names,
    pub views: Names,
    pub sequences: Names,
    pub functions: Names,
}

/// The positions of the declarations of each name. A function may be declared more than once, with
/// different arguments.
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
