//! Whether a condition of a policy is true, or not true, for every row.
//!
//! The analysis looks at the stored expression and executes nothing. It follows the logic with
//! three values of SQL: of each part it knows the values that the part can have, and everything
//! that it does not know can have any. A column or value that is compared with itself counts as
//! not null.

use super::caller::{is_built_in_operator, text_of};
use super::oids;
use crate::pg::heap::{State, Table};
use crate::pg::list::nodes;
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::CStr;

/// The values that a boolean expression can have, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values(u8);

impl Values {
    const TRUE: Self = Self(1);
    const FALSE: Self = Self(2);
    const NULL: Self = Self(4);
    const ANY: Self = Self(7);

    /// Whether the expression is true for every row.
    pub fn is_always_true(self) -> bool {
        self == Self::TRUE
    }

    /// Whether the expression is false or null for every row.
    pub fn is_never_true(self) -> bool {
        !self.has(Self::TRUE)
    }

    const fn of(value: bool) -> Self {
        if value { Self::TRUE } else { Self::FALSE }
    }

    const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, one: Self) -> Self {
        Self(self.0 & !one.0)
    }

    /// Returns the set of what `map` makes of the values.
    fn map(self, map: impl Fn(Self) -> Self) -> Self {
        [Self::TRUE, Self::FALSE, Self::NULL]
            .into_iter()
            .filter(|one| self.has(*one))
            .fold(Self(0), |all, one| all.or(map(one)))
    }

    fn not(self) -> Self {
        self.map(|value| match value {
            Self::TRUE => Self::FALSE,
            Self::FALSE => Self::TRUE,
            null => null,
        })
    }

    /// Returns the values of `self AND other` (`decides` is FALSE) or `self OR other` (TRUE).
    fn joined(self, other: Self, decides: Self) -> Self {
        let join = |a: Self, b: Self| match (a, b) {
            _ if a == decides || b == decides => decides,
            _ if a == Self::NULL || b == Self::NULL => Self::NULL,
            _ => a,
        };
        self.map(|a| other.map(|b| join(a, b)))
    }
}

/// The table whose rows a condition is about.
pub struct Rows<'a> {
    state: &'a State,
    relation: Oid,
    /// The columns that are never null, read when a condition asks for them.
    not_null: OnceCell<HashSet<i16>>,
}

impl<'a> Rows<'a> {
    /// Returns the rows of a relation in a state of the catalog.
    pub fn of(state: &'a State, relation: Oid) -> Self {
        Self { state, relation, not_null: OnceCell::new() }
    }

    /// Whether the answers so far depend on the table, and not only on the expression.
    pub fn matter(&self) -> bool {
        self.not_null.get().is_some()
    }

    fn is_never_null(&self, column: i16) -> bool {
        let read = || {
            let table = Table::open(oids::PG_ATTRIBUTE);
            let relation = table.column("attrelid");
            let (number, not_null) = (table.column("attnum"), table.column("attnotnull"));
            let mut columns = HashSet::new();
            table.lookup(
                self.state,
                oids::PG_ATTRIBUTE_RELID_INDEX,
                &[(relation, self.relation)],
                |row| {
                    columns.extend(row.bool(not_null).then(|| row.int(number) as i16));
                },
            );
            columns
        };
        // System columns have a value in every row.
        column < 0 || self.not_null.get_or_init(read).contains(&column)
    }

