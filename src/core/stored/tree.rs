//! The types of stored expressions and queries.

use crate::catalog::{Oid, RelationKind};

/// An expression with resolved names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub enum Expression {
    Column(Column),
    Constant(Constant),
    /// A parameter of the routine whose body the expression is in, or a column of the subquery
    /// that it is compared with.
    Parameter {
        parameter: Parameter,
        data_type: Oid,
    },
    /// A call of a function. Default arguments that the call leaves out are not in it.
    Call {
        function: Oid,
        result: Oid,
        returns_set: bool,
        collation: Oid,
        arguments: Vec<Self>,
    },
    /// A call of an operator.
    Operator {
        operator: Oid,
        result: Oid,
        collation: Oid,
        arguments: Vec<Self>,
    },
    /// `a IS DISTINCT FROM b`, with the operator for equality.
    IsDistinct {
        operator: Oid,
        collation: Oid,
        arguments: Vec<Self>,
    },
    /// `NULLIF(a, b)`, with the operator for equality.
    NullIf {
        operator: Oid,
        collation: Oid,
        arguments: Vec<Self>,
    },
    /// `a operator ANY (array)`, or ALL.
    AnyOrAll {
        operator: Oid,
        collation: Oid,
        any: bool,
        arguments: Vec<Self>,
    },
    Logical {
        logic: Logic,
        arguments: Vec<Self>,
    },
    IsNull {
        argument: Box<Self>,
        /// IS NOT NULL.
        negated: bool,
        /// Whether the test is about the columns of a row.
        of_row: bool,
    },
    IsBoolean {
        argument: Box<Self>,
        test: BooleanTest,
    },
    Case {
        /// What is compared with each branch: a branch then contains [`Self::CaseOperand`].
        operand: Option<Box<Self>>,
        branches: Vec<Branch>,
        otherwise: Option<Box<Self>>,
        result: Oid,
    },
    /// The operand of the surrounding CASE.
    CaseOperand,
    Coalesce {
        arguments: Vec<Self>,
        result: Oid,
    },
    /// GREATEST and LEAST.
    Extreme {
        is_least: bool,
        collation: Oid,
        arguments: Vec<Self>,
    },
    Array {
        elements: Vec<Self>,
        element: Oid,
        has_dimensions: bool,
    },
    Row {
        columns: Vec<Self>,
    },
    /// `(a, b) < (c, d)`: an order of rows. (Equality is stored as AND.)
    RowOrder {
        operators: Vec<Oid>,
        left: Vec<Self>,
        right: Vec<Self>,
    },
    /// A conversion that keeps the bytes of the value.
    Relabel {
        argument: Box<Self>,
        result: Oid,
    },
    /// A conversion by the text of the value.
    ThroughText {
        argument: Box<Self>,
        result: Oid,
    },
    /// A conversion of each element of an array.
    ArrayConversion {
        argument: Box<Self>,
        result: Oid,
        /// Whether it keeps the bytes of the elements.
        is_label: bool,
    },
    ToDomain {
        argument: Box<Self>,
        result: Oid,
    },
    Collate {
        argument: Box<Self>,
        collation: Oid,
    },
    SqlValue(SqlValue),
    Subscript {
        container: Box<Self>,
        /// The subscripts; of a slice, the upper bounds and then the lower ones.
        subscripts: Vec<Self>,
        is_slice: bool,
    },
    /// A column of a row value.
    Field {
        argument: Box<Self>,
        number: i16,
    },
    Subquery {
        link: Link,
        /// What ANY and ALL compare with each row.
        test: Option<Box<Self>>,
        query: Box<Query>,
    },
    Aggregate {
        function: Oid,
        result: Oid,
        arguments: Vec<Self>,
    },
    /// A node that is not known, with its name.
    Unknown(String),
}

/// A column of a range table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Column {
    /// The index of the entry in the range table, from 1.
    pub entry: usize,
    /// 0 is the whole row; system columns are negative.
    pub number: i16,
    /// How many queries outwards the range table is.
    pub level: usize,
    pub data_type: Oid,
}

/// A constant; the value `None` is null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Constant {
    pub data_type: Oid,
    /// The bytes as the server stores them, with the length of a value of variable length.
    pub value: Option<Vec<u8>>,
}

/// A parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parameter {
    /// The argument of the routine with this number, from 1.
    Argument(usize),
    /// The column of the subquery with this number, from 1.
    OfSubquery(usize),
}

