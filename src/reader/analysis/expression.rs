//! Expressions.

use super::Analyzer;
use super::catalog::{name_of, parts_of};
use super::scope::Scope;
use crate::types;
use dragonfly_core::catalog::Oid;
use dragonfly_core::stored::{
    BooleanTest, Branch, Column, Constant, Expression, Link, Logic, Parameter, SqlValue,
};
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    InTarget, UnaryOperator, Value,
};

const BOOL: Oid = 16;

/// An expression with its type.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub expression: Expression,
    pub data_type: Oid,
    pub collation: Oid,
    /// The text of a literal that has no type of its own.
    pub literal: Option<String>,
}

impl Typed {
    fn literal(text: &str) -> Self {
        // The type unknown has the default collation, as text.
        let constant = Constant { data_type: types::UNKNOWN, value: None };
        Self {
            expression: Expression::Constant(constant),
            data_type: types::UNKNOWN,
            collation: 100,
            literal: Some(text.to_owned()),
        }
    }

    fn boolean(expression: Expression) -> Self {
        Self { expression, data_type: BOOL, collation: 0, literal: None }
    }

    fn null() -> Self {
        Self { literal: None, ..Self::literal("") }
    }

    /// Whether it is NULL without a type.
    pub(super) fn is_null(&self) -> bool {
        self.data_type == types::UNKNOWN && self.literal.is_none()
    }

    /// Whether what it is used for decides about its type.
    pub(super) fn is_literal(&self) -> bool {
        self.data_type == types::UNKNOWN
    }
}