    /// Returns the values that an expression can have.
    ///
    /// # Safety
    /// `node` is null or a valid expression tree of a condition on the rows.
    pub unsafe fn values(&self, node: *mut pg_sys::Node) -> Values {
        if node.is_null() {
            return Values::ANY;
        }
        // SAFETY: each cast follows the node's tag; lists hold expressions.
        unsafe {
            pg_sys::check_stack_depth();
            match (*node).type_ {
                pg_sys::NodeTag::T_Const => constant(node.cast()),
                pg_sys::NodeTag::T_BoolExpr => self.logical(node.cast()),
                pg_sys::NodeTag::T_OpExpr => operator(node.cast()),
                pg_sys::NodeTag::T_DistinctExpr => match arguments(node.cast()) {
                    Some((a, b)) if are_same(a, b) => Values::FALSE,
                    _ => Values::ANY,
                },
                pg_sys::NodeTag::T_NullTest => self.null_test(node.cast()),
                pg_sys::NodeTag::T_BooleanTest => self.boolean_test(node.cast()),
                pg_sys::NodeTag::T_CoalesceExpr => self.coalesce(node.cast()),
                pg_sys::NodeTag::T_CaseExpr => self.case(node.cast()),
                pg_sys::NodeTag::T_SubLink => {
                    selected(node.cast()).map_or(Values::ANY, |value| self.values(value))
                }
                _ => Values::ANY,
            }
        }
    }

    /// Returns the values of AND, OR and NOT.
    ///
    /// # Safety
    /// `expression` is valid.
    unsafe fn logical(&self, expression: *mut pg_sys::BoolExpr) -> Values {
        // SAFETY: as the caller promises.
        unsafe {
            let parts = || nodes((*expression).args);
            let decides = match (*expression).boolop {
                pg_sys::BoolExprType::AND_EXPR => Values::FALSE,
                pg_sys::BoolExprType::OR_EXPR => Values::TRUE,
                _ => return parts().next().map_or(Values::ANY, |a| self.values(a).not()),
            };
            let tests: Vec<_> = parts().filter_map(|part| null_test_of(part)).collect();
            let are_opposite = |a: &pg_sys::NullTest, b: &pg_sys::NullTest| {
                a.nulltesttype != b.nulltesttype && are_equal(a.arg.cast(), b.arg.cast())
            };
            if tests.iter().any(|a| tests.iter().any(|b| are_opposite(a, b))) {
                return decides;
            }
            parts().fold(decides.not(), |all, part| all.joined(self.values(part), decides))
        }
    }

    /// # Safety
    /// `test` is valid.
    unsafe fn null_test(&self, test: *mut pg_sys::NullTest) -> Values {
        // SAFETY: as the caller promises; each cast follows the node's tag.
        unsafe {
            let argument: *mut pg_sys::Node = (*test).arg.cast();
            if argument.is_null() || (*test).argisrow {
                return Values::ANY;
            }
            let is_null = match (*argument).type_ {
                pg_sys::NodeTag::T_Const => (*argument.cast::<pg_sys::Const>()).constisnull,
                pg_sys::NodeTag::T_SQLValueFunction if !is_plain(argument) => return Values::ANY,
                pg_sys::NodeTag::T_SQLValueFunction => false,
                pg_sys::NodeTag::T_Var => {
                    let column = argument.cast::<pg_sys::Var>();
                    if (*column).varlevelsup != 0 || !self.is_never_null((*column).varattno) {
                        return Values::ANY.without(Values::NULL);
                    }
                    false
                }
                _ => return Values::ANY.without(Values::NULL),
            };
            Values::of(is_null == ((*test).nulltesttype == pg_sys::NullTestType::IS_NULL))
        }
    }

    /// # Safety
    /// `test` is valid.
    unsafe fn boolean_test(&self, test: *mut pg_sys::BooleanTest) -> Values {
        use pg_sys::BoolTestType::{
            IS_FALSE, IS_NOT_FALSE, IS_NOT_TRUE, IS_NOT_UNKNOWN, IS_TRUE, IS_UNKNOWN,
        };
        // SAFETY: as the caller promises.
        let (values, kind) = unsafe { (self.values((*test).arg.cast()), (*test).booltesttype) };
        let wanted = match kind {
            IS_TRUE | IS_NOT_TRUE => Values::TRUE,
            IS_FALSE | IS_NOT_FALSE => Values::FALSE,
            IS_UNKNOWN | IS_NOT_UNKNOWN => Values::NULL,
            _ => return Values::ANY,
        };
        let is_positive = matches!(kind, IS_TRUE | IS_FALSE | IS_UNKNOWN);
        values.map(|value| Values::of((value == wanted) == is_positive))
    }

