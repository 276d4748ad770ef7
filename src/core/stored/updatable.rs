//! Which statements on a view the server rewrites to statements on the relation that the view
//! reads, as `view_query_is_auto_updatable` decides it (rewriteHandler.c).

use super::read::outline;
use super::text::Unreadable;
use super::tree::{Expression, FromItem, Query, Range, Target};
use crate::catalog::{Command, Oid, RelationKind};

/// The relation that statements on a view change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Updatable {
    pub relation: Oid,
    /// Whether the view has a column of it: INSERT and UPDATE need one.
    pub has_column: bool,
}

impl Updatable {
    /// Whether the server rewrites a command.
    #[must_use]
    pub fn is_for(&self, command: Command) -> bool {
        match command {
            Command::Delete => true,
            Command::Insert | Command::Update => self.has_column,
            Command::Select => false,
        }
    }
}

/// Returns the relation that statements on a view change, by the stored query of the view; `None`
/// as of [`Query::updatable`]. Nothing depends on how deeply its expressions are nested.
///
/// # Errors
/// As of [`super::expression`].
pub fn updatable(text: &str) -> Result<Option<Updatable>, Unreadable> {
    Ok(outline(text)?.as_ref().and_then(Query::updatable))
}

impl Query {
    /// Returns the relation that statements on a view with this query change; `None` where the
    /// server needs a trigger or a rule for them.
    #[must_use]
    pub fn updatable(&self) -> Option<Updatable> {
        let is_grouped =
            self.has_distinct || self.group || self.grouping_sets || self.having.is_some();
        let is_computed = self.has_aggregates || self.has_window_functions || self.has_set_targets;
        let is_limited = self.limit || self.offset;
        let is_composed = self.set_operation.is_some() || !self.with.is_empty();
        if is_grouped || is_computed || is_limited || is_composed {
            return None;
        }
        let [FromItem::Entry(number)] = self.from[..] else { return None };
        let Range::Relation { oid, kind, is_sample: false, .. } =
            self.entries.get(number.checked_sub(1)?)?.range
        else {
            return None;
        };
        let is_updatable = kind.is_some_and(|of| of.is_table() || of == RelationKind::View);
        let has_column = self.targets.iter().any(|target| is_column(target, number));
        is_updatable.then_some(Updatable { relation: oid, has_column })
    }
}

/// Whether a column of a view is one of its relation, which is neither a system column nor the
/// whole row.
fn is_column(target: &Target, entry: usize) -> bool {
    match &target.expression {
        Expression::Column(column) => {
            !target.is_hidden && column.entry == entry && column.level == 0 && column.number > 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::query;

    /// Queries of views as PostgreSQL 15 stores them, with which of their columns are those of a
    /// relation.
    const VIEWS: &str = include_str!("fixtures/views.txt");

    /// Returns the trees by what was stored.
    fn views() -> impl Iterator<Item = (&'static str, &'static str)> {
        VIEWS.split("\n\n").filter_map(|view| view.split_once('\n'))
    }

    fn of(view: &str) -> Updatable {
        let found = views().find(|(name, _)| name.ends_with(view));
        updatable(found.unwrap().1).unwrap().unwrap()
    }

    #[test]
    fn view_is_updatable_if_it_is_a_part_of_one_relation() {
        for (view, tree) in views() {
            let (has, _) = view.split_once(": ").unwrap();
            let found = updatable(tree).unwrap();
            assert_eq!(found, query(tree).unwrap().unwrap().updatable(), "{view}");
            let expected = match has {
                "a column" => Some(true),
                "no column" => Some(false),
                "nothing" => None,
                _ => panic!("{view}"),
            };
            assert_eq!(found.map(|found| found.has_column), expected, "{view}");
        }
        assert_eq!(views().count(), 24);
    }

    #[test]
    fn delete_needs_no_column() {
        let commands = |view| Command::ALL.map(|command| of(view).is_for(command));
        assert_eq!(of(": SELECT n FROM docs").relation, 20009);
        assert_eq!(commands(": SELECT n FROM docs"), [false, true, true, true]);
        assert_eq!(commands(": SELECT FROM docs"), [false, false, false, true]);
    }

    #[test]
    fn view_with_a_deep_expression_is_updatable() {
        let (_, tree) = views().next().unwrap();
        let not = "{BOOLEXPR :boolop not :args (";
        let deep = format!(":quals {}{}", not.repeat(1000), ")}".repeat(1000));
        let tree = tree.replace(":quals <>", &deep);
        assert_eq!(query(&tree), Err(Unreadable::TooDeep));
        assert_eq!(updatable(&tree), Ok(Some(of(": SELECT n FROM docs"))));
    }
}
