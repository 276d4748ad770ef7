//! What expressions and queries consist of.

use super::tree::{Expression, FromItem, Parameter, Query, Range};
use crate::catalog::Oid;

impl Expression {
    /// Returns the expressions that it consists of, without those in the query of a subquery.
    #[must_use]
    pub fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Call { arguments, .. }
            | Self::Operator { arguments, .. }
            | Self::IsDistinct { arguments, .. }
            | Self::NullIf { arguments, .. }
            | Self::AnyOrAll { arguments, .. }
            | Self::Logical { arguments, .. }
            | Self::Coalesce { arguments, .. }
            | Self::Extreme { arguments, .. }
            | Self::Aggregate { arguments, .. }
            | Self::Array { elements: arguments, .. }
            | Self::Row { columns: arguments } => arguments.iter().collect(),
            Self::IsNull { argument, .. }
            | Self::IsBoolean { argument, .. }
            | Self::Relabel { argument, .. }
            | Self::ThroughText { argument, .. }
            | Self::ArrayConversion { argument, .. }
            | Self::ToDomain { argument, .. }
            | Self::Collate { argument, .. }
            | Self::Field { argument, .. } => vec![argument],
            Self::Case { operand, branches, otherwise, .. } => {
                let branches = branches.iter().flat_map(|of| [&of.condition, &of.result]);
                let ends = operand.iter().chain(otherwise);
                branches.chain(ends.map(|of| &**of)).collect()
            }
            Self::RowOrder { left, right, .. } => left.iter().chain(right).collect(),
            Self::Subscript { container, subscripts, .. } => {
                std::iter::once(&**container).chain(subscripts).collect()
            }
            Self::Subquery { test, .. } => test.iter().map(|test| &**test).collect(),
            Self::Column(_)
            | Self::Constant(_)
            | Self::Parameter { .. }
            | Self::CaseOperand
            | Self::SqlValue(_)
            | Self::Unknown(_) => vec![],
        }
    }

    fn add_calls<'a>(&'a self, function: Oid, found: &mut Vec<&'a [Self]>) {
        match self {
            Self::Call { function: of, arguments, .. } if *of == function => found.push(arguments),
            Self::Subquery { query, .. } => query.add_calls(function, found),
            _ => {}
        }
        self.parts().into_iter().for_each(|part| part.add_calls(function, found));
    }

    /// Adds the numbers of the arguments of the routine in whose body it is.
    pub fn add_arguments(&self, found: &mut Vec<usize>) {
        match self {
            Self::Parameter { parameter: Parameter::Argument(number), .. } => found.push(*number),
            Self::Subquery { query, .. } => query.add_arguments(found),
            _ => {}
        }
        self.parts().into_iter().for_each(|part| part.add_arguments(found));
    }

    /// Whether it is about a column of a range table at least so many queries outwards.
    #[must_use]
    pub fn reaches(&self, level: usize) -> bool {
        match self {
            Self::Column(column) => column.level >= level,
            Self::Subquery { query, .. } if query.reaches(level + 1) => true,
            _ => self.parts().into_iter().any(|part| part.reaches(level)),
        }
    }

    /// Whether it asks for the parameter with a number, of the function that it is in the body of.
    fn has_parameter(&self, number: usize) -> bool {
        match self {
            Self::Parameter { parameter: Parameter::Argument(of), .. } if *of == number => true,
            Self::Subquery { query, .. } if query.has_parameter(number) => true,
            _ => self.parts().into_iter().any(|part| part.has_parameter(number)),
        }
    }

    /// Whether there is a subquery in it.
    #[must_use]
    pub fn has_subquery(&self) -> bool {
        matches!(self, Self::Subquery { .. }) || self.parts().into_iter().any(Self::has_subquery)
    }
}