impl Analyzer<'_> {
    /// Returns a condition.
    pub(super) fn condition(&self, expression: &Expr, scope: &Scope<'_>) -> Option<Expression> {
        let value = self.expression(expression, scope)?;
        (value.data_type == BOOL || value.is_literal())
            .then(|| self.converted(value, BOOL, false))
            .flatten()
    }

    pub(super) fn expression(&self, expression: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        let condition = |of: &Expr| self.condition(of, scope);
        let value = |of: &Expr| self.expression(of, scope);
        match expression {
            Expr::Nested(inner) => value(inner),
            Expr::Identifier(ident) => {
                let name = [name_of(ident)?];
                // These are keywords.
                let keyword = ident.quote_style.is_none().then(|| self.value_of_session(&name));
                keyword.flatten().or_else(|| self.column(&name, scope))
            }
            Expr::CompoundIdentifier(parts) => {
                let parts: Vec<String> = parts.iter().map(name_of).collect::<Option<_>>()?;
                self.column(&parts, scope)
            }
            Expr::Value(of) => self.constant(&of.value),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                Some(logical(Logic::And, condition(left)?, condition(right)?))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                Some(logical(Logic::Or, condition(left)?, condition(right)?))
            }
            // Comparisons cannot be chained.
            Expr::BinaryOp { left, op, right }
                if is_comparison(op) && [left, right].iter().any(|of| is_compared(of)) =>
            {
                None
            }
            Expr::BinaryOp { left, op, right } => {
                self.operation(&symbol(op)?, value(left)?, value(right)?)
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let arguments = vec![condition(expr)?];
                Some(Typed::boolean(Expression::Logical { logic: Logic::Not, arguments }))
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match &**expr {
                Expr::Value(of) => match &of.value {
                    Value::Number(digits, false) => self.number(&format!("-{digits}")),
                    _ => None,
                },
                _ => None,
            },
            Expr::Between { expr, negated: false, low, high } => {
                let low = self.operation(">=", value(expr)?, value(low)?)?;
                let high = self.operation("<=", value(expr)?, value(high)?)?;
                Some(Typed::boolean(Expression::Logical {
                    logic: Logic::And,
                    arguments: vec![low.expression, high.expression],
                }))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                let symbol = if *negated { "!~~" } else { "~~" };
                self.operation(symbol, value(expr)?, value(pattern)?)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                let symbol = if *negated { "!~~*" } else { "~~*" };
                self.operation(symbol, value(expr)?, value(pattern)?)
            }
            Expr::Cast { expr, data_type, .. } => {
                let to = self.names.data_type(data_type)?;
                let value = value(expr)?;
                let collation = if value.is_literal() { 0 } else { value.collation };
                let expression = self.converted(value, to, true)?;
                self.typed(expression, to, collation)
            }
            Expr::In { expr, target: InTarget::List(list), negated, .. } => {
                self.in_list(value(expr)?, list, *negated, scope)
            }
            Expr::AnyOp { left, compare_op, right, .. } => match &**right {
                Expr::Subquery(subquery) => {
                    let (query, columns) = self.query(subquery, Some(scope))?;
                    let symbol = symbol(compare_op)?;
                    Some(Typed::boolean(self.any(
                        Link::Any,
                        value(left)?,
                        &symbol,
                        query,
                        &columns,
                    )?))
                }
                array => self.any_of_array(value(left)?, &symbol(compare_op)?, value(array)?),
            },
            Expr::Function(function) => self.function(function, scope),
            Expr::Trim { expr, trim_where: None, trim_what: None, trim_characters: None } => {
                let trim = ["pg_catalog".to_owned(), "btrim".to_owned()];
                Some(self.call(&trim, vec![value(expr)?])?.0)
            }
            Expr::Case { operand: None, conditions, else_result, .. } => {
                self.case(conditions, else_result.as_deref(), scope)
            }
            other => self.tested(other, scope).or_else(|| self.of_subquery(other, scope)),
        }
    }

    /// Returns an expression with a subquery.
    fn of_subquery(&self, expression: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        match expression {
            Expr::Exists { subquery, negated } => {
                let (query, _) = self.query(subquery, Some(scope))?;
                let exists =
                    Expression::Subquery { link: Link::Exists, test: None, query: Box::new(query) };
                Some(with_not(exists, *negated))
            }
            Expr::Subquery(subquery) => {
                let (query, columns) = self.query(subquery, Some(scope))?;
                let [column] = &columns[..] else { return None };
                let expression =
                    Expression::Subquery { link: Link::Scalar, test: None, query: Box::new(query) };
                Some(Typed { expression, ..column.clone() })
            }
            Expr::In { expr, target: InTarget::Subquery(subquery), negated, .. } => {
                let (query, columns) = self.query(subquery, Some(scope))?;
                let link =
                    self.any(Link::Any, self.expression(expr, scope)?, "=", query, &columns)?;
                Some(with_not(link, *negated))
            }
            _ => None,
        }
    }

    /// Returns a test of a value: IS NULL and its like.
    fn tested(&self, expression: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        let condition = |of: &Expr| self.condition(of, scope);
        let value = |of: &Expr| self.expression(of, scope);
        match expression {
            Expr::IsNull(inner) => self.null_test(value(inner)?, false),
            Expr::IsNotNull(inner) => self.null_test(value(inner)?, true),
            Expr::IsTrue(inner) => Some(truth(condition(inner)?, BooleanTest::IsTrue)),
            Expr::IsNotTrue(inner) => Some(truth(condition(inner)?, BooleanTest::IsNotTrue)),
            Expr::IsFalse(inner) => Some(truth(condition(inner)?, BooleanTest::IsFalse)),
            Expr::IsNotFalse(inner) => Some(truth(condition(inner)?, BooleanTest::IsNotFalse)),
            _ => None,
        }
    }

    fn constant(&self, value: &Value) -> Option<Typed> {
        match value {
            Value::Boolean(value) => {
                let text = if *value { "t" } else { "f" };
                let literal = Typed::literal(text);
                Some(Typed::boolean(self.converted(literal, BOOL, true)?))
            }
            Value::Null => Some(Typed::null()),
            Value::SingleQuotedString(text) => Some(Typed::literal(text)),
            Value::Number(digits, false) => self.number(digits),
            Value::Placeholder(name) => {
                let number: usize = name.strip_prefix('$')?.parse().ok()?;
                self.parameter(number)
            }
            _ => None,
        }
    }

    fn number(&self, digits: &str) -> Option<Typed> {
        let data_type = if digits.parse::<i32>().is_ok() {
            23
        } else if digits.parse::<i64>().is_ok() {
            20
        } else {
            return None;
        };
        let expression = self.converted(Typed::literal(digits), data_type, true)?;
        Some(Typed { expression, data_type, collation: 0, literal: None })
    }

    fn parameter(&self, number: usize) -> Option<Typed> {
        let (_, data_type) = *self.routine.arguments.get(number.checked_sub(1)?)?;
        let parameter = Parameter::Argument(number);
        self.typed(Expression::Parameter { parameter, data_type }, data_type, 0)
    }

    fn named_parameter(&self, name: &str) -> Option<Typed> {
        let mut named = self.routine.arguments.iter();
        let place = named.position(|(of, _)| !of.is_empty() && of == name)?;
        self.parameter(place + 1)
    }

    /// Returns the column or the parameter of a name.
    fn column(&self, parts: &[String], scope: &Scope<'_>) -> Option<Typed> {
        let (table, name) = match parts {
            [name] => (None, name),
            [table, name] => (Some(table), name),
            _ => return None,
        };
        let (mut at, mut level) = (Some(scope), 0);
        while let Some(scope) = at {
            let mut found = Vec::new();
            for of in scope.tables.iter().filter(|of| table.is_none_or(|t| of.name == *t)) {
                let columns = of.columns.iter().filter(|column| column.name == *name);
                found.extend(columns.map(|column| (of.entry, column)));
                // A table may have columns that the server adds to each.
                if SYSTEM_COLUMNS.contains(&name.as_str()) {
                    return None;
                }
            }
            // The name of a table stands for its row.
            if table.is_none() && scope.tables.iter().any(|of| of.name == *name) {
                return None;
            }
            match found[..] {
                [] => {}
                [(entry, column)] => {
                    let of =
                        Column { entry, number: column.number, level, data_type: column.data_type };
                    return Some(Typed {
                        expression: Expression::Column(of),
                        data_type: column.data_type,
                        collation: column.collation,
                        literal: None,
                    });
                }
                _ => return None,
            }
            (at, level) = (scope.outer, level + 1);
        }
        match table {
            None => self.named_parameter(name),
            Some(table) if *table == self.routine.name => self.named_parameter(name),
            Some(_) => None,
        }
    }

    fn null_test(&self, value: Typed, negated: bool) -> Option<Typed> {
        if value.is_literal() || !self.are_plain(&[value.data_type]) {
            return None;
        }
        let argument = Box::new(value.expression);
        Some(Typed::boolean(Expression::IsNull { argument, negated, of_row: false }))
    }

    /// Returns the comparison of a value with what a subquery returns.
    fn any(
        &self,
        link: Link,
        left: Typed,
        symbol: &str,
        query: dragonfly_core::stored::Query,
        columns: &[Typed],
    ) -> Option<Expression> {
        let [column] = columns else { return None };
        let parameter = Expression::Parameter {
            parameter: Parameter::OfSubquery(1),
            data_type: column.data_type,
        };
        let right = Typed { expression: parameter, ..column.clone() };
        let test = self.operation(symbol, left, right)?;
        Some(Expression::Subquery {
            link,
            test: Some(Box::new(test.expression)),
            query: Box::new(query),
        })
    }

    /// Returns `value IN (a, b)`: as the server stores it where all are constants or parameters.
    fn in_list(
        &self,
        value: Typed,
        list: &[Expr],
        negated: bool,
        scope: &Scope<'_>,
    ) -> Option<Typed> {
        let symbol = if negated { "<>" } else { "=" };
        let elements: Vec<Typed> =
            list.iter().map(|of| self.expression(of, scope)).collect::<Option<_>>()?;
        if let [one] = &elements[..] {
            return self.operation(symbol, value, one.clone());
        }
        // Elements with columns are compared one by one.
        let is_plain = |of: &Typed| {
            let is_constant =
                matches!(of.expression, Expression::Constant(_) | Expression::Parameter { .. });
            of.is_literal() || is_constant && of.data_type == value.data_type
        };
        if value.is_literal() || !elements.iter().all(is_plain) {
            return None;
        }
        let are_literals = elements.iter().all(Typed::is_literal);
        let (element, argument) = if value.data_type == types::VARCHAR {
            if !are_literals {
                return None;
            }
            let relabeled = self.converted(value.clone(), types::TEXT, false)?;
            (types::TEXT, Typed { expression: relabeled, data_type: types::TEXT, ..value })
        } else {
            (value.data_type, value)
        };
        let other = self.typed(argument.expression.clone(), element, argument.collation)?;
        let operator = self.operator(symbol, &argument, &other)?;
        if (operator.left, operator.right) != (element, element) {
            return None;
        }
        let converted = elements.into_iter().map(|of| self.converted(of, element, false));
        let array = Expression::Array {
            elements: converted.collect::<Option<_>>()?,
            element,
            has_dimensions: false,
        };
        Some(Typed::boolean(Expression::AnyOrAll {
            operator: operator.oid,
            collation: argument.collation,
            any: !negated,
            arguments: vec![argument.expression, array],
        }))
    }

    /// Returns `value operator ANY (array)`.
    fn any_of_array(&self, value: Typed, symbol: &str, array: Typed) -> Option<Typed> {
        if value.is_literal() || array.is_literal() {
            return None;
        }
        let element = self.names.of_type(array.data_type, "typelem", |row, of| row.oid(of));
        let element = element.filter(|element| *element != 0)?;
        if self.category(array.data_type) != Some(b'A') || element != value.data_type {
            return None;
        }
        let other = Typed { data_type: element, ..array.clone() };
        let operator = self.operator(symbol, &value, &other)?;
        if (operator.left, operator.right) != (element, element) {
            return None;
        }
        Some(Typed::boolean(Expression::AnyOrAll {
            operator: operator.oid,
            collation: self.collation(&[&value, &other], &[element, element])?,
            any: true,
            arguments: vec![value.expression, array.expression],
        }))
    }

    fn case(
        &self,
        branches: &[CaseWhen],
        otherwise: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Option<Typed> {
        let mut conditions = Vec::new();
        let mut results = Vec::new();
        for branch in branches {
            conditions.push(self.condition(&branch.condition, scope)?);
            results.push(self.expression(&branch.result, scope)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expression(otherwise, scope)?,
            None => Typed::null(),
        });
        let (mut results, result, collation) = self.common(results)?;
        let otherwise = results.pop()?;
        let branches = conditions
            .into_iter()
            .zip(results)
            .map(|(condition, result)| Branch { condition, result })
            .collect();
        let otherwise = Some(Box::new(otherwise));
        let case = Expression::Case { operand: None, branches, otherwise, result };
        self.typed(case, result, collation)
    }

    /// Returns values as those of one type, with that type and their collation
    /// (`select_common_type`): of one that all have, literals excepted.
    fn common(&self, values: Vec<Typed>) -> Option<(Vec<Expression>, Oid, Oid)> {
        let mut known = values.iter().filter(|of| !of.is_literal()).map(|of| of.data_type);
        let result = known.next().unwrap_or(types::TEXT);
        if known.any(|other| other != result) {
            return None;
        }
        let of_all: Vec<&Typed> = values.iter().collect();
        let collation = self.collation(&of_all, &vec![result; values.len()])?;
        let values = values.into_iter().map(|of| self.converted(of, result, false));
        Some((values.collect::<Option<_>>()?, result, collation))
    }

    fn function(&self, function: &Function, scope: &Scope<'_>) -> Option<Typed> {
        let parts = parts_of(&function.name)?;
        let is_plain = !function.uses_odbc_syntax
            && matches!(function.parameters, FunctionArguments::None)
            && function.within_group.is_empty()
            && function.filter.is_none()
            && function.null_treatment.is_none()
            && function.over.is_none();
        if !is_plain {
            return None;
        }
        let list = match &function.args {
            FunctionArguments::None => return self.value_of_session(&parts),
            FunctionArguments::List(list)
                if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
            {
                list
            }
            _ => return None,
        };
        if let ([name], [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) =
            (&parts[..], &list.args[..])
            && name == "count"
        {
            let (count, kind) = self.call(&parts, Vec::new())?;
            scope.has_aggregates.set(true);
            return (kind == b'a').then_some(count);
        }
        let mut arguments = Vec::new();
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(of)) => {
                    arguments.push(self.expression(of, scope)?);
                }
                _ => return None,
            }
        }
        if let [name] = &parts[..] {
            match (name.as_str(), arguments.len()) {
                ("coalesce", 1..) => {
                    let (arguments, result, collation) = self.common(arguments)?;
                    let coalesce = Expression::Coalesce { arguments, result };
                    return self.typed(coalesce, result, collation);
                }
                ("nullif", 2) => return self.null_if(arguments),
                ("coalesce" | "nullif" | "greatest" | "least" | "row" | "grouping", _) => {
                    return None;
                }
                _ => {}
            }
        }
        let is_own_column =
            |of: &Typed| matches!(&of.expression, Expression::Column(column) if column.level == 0);
        let is_of_rows = !arguments.is_empty() && arguments.iter().all(is_own_column);
        let (call, kind) = self.call(&parts, arguments)?;
        match call.expression {
            Expression::Call { returns_set: true, .. } => scope.has_sets.set(true),
            // An aggregate makes another query of the one whose columns are its arguments.
            Expression::Aggregate { .. } if is_of_rows => scope.has_aggregates.set(true),
            _ if kind != b'f' => return None,
            _ => {}
        }
        Some(call)
    }

    fn null_if(&self, mut arguments: Vec<Typed>) -> Option<Typed> {
        let (right, left) = (arguments.pop()?, arguments.pop()?);
        let operator = self.operator("=", &left, &right)?;
        let collation = self.collation(&[&left, &right], &[operator.left, operator.right])?;
        // The result has the type of the first argument, as the operator takes it.
        let left = self.converted(left, operator.left, false)?;
        let right = self.converted(right, operator.right, false)?;
        let arguments = vec![left, right];
        let null_if = Expression::NullIf { operator: operator.oid, collation, arguments };
        self.typed(null_if, operator.left, collation)
    }

    /// Returns what is written like a function without parentheses.
    fn value_of_session(&self, parts: &[String]) -> Option<Typed> {
        let [name] = parts else { return None };
        let value = match name.as_str() {
            "current_user" | "current_role" | "user" => SqlValue::CurrentUser,
            "session_user" => SqlValue::SessionUser,
            "current_catalog" => SqlValue::Database,
            "current_schema" => SqlValue::Schema,
            _ => return None,
        };
        self.typed(Expression::SqlValue(value), types::NAME, 0)
    }
}

/// The columns that the server adds to each table.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

fn is_comparison(operator: &BinaryOperator) -> bool {
    matches!(
        operator,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

fn is_compared(expression: &Expr) -> bool {
    matches!(expression, Expr::BinaryOp { op, .. } if is_comparison(op))
}

/// Returns the symbol of an operator.
fn symbol(operator: &BinaryOperator) -> Option<String> {
    match operator {
        BinaryOperator::PGCustomBinaryOperator(_) | BinaryOperator::Xor => None,
        other => Some(other.to_string()),
    }
}

fn logical(logic: Logic, left: Expression, right: Expression) -> Typed {
    let arguments = match left {
        Expression::Logical { logic: of_left, mut arguments } if of_left == logic => {
            arguments.push(right);
            arguments
        }
        left => vec![left, right],
    };
    Typed::boolean(Expression::Logical { logic, arguments })
}

fn with_not(expression: Expression, is_negated: bool) -> Typed {
    if !is_negated {
        return Typed::boolean(expression);
    }
    Typed::boolean(Expression::Logical { logic: Logic::Not, arguments: vec![expression] })
}

fn truth(argument: Expression, test: BooleanTest) -> Typed {
    Typed::boolean(Expression::IsBoolean { argument: Box::new(argument), test })
}
