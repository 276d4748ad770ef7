//! Queries.

use super::Analyzer;
use super::catalog::{name_of, parts_of, standard_name};
use super::expression::Typed;
use super::scope::{Column, Scope, Table, columns_of};
use crate::objects::relation_kind;
use crate::types;
use dragonfly_core::stored::{
    Column as StoredColumn, Expression, FromItem, JoinKind, Query, Range, RangeEntry, Target,
};
use sqlparser::ast::{
    self, DataType, Distinct, Expr, GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableFactor, TableWithJoins,
    Value,
};
use std::cell::Cell;

impl Analyzer<'_> {
    /// Returns a query with the columns that it returns.
    pub(super) fn query(
        &self,
        query: &ast::Query,
        outer: Option<&Scope<'_>>,
    ) -> Option<(Query, Vec<Typed>)> {
        let is_plain = query.with.is_none()
            && query.order_by.is_none()
            && query.fetch.is_none()
            && query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        let (limit, offset) = match &query.limit_clause {
            None => (false, false),
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                let offset_value = offset.as_ref().map(|offset| &offset.value);
                let are_constants = [limit.as_ref(), offset_value]
                    .into_iter()
                    .flatten()
                    .all(|of| matches!(of, Expr::Value(_)));
                if !are_constants {
                    return None;
                }
                (limit.is_some(), offset.is_some())
            }
            Some(_) => return None,
        };
        let select = match &*query.body {
            SetExpr::Select(select) if is_plain => select,
            _ => return None,
        };
        let (found, columns) = self.select(select, outer)?;
        Some((Query { limit, offset, ..found }, columns))
    }

    fn select(&self, select: &Select, outer: Option<&Scope<'_>>) -> Option<(Query, Vec<Typed>)> {
        let is_plain = select.top.is_none()
            && select.exclude.is_none()
            && select.into.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.having.is_none()
            && select.named_window.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none();
        let is_grouped = match &select.group_by {
            GroupByExpr::Expressions(by, with) => !by.is_empty() || !with.is_empty(),
            GroupByExpr::All(_) => true,
        };
        let has_distinct = match &select.distinct {
            None => false,
            Some(Distinct::Distinct) => true,
            Some(_) => return None,
        };
        if !is_plain || is_grouped {
            return None;
        }
        let mut found = Query { has_distinct, ..Query::default() };
        let mut scope = Scope {
            tables: Vec::new(),
            outer,
            has_aggregates: Cell::default(),
            has_sets: Cell::default(),
        };
        for item in &select.from {
            let from = self.from(item, &mut found, &mut scope)?;
            found.from.push(from);
        }
        let mut columns = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expression) => {
                    let value = self.expression(expression, &scope)?;
                    self.add_target(&mut found, &mut columns, value, name_for(expression))?;
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let value = self.expression(expr, &scope)?;
                    self.add_target(&mut found, &mut columns, value, name_of(alias)?)?;
                }
                SelectItem::Wildcard(options) if options.to_string().is_empty() => {
                    for table in &scope.tables {
                        for column in &table.columns {
                            let value = value_of(table, column);
                            self.add_target(&mut found, &mut columns, value, column.name.clone())?;
                        }
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) if options.to_string().is_empty() => {
                    let [name] = &parts_of(name)?[..] else { return None };
                    let table = scope.tables.iter().find(|table| table.name == *name)?;
                    for column in &table.columns {
                        let value = value_of(table, column);
                        self.add_target(&mut found, &mut columns, value, column.name.clone())?;
                    }
                }
                _ => return None,
            }
        }
        found.has_aggregates = scope.has_aggregates.get();
        found.has_set_targets = scope.has_sets.get();
        found.condition = match &select.selection {
            Some(condition) => Some(self.condition(condition, &scope)?),
            None => None,
        };
        // The server rejects aggregates and functions that return sets in WHERE, and columns beside
        // aggregates without GROUP BY.
        if scope.has_aggregates.get() != found.has_aggregates
            || scope.has_sets.get() != found.has_set_targets
            || (found.has_aggregates && columns.len() != 1)
        {
            return None;
        }
        Some((found, columns))
    }

    fn add_target(
        &self,
        found: &mut Query,
        columns: &mut Vec<Typed>,
        value: Typed,
        name: String,
    ) -> Option<()> {
        // A literal is a text.
        let value = if value.is_literal() {
            let expression = self.converted(value, types::TEXT, true)?;
            self.typed(expression, types::TEXT, 0)?
        } else {
            value
        };
        found.targets.push(Target {
            expression: value.expression.clone(),
            number: i16::try_from(found.targets.len() + 1).ok()?,
            name,
            is_hidden: false,
        });
        columns.push(value);
        Some(())
    }

    fn from(
        &self,
        item: &TableWithJoins,
        found: &mut Query,
        scope: &mut Scope<'_>,
    ) -> Option<FromItem> {
        let first = scope.tables.len();
        let mut joined = self.table(&item.relation, found, scope)?;
        for join in &item.joins {
            joined = self.join(joined, join, found, scope, first)?;
        }
        Some(joined)
    }

    fn join(
        &self,
        left: FromItem,
        join: &Join,
        found: &mut Query,
        scope: &mut Scope<'_>,
        first: usize,
    ) -> Option<FromItem> {
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) => (JoinKind::Inner, on),
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (JoinKind::Left, on),
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (JoinKind::Right, on),
            JoinOperator::FullOuter(on) => (JoinKind::Full, on),
            _ => return None,
        };
        let JoinConstraint::On(condition) = constraint else { return None };
        let right = self.table(&join.relation, found, scope)?;
        // The condition names the tables of the join only.
        let tables = scope.tables[first..].to_vec();
        let columns = tables.iter().flat_map(|table| {
            table.columns.iter().map(|column| value_of(table, column).expression)
        });
        let columns = columns.collect();
        let of_join = Scope {
            tables,
            outer: scope.outer,
            has_aggregates: Cell::default(),
            has_sets: Cell::default(),
        };
        let condition = Some(self.condition(condition, &of_join)?);
        if of_join.has_aggregates.get() || of_join.has_sets.get() {
            return None;
        }
        found
            .entries
            .push(RangeEntry { name: "unnamed_join".into(), range: Range::Join { columns } });
        let entry = found.entries.len();
        let (left, right) = (Box::new(left), Box::new(right));
        Some(FromItem::Join { kind, left, right, condition, entry })
    }

    fn table(
        &self,
        factor: &TableFactor,
        found: &mut Query,
        scope: &mut Scope<'_>,
    ) -> Option<FromItem> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_directives,
            inheritance: None,
        } = factor
        else {
            return None;
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_directives.is_empty() {
            return None;
        }
        let parts = parts_of(name)?;
        let oid = self.names.relation(&parts)?;
        let name = match alias {
            None => parts.last()?.clone(),
            Some(alias) if alias.columns.is_empty() && alias.at.is_none() => name_of(&alias.name)?,
            Some(_) => return None,
        };
        if scope.tables.iter().any(|table| table.name == name) {
            return None;
        }
        let mut used = self.used.borrow_mut();
        used.relations.insert(oid);
        if let [unqualified] = &parts[..] {
            used.unqualified.insert(unqualified.clone());
        }
        let kind = relation_kind(self.state, oid);
        found.entries.push(RangeEntry {
            name: name.clone(),
            range: Range::Relation { oid, with_children: true, kind, is_sample: false },
        });
        let entry = found.entries.len();
        scope.tables.push(Table { entry, name, columns: columns_of(self.state, oid) });
        Some(FromItem::Entry(entry))
    }
}

