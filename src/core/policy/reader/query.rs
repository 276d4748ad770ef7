//! Queries: the conditions of their rows, and their columns.

use super::expression::{all, any, is_boolean};
use super::{Entry, Grouped, Reader, Scope};
use crate::catalog::Oid;
use crate::policy::formula::{Exists, Formula, Membership, Shape};
use crate::policy::term::{Row, Term, TermId};
use crate::policy::value::{Meaning, Value, choice, not, pairs};
use crate::stored::{
    Command, Expression, FromItem, JoinKind, Link, Query, Range, SetOperation, SetOperator, Target,
};
use std::rc::Rc;

/// The rows of a query: of each query of a UNION.
pub struct Selected(Vec<Rows>);

/// The rows of a query without UNION.
pub struct Rows {
    /// What is true of a row of the result.
    condition: Rc<Formula>,
    columns: Vec<Meaning>,
    /// Whether there may be none even where the condition can be true: it reads a table.
    reads: bool,
}

impl Selected {
    /// Returns the rows of one query.
    pub fn one(condition: Rc<Formula>, columns: Vec<Meaning>, reads: bool) -> Self {
        Self(vec![Rows { condition, columns, reads }])
    }

    /// Leaves only rows for which a further condition is true.
    pub fn restrict(&mut self, further: &Rc<Formula>) {
        for rows in &mut self.0 {
            rows.condition = Rc::new(all(vec![Rc::clone(&rows.condition), Rc::clone(further)]));
        }
    }
}

/// What is known of a part of FROM: the condition of its rows, the rows of tables in it, and
/// whether it reads any.
pub(super) struct Joined {
    pub condition: Formula,
    rows: Vec<Row>,
    reads: bool,
}

