//! Whether a condition of a policy is true, or not true, for every row.
//!
//! The analysis looks at the stored expression and executes nothing. It follows the logic with
//! three values of SQL: of each part it knows the values that the part can have, and everything
//! that it does not know can have any. A column or value that is compared with itself counts as
//! not null. Of functions, those in SQL and PL/pgSQL are known whose body is a constant. A
//! generated column has the values of its expression.

use super::caller::{is_built_in_operator, text_of};
use super::caller_typed::language_of;
use super::oids;
use crate::pg::heap::{State, Table};
use crate::pg::list::nodes;
use dragonfly_core::catalog::{FIRST_NORMAL, Oid};
use dragonfly_core::sql::constant_body::{self, Truth};
use pgrx::pg_sys;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};

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

    const fn of_truth(value: Truth) -> Self {
        match value {
            Some(value) => Self::of(value),
            None => Self::NULL,
        }
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
    /// The expressions of the columns that conditions ask for; `None` where they are not generated.
    generated: RefCell<HashMap<i16, Option<CString>>>,
    /// How many calls of functions the current expression is in.
    depth: Cell<usize>,
}

/// How deeply the bodies of functions are followed.
pub const DEEPEST: usize = 5;

impl<'a> Rows<'a> {
    /// Returns the rows of a relation in a state of the catalog.
    pub fn of(state: &'a State, relation: Oid) -> Self {
        Self {
            state,
            relation,
            not_null: OnceCell::new(),
            generated: RefCell::default(),
            depth: Cell::new(0),
        }
    }

    /// Returns the columns on which the answers so far depend by not being generated; `None` where
    /// they depend on more of the table.
    pub fn plain_columns(&self) -> Option<Vec<i16>> {
        let generated = self.generated.borrow();
        let depend = self.not_null.get().is_some() || generated.values().any(Option::is_some);
        (!depend).then(|| generated.keys().copied().collect())
    }

    /// Whether none of some columns is generated.
    pub fn are_plain(&self, columns: &[i16]) -> bool {
        columns.iter().all(|column| self.expression(*column).is_none())
    }

    /// Returns the expression of a generated column, as text.
    fn expression(&self, column: i16) -> Option<CString> {
        let mut known = self.generated.borrow_mut();
        known.entry(column).or_insert_with(|| self.read_expression(column)).clone()
    }

    fn read_expression(&self, column: i16) -> Option<CString> {
        let defaults = Table::open(oids::PG_ATTRDEF);
        let (of, number) = (defaults.column("adrelid"), defaults.column("adnum"));
        let (expression, keys) = (defaults.column("adbin"), [(of, self.relation)]);
        let mut found = None;
        defaults.lookup(self.state, oids::PG_ATTRDEF_RELID_INDEX, &keys, |row| {
            if row.int(number) as i16 == column {
                found = row.bytes(expression).and_then(|text| CString::new(text).ok());
            }
        });
        // Other columns have a default.
        found.filter(|_| self.is_generated(column))
    }

    fn is_generated(&self, column: i16) -> bool {
        let table = Table::open(oids::PG_ATTRIBUTE);
        let (number, generated) = (table.column("attnum"), table.column("attgenerated"));
        let keys = [(table.column("attrelid"), self.relation)];
        let mut is_generated = false;
        table.lookup(self.state, oids::PG_ATTRIBUTE_RELID_INDEX, &keys, |row| {
            is_generated |= row.int(number) as i16 == column && row.char(generated) != 0;
        });
        is_generated
    }