/// How conditions are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Logic {
    And,
    Or,
    Not,
}

/// A test of a boolean, in the order of the server's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum BooleanTest {
    IsTrue,
    IsNotTrue,
    IsFalse,
    IsNotFalse,
    IsUnknown,
    IsNotUnknown,
}

/// A branch of CASE.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Branch {
    pub condition: Expression,
    pub result: Expression,
}

/// A function of SQL that is called without parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlValue {
    /// `current_role`, `current_user` and `user`.
    CurrentUser,
    /// `session_user`.
    SessionUser,
    /// `current_catalog`.
    Database,
    /// `current_schema`.
    Schema,
    /// `current_date` and others.
    Time {
        /// The number of `SQLValueFunctionOp`: the keyword.
        op: u8,
        /// The number of digits; -1 for all.
        precision: i32,
    },
}

/// How a subquery is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Link {
    Exists,
    All,
    Any,
    /// A comparison of rows.
    Row,
    Scalar,
    Array,
}

/// What a query does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Command {
    #[default]
    Select,
    Insert,
    Update,
    Delete,
    Other,
}

/// A query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Query {
    pub command: Command,
    /// The index of the entry that is written, from 1; 0 where there is none.
    pub written: usize,
    pub entries: Vec<RangeEntry>,
    pub from: Vec<FromItem>,
    pub condition: Option<Expression>,
    pub targets: Vec<Target>,
    /// The queries of WITH, by name.
    pub with: Vec<(String, Query)>,
    pub is_recursive: bool,
    pub has_aggregates: bool,
    pub has_window_functions: bool,
    /// Whether a target returns a set.
    pub has_set_targets: bool,
    pub has_distinct: bool,
    pub group: bool,
    pub grouping_sets: bool,
    pub having: Option<Expression>,
    pub limit: bool,
    pub offset: bool,
    pub set_operation: Option<SetOperation>,
    /// Of INSERT: what ON CONFLICT DO UPDATE does.
    pub on_conflict: Option<Box<OnConflict>>,
}

/// The update of a row that has a key of a row that was to be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct OnConflict {
    /// The expressions of the key; none where a constraint was named.
    pub keys: Vec<Expression>,
    /// The constraint that was named.
    pub constraint: Option<Oid>,
    pub condition: Option<Expression>,
    /// The entry that is the row that was to be inserted, from 1.
    pub excluded: usize,
}

/// An entry of a range table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct RangeEntry {
    pub name: String,
    pub range: Range,
}

/// What a range table entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub enum Range {
    /// A table or view, and whether the tables that inherit from it are read too.
    Relation {
        oid: Oid,
        with_children: bool,
        /// What it was when the query was stored.
        kind: Option<RelationKind>,
        /// Whether only a part of its rows is read: TABLESAMPLE.
        is_sample: bool,
    },
    Subquery(Box<Query>),
    /// A join: what its columns are.
    Join {
        columns: Vec<Expression>,
    },
    Functions(Vec<Expression>),
    Values(Vec<Vec<Expression>>),
    /// A query of WITH, by its name and how many queries outwards it is.
    With {
        name: String,
        level: usize,
        is_itself: bool,
    },
    /// The columns of GROUP BY (from PostgreSQL 18).
    Group(Vec<Expression>),
    /// One row without columns.
    Result,
    /// Another kind, with its number.
    Other(String),
}

/// A part of FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub enum FromItem {
    /// An entry of the range table, from 1.
    Entry(usize),
    Join {
        kind: JoinKind,
        left: Box<Self>,
        right: Box<Self>,
        condition: Option<Expression>,
        /// The entry of the join itself.
        entry: usize,
    },
    /// Items with a condition of their own.
    List {
        items: Vec<Self>,
        condition: Option<Expression>,
    },
    Unknown(String),
}

/// How two items are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum JoinKind {
    Inner,
    Left,
    Full,
    Right,
}

/// A column of the result, or of the row that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Target {
    pub expression: Expression,
    /// Of a written row: the number of the column.
    pub number: i16,
    pub name: String,
    /// Whether it is only needed for sorting or grouping.
    pub is_hidden: bool,
}

/// UNION, INTERSECT or EXCEPT.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub enum SetOperation {
    /// A subquery of the range table, from 1.
    Entry(usize),
    Operation {
        operator: SetOperator,
        left: Box<Self>,
        right: Box<Self>,
    },
    Unknown,
}

/// An operator between queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum SetOperator {
    Union,
    Intersect,
    Except,
}