    /// # Safety
    /// `expression` is valid.
    unsafe fn coalesce(&self, expression: *mut pg_sys::CoalesceExpr) -> Values {
        let mut all = Values::NULL;
        // SAFETY: as the caller promises.
        for argument in unsafe { nodes((*expression).args) } {
            // SAFETY: the list holds expressions.
            all = all.without(Values::NULL).or(unsafe { self.values(argument) });
            if !all.has(Values::NULL) {
                break;
            }
        }
        all
    }

    /// # Safety
    /// `case` is valid.
    unsafe fn case(&self, case: *mut pg_sys::CaseExpr) -> Values {
        // SAFETY: as the caller promises; the list holds branches.
        unsafe {
            let is_searched = (*case).arg.is_null();
            let mut all = Values(0);
            for branch in nodes((*case).args) {
                let branch = branch.cast::<pg_sys::CaseWhen>();
                let condition =
                    if is_searched { self.values((*branch).expr.cast()) } else { Values::ANY };
                if condition.has(Values::TRUE) {
                    all = all.or(self.values((*branch).result.cast()));
                }
                if condition.is_always_true() {
                    return all;
                }
            }
            all.or(self.values((*case).defresult.cast()))
        }
    }
}

/// # Safety
/// `constant` is valid.
unsafe fn constant(constant: *mut pg_sys::Const) -> Values {
    // SAFETY: as the caller promises.
    unsafe {
        match (*constant).consttype {
            _ if (*constant).constisnull => Values::NULL,
            pg_sys::BOOLOID => Values::of((*constant).constvalue.value() & 0xff != 0),
            _ => Values::ANY,
        }
    }
}

/// Returns the values of a built-in comparison of a value with itself, or of constants.
///
/// # Safety
/// `expression` is valid.
unsafe fn operator(expression: *mut pg_sys::OpExpr) -> Values {
    type Holds = fn(std::cmp::Ordering) -> bool;
    const COMPARISONS: [(&CStr, Holds); 6] = [
        (c"=", |order| order.is_eq()),
        (c"<>", |order| order.is_ne()),
        (c"<=", |order| order.is_le()),
        (c">=", |order| order.is_ge()),
        (c"<", |order| order.is_lt()),
        (c">", |order| order.is_gt()),
    ];
    // SAFETY: as the caller promises.
    unsafe {
        let is = |name| is_built_in_operator((*expression).opno, name);
        let Some((a, b)) = arguments(expression) else { return Values::ANY };
        if is(c"~~") && is_plain(a) && text_of(b).is_some_and(|pattern| pattern == "%") {
            return Values::TRUE;
        }
        let Some((name, holds)) = COMPARISONS.into_iter().find(|(name, _)| is(name)) else {
            return Values::ANY;
        };
        let is_null = |node: *mut pg_sys::Node| {
            (*node).type_ == pg_sys::NodeTag::T_Const && (*node.cast::<pg_sys::Const>()).constisnull
        };
        if is_null(a) || is_null(b) {
            return Values::NULL;
        }
        if are_same(a, b) {
            return Values::of(holds(std::cmp::Ordering::Equal));
        }
        if let (Some(a), Some(b)) = (integer(a), integer(b)) {
            return Values::of(holds(a.cmp(&b)));
        }
        match name {
            name if name == c"=" && are_different(a, b) => Values::FALSE,
            name if name == c"<>" && are_different(a, b) => Values::TRUE,
            _ => Values::ANY,
        }
    }
}

/// Returns the two operands of an operator; `None` where it has one.
///
/// # Safety
/// `expression` is valid.
unsafe fn arguments(
    expression: *mut pg_sys::OpExpr,
) -> Option<(*mut pg_sys::Node, *mut pg_sys::Node)> {
    // SAFETY: as the caller promises.
    let arguments: Vec<_> = unsafe { nodes((*expression).args) }.collect();
    match arguments[..] {
        [a, b] if !a.is_null() && !b.is_null() => Some((a, b)),
        _ => None,
    }
}