impl Reader<'_> {
    /// Returns what a subquery in an expression is.
    pub(super) fn subquery(
        &mut self,
        link: Link,
        test: Option<&Expression>,
        query: &Query,
    ) -> Meaning {
        match link {
            Link::Exists => {
                let selected = self.asked_only(|reader| reader.select_inside(query));
                Meaning::Condition(Rc::new(self.exists(&selected, |_, _| Formula::TRUE)))
            }
            Link::Any | Link::All => {
                let Some(test) = test else { return self.unknown("a subquery", true) };
                let selected = self.asked_only(|reader| reader.select_inside(query));
                Meaning::Condition(Rc::new(self.each(link, test, &selected)))
            }
            Link::Scalar => {
                let is_boolean =
                    query.targets.first().is_some_and(|target| is_boolean(&target.expression));
                self.note_several(query);
                let selected = self.select_inside(query);
                self.scalar(&selected, is_boolean)
            }
            Link::Array => self.unknown("an array of a subquery", false),
            Link::Row => self.unknown("a comparison of rows", true),
        }
    }

    /// Returns the rows of a subquery in an expression.
    pub(super) fn select_inside(&mut self, query: &Query) -> Selected {
        let is_once = usize::from(!query.is_correlated());
        self.once += is_once;
        let selected = self.select(query);
        self.once -= is_once;
        selected
    }

    /// Whether there is a row for which a further condition is true.
    fn exists(
        &mut self,
        selected: &Selected,
        mut further: impl FnMut(&mut Self, &Rows) -> Formula,
    ) -> Formula {
        let mut queries = Vec::new();
        for rows in &selected.0 {
            let further = Rc::new(further(self, rows));
            let condition = all(vec![Rc::clone(&rows.condition), further]);
            if condition != Formula::FALSE {
                queries.push((Rc::new(condition), rows.reads));
            }
        }
        match &queries[..] {
            [] => Formula::FALSE,
            // One row, or none: where the condition is not true.
            [(condition, false)] => choice(condition, Formula::TRUE, Formula::FALSE),
            _ => Formula::Exists(Exists { number: self.terms.fresh(), queries }),
        }
    }

    /// Returns the value of the comparison `test` with ANY or ALL of the rows.
    fn each(&mut self, link: Link, test: &Expression, selected: &Selected) -> Formula {
        self.each_row(link == Link::Any, selected, &mut |reader, columns| {
            reader.compared.push(columns.to_vec());
            let condition = reader.condition(test);
            reader.compared.pop();
            condition
        })
    }

    /// Returns whether a condition is true of a row, or of all rows.
    pub(super) fn each_row(
        &mut self,
        wanted: bool,
        selected: &Selected,
        condition: &mut dyn FnMut(&mut Self, &[Meaning]) -> Rc<Formula>,
    ) -> Formula {
        let mut of_row = |reader: &mut Self, rows: &Rows| condition(reader, &rows.columns);
        let found = self.exists(selected, |reader, rows| {
            let condition = (*of_row(reader, rows)).clone();
            if wanted { condition } else { not(condition) }
        });
        let unknown =
            self.exists(selected, |reader, rows| Formula::IsUnknown(of_row(reader, rows)));
        // Decided by one row; null where for none it is decided and for one it is null.
        let undecided = choice(&Rc::new(unknown), Formula::NULL, Formula::Constant(Some(!wanted)));
        choice(&Rc::new(found), Formula::Constant(Some(wanted)), undecided)
    }

    /// Returns the value of the only row; null where there is none.
    pub(super) fn scalar(&mut self, selected: &Selected, is_boolean: bool) -> Meaning {
        let [rows] = &selected.0[..] else {
            // The first row can be one of each query.
            return self.unknown("a value of a UNION", is_boolean);
        };
        let Some(column) = rows.columns.first().cloned() else {
            return self.unknown("", is_boolean);
        };
        let is_found = Rc::new(self.exists(selected, |_, _| Formula::TRUE));
        let null = if is_boolean {
            Meaning::Condition(Rc::new(Formula::NULL))
        } else {
            Meaning::Value(Value::Null)
        };
        self.when(&is_found, column, null)
    }

    /// Returns the rows of a query.
    pub(super) fn select(&mut self, query: &Query) -> Selected {
        let scope = Scope {
            entries: vec![Entry::Unknown; query.entries.len()],
            with: Rc::new(query.with.clone()),
        };
        self.scopes.push(scope);
        let selected = match &query.set_operation {
            _ if writes(query) => self.unknown_rows("a query that writes"),
            // A column is null in some of the rows, whatever it is in the table.
            _ if query.grouping_sets => self.unknown_rows("grouping sets"),
            Some(operation) => self.combined_queries(query, operation),
            None => self.plain(query),
        };
        self.scopes.pop();
        selected
    }

    /// Returns the rows of a query with UNION, INTERSECT or EXCEPT. Of the latter, the rows are
    /// rows of the first query, and there may be none.
    fn combined_queries(&mut self, query: &Query, operation: &SetOperation) -> Selected {
        match operation {
            SetOperation::Entry(number) => {
                let entry = number.checked_sub(1).and_then(|index| query.entries.get(index));
                match entry.map(|entry| &entry.range) {
                    Some(Range::Subquery(part)) => self.select(part),
                    _ => self.unknown_rows("a set operation"),
                }
            }
            SetOperation::Operation { operator: SetOperator::Union, left, right } => {
                let mut all = self.combined_queries(query, left);
                all.0.extend(self.combined_queries(query, right).0);
                all
            }
            SetOperation::Operation { operator: SetOperator::Intersect, left, right } => {
                let left = self.combined_queries(query, left);
                let right = self.combined_queries(query, right);
                self.in_both(&left, &right)
            }
            SetOperation::Operation { left, .. } => {
                let mut first = self.combined_queries(query, left);
                first.0.iter_mut().for_each(|rows| rows.reads = true);
                first
            }
            SetOperation::Unknown => self.unknown_rows("a set operation"),
        }
    }

    /// Returns the rows of INTERSECT: each is one of both queries.
    fn in_both(&mut self, left: &Selected, right: &Selected) -> Selected {
        let mut both = Vec::new();
        for one in &left.0 {
            for other in &right.0 {
                let mut parts = vec![Rc::clone(&one.condition), Rc::clone(&other.condition)];
                for (a, b) in one.columns.iter().zip(&other.columns) {
                    let (a, b) = (self.as_value(a.clone()), self.as_value(b.clone()));
                    if !self.fits(a.size().saturating_mul(b.size())) {
                        return self.unknown_rows("a condition that is too large");
                    }
                    parts.push(Rc::new(belong_together(&a, &b)));
                }
                let condition = Rc::new(all(parts));
                both.push(Rows { condition, columns: one.columns.clone(), reads: true });
            }
        }
        Selected(both)
    }

    /// Returns rows of which nothing is known.
    fn unknown_rows(&mut self, what: &str) -> Selected {
        self.unknown.insert(what.to_owned());
        Selected::one(Rc::new(Formula::TRUE), Vec::new(), true)
    }

    fn plain(&mut self, query: &Query) -> Selected {
        let mut joined = Joined { condition: Formula::TRUE, rows: Vec::new(), reads: false };
        let (mut conditions, before) = (Vec::new(), self.accesses.len());
        for item in &query.from {
            let next = self.from(query, item, false);
            conditions.push(Rc::new(next.condition));
            joined.reads |= next.reads;
        }
        self.group_columns(query);
        if let Some(condition) = &query.condition {
            conditions.push(self.unnoted(|of| of.condition(condition)));
        }
        let is_one = (query.has_aggregates || query.having.is_some()) && !query.group;
        let (mut condition, mut reads) = (all(conditions), joined.reads);
        self.grouped.push(Grouped {
            condition: Rc::new(condition.clone()),
            reads,
            is_one,
            has_extreme: false,
        });
        let mut targets = query.targets.iter().filter(|target| !target.is_hidden);
        if let (Some(Target { expression, .. }), None) = (targets.next(), targets.next())
            && matches!(expression, Expression::Call { returns_set: true, .. })
            && let Some(mut selected) = self.rows_of_call(expression)
        {
            self.grouped.pop();
            self.restrict_accesses(before, &Rc::new(condition.clone()));
            selected.restrict(&Rc::new(condition));
            selected.0.iter_mut().for_each(|rows| rows.reads = true);
            return selected;
        }
        let targets = query.targets.iter().filter(|target| !target.is_hidden);
        let columns = targets.map(|target| self.meaning(&target.expression)).collect();
        self.restrict_accesses(before, &Rc::new(condition.clone()));
        if is_one {
            // One row, whatever there is.
            (condition, reads) = (Formula::TRUE, false);
        }
        if let Some(having) = &query.having {
            let having = self.unnoted(|of| of.condition(having));
            if !is_one {
                self.restrict_accesses(before, &having);
            }
            condition = all(vec![Rc::new(condition), having]);
        }
        self.grouped.pop();
        let may_be_cut = query.limit || query.offset || query.has_set_targets;
        Selected::one(Rc::new(condition), columns, reads || may_be_cut)
    }

    /// Gives the entry for GROUP BY its columns: those of its rows.
    fn group_columns(&mut self, query: &Query) {
        for (index, entry) in query.entries.iter().enumerate() {
            if let Range::Group(columns) = &entry.range {
                self.set_entry(index + 1, Entry::Expressions(Rc::new(columns.clone())));
            }
        }
    }

    /// Returns what an aggregate of the rows of a group is.
    pub(super) fn aggregate(
        &mut self,
        function: Oid,
        arguments: &[Expression],
        is_boolean: bool,
    ) -> Meaning {
        let known = self.catalog.function(function).filter(|function| function.is_built_in);
        let name = known.as_ref().map_or("", |function| function.name.as_str());
        match (name, arguments, self.grouped.last().cloned()) {
            ("count", [], Some(rows)) => {
                let number = self.terms.fresh();
                let count = self.terms.add(Term::Count(number));
                if rows.is_one {
                    self.counts.insert(count, (rows.condition, rows.reads));
                }
                Meaning::Value(Value::Term(count))
            }
            // The value of one of the rows.
            ("min" | "max", [argument], Some(rows)) if !is_boolean && !rows.has_extreme => {
                self.grouped.iter_mut().last().into_iter().for_each(|rows| rows.has_extreme = true);
                let value = self.meaning(argument);
                if !rows.is_one {
                    return value;
                }
                let selected = Selected::one(rows.condition, vec![value], rows.reads);
                self.scalar(&selected, false)
            }
            _ => self.unknown("an aggregate", is_boolean),
        }
    }

    pub(super) fn set_entry(&mut self, number: usize, entry: Entry) {
        let entries = self.scopes.last_mut().map(|scope| &mut scope.entries);
        let index = number.checked_sub(1);
        if let Some(place) = entries.zip(index).and_then(|(all, index)| all.get_mut(index)) {
            *place = entry;
        }
    }

    /// Returns what is known of a part of FROM, and notes what its columns are. With `nullable`, an
    /// outer join may leave it out.
    pub(super) fn from(&mut self, query: &Query, item: &FromItem, nullable: bool) -> Joined {
        match item {
            FromItem::Entry(number) => self.entry(query, *number, nullable),
            FromItem::List { items, condition } => {
                let mut parts: Vec<_> =
                    items.iter().map(|item| self.from(query, item, nullable)).collect();
                if let Some(condition) = condition {
                    let condition = (*self.unnoted(|of| of.condition(condition))).clone();
                    parts.push(Joined { condition, rows: Vec::new(), reads: false });
                }
                together(parts)
            }
            FromItem::Join { kind, left, right, condition, entry } => {
                let is_left_nullable = nullable || matches!(kind, JoinKind::Right | JoinKind::Full);
                let is_right_nullable = nullable || matches!(kind, JoinKind::Left | JoinKind::Full);
                let left = self.from(query, left, is_left_nullable);
                let right = self.from(query, right, is_right_nullable);
                self.set_join(query, *entry);
                let on = condition.as_ref().map(|on| self.unnoted(|of| of.condition(on)));
                let on = on.unwrap_or_else(|| Rc::new(Formula::TRUE));
                join(*kind, left, right, &on)
            }
            FromItem::Unknown(name) => {
                self.unknown.insert(name.clone());
                Joined { condition: Formula::TRUE, rows: Vec::new(), reads: true }
            }
        }
    }

    fn set_join(&mut self, query: &Query, number: usize) {
        let entry = number.checked_sub(1).and_then(|index| query.entries.get(index));
        if let Some(Range::Join { columns }) = entry.map(|entry| &entry.range) {
            self.set_entry(number, Entry::Expressions(Rc::new(columns.clone())));
        }
    }

    /// Returns what is known of an entry of the range table.
    fn entry(&mut self, query: &Query, number: usize, nullable: bool) -> Joined {
        let entry = number.checked_sub(1).and_then(|index| query.entries.get(index));
        let selected = match entry.map(|entry| &entry.range) {
            // Views of views can be many.
            _ if !self.fits(1) => self.unknown_rows("a condition that is too large"),
            Some(Range::Relation { oid, .. }) => match self.catalog.view(*oid) {
                Some(view) if self.depth < super::DEEPEST && self.may_read(*oid) => {
                    self.of_view(&view)
                }
                _ => {
                    let row = Row(self.terms.fresh());
                    self.set_entry(number, Entry::Row { row, relation: *oid, nullable });
                    let condition = self.read_rows(row, *oid, nullable);
                    return Joined { condition, rows: vec![row], reads: true };
                }
            },
            Some(Range::Subquery(query)) => self.select(query),
            Some(Range::With { name, level, is_itself: false }) => {
                let level = self.scopes.len().checked_sub(level + 1);
                let with = level.map(|level| (level, Rc::clone(&self.scopes[level].with)));
                match with.as_ref().and_then(|(level, with)| {
                    Some((*level, &with.iter().find(|(known, _)| known == name)?.1))
                }) {
                    Some((level, query)) if !query.is_recursive => {
                        let inner = self.scopes.split_off(level + 1);
                        let selected = self.select(query);
                        self.scopes.extend(inner);
                        selected
                    }
                    _ => self.unknown_rows("WITH"),
                }
            }
            Some(Range::Functions(functions)) => match &functions[..] {
                [one] => match self.rows_of_call(one) {
                    Some(selected) => selected,
                    None => self.unknown_rows("a function in FROM"),
                },
                _ => self.unknown_rows("functions in FROM"),
            },
            Some(Range::Result) => Selected::one(Rc::new(Formula::TRUE), Vec::new(), false),
            _ => self.unknown_rows("a part of FROM"),
        };
        self.columns_of(number, selected, nullable)
    }

    /// Notes the columns of a subquery in FROM. Those of a UNION, and those that an outer join may
    /// leave out, are values of which it is known what they can be.
    fn columns_of(&mut self, number: usize, selected: Selected, nullable: bool) -> Joined {
        let mut parts = selected.0;
        if parts.len() == 1
            && !nullable
            && let Some(rows) = parts.pop()
        {
            self.set_entry(number, known_columns(rows.columns));
            let condition = Rc::unwrap_or_clone(rows.condition);
            return Joined { condition, rows: Vec::new(), reads: rows.reads };
        }
        let count = parts.iter().map(|rows| rows.columns.len()).min().unwrap_or_default();
        let reads = nullable || parts.iter().any(|rows| rows.reads);
        let row = Row(self.terms.fresh());
        let mut columns = Vec::new();
        let mut options: Vec<Vec<Rc<Formula>>> =
            parts.iter().map(|rows| vec![Rc::clone(&rows.condition)]).collect();
        for index in 0..count {
            let column = Term::Column { row, number: index as i16 + 1, nullable: true };
            let term = self.terms.add(column);
            let is_boolean =
                parts.iter().all(|rows| matches!(rows.columns[index], Meaning::Condition(_)));
            for (rows, option) in parts.iter().zip(&mut options) {
                let value = self.as_value(rows.columns[index].clone());
                option.push(Rc::new(equals(term, &value)));
            }
            columns.push(Self::of_term(term, is_boolean));
        }
        self.set_entry(number, known_columns(columns));
        let options = options.into_iter().map(|option| Rc::new(all(option))).collect();
        Joined { condition: any(options), rows: vec![row], reads }
    }
}

