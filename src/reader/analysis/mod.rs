//! Reads the texts of functions without a server: the analysis that the server makes of a query,
//! for the forms that most policies and their functions have.
//!
//! Nothing is guessed. A text with another form, or with a name or an operator for which the server
//! might choose something else, is not read. A test compares the result with that of the server.

mod call;
mod catalog;
mod convert;
mod expression;
mod query;
mod scope;

use crate::captured::captured;
use crate::data::Data;
use crate::source::State;
use crate::text_body::{Analyzed, Text, Texts, Used};
use catalog::Names;
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::{plain_statements, returned_expression};
use dragonfly_core::stored::Query;
use scope::Routine;
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::cell::RefCell;

/// How deeply expressions may be nested.
const DEEPEST: usize = 50;

/// Reads the texts of the functions in a snapshot.
pub struct InSnapshot<'d> {
    data: &'d Data,
}

impl<'d> InSnapshot<'d> {
    /// Returns the reader of the texts in a snapshot.
    #[must_use]
    pub fn new(data: &'d Data) -> Self {
        Self { data }
    }

    fn queries(&self, text: &Text<'_>, sources: &[String]) -> Option<(Vec<Query>, Used)> {
        let state: &dyn State = self.data;
        let names = Names::of(state, text)?;
        let routine = Routine::of(state, text.routine)?;
        let analyzer = Analyzer { state, names, routine, used: RefCell::default() };
        let mut queries = Vec::new();
        for source in sources {
            for statement in parsed(source)? {
                let Statement::Query(query) = statement else { return None };
                queries.push(analyzer.query(&query, None)?.0);
            }
        }
        Some((queries, analyzer.used.into_inner()))
    }
}

/// Returns the statements of a text; `None` where it cannot be parsed.
fn parsed(source: &str) -> Option<Vec<Statement>> {
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEEPEST);
    parser.try_with_sql(source).ok()?.parse_statements().ok()
}

impl Texts for InSnapshot<'_> {
    fn is_locked(&self) -> bool {
        false
    }

    fn fault(&self, _: Language) -> &'static str {
        "its text can only be read by a server with the extension"
    }

    fn query(&self, text: &Text<'_>) -> Option<Analyzed> {
        let source = match text.language {
            Language::Sql => Some(text.source.to_owned()),
            Language::PlPgSql => {
                returned_expression(text.source).map(|returned| format!("SELECT {returned}"))
            }
            Language::Other => None,
        };
        let read = source.and_then(|source| self.queries(text, &[source]));
        let Some((mut queries, used)) = read else {
            self.data.add_unread(text.routine);
            return None;
        };
        let query = queries.pop().filter(|_| queries.is_empty())?;
        let name = |catalog, oid| self.data.name(catalog, oid);
        Some(Analyzed { query, captured: captured(&name, text, &used) })
    }

    fn statements(&self, text: &Text<'_>) -> Option<Vec<Query>> {
        let sources = match text.language {
            Language::Sql => vec![text.source.to_owned()],
            Language::PlPgSql => plain_statements(text.source)?,
            Language::Other => return None,
        };
        Some(self.queries(text, &sources)?.0)
    }
}

/// Analyzes the queries of a function.
struct Analyzer<'a> {
    state: &'a dyn State,
    names: Names<'a>,
    routine: Routine,
    /// What the text names.
    used: RefCell<Used>,
}