fn value_of(table: &Table, column: &Column) -> Typed {
    let of = StoredColumn {
        entry: table.entry,
        number: column.number,
        level: 0,
        data_type: column.data_type,
    };
    Typed {
        expression: Expression::Column(of),
        data_type: column.data_type,
        collation: column.collation,
        literal: None,
    }
}

/// Returns the name that the server gives a column of a result (`FigureColname`).
fn name_for(expression: &Expr) -> String {
    figured(expression).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// Returns a name, and whether it is more than that of a type or of CASE.
fn figured(expression: &Expr) -> Option<(String, bool)> {
    let strong = |name: Option<String>| name.map(|name| (name, true));
    match expression {
        Expr::Nested(inner) => figured(inner),
        Expr::Identifier(ident) => strong(name_of(ident)),
        Expr::CompoundIdentifier(parts) => strong(parts.last().and_then(name_of)),
        Expr::Function(function) => {
            strong(parts_of(&function.name).and_then(|parts| parts.last().cloned()))
        }
        Expr::Trim { .. } => strong(Some("btrim".to_owned())),
        Expr::Exists { negated: false, .. } => strong(Some("exists".to_owned())),
        Expr::Cast { expr, data_type, .. } => {
            figured(expr).filter(|(_, is_strong)| *is_strong).or_else(|| {
                let name = match data_type {
                    DataType::Custom(name, _) => parts_of(name)?.last()?.clone(),
                    other => standard_name(other)?.to_owned(),
                };
                Some((name, false))
            })
        }
        Expr::Case { else_result, .. } => {
            let of_else = else_result.as_deref().and_then(figured);
            of_else.filter(|(_, is_strong)| *is_strong).or(Some(("case".to_owned(), false)))
        }
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(inner) => Some((name_for(inner), true)),
                SelectItem::ExprWithAlias { alias, .. } => strong(name_of(alias)),
                _ => None,
            },
            _ => None,
        },
        Expr::Value(of) if matches!(of.value, Value::Boolean(_)) => {
            Some(("bool".to_owned(), false))
        }
        _ => None,
    }
}