/// Whether a query writes, or one in its WITH does.
pub(super) fn writes(query: &Query) -> bool {
    query.command != Command::Select
        || query.with.iter().any(|(_, with)| with.command != Command::Select)
}

fn known_columns(columns: Vec<Meaning>) -> Entry {
    if columns.is_empty() { Entry::Unknown } else { Entry::Columns(columns) }
}

/// Whether two values are equal by an operator that is not known, or both are null.
fn belong_together(a: &Value, b: &Value) -> Formula {
    let by = Membership { operator: 0, collation: 0, shape: Shape::Element };
    let is_null = |of| Rc::new(Formula::IsNull(of));
    pairs(a, b, &mut |a, b| match (a, b) {
        (None, None) => Formula::TRUE,
        (Some(of), None) | (None, Some(of)) => Formula::IsNull(of),
        (Some(a), Some(b)) if a == b => Formula::TRUE,
        (Some(a), Some(b)) => any(vec![
            Rc::new(Formula::Member(by, a, b)),
            Rc::new(all(vec![is_null(a), is_null(b)])),
        ]),
    })
}

/// Whether a term is what a value is, null included.
pub(super) fn equals(term: TermId, value: &Value) -> Formula {
    value.condition(&mut |of| match of {
        None => Formula::IsNull(term),
        Some(of) => not(Formula::Distinct(term, of)),
    })
}