/// Returns the value of a constant of a built-in integer type that is not null.
///
/// # Safety
/// `node` is a valid expression tree.
unsafe fn integer(node: *mut pg_sys::Node) -> Option<i64> {
    // SAFETY: the cast follows the node's tag.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let constant = node.cast::<pg_sys::Const>();
        let value = (*constant).constvalue.value();
        match (*constant).consttype {
            _ if (*constant).constisnull => None,
            pg_sys::INT2OID => Some(i64::from(value as i16)),
            pg_sys::INT4OID => Some(i64::from(value as i32)),
            pg_sys::INT8OID => Some(value as i64),
            _ => None,
        }
    }
}

/// Whether two expressions are different constants. Only types passed by value are compared: others
/// may have different representations of equal values.
///
/// # Safety
/// Both are valid expression trees.
unsafe fn are_different(a: *mut pg_sys::Node, b: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's tag.
    unsafe {
        let constant = |node: *mut pg_sys::Node| {
            ((*node).type_ == pg_sys::NodeTag::T_Const).then(|| node.cast::<pg_sys::Const>())
        };
        let (Some(a), Some(b)) = (constant(a), constant(b)) else { return false };
        (*a).constbyval
            && (*a).consttype == (*b).consttype
            && (*a).constvalue.value() != (*b).constvalue.value()
    }
}

/// Whether two expressions are the same plain value.
///
/// # Safety
/// Both are valid expression trees.
unsafe fn are_same(a: *mut pg_sys::Node, b: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    unsafe { is_plain(a) && are_equal(a, b) }
}

/// # Safety
/// Both are null or valid expression trees.
unsafe fn are_equal(a: *mut pg_sys::Node, b: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    unsafe { pg_sys::equal(a.cast(), b.cast()) }
}

/// Whether an expression is a constant that is not null, a column, or a value of the session that
/// is never null, such as CURRENT_USER; also where it is only labelled with another type.
///
/// # Safety
/// `node` is a valid expression tree.
unsafe fn is_plain(node: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's tag.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => !(*node.cast::<pg_sys::Const>()).constisnull,
            pg_sys::NodeTag::T_SQLValueFunction => {
                let op = (*node.cast::<pg_sys::SQLValueFunction>()).op;
                op != pg_sys::SQLValueFunctionOp::SVFOP_CURRENT_SCHEMA
            }
            pg_sys::NodeTag::T_RelabelType => {
                let of: *mut pg_sys::Node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
                !of.is_null() && is_plain(of)
            }
            tag => tag == pg_sys::NodeTag::T_Var,
        }
    }
}

/// Returns the test for null that an expression is.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn null_test_of<'a>(node: *mut pg_sys::Node) -> Option<&'a pg_sys::NullTest> {
    // SAFETY: the cast follows the node's tag.
    unsafe {
        let is_test = !node.is_null() && (*node).type_ == pg_sys::NodeTag::T_NullTest;
        let test = is_test.then(|| &*node.cast::<pg_sys::NullTest>());
        // The tests of a row are not opposite, and a volatile function may return different values.
        test.filter(|test| !test.argisrow && !pg_sys::contain_volatile_functions(test.arg.cast()))
    }
}

/// Returns the expression that a subquery without FROM and WHERE selects; `None` for others.
///
/// # Safety
/// `link` is a valid subquery expression.
unsafe fn selected(link: *mut pg_sys::SubLink) -> Option<*mut pg_sys::Node> {
    // SAFETY: the subquery of a stored expression is a query, whose list holds target entries.
    unsafe {
        let query = (*link).subselect.cast::<pg_sys::Query>();
        let is_plain = (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK
            && (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && !(*query).jointree.is_null()
            && (*(*query).jointree).fromlist.is_null()
            && (*(*query).jointree).quals.is_null();
        let first = nodes((*query).targetList).next().filter(|_| is_plain)?;
        Some((*first.cast::<pg_sys::TargetEntry>()).expr.cast())
    }
}
