//! Expressions without calls and subqueries.

use super::{Entry, Reader};
use crate::catalog::{FIRST_NORMAL, Oid};
use crate::policy::constants::{constant, elements, parsed, types};
use crate::policy::facts::Operator;
use crate::policy::formula::{Comparison, Exists, Formula, Membership, Shape};
use crate::policy::term::{Constant, Operation, Row, Term, TermId};
use crate::policy::value::{self, Meaning, Value, choice, compare, not, pairs};
use crate::stored::{BooleanTest, Branch, Column, Expression, Link, Logic, Parameter};
use std::rc::Rc;

/// Returns the type of an expression, where it is known without the catalog.
pub fn type_of(expression: &Expression) -> Option<Oid> {
    match expression {
        Expression::Column(column) => Some(column.data_type),
        Expression::Constant(constant) => Some(constant.data_type),
        Expression::Parameter { data_type, .. } => Some(*data_type),
        Expression::Call { result, .. }
        | Expression::Operator { result, .. }
        | Expression::Case { result, .. }
        | Expression::Coalesce { result, .. }
        | Expression::Relabel { result, .. }
        | Expression::ThroughText { result, .. }
        | Expression::ArrayConversion { result, .. }
        | Expression::Aggregate { result, .. } => Some(*result),
        Expression::IsDistinct { .. }
        | Expression::AnyOrAll { .. }
        | Expression::Logical { .. }
        | Expression::IsNull { .. }
        | Expression::IsBoolean { .. }
        | Expression::RowOrder { .. } => Some(types::BOOL),
        Expression::NullIf { arguments, .. } | Expression::Extreme { arguments, .. } => {
            type_of(arguments.first()?)
        }
        Expression::Collate { argument, .. } | Expression::ToDomain { argument, .. } => {
            type_of(argument)
        }
        Expression::Subquery { link, query, .. } => match link {
            Link::Scalar => type_of(&query.targets.first()?.expression),
            Link::Array => None,
            _ => Some(types::BOOL),
        },
        _ => None,
    }
}

/// Whether a value that is labelled with another type is compared as before: as with the two types
/// of text, and a domain and its base type. (An integer is not compared like an OID.)
fn keeps_comparisons(argument: &Expression, result: Oid) -> bool {
    const TEXTS: [Oid; 2] = [types::TEXT, types::VARCHAR];
    type_of(argument).is_some_and(|of| {
        of == result || of >= FIRST_NORMAL || (TEXTS.contains(&of) && TEXTS.contains(&result))
    })
}

/// Whether a value and its elements are of types of the server, which compares them by operators of
/// its own.
fn is_of_server(expression: &Expression) -> bool {
    match expression {
        Expression::Array { elements, .. } => elements.iter().all(is_of_server),
        Expression::Subscript { container, .. } => is_of_server(container),
        Expression::Constant(_) => true,
        other => type_of(other).is_some_and(|of| {
            of < FIRST_NORMAL && of != types::RECORD && of != types::RECORD_ARRAY
        }),
    }
}

/// Whether an expression is a condition.
pub fn is_boolean(expression: &Expression) -> bool {
    type_of(expression) == Some(types::BOOL)
}