impl Query {
    /// Adds the arguments of each call of a function in it and in its parts.
    pub fn add_calls<'a>(&'a self, function: Oid, found: &mut Vec<&'a [Expression]>) {
        for expression in self.expressions() {
            expression.add_calls(function, found);
        }
        for query in self.queries() {
            query.add_calls(function, found);
        }
    }

    /// Adds the numbers of the arguments of the routine that it is the body of.
    pub fn add_arguments(&self, found: &mut Vec<usize>) {
        for expression in self.expressions() {
            expression.add_arguments(found);
        }
        for query in self.queries() {
            query.add_arguments(found);
        }
    }

    /// Whether its result depends on rows of a query outside of it.
    #[must_use]
    pub fn is_correlated(&self) -> bool {
        self.reaches(1)
    }

    /// Whether it is about a column of a range table at least so many queries outwards of it.
    fn reaches(&self, level: usize) -> bool {
        self.expressions().into_iter().any(|expression| expression.reaches(level))
            || self.queries().into_iter().any(|query| query.reaches(level + 1))
    }

    /// Whether it is nothing but an expression: the server can put that in the place of a call.
    #[must_use]
    pub fn is_expression(&self) -> bool {
        let is_plain = self.from.is_empty() && self.condition.is_none() && self.having.is_none();
        let is_one = !self.has_aggregates && !self.has_window_functions && !self.has_set_targets;
        is_plain
            && is_one
            && self.with.is_empty()
            && self.set_operation.is_none()
            && !(self.group || self.limit || self.offset || self.has_distinct)
            && !self.targets.iter().any(|target| target.expression.has_subquery())
    }

    /// Whether it asks for the parameter with a number.
    #[must_use]
    pub fn has_parameter(&self, number: usize) -> bool {
        self.expressions().into_iter().any(|expression| expression.has_parameter(number))
            || self.queries().into_iter().any(|query| query.has_parameter(number))
    }

    /// Returns its expressions, without those of queries in it.
    fn expressions(&self) -> Vec<&Expression> {
        let mut all: Vec<&Expression> = Vec::new();
        for entry in &self.entries {
            match &entry.range {
                Range::Join { columns } | Range::Functions(columns) | Range::Group(columns) => {
                    all.extend(columns);
                }
                Range::Values(rows) => all.extend(rows.iter().flatten()),
                Range::Relation { .. }
                | Range::Subquery(_)
                | Range::With { .. }
                | Range::Result
                | Range::Other(_) => {}
            }
        }
        self.from.iter().for_each(|item| item.add_conditions(&mut all));
        all.extend(self.targets.iter().map(|target| &target.expression));
        all.extend(self.condition.iter().chain(&self.having));
        let on_conflict = self.on_conflict.iter();
        all.extend(on_conflict.flat_map(|of| of.keys.iter().chain(&of.condition)));
        all
    }

    /// Returns the queries in its FROM and WITH.
    fn queries(&self) -> Vec<&Self> {
        let of_range = self.entries.iter().filter_map(|entry| match &entry.range {
            Range::Subquery(query) => Some(&**query),
            _ => None,
        });
        of_range.chain(self.with.iter().map(|(_, query)| query)).collect()
    }
}

impl FromItem {
    /// Adds the conditions of joins, and those of lists.
    pub fn add_conditions<'a>(&'a self, all: &mut Vec<&'a Expression>) {
        match self {
            Self::Join { left, right, condition, .. } => {
                left.add_conditions(all);
                right.add_conditions(all);
                all.extend(condition);
            }
            Self::List { items, condition } => {
                items.iter().for_each(|item| item.add_conditions(all));
                all.extend(condition);
            }
            Self::Entry(_) | Self::Unknown(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::stored::{Column, Expression, Link, Query, Range, RangeEntry};

    fn column(level: usize) -> Expression {
        Expression::Column(Column { entry: 1, number: 1, level, data_type: 23 })
    }

    fn not_null(argument: Expression) -> Expression {
        Expression::IsNull { argument: Box::new(argument), negated: true, of_row: false }
    }

    fn exists(condition: Expression) -> Query {
        Query { condition: Some(condition), ..Query::default() }
    }

    fn subquery(query: Query) -> Expression {
        Expression::Subquery { link: Link::Exists, test: None, query: Box::new(query) }
    }

    #[test]
    fn query_about_rows_outside_of_it_is_correlated() {
        assert!(!exists(not_null(column(0))).is_correlated());
        assert!(exists(not_null(column(1))).is_correlated());
        // The column is one of the query around the inner one.
        assert!(!exists(subquery(exists(not_null(column(1))))).is_correlated());
        assert!(exists(subquery(exists(not_null(column(2))))).is_correlated());
        let inner = Range::Subquery(Box::new(exists(not_null(column(2)))));
        let entries = vec![RangeEntry { name: "s".to_owned(), range: inner }];
        assert!(Query { entries, ..Query::default() }.is_correlated());
    }

    #[test]
    fn query_with_a_condition_or_a_subquery_is_more_than_an_expression() {
        assert!(Query::default().is_expression());
        assert!(!exists(column(0)).is_expression());
        assert!(not_null(subquery(Query::default())).has_subquery());
        assert!(!not_null(column(0)).has_subquery());
    }
}
