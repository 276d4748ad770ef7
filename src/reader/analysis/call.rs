//! Which function or operator a call means (parse_func.c, parse_oper.c).

use super::Analyzer;
use super::catalog::{Function, Operator};
use super::expression::Typed;
use crate::types;
use dragonfly_core::catalog::Oid;
use dragonfly_core::stored::Expression;

/// The collation of expressions without another one (pg_collation.dat).
const DEFAULT: Oid = 100;

impl Analyzer<'_> {
    /// Returns how many arguments a function has.
    pub(super) fn argument_count(&self, function: Oid) -> Option<usize> {
        let by = crate::oids::PROC_BY_OID;
        crate::source::of_row(self.state, by, function, "pronargs", |row, count| {
            row.int(count) as usize
        })
    }

    /// Returns the operator between two values.
    pub(super) fn operator(&self, symbol: &str, left: &Typed, right: &Typed) -> Option<Operator> {
        let all = self.names.operators(symbol);
        let exact = |l: Oid, r: Oid| all.iter().find(|of| (of.left, of.right) == (l, r)).copied();
        // A literal is taken for a value of the other type first.
        let (l, r) = match (left.is_literal(), right.is_literal()) {
            (true, false) => (right.data_type, right.data_type),
            (false, true) => (left.data_type, left.data_type),
            (false, false) => (left.data_type, right.data_type),
            (true, true) => return None,
        };
        if l == r && self.is_enumeration(l) {
            // One operator is for all enumerations; its operands keep their type.
            let operator = exact(types::ANYENUM, types::ANYENUM)?;
            return Some(Operator { left: l, right: r, ..operator });
        }
        // A varchar is a text to operators, which have none of their own for it.
        exact(l, r).or_else(|| exact(as_text(l), as_text(r))).or_else(|| {
            let signatures: Vec<Vec<Oid>> = all.iter().map(|of| vec![of.left, of.right]).collect();
            self.chosen(&signatures, &[left, right]).map(|place| all[place])
        })
    }

    /// Returns a call of an operator.
    pub(super) fn operation(&self, symbol: &str, left: Typed, right: Typed) -> Option<Typed> {
        let operator = self.operator(symbol, &left, &right)?;
        let to = [operator.left, operator.right];
        let collation = self.collation(&[&left, &right], &to)?;
        let arguments = vec![
            self.converted(left, operator.left, false)?,
            self.converted(right, operator.right, false)?,
        ];
        let expression = Expression::Operator {
            operator: operator.oid,
            result: operator.result,
            collation,
            arguments,
        };
        self.typed(expression, operator.result, collation)
    }

    /// Returns the collation that a call of a function or an operator has with some arguments as
    /// values of some types, 0 where none has one; `None` where they differ.
    pub(super) fn collation(&self, arguments: &[&Typed], to: &[Oid]) -> Option<Oid> {
        let mut found = 0;
        for (argument, to) in arguments.iter().zip(to) {
            let of_type = self.names.of_type(*to, "typcollation", |row, of| row.oid(of))?;
            let of_argument = match (of_type, argument.is_literal()) {
                (0, _) => 0,
                (of_type, true) => of_type,
                (_, false) => argument.collation,
            };
            found = match (found, of_argument) {
                (found, 0) => found,
                (0 | DEFAULT, other) => other,
                (found, other) if found == other || other == DEFAULT => found,
                _ => return None,
            };
        }
        Some(found)
    }

    /// Returns an expression with its type, and its collation where the type has one.
    pub(super) fn typed(
        &self,
        expression: Expression,
        data_type: Oid,
        collation: Oid,
    ) -> Option<Typed> {
        let of_type = self.names.of_type(data_type, "typcollation", |row, of| row.oid(of))?;
        let collation = match (of_type, collation) {
            (0, _) => 0,
            (of_type, 0) => of_type,
            (_, collation) => collation,
        };
        Some(Typed { expression, data_type, collation, literal: None })
    }

    /// Returns a call of a function or an aggregate.
    pub(super) fn call(&self, parts: &[String], arguments: Vec<Typed>) -> Option<(Typed, u8)> {
        let count = arguments.len();
        let fits = |of: &Function| {
            count <= of.arguments.len() && count + of.defaults >= of.arguments.len()
        };
        let all = self.names.functions(parts)?;
        if all.iter().any(|of| of.is_variadic) {
            return None;
        }
        let all: Vec<Function> = all.into_iter().filter(fits).collect();
        let signatures: Vec<Vec<Oid>> =
            all.iter().map(|of| of.arguments[..count].to_vec()).collect();
        let types: Vec<Oid> = arguments.iter().map(|of| of.data_type).collect();
        let as_texts: Vec<Oid> = types.iter().copied().map(as_text).collect();
        let has_literals = arguments.iter().any(Typed::is_literal);
        let place = |types: &[Oid]| signatures.iter().position(|of| of == types && !has_literals);
        let exact = place(&types).or_else(|| place(&as_texts));
        let given: Vec<&Typed> = arguments.iter().collect();
        let place = exact.or_else(|| self.chosen(&signatures, &given))?;
        let function = &all[place];
        let is_same = |of: &&Vec<Oid>| **of == signatures[place];
        // Others with more default arguments are ambiguous.
        if signatures.iter().filter(is_same).count() > 1 || !matches!(function.kind, b'f' | b'a') {
            return None;
        }
        if types::POLYMORPHIC.contains(&function.result) {
            return None;
        }
        let collation = self.collation(&given, &function.arguments)?;
        let arguments = arguments
            .into_iter()
            .zip(&function.arguments)
            .map(|(argument, to)| self.converted(argument, *to, false))
            .collect::<Option<Vec<_>>>()?;
        self.used.borrow_mut().functions.insert(function.oid);
        let result = function.result;
        let expression = if function.kind == b'a' {
            Expression::Aggregate { function: function.oid, result, arguments }
        } else {
            Expression::Call {
                function: function.oid,
                result,
                returns_set: function.returns_set,
                collation,
                arguments,
            }
        };
        Some((self.typed(expression, result, collation)?, function.kind))
    }

    /// Returns the place of the signature that a call with some arguments means, of which none is
    /// that of the arguments (`func_select_candidate`); `None` where that is not certain.
    fn chosen(&self, signatures: &[Vec<Oid>], arguments: &[&Typed]) -> Option<usize> {
        let may_be = |of: &&Vec<Oid>| of.iter().any(|of| types::POLYMORPHIC.contains(of));
        let accepts = |of: &[Oid]| {
            of.iter().zip(arguments).all(|(to, argument)| {
                argument.is_literal()
                    || argument.data_type == *to
                    || self.names.cast(argument.data_type, *to).is_some_and(|c| c.is_implicit)
            })
        };
        let exact = |of: &[Oid]| {
            let pairs = of.iter().zip(arguments);
            pairs.filter(|(to, of)| !of.is_literal() && of.data_type == **to).count()
        };
        let known = arguments.iter().filter(|of| !of.is_literal()).count();
        // The types of a polymorphic signature follow from the arguments.
        if signatures.iter().any(|of| may_be(&of)) {
            return None;
        }
        let places: Vec<usize> =
            (0..signatures.len()).filter(|i| accepts(&signatures[*i])).collect();
        let most = places.iter().map(|i| exact(&signatures[*i])).max()?;
        // Where a value has to be converted, the server prefers some types to others.
        if places.len() > 1 && most < known {
            return None;
        }
        let best: Vec<usize> =
            places.into_iter().filter(|i| exact(&signatures[*i]) == most).collect();
        let mut left = best.clone();
        for (at, argument) in arguments.iter().enumerate() {
            if argument.is_literal() && left.iter().any(|i| signatures[*i][at] == types::TEXT) {
                left.retain(|i| signatures[*i][at] == types::TEXT);
            }
        }
        match left[..] {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// Returns the type text for varchar, which has neither operators nor functions of its own.
fn as_text(of: Oid) -> Oid {
    if of == types::VARCHAR { types::TEXT } else { of }
}
