//! Looks up declarations by schema and name.

use super::index::{Names, Positions};
use super::types::{Contract, FunctionDecl, SequenceDecl, TableDecl, ViewDecl};

impl Contract {
    fn positions(&self) -> &Positions {
        self.index.positions(|| Positions {
            tables: Names::of(self.tables.iter().map(|t| (&t.schema, &t.name))),
            views: Names::of(self.views.iter().map(|v| (&v.schema, &v.name))),
            sequences: Names::of(self.sequences.iter().map(|s| (&s.schema, &s.name))),
            functions: Names::of(self.functions.iter().map(|f| (&f.schema, &f.name))),
        })
    }

    /// The declared table of this name.
    #[must_use]
    pub fn table(&self, schema: &str, name: &str) -> Option<&TableDecl> {
        self.positions().tables.find(schema, name).first().map(|&i| &self.tables[i])
    }

    /// The declared view of this name.
    #[must_use]
    pub fn view(&self, schema: &str, name: &str) -> Option<&ViewDecl> {
        self.positions().views.find(schema, name).first().map(|&i| &self.views[i])
    }

    /// The declared sequence of this name.
    #[must_use]
    pub fn sequence(&self, schema: &str, name: &str) -> Option<&SequenceDecl> {
        self.positions().sequences.find(schema, name).first().map(|&i| &self.sequences[i])
    }

    /// Whether a table, view or sequence of this name is declared.
    #[must_use]
    pub fn declares_relation(&self, schema: &str, name: &str) -> bool {
        self.table(schema, name).is_some()
            || self.view(schema, name).is_some()
            || self.sequence(schema, name).is_some()
    }

    /// The declared functions of this name, whatever their arguments.
    pub fn functions_named(&self, schema: &str, name: &str) -> impl Iterator<Item = &FunctionDecl> {
        self.positions().functions.find(schema, name).iter().map(|&i| &self.functions[i])
    }
}
