//! Where in a contract a name is declared: a contract inferred from a large database declares tens of thousands of objects.

use super::Contract;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Positions in the lists of a contract, by schema and name. Made when somebody asks for the first time; what is changed after that is not
/// seen, but by a clone.
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

#[derive(Debug, Default)]
struct Positions {
    tables: Names,
    views: Names,
    sequences: Names,
    functions: Names,
}

/// Of everything that is declared under one name: for functions there may be several.
#[derive(Debug, Default)]
struct Names(HashMap<String, HashMap<String, Vec<usize>>>);

impl Names {
    fn of<'a>(declared: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let mut names = Self::default();
        for (i, (schema, name)) in declared.enumerate() {
            names.0.entry(schema.clone()).or_default().entry(name.clone()).or_default().push(i);
        }
        names
    }

    fn find(&self, schema: &str, name: &str) -> &[usize] {
        self.0.get(schema).and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }
}

impl Contract {
    fn positions(&self) -> &Positions {
        self.index.0.get_or_init(|| Positions {
            tables: Names::of(self.tables.iter().map(|t| (&t.schema, &t.name))),
            views: Names::of(self.views.iter().map(|v| (&v.schema, &v.name))),
            sequences: Names::of(self.sequences.iter().map(|s| (&s.schema, &s.name))),
            functions: Names::of(self.functions.iter().map(|f| (&f.schema, &f.name))),
        })
    }

    /// The declared table of this name.
    #[must_use]
    pub fn table(&self, schema: &str, name: &str) -> Option<&super::TableDecl> {
        self.positions().tables.find(schema, name).first().map(|&i| &self.tables[i])
    }

    /// The declared view of this name.
    #[must_use]
    pub fn view(&self, schema: &str, name: &str) -> Option<&super::ViewDecl> {
        self.positions().views.find(schema, name).first().map(|&i| &self.views[i])
    }

    /// The declared sequence of this name.
    #[must_use]
    pub fn sequence(&self, schema: &str, name: &str) -> Option<&super::SequenceDecl> {
        self.positions().sequences.find(schema, name).first().map(|&i| &self.sequences[i])
    }

    /// Whether a table, view or sequence of this name is declared.
    #[must_use]
    pub fn declares_relation(&self, schema: &str, name: &str) -> bool {
        self.table(schema, name).is_some() || self.view(schema, name).is_some() || self.sequence(schema, name).is_some()
    }

    /// The declared functions of this name, whatever their arguments.
    pub fn functions_named(&self, schema: &str, name: &str) -> impl Iterator<Item = &super::FunctionDecl> {
        self.positions().functions.find(schema, name).iter().map(|&i| &self.functions[i])
    }
}