impl Reader<'_> {
    /// Returns what a stored expression is.
    pub(super) fn meaning(&mut self, expression: &Expression) -> Meaning {
        if !self.fits(1) {
            return self.unknown("", is_boolean(expression));
        }
        match expression {
            Expression::Column(column) => self.column(*column),
            Expression::Constant(of) => match &of.value {
                None if of.data_type == types::BOOL => condition(Formula::NULL),
                None => Meaning::Value(Value::Null),
                Some(bytes) => self.constant(constant(of.data_type, bytes)),
            },
            Expression::Parameter { parameter, data_type } => {
                self.parameter(*parameter, *data_type == types::BOOL)
            }
            Expression::Call { .. } => self.call(expression),
            Expression::Operator { operator, collation, arguments, .. } => {
                self.operator(expression, *operator, *collation, arguments)
            }
            Expression::IsDistinct { operator, collation, arguments } => {
                self.distinct(*operator, *collation, arguments)
            }
            Expression::NullIf { operator, collation, arguments } => {
                self.null_if(*operator, *collation, arguments)
            }
            Expression::AnyOrAll { operator, collation, any, arguments } => {
                self.any_or_all(*operator, *collation, *any, arguments)
            }
            Expression::Logical { logic, arguments } => self.logical(*logic, arguments),
            Expression::IsNull { argument, negated, of_row } => {
                let is_null = self.is_null(argument, *of_row, *negated);
                condition(is_null)
            }
            Expression::IsBoolean { argument, test } => self.boolean_test(argument, *test),
            Expression::Case { operand, branches, otherwise, result } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), *result)
            }
            Expression::CaseOperand => match self.operands.last() {
                Some(operand) => operand.clone(),
                None => self.unknown("CASE", false),
            },
            Expression::Coalesce { arguments, result } => self.coalesce(arguments, *result),
            Expression::Extreme { is_least, collation, arguments } => {
                let arguments: Vec<_> = arguments.iter().map(|a| self.value(a)).collect();
                let (is_least, collation) = (*is_least, *collation);
                let operation = Operation::Extreme { is_least, collation };
                self.applied(operation, false, &arguments, is_boolean(expression))
            }
            Expression::Array { elements, has_dimensions: false, .. } => self.array(elements),
            Expression::Row { columns } => {
                let columns: Vec<_> = columns.iter().map(|a| self.value(a)).collect();
                self.applied(Operation::Row, false, &columns, false)
            }
            Expression::Relabel { argument, result } if !keeps_comparisons(argument, *result) => {
                let argument = self.value(argument);
                self.applied(
                    Operation::Conversion(*result),
                    true,
                    &[argument],
                    is_boolean(expression),
                )
            }
            Expression::Relabel { argument, .. }
            | Expression::Collate { argument, .. }
            | Expression::ToDomain { argument, .. } => self.meaning(argument),
            Expression::ArrayConversion { argument, result, .. } => {
                let argument = self.value(argument);
                self.applied(Operation::Conversion(*result), true, &[argument], false)
            }
            Expression::ThroughText { argument, result } => self.through_text(argument, *result),
            Expression::SqlValue(value) => Meaning::Value(self.sql_value(*value)),
            Expression::Subscript { container, subscripts, is_slice } => {
                let mut parts = vec![self.value(container)];
                parts.extend(subscripts.iter().map(|subscript| self.value(subscript)));
                self.applied(Operation::Subscript(*is_slice), false, &parts, false)
            }
            Expression::Field { argument, number } => {
                let argument = self.value(argument);
                self.applied(Operation::Field(*number), false, &[argument], false)
            }
            Expression::Subquery { link, test, query } => {
                self.subquery(*link, test.as_deref(), query)
            }
            Expression::Aggregate { function, arguments, .. } => {
                self.aggregate(*function, arguments, is_boolean(expression))
            }
            Expression::RowOrder { .. } => self.unknown("a comparison of rows", true),
            Expression::Array { .. } => self.unknown("an array of arrays", false),
            Expression::Unknown(name) => self.unknown(name, true),
        }
    }

    /// Returns what an expression is as a value of another type, by way of its text.
    fn through_text(&mut self, argument: &Expression, result: Oid) -> Meaning {
        let stored = argument;
        let argument = self.value(argument);
        self.note_conversion(stored, &argument, result);
        if let Value::Term(term) = argument
            && let Some(Constant::Text(text)) = self.terms.as_constant(term)
            && let Some(constant) = parsed(result, text)
        {
            return self.constant(constant);
        }
        let is_boolean = result == types::BOOL;
        let operation = Operation::Conversion(result);
        if !matches!(argument, Value::If(..)) || !self.fits(argument.size()) {
            return self.applied(operation, true, &[argument], is_boolean);
        }
        let value = argument.map(&mut |term| match term {
            // Where the conversion is an error, no row passes.
            Some(term) if !self.is_no_value(term, result) => match self.parsed(term, result) {
                Some(constant) => Value::Term(constant),
                None => self.combined(operation, true, &[Value::Term(term)], &mut Vec::new()),
            },
            _ => Value::Null,
        });
        if is_boolean { condition(self.holds(&value)) } else { Meaning::Value(value) }
    }

    /// Returns the constant of another type that a constant text is the text of.
    fn parsed(&mut self, term: TermId, result: Oid) -> Option<TermId> {
        let Constant::Text(text) = self.terms.as_constant(term)? else { return None };
        let constant = self.terms.constant(parsed(result, &text.clone())?);
        if self.found.fallbacks.contains(&term) {
            self.found.fallbacks.insert(constant);
        }
        Some(constant)
    }

    /// Whether a conversion of an empty text to a type is an error.
    fn is_no_value(&self, term: TermId, result: Oid) -> bool {
        self.terms.as_constant(term) == Some(&Constant::Text(String::new()))
            && types::WITHOUT_EMPTY.contains(&result)
    }

    fn constant(&mut self, of: Constant) -> Meaning {
        if let Constant::Boolean(value) = of {
            return condition(Formula::Constant(Some(value)));
        }
        Meaning::Value(Value::Term(self.terms.constant(of)))
    }

    fn parameter(&mut self, parameter: Parameter, is_boolean: bool) -> Meaning {
        let (known, number) = match parameter {
            Parameter::Argument(number) if self.arguments.is_empty() => {
                return self.own_argument(number, is_boolean);
            }
            Parameter::Argument(number) => (self.arguments.last(), number),
            Parameter::OfSubquery(number) => (self.compared.last(), number),
        };
        let of = known.and_then(|known| known.get(number.checked_sub(1)?)).cloned();
        of.unwrap_or_else(|| self.unknown("a parameter", is_boolean))
    }

    /// Returns what a column of a range table entry is.
    fn column(&mut self, column: Column) -> Meaning {
        let is_boolean = column.data_type == types::BOOL;
        let level = self.scopes.len().checked_sub(column.level + 1);
        let entry = level.and_then(|level| {
            self.scopes[level].entries.get(column.entry.checked_sub(1)?).cloned()
        });
        let index = usize::try_from(column.number).ok().and_then(|number| number.checked_sub(1));
        match entry {
            Some(Entry::Row { row, relation, nullable }) => {
                self.column_of_row(row, relation, nullable, column.number, is_boolean)
            }
            Some(Entry::Columns(columns)) => match index.and_then(|index| columns.get(index)) {
                Some(meaning) => meaning.clone(),
                // The whole row of a subquery.
                None => self.unknown("a row value", is_boolean),
            },
            Some(Entry::Expressions(expressions)) => {
                let Some(expression) = index.and_then(|index| expressions.get(index)) else {
                    return self.unknown("a row value", is_boolean);
                };
                // The expression is one of the query that the entry belongs to.
                let inner = self.scopes.split_off(self.scopes.len() - column.level);
                let meaning = self.meaning(expression);
                self.scopes.extend(inner);
                meaning
            }
            Some(Entry::Unknown) | None => self.unknown("", is_boolean),
        }
    }

    fn column_of_row(
        &mut self,
        row: Row,
        relation: Oid,
        nullable: bool,
        number: i16,
        is_boolean: bool,
    ) -> Meaning {
        if row == Row::CHECKED {
            self.columns.insert(number);
        }
        let facts = self.catalog.column(relation, number);
        let of_replaced = self.replaced.as_ref().filter(|(_, written)| {
            row == Row::CHECKED && (number <= 0 || written.contains(&number))
        });
        let row = of_replaced.map_or(row, |(replaced, _)| *replaced);
        if let Some(expression) = facts.as_ref().and_then(|facts| facts.generated.clone())
            && !nullable
        {
            // It is about the columns of its own row.
            let entries = vec![Entry::Row { row, relation, nullable }];
            self.scopes.push(super::Scope { entries, with: Rc::default() });
            let meaning = self.meaning(&expression);
            self.scopes.pop();
            return meaning;
        }
        // A row value of columns that are null is not null itself, but for IS NULL.
        let nullable = nullable || (number >= 0 && facts.is_none_or(|facts| facts.nullable));
        Self::of_term(self.terms.add(Term::Column { row, number, nullable }), is_boolean)
    }

    /// Returns what an operation makes of values.
    pub(super) fn applied(
        &mut self,
        operation: Operation,
        strict: bool,
        arguments: &[Value],
        is_boolean: bool,
    ) -> Meaning {
        let size = arguments.iter().map(Value::size).fold(1_usize, usize::saturating_mul);
        if !self.fits(size) {
            return self.unknown("", is_boolean);
        }
        let value = self.combined(operation, strict, arguments, &mut Vec::new());
        if is_boolean { condition(self.holds(&value)) } else { Meaning::Value(value) }
    }

    /// Returns what an operation makes of each combination of the terms of its arguments: those
    /// that are `chosen`, and each of the others.
    fn combined(
        &mut self,
        operation: Operation,
        strict: bool,
        others: &[Value],
        chosen: &mut Vec<TermId>,
    ) -> Value {
        let Some((next, others)) = others.split_first() else {
            if let Some(term) = self.part_of_session(operation, chosen) {
                return Value::Term(term);
            }
            let arguments = chosen.clone();
            let applied = Term::Applied { operation, strict, arguments };
            return Value::Term(self.terms.add(applied));
        };
        next.map(&mut |term| {
            if term.is_none() && strict {
                return Value::Null;
            }
            chosen.push(term.unwrap_or_else(|| self.terms.add(Term::Null)));
            let value = self.combined(operation, strict, others, chosen);
            chosen.pop();
            value
        })
    }

    fn array(&mut self, elements: &[Expression]) -> Meaning {
        let values: Vec<_> = elements.iter().map(|element| self.value(element)).collect();
        // An element that depends on a condition, or is null, makes the array one of which only its
        // parts are known.
        let terms = values.iter().map(|value| match value {
            Value::Term(term) => Some(*term),
            _ => None,
        });
        match terms.collect::<Option<Vec<_>>>() {
            Some(terms) => Meaning::Value(Value::Term(self.terms.add(Term::Array(terms)))),
            None => self.applied(Operation::Row, false, &values, false),
        }
    }

    fn logical(&mut self, logic: Logic, arguments: &[Expression]) -> Meaning {
        let parts: Vec<_> = arguments.iter().map(|part| self.condition(part)).collect();
        match logic {
            Logic::And => condition(all(parts)),
            Logic::Or => condition(any(parts)),
            Logic::Not => match parts.into_iter().next() {
                Some(part) => condition(not(Rc::unwrap_or_clone(part))),
                None => self.unknown("NOT", true),
            },
        }
    }

    /// Returns whether an argument is null, or with `negated` whether it is not. (Of a row value,
    /// the one is no negation of the other.)
    fn is_null(&mut self, argument: &Expression, of_row: bool, negated: bool) -> Formula {
        if of_row && let Expression::Row { columns } = argument {
            let parts = columns.iter().map(|column| self.is_null(column, false, negated));
            return all(parts.map(Rc::new).collect());
        }
        if of_row {
            let number = self.terms.fresh();
            self.unknown.insert("IS NULL of a row value".to_owned());
            return Formula::Holds(self.terms.add(Term::Unknown(number)));
        }
        let is_null = match self.meaning(argument) {
            Meaning::Condition(of) => match *of {
                Formula::Constant(value) => Formula::Constant(Some(value.is_none())),
                Formula::Holds(term) => Formula::IsNull(term),
                _ => Formula::IsUnknown(of),
            },
            Meaning::Value(value) => value.is_null(self.terms),
        };
        if negated { not(is_null) } else { is_null }
    }

    fn boolean_test(&mut self, argument: &Expression, test: BooleanTest) -> Meaning {
        let of = self.condition(argument);
        let (yes, no) = (Formula::TRUE, Formula::FALSE);
        let is_unknown = Rc::new(Formula::IsUnknown(Rc::clone(&of)));
        let is_false = || Rc::new(not((*of).clone()));
        condition(match test {
            BooleanTest::IsTrue => choice(&of, yes, no),
            BooleanTest::IsNotTrue => choice(&of, no, yes),
            BooleanTest::IsFalse => choice(&is_false(), yes, no),
            BooleanTest::IsNotFalse => choice(&is_false(), no, yes),
            BooleanTest::IsUnknown => choice(&is_unknown, yes, no),
            BooleanTest::IsNotUnknown => choice(&is_unknown, no, yes),
        })
    }

    /// Returns the constant that a value is.
    fn fallback(&self, meaning: &Meaning) -> Option<TermId> {
        match meaning {
            Meaning::Value(Value::Term(term)) => self.terms.as_constant(*term).map(|_| *term),
            _ => None,
        }
    }

    /// Whether a value can be one of the session, or is made of one.
    fn is_of_session(&self, meaning: &Meaning) -> bool {
        let Meaning::Value(value) = meaning else { return false };
        let mut is_of_session = false;
        value.condition(&mut |term| {
            is_of_session |= term.is_some_and(|term| self.has_identity(term));
            Formula::NULL
        });
        is_of_session
    }

    fn has_identity(&self, term: TermId) -> bool {
        match self.terms.get(term) {
            Term::Identity(_) => true,
            Term::Applied { arguments, .. } => arguments.iter().any(|of| self.has_identity(*of)),
            _ => false,
        }
    }

    fn coalesce(&mut self, arguments: &[Expression], result: Oid) -> Meaning {
        let Some((last, first)) = arguments.split_last() else {
            return self.unknown("COALESCE", result == types::BOOL);
        };
        let mut meaning = self.meaning(last);
        let last_value = self.fallback(&meaning);
        for argument in first.iter().rev() {
            let next = self.meaning(argument);
            if let Some(constant) = last_value
                && self.is_of_session(&next)
            {
                self.found.fallbacks.insert(constant);
            }
            let is_null = match &next {
                Meaning::Condition(of) => Formula::IsUnknown(Rc::clone(of)),
                Meaning::Value(value) => value.is_null(self.terms),
            };
            meaning = self.when(&Rc::new(not(is_null)), next, meaning);
        }
        meaning
    }

    fn case(
        &mut self,
        operand: Option<&Expression>,
        branches: &[Branch],
        otherwise: Option<&Expression>,
        result: Oid,
    ) -> Meaning {
        let operand = operand.map(|operand| self.meaning(operand));
        let mut meaning = match otherwise {
            Some(otherwise) => self.meaning(otherwise),
            None if result == types::BOOL => condition(Formula::NULL),
            None => Meaning::Value(Value::Null),
        };
        for branch in branches.iter().rev() {
            self.operands.extend(operand.clone());
            let is_chosen = self.condition(&branch.condition);
            self.operands.truncate(self.operands.len() - usize::from(operand.is_some()));
            let then = self.meaning(&branch.result);
            meaning = self.when(&is_chosen, then, meaning);
        }
        meaning
    }

    fn null_if(&mut self, operator: Oid, collation: Oid, arguments: &[Expression]) -> Meaning {
        let [first, second] = arguments else { return self.unknown("NULLIF", false) };
        if self.is_of_role() && !is_boolean(first) {
            let (first, second) = (self.value(first), self.value(second));
            if let Some(value) = self.unless_empty(&first, &second) {
                return Meaning::Value(value);
            }
        }
        let are_equal = self.comparison(operator, collation, first, second);
        let is_boolean = is_boolean(first);
        let Some(are_equal) = are_equal else {
            return self.unknown("an operator", is_boolean);
        };
        let (null, value) = (Meaning::Value(Value::Null), self.meaning(first));
        let meaning = self.when(&Rc::new(are_equal), null, value);
        if is_boolean {
            let value = self.as_value(meaning);
            return condition(self.holds(&value));
        }
        meaning
    }

    fn distinct(&mut self, operator: Oid, collation: Oid, arguments: &[Expression]) -> Meaning {
        let [first, second] = arguments else { return self.unknown("IS DISTINCT FROM", true) };
        let known = self.catalog.operator(operator).filter(|operator| {
            operator.is_built_in
                && (!self.compares_elements(operator) || arguments.iter().all(is_of_server))
        });
        if known.is_none_or(|known| known.comparison != Some(Comparison::Equal)) {
            return self.unknown("an operator", true);
        }
        if is_boolean(first) && is_boolean(second) {
            let (a, b) = (self.condition(first), self.condition(second));
            return condition(value::are_distinct(&a, &b));
        }
        let (a, b) = (self.value(first), self.value(second));
        if !self.fits(a.size().saturating_mul(b.size())) {
            return self.unknown("", true);
        }
        let terms = &*self.terms;
        let is_exact = self.catalog.is_deterministic(collation);
        let by = Membership { operator: 0, collation, shape: Shape::Element };
        condition(pairs(&a, &b, &mut |a, b| match (a, b) {
            (None, None) => Formula::FALSE,
            (Some(one), None) | (None, Some(one)) => not(Value::Term(one).is_null(terms)),
            (Some(a), Some(b)) if is_exact || a == b => Formula::Distinct(a, b),
            (Some(a), Some(b)) => {
                let is_null = |term| Rc::new(Formula::IsNull(term));
                let (a_null, b_null) = (is_null(a), is_null(b));
                let differ = choice(&b_null, Formula::TRUE, not(Formula::Member(by, a, b)));
                choice(&a_null, not((*b_null).clone()), differ)
            }
        }))
    }

    /// Returns the comparison of two expressions by a built-in operator for equality or order;
    /// `None` where the operator is another one.
    fn comparison(
        &mut self,
        operator: Oid,
        collation: Oid,
        first: &Expression,
        second: &Expression,
    ) -> Option<Formula> {
        let known = self.catalog.operator(operator).filter(|operator| operator.is_built_in)?;
        let comparison = known.comparison?;
        if self.compares_elements(&known) && !(is_of_server(first) && is_of_server(second)) {
            return None;
        }
        if is_boolean(first) && is_boolean(second) {
            let (a, b) = (self.condition(first), self.condition(second));
            return Some(value::compare_conditions(comparison, &a, &b));
        }
        let (a, b) = (self.value(first), self.value(second));
        self.compared(comparison, collation, &a, &b)
    }

    /// Whether a built-in operator compares the elements of arrays, rows or ranges, by the
    /// operators of their types.
    fn compares_elements(&self, operator: &Operator) -> bool {
        let function = self.catalog.function(operator.function);
        function.is_none_or(|function| {
            ["array", "record", "range", "multirange"]
                .iter()
                .any(|of| function.name.starts_with(of))
        })
    }

    fn compared(
        &mut self,
        comparison: Comparison,
        collation: Oid,
        a: &Value,
        b: &Value,
    ) -> Option<Formula> {
        if !self.fits(a.size().saturating_mul(b.size())) {
            return None;
        }
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        if !is_equality && collation != 0 && *self.order.get_or_insert(collation) != collation {
            // Each collation has an order of its own.
            return None;
        }
        if self.catalog.is_deterministic(collation) {
            let compared = compare(self.terms, comparison, a, b);
            return Some(self.with_counted_rows(compared));
        }
        // Texts that are equal may be different: an equality then says that they belong together,
        // and an order nothing.
        let is_negated = comparison == Comparison::NotEqual;
        if !is_negated && comparison != Comparison::Equal {
            return None;
        }
        let by = Membership { operator: 0, collation, shape: Shape::Element };
        let member = pairs(a, b, &mut |a, b| match (a, b) {
            (Some(a), Some(b)) if a == b => Formula::Compare(Comparison::Equal, a, b),
            (Some(a), Some(b)) => Formula::Member(by, a, b),
            _ => Formula::NULL,
        });
        Some(if is_negated { not(member) } else { member })
    }

    /// Adds to a comparison of a count that zero does not satisfy that there is a row.
    fn with_counted_rows(&self, compared: Formula) -> Formula {
        let Formula::Compare(comparison, a, b) = compared else { return compared };
        let (count, comparison, other) = match (self.terms.get(a), self.terms.get(b)) {
            (Term::Count(_), Term::Constant(other)) => (a, comparison, other),
            (Term::Constant(other), Term::Count(_)) => (b, comparison.swapped(), other),
            _ => return compared,
        };
        let (Constant::Integer(other), Some((condition, reads))) = (other, self.counts.get(&count))
        else {
            return compared;
        };
        let Term::Count(number) = *self.terms.get(count) else { return compared };
        if comparison.holds(0.cmp(other)) {
            return compared;
        }
        let queries = vec![(Rc::clone(condition), *reads)];
        all(vec![Rc::new(compared), Rc::new(Formula::Exists(Exists { number, queries }))])
    }

    fn operator(
        &mut self,
        whole: &Expression,
        operator: Oid,
        collation: Oid,
        arguments: &[Expression],
    ) -> Meaning {
        let known = self.catalog.operator(operator);
        if let ([first, second], Some(known)) = (arguments, &known)
            && known.is_of_extension
            && known.is_equality
            && let Some(formula) = self.weak_equality((operator, collation), first, second)
        {
            return condition(formula);
        }
        if let ([first, second], Some(known)) = (arguments, &known)
            && (known.is_built_in || known.is_of_extension)
        {
            if known.is_built_in
                && known.comparison.is_some()
                && let Some(formula) = self.comparison(operator, collation, first, second)
            {
                return condition(formula);
            }
            if known.is_built_in
                && let Some(formula) = self.pattern(known, first, second)
            {
                return condition(formula);
            }
            if known.is_built_in
                && self.is_of_role()
                && matches!(known.name.as_str(), "~" | "~~" | "^@")
            {
                let (value, pattern) = (self.value(first), self.value(second));
                if let Some(formula) =
                    self.begins_with_user((&known.name, operator), &value, &pattern)
                {
                    return condition(formula);
                }
            }
            if matches!(known.name.as_str(), "?" | "@>" | "<@" | "&&")
                && is_boolean(whole)
                && is_of_server(first)
                && is_of_server(second)
            {
                let (a, b) = (self.value(first), self.value(second));
                if self.fits(a.size().saturating_mul(b.size())) {
                    let shape = match known.name.as_str() {
                        "?" => Shape::Key,
                        "@>" => Shape::Contains,
                        "<@" => Shape::Contained,
                        _ => Shape::Overlap,
                    };
                    let by = Membership { operator, collation, shape };
                    return condition(pairs(&a, &b, &mut |a, b| match (a, b) {
                        (Some(a), Some(b)) if a == b && self.has_no_nulls(a) => Formula::TRUE,
                        // Everything contains what has no keys and no elements.
                        (Some(a), Some(b)) if shape == Shape::Contains && self.is_empty(b) => {
                            unless_null(a)
                        }
                        (Some(a), Some(b)) if shape == Shape::Contained && self.is_empty(a) => {
                            unless_null(b)
                        }
                        (Some(a), Some(b))
                            if shape == Shape::Overlap
                                && (self.is_empty(a) || self.is_empty(b)) =>
                        {
                            let both = vec![Rc::new(unless_null(a)), Rc::new(unless_null(b))];
                            not(all(both))
                        }
                        (Some(a), Some(b)) => Formula::Member(by, self.asked_claim(shape, a, b), b),
                        _ => Formula::NULL,
                    }));
                }
            }
        }
        if known.as_ref().is_some_and(|known| known.is_built_in && self.compares_elements(known))
            && !arguments.iter().all(is_of_server)
        {
            return self.unknown("an operator of elements", is_boolean(whole));
        }
        let values: Vec<_> = arguments.iter().map(|argument| self.value(argument)).collect();
        match known {
            Some(known) if !known.is_volatile => {
                if known.is_of_extension {
                    self.unknown.insert(format!("operator {}", known.name));
                } else if !known.is_built_in {
                    self.note_operator(known.function, &known.name);
                }
                let operation = Operation::Function(known.function, collation);
                self.applied(operation, known.is_strict, &values, is_boolean(whole))
            }
            known => {
                self.note_operator_call(known.as_ref());
                self.unknown("an operator", is_boolean(whole))
            }
        }
    }

    /// Returns an equality that may call different values equal, so that it says only that they
    /// belong together.
    fn weak_equality(
        &mut self,
        (operator, collation): (Oid, Oid),
        first: &Expression,
        second: &Expression,
    ) -> Option<Formula> {
        let (a, b) = (self.value(first), self.value(second));
        let by = Membership { operator, collation, shape: Shape::Element };
        self.fits(a.size().saturating_mul(b.size())).then(|| {
            pairs(&a, &b, &mut |a, b| match (a, b) {
                (Some(a), Some(b)) if a == b => Formula::Compare(Comparison::Equal, a, b),
                (Some(a), Some(b)) => Formula::Member(by, a, b),
                _ => Formula::NULL,
            })
        })
    }

    /// Whether a term is a document or an array without keys or elements. Of a document, there is
    /// nothing behind the headers of the value and of the document.
    fn is_empty(&self, term: TermId) -> bool {
        match self.terms.get(term) {
            Term::Constant(Constant::Other(types::JSONB, bytes)) => bytes.len() <= 8,
            Term::Constant(Constant::Other(data_type, bytes)) => {
                elements(*data_type, bytes).is_some_and(|elements| elements.is_empty())
            }
            Term::Array(elements) => elements.is_empty(),
            _ => false,
        }
    }

    /// Whether a term is an array whose elements are never null.
    fn has_no_nulls(&self, term: TermId) -> bool {
        let is_value = |element: &TermId| {
            matches!(
                self.terms.get(*element),
                Term::Constant(_) | Term::Column { nullable: false, .. }
            )
        };
        matches!(self.terms.get(term), Term::Array(elements) if elements.iter().all(is_value))
    }

    /// Returns what LIKE with a pattern is that every text matches.
    fn pattern(
        &mut self,
        operator: &Operator,
        first: &Expression,
        second: &Expression,
    ) -> Option<Formula> {
        let is_negated = match operator.name.as_str() {
            "~~" | "~~*" => false,
            "!~~" | "!~~*" => true,
            _ => return None,
        };
        let Expression::Constant(pattern) = second else { return None };
        match constant(pattern.data_type, pattern.value.as_ref()?) {
            Constant::Text(text) if !text.is_empty() && text.bytes().all(|b| b == b'%') => {}
            _ => return None,
        }
        let value = self.value(first);
        let matches = compare(self.terms, Comparison::Equal, &value, &value);
        Some(if is_negated { not(matches) } else { matches })
    }

    /// Returns `a operator ANY (array)`, or ALL.
    fn any_or_all(
        &mut self,
        operator: Oid,
        collation: Oid,
        is_any: bool,
        arguments: &[Expression],
    ) -> Meaning {
        let known = self.catalog.operator(operator).filter(|operator| {
            operator.is_built_in
                && (!self.compares_elements(operator) || arguments.iter().all(is_of_server))
        });
        let (Some(comparison), [first, array]) = (known.and_then(|o| o.comparison), arguments)
        else {
            return self.unknown("an operator", true);
        };
        if let Expression::Subquery { link: Link::Array, query, .. } = array {
            let (a, selected) = (self.value(first), self.select_inside(query));
            return condition(self.each_row(is_any, &selected, &mut |reader, columns| {
                let column = columns.first().cloned();
                let b = column.map_or(Value::Null, |column| reader.as_value(column));
                let compared = reader.compared(comparison, collation, &a, &b);
                let mut unknown = || {
                    let number = reader.terms.fresh();
                    Formula::Holds(reader.terms.add(Term::Unknown(number)))
                };
                Rc::new(compared.unwrap_or_else(&mut unknown))
            }));
        }
        if let Some(parts) = self.with_each(operator, collation, comparison, first, array) {
            let parts = parts.into_iter().map(Rc::new).collect();
            return condition(if is_any { any(parts) } else { all(parts) });
        }
        let is_member = match (comparison, is_any) {
            (Comparison::Equal, true) => true,
            (Comparison::NotEqual, false) => false,
            _ => return self.unknown("a comparison with an array", true),
        };
        let (a, array) = (self.value(first), self.value(array));
        if !self.fits(a.size().saturating_mul(array.size())) {
            return self.unknown("", true);
        }
        // Null is compared with no element where the array is empty: the result is not null then.
        let number = self.terms.fresh();
        let is_not_empty = Formula::Holds(self.terms.add(Term::Unknown(number)));
        let by = Membership { operator, collation, shape: Shape::Element };
        let member = pairs(&a, &array, &mut |a, b| match (a, b) {
            (Some(a), Some(b)) => Formula::Member(by, a, b),
            (None, Some(_)) => all(vec![Rc::new(is_not_empty.clone()), Rc::new(Formula::NULL)]),
            _ => Formula::NULL,
        });
        condition(if is_member { member } else { not(member) })
    }

    /// Returns the comparisons with the elements of an array; `None` where they are not known.
    fn with_each(
        &mut self,
        operator: Oid,
        collation: Oid,
        comparison: Comparison,
        first: &Expression,
        array: &Expression,
    ) -> Option<Vec<Formula>> {
        match array {
            Expression::Array { elements, has_dimensions: false, .. } => elements
                .iter()
                .map(|element| self.comparison(operator, collation, first, element))
                .collect(),
            Expression::Constant(of) => {
                let elements = elements(of.data_type, of.value.as_ref()?)?;
                let a = self.value(first);
                let each = elements.into_iter().map(|element| {
                    let element = match element {
                        Some(constant) => Value::Term(self.terms.constant(constant)),
                        None => Value::Null,
                    };
                    self.compared(comparison, collation, &a, &element)
                });
                each.collect()
            }
            // The elements of an array of varchar as text.
            Expression::ArrayConversion { argument, is_label: true, .. } => {
                let Expression::Array { elements, .. } = &**argument else { return None };
                let are_texts = elements.iter().all(|e| keeps_comparisons(e, types::TEXT));
                are_texts
                    .then(|| self.with_each(operator, collation, comparison, first, argument))?
            }
            _ => None,
        }
    }
}

/// Returns what is true, or null where a term is null.
fn unless_null(term: TermId) -> Formula {
    let is_null = Rc::new(Formula::IsNull(term));
    choice(&is_null, Formula::NULL, Formula::TRUE)
}

/// Returns AND of conditions.
pub fn all(parts: Vec<Rc<Formula>>) -> Formula {
    joined(parts, &Formula::TRUE, &Formula::FALSE, Formula::All)
}

/// Returns OR of conditions.
pub fn any(parts: Vec<Rc<Formula>>) -> Formula {
    joined(parts, &Formula::FALSE, &Formula::TRUE, Formula::Any)
}

fn joined(
    mut parts: Vec<Rc<Formula>>,
    neutral: &Formula,
    decides: &Formula,
    join: fn(Vec<Rc<Formula>>) -> Formula,
) -> Formula {
    if parts.iter().any(|part| **part == *decides) {
        return decides.clone();
    }
    parts.retain(|part| **part != *neutral);
    match parts.len() {
        0 => neutral.clone(),
        1 => parts.pop().map_or_else(|| neutral.clone(), Rc::unwrap_or_clone),
        _ => join(parts),
    }
}

fn condition(formula: Formula) -> Meaning {
    Meaning::Condition(Rc::new(formula))
}