    /// Returns the expression of a generated column of the table, and others as they are.
    ///
    /// # Safety
    /// `node` is a valid expression tree of a condition on the rows.
    unsafe fn resolved(&self, node: *mut pg_sys::Node) -> *mut pg_sys::Node {
        // SAFETY: the cast follows the node's tag; the server has stored the expression.
        unsafe {
            let column = match (*node).type_ {
                pg_sys::NodeTag::T_Var => node.cast::<pg_sys::Var>(),
                pg_sys::NodeTag::T_RelabelType => {
                    let of: *mut pg_sys::Node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
                    let inner = if of.is_null() { of } else { self.resolved(of) };
                    return if inner == of { node } else { inner };
                }
                _ => return node,
            };
            if (*column).varlevelsup != 0 || (*column).varattno <= 0 {
                return node;
            }
            self.expression((*column).varattno)
                .map_or(node, |text| pg_sys::stringToNode(text.as_ptr()).cast())
        }
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
                pg_sys::NodeTag::T_Var => match self.resolved(node) {
                    plain if plain == node => Values::ANY,
                    expression => self.values(expression),
                },
                pg_sys::NodeTag::T_BoolExpr => self.logical(node.cast()),
                pg_sys::NodeTag::T_OpExpr => self.operator(node.cast()),
                pg_sys::NodeTag::T_ScalarArrayOpExpr => list(node.cast()),
                pg_sys::NodeTag::T_FuncExpr => self.call(node.cast()),
                pg_sys::NodeTag::T_RelabelType => {
                    self.values((*node.cast::<pg_sys::RelabelType>()).arg.cast())
                }
                pg_sys::NodeTag::T_CoerceToDomain => {
                    self.values((*node.cast::<pg_sys::CoerceToDomain>()).arg.cast())
                }
                pg_sys::NodeTag::T_CoerceViaIO => parsed(node.cast()),
                pg_sys::NodeTag::T_DistinctExpr => match arguments(node.cast()) {
                    Some((a, b)) if are_same(a, b) => Values::FALSE,
                    _ => Values::ANY,
                },
                pg_sys::NodeTag::T_NullTest => self.null_test(node.cast()),
                pg_sys::NodeTag::T_BooleanTest => self.boolean_test(node.cast()),
                pg_sys::NodeTag::T_CoalesceExpr => self.coalesce(node.cast()),
                pg_sys::NodeTag::T_CaseExpr => self.case(node.cast()),
                pg_sys::NodeTag::T_SubLink => self.subquery(node.cast()),
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
                a.nulltesttype != b.nulltesttype
                    && are_equal(a.arg.cast(), b.arg.cast())
                    && is_stable(a.arg.cast())
            };
            if tests.iter().any(|a| tests.iter().any(|b| are_opposite(a, b)))
                || parts().any(|a| parts().any(|b| are_negations(a, b)))
            {
                return decides;
            }
            parts().fold(decides.not(), |all, part| all.joined(self.values(part), decides))
        }
    }

    /// Returns the values of an operator. A comparison of booleans is one of their values.
    ///
    /// # Safety
    /// `expression` is valid.
    unsafe fn operator(&self, expression: *mut pg_sys::OpExpr) -> Values {
        // SAFETY: as the caller promises.
        unsafe {
            let Some((a, b)) = arguments(expression) else { return Values::ANY };
            let values = match compared((*expression).opno, a, b) {
                // The expression of a column matters where it may be compared with a constant.
                Values::ANY if is_constant(a) || is_constant(b) => {
                    compared((*expression).opno, self.resolved(a), self.resolved(b))
                }
                values => values,
            };
            let Some((_, holds)) = comparison((*expression).opno) else { return values };
            if values != Values::ANY || pg_sys::exprType(a) != pg_sys::BOOLOID {
                return values;
            }
            let (a, b) = (self.values(a), self.values(b));
            a.map(|a| {
                b.map(|b| {
                    if [a, b].contains(&Values::NULL) {
                        Values::NULL
                    } else {
                        Values::of(holds((a == Values::TRUE).cmp(&(b == Values::TRUE))))
                    }
                })
            })
        }
    }

    /// Returns the values of a call of a function.
    ///
    /// # Safety
    /// `call` is valid.
    unsafe fn call(&self, call: *mut pg_sys::FuncExpr) -> Values {
        /// The cast from integer to boolean (pg_proc.dat, `bool(int4)`).
        const BOOL_OF_INTEGER: u32 = 2557;
        // SAFETY: as the caller promises.
        unsafe {
            let function = (*call).funcid.to_u32();
            if function == BOOL_OF_INTEGER {
                let of = nodes((*call).args).next().filter(|of| !of.is_null());
                let number = of.and_then(|of| integer(of));
                return number.map_or(Values::ANY, |number| Values::of(number != 0));
            }
            if function < FIRST_NORMAL
                || (*call).funcretset
                || (*call).funcresulttype != pg_sys::BOOLOID
                || self.depth.get() >= DEEPEST
            {
                return Values::ANY;
            }
            self.depth.set(self.depth.get() + 1);
            let values = self.body(function, !(*call).args.is_null());
            self.depth.set(self.depth.get() - 1);
            values
        }
    }

    /// Returns the values that the body of a function can return.
    ///
    /// # Safety
    /// The function may be missing; its parsed body is one that the server has stored.
    unsafe fn body(&self, function: Oid, has_arguments: bool) -> Values {
        let table = Table::open(oids::PG_PROC);
        let column = |name| table.column(name);
        let (oid, language) = (column("oid"), column("prolang"));
        let (text, parsed, strict) =
            (column("prosrc"), column("prosqlbody"), column("proisstrict"));
        let mut values = Values::ANY;
        table.lookup(self.state, oids::PG_PROC_OID_INDEX, &[(oid, function)], |row| {
            let body = row.bytes(parsed).and_then(|body| CString::new(body).ok());
            values = if let Some(body) = body {
                // SAFETY: the column contains the result of nodeToString.
                unsafe { self.parsed_body(pg_sys::stringToNode(body.as_ptr()).cast()) }
            } else {
                let text = row.text(text).unwrap_or_default();
                let language = language_of(self.state, row.oid(language));
                constant_body::value(&text, language).map_or(Values::ANY, Values::of_truth)
            };
            // It is not called where an argument is null.
            if row.bool(strict) && has_arguments {
                values = values.or(Values::NULL);
            }
        });
        values
    }

    /// Returns the values of a parsed body: one query, or a list with one. (Its names are those of
    /// its arguments, and no columns.)
    ///
    /// # Safety
    /// `body` is the stored body of a routine.
    unsafe fn parsed_body(&self, body: *mut pg_sys::Node) -> Values {
        // SAFETY: each cast follows the node's tag; a list holds lists of queries.
        unsafe {
            match (*body).type_ {
                pg_sys::NodeTag::T_List => match nodes(body.cast()).collect::<Vec<_>>()[..] {
                    [one] if !one.is_null() => self.parsed_body(one),
                    _ => Values::ANY,
                },
                pg_sys::NodeTag::T_Query => self.selected(body.cast()),
                _ => Values::ANY,
            }
        }
    }

    /// Returns the values of a subquery: what one without FROM selects, and EXISTS of one.
    ///
    /// # Safety
    /// `link` is a valid subquery expression.
    unsafe fn subquery(&self, link: *mut pg_sys::SubLink) -> Values {
        // SAFETY: the subquery of a stored expression is a query.
        unsafe {
            let query = (*link).subselect.cast::<pg_sys::Query>();
            match (*link).subLinkType {
                pg_sys::SubLinkType::EXPR_SUBLINK => self.selected(query),
                pg_sys::SubLinkType::EXISTS_SUBLINK => match self.rows_of(query) {
                    Some(rows) => rows.map(|row| Values::of(row == Values::TRUE)),
                    None => Values::ANY.without(Values::NULL),
                },
                _ => Values::ANY,
            }
        }
    }

    /// Returns the values of the first column of a query without FROM.
    ///
    /// # Safety
    /// `query` is a valid query.
    unsafe fn selected(&self, query: *mut pg_sys::Query) -> Values {
        // SAFETY: as the caller promises; the target list holds target entries.
        unsafe {
            let Some(rows) = self.rows_of(query) else { return Values::ANY };
            let Some(first) = nodes((*query).targetList).next() else { return Values::ANY };
            let value = self.values((*first.cast::<pg_sys::TargetEntry>()).expr.cast());
            rows.map(|row| if row == Values::TRUE { value } else { Values::NULL })
        }
    }

    /// Returns the values of the condition of a query without FROM, which returns one row where it
    /// is true; `None` for other queries.
    ///
    /// # Safety
    /// `query` is a valid query.
    unsafe fn rows_of(&self, query: *mut pg_sys::Query) -> Option<Values> {
        // SAFETY: as the caller promises.
        unsafe {
            let is_plain = (*query).commandType == pg_sys::CmdType::CMD_SELECT
                && !(*query).hasAggs
                && !(*query).hasTargetSRFs
                && (*query).groupClause.is_null()
                && (*query).groupingSets.is_null()
                && (*query).havingQual.is_null()
                && (*query).limitCount.is_null()
                && (*query).limitOffset.is_null()
                && (*query).setOperations.is_null()
                && !(*query).jointree.is_null()
                && (*(*query).jointree).fromlist.is_null();
            let condition = is_plain.then(|| (*(*query).jointree).quals)?;
            Some(if condition.is_null() { Values::TRUE } else { self.values(condition) })
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
            if pg_sys::exprType(argument) == pg_sys::BOOLOID
                && (*argument).type_ != pg_sys::NodeTag::T_Var
            {
                let is_positive = (*test).nulltesttype == pg_sys::NullTestType::IS_NULL;
                return self
                    .values(argument)
                    .map(|value| Values::of((value == Values::NULL) == is_positive));
            }
            let is_null = match (*argument).type_ {
                pg_sys::NodeTag::T_Const => (*argument.cast::<pg_sys::Const>()).constisnull,
                pg_sys::NodeTag::T_SQLValueFunction if !is_plain(argument) => return Values::ANY,
                pg_sys::NodeTag::T_SQLValueFunction => false,
                pg_sys::NodeTag::T_Var => {
                    let column = argument.cast::<pg_sys::Var>();
                    if (*column).varlevelsup != 0 {
                        return Values::ANY.without(Values::NULL);
                    }
                    if self.is_never_null((*column).varattno) {
                        false
                    } else {
                        let of = self.resolved(argument);
                        if !is_constant(of) {
                            return Values::ANY.without(Values::NULL);
                        }
                        (*of.cast::<pg_sys::Const>()).constisnull
                    }
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

/// Returns the values of `a = ANY (ARRAY[...])`, which IN is stored as, and of ALL.
///
/// # Safety
/// `expression` is valid.
unsafe fn list(expression: *mut pg_sys::ScalarArrayOpExpr) -> Values {
    // SAFETY: as the caller promises; the elements of an array are expressions.
    unsafe {
        let arguments: Vec<_> = nodes((*expression).args).collect();
        let [a, list] = arguments[..] else { return Values::ANY };
        if a.is_null() || list.is_null() || (*list).type_ != pg_sys::NodeTag::T_ArrayExpr {
            return Values::ANY;
        }
        let list = list.cast::<pg_sys::ArrayExpr>();
        if (*list).multidims {
            return Values::ANY;
        }
        let decides = Values::of((*expression).useOr);
        nodes((*list).elements).fold(decides.not(), |all, element| {
            all.joined(compared((*expression).opno, a, element), decides)
        })
    }
}

/// Returns the values of a built-in operator: a comparison of a value with itself or of constants.
///
/// # Safety
/// Both operands are valid expression trees.
unsafe fn compared(operator: pg_sys::Oid, a: *mut pg_sys::Node, b: *mut pg_sys::Node) -> Values {
    // SAFETY: as the caller promises.
    unsafe {
        if is_built_in_operator(operator, c"~~")
            && is_plain(a)
            && text_of(b).is_some_and(|pattern| pattern == "%")
        {
            return Values::TRUE;
        }
        let Some((name, holds)) = comparison(operator) else { return Values::ANY };
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

/// Whether a comparison holds for an order of its operands.
type Holds = fn(std::cmp::Ordering) -> bool;

/// Returns the name of a built-in comparison, and when it holds.
fn comparison(operator: pg_sys::Oid) -> Option<(&'static CStr, Holds)> {
    const COMPARISONS: [(&CStr, Holds); 6] = [
        (c"=", |order| order.is_eq()),
        (c"<>", |order| order.is_ne()),
        (c"<=", |order| order.is_le()),
        (c">=", |order| order.is_ge()),
        (c"<", |order| order.is_lt()),
        (c">", |order| order.is_gt()),
    ];
    COMPARISONS.into_iter().find(|(name, _)| is_built_in_operator(operator, name))
}

/// Returns the values of a boolean that is parsed from a constant text.
///
/// # Safety
/// `conversion` is valid.
unsafe fn parsed(conversion: *mut pg_sys::CoerceViaIO) -> Values {
    // SAFETY: as the caller promises.
    unsafe {
        let of: *mut pg_sys::Node = (*conversion).arg.cast();
        if (*conversion).resulttype != pg_sys::BOOLOID || of.is_null() {
            return Values::ANY;
        }
        let truth = text_of(of).and_then(|text| constant_body::truth_of(&text));
        truth.map_or(Values::ANY, Values::of_truth)
    }
}

/// Whether one of two expressions is the negation of the other: `NOT a`, or a built-in comparison
/// with the operator that negates it. Where the operand is null, both are; that counts as not null.
///
/// # Safety
/// Both are null or valid expression trees.
unsafe fn are_negations(a: *mut pg_sys::Node, b: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's tag.
    unsafe {
        if a.is_null() || b.is_null() {
            return false;
        }
        let are_negations = match ((*a).type_, (*b).type_) {
            (_, pg_sys::NodeTag::T_BoolExpr) => {
                let b = b.cast::<pg_sys::BoolExpr>();
                let of = nodes((*b).args).next();
                (*b).boolop == pg_sys::BoolExprType::NOT_EXPR
                    && of.is_some_and(|of| are_equal(a, of))
            }
            (pg_sys::NodeTag::T_OpExpr, pg_sys::NodeTag::T_OpExpr) => {
                let (a, b) = (a.cast::<pg_sys::OpExpr>(), b.cast::<pg_sys::OpExpr>());
                comparison((*a).opno).is_some()
                    && pg_sys::get_negator((*a).opno) == (*b).opno
                    && are_equal((*a).args.cast(), (*b).args.cast())
            }
            _ => false,
        };
        are_negations && is_stable(a)
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

/// Whether an expression is a constant.
///
/// # Safety
/// `node` is a valid expression tree.
unsafe fn is_constant(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    unsafe { (*node).type_ == pg_sys::NodeTag::T_Const }
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

/// Whether an expression returns the same value each time that it is evaluated for a row. One with
/// a missing function does not count: the condition may be one of an earlier state, with a function
/// that the transaction has dropped.
///
/// # Safety
/// `node` is a valid expression tree.
unsafe fn is_stable(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises; functions of the server exist.
    unsafe {
        let text = CStr::from_ptr(pg_sys::nodeToString(node.cast()).cast_const());
        let text = text.to_string_lossy();
        let numbers = |field| {
            let fields = text.split(field).skip(1);
            fields.filter_map(|rest| rest.split([' ', '}']).next()?.parse::<u32>().ok())
        };
        let exists = |function: pg_sys::Oid| !pg_sys::get_func_name(function).is_null();
        numbers(":funcid ").all(|function| exists(function.into()))
            && numbers(":opno ").all(|operator| exists(pg_sys::get_opcode(operator.into())))
            && !pg_sys::contain_volatile_functions(node)
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
        // The tests of a row are not opposite.
        test.filter(|test| !test.argisrow)
    }
}