fn together(parts: Vec<Joined>) -> Joined {
    let mut all_parts = Joined { condition: Formula::TRUE, rows: Vec::new(), reads: false };
    let mut conditions = Vec::new();
    for part in parts {
        conditions.push(Rc::new(part.condition));
        all_parts.rows.extend(part.rows);
        all_parts.reads |= part.reads;
    }
    all_parts.condition = all(conditions);
    all_parts
}

/// Returns what is known of two joined parts.
fn join(kind: JoinKind, left: Joined, right: Joined, on: &Rc<Formula>) -> Joined {
    let (first, second) = (Rc::new(left.condition), Rc::new(right.condition));
    let all_null = |rows: &[Row]| Rc::new(Formula::AllNull(rows.to_vec()));
    let matched = all(vec![Rc::clone(&first), Rc::clone(&second), Rc::clone(on)]);
    let left_only = || all(vec![Rc::clone(&first), all_null(&right.rows)]);
    let right_only = || all(vec![Rc::clone(&second), all_null(&left.rows)]);
    let mut ways = vec![Rc::new(matched)];
    match kind {
        JoinKind::Inner => {}
        JoinKind::Left => ways.push(Rc::new(left_only())),
        JoinKind::Right => ways.push(Rc::new(right_only())),
        JoinKind::Full => ways.extend([Rc::new(left_only()), Rc::new(right_only())]),
    }
    let condition = any(ways);
    let reads = left.reads || right.reads;
    Joined { condition, rows: [left.rows, right.rows].concat(), reads }
}
