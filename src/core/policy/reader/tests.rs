//! Rules of the reader that random conditions do not reach: helper functions, views, generated
//! columns and collations.

use crate::catalog::{Oid, RelationKind};
use crate::policy::constants::types::{BOOL, INT4, TEXT};
use crate::policy::facts::{Body, Catalog, Column, Function, Operator, View};
use crate::policy::formula::Comparison;
use crate::policy::{Proven, prove};
use crate::stored::{
    self, BooleanTest, Command, Constant, Expression, FromItem, Link, Logic, Parameter, Query,
    Range, RangeEntry, Target,
};
use std::rc::Rc;

const TABLE: Oid = 16400;
const VIEW: Oid = 16401;
const LOOKUP: Oid = 16402;
const HELPER: Oid = 16500;
const RANDOM: Oid = 16501;
const EQUAL: Oid = 96;
const FOREIGN_EQUAL: Oid = 16600;
const FUZZY: Oid = 16700;

/// Columns: 1 is NOT NULL, 2 can be null, 3 is generated as true, 4 is a nullable boolean. The
/// helper returns its first argument, or with one argument its default.
#[derive(Default)]
struct Fake {
    is_strict: bool,
    body: Option<Body>,
}

impl Catalog for Fake {
    fn operator(&self, oid: Oid) -> Option<Operator> {
        let is_built_in = oid == EQUAL;
        Some(Operator {
            name: "=".to_owned(),
            is_built_in,
            is_of_extension: false,
            is_equality: is_built_in,
            function: 65,
            is_strict: true,
            is_volatile: false,
            comparison: is_built_in.then_some(Comparison::Equal),
        })
    }

    fn function(&self, oid: Oid) -> Option<Rc<Function>> {
        let body = self.body.clone().filter(|_| oid == HELPER).unwrap_or(Body::Opaque);
        Some(Rc::new(Function {
            name: "helper".to_owned(),
            signature: String::new(),
            is_built_in: false,
            is_strict: self.is_strict,
            is_volatile: oid == RANDOM,
            is_immutable: false,
            is_called: false,
            owner: None,
            argument_count: 1,
            argument_names: vec![],
            asks_caller: true,
            defaults: vec![boolean(Some(true))],
            body,
        }))
    }

    fn column(&self, _relation: Oid, number: i16) -> Option<Column> {
        let generated = (number == 3).then(|| Rc::new(boolean(Some(true))));
        Some(Column { nullable: number != 1, generated })
    }

    fn view(&self, relation: Oid) -> Option<Rc<View>> {
        // CREATE VIEW v AS SELECT 1 FROM v: no real view is one of itself.
        let view = || View { query: select_from(VIEW, None), owner: Some(10) };
        (relation == VIEW).then(|| Rc::new(view()))
    }

    fn is_deterministic(&self, collation: Oid) -> bool {
        collation != FUZZY
    }
}

fn boolean(value: Option<bool>) -> Expression {
    let value = value.map(|value| vec![u8::from(value)]);
    Expression::Constant(Constant { data_type: BOOL, value })
}

fn text(value: &str) -> Expression {
    let mut bytes = (((value.len() + 4) << 2) as u32).to_le_bytes().to_vec();
    bytes.extend(value.as_bytes());
    Expression::Constant(Constant { data_type: TEXT, value: Some(bytes) })
}

fn column(number: i16, data_type: Oid) -> Expression {
    Expression::Column(stored::Column { entry: 1, number, level: 0, data_type })
}

fn equal(operator: Oid, collation: Oid, arguments: [Expression; 2]) -> Expression {
    Expression::Operator { operator, result: BOOL, collation, arguments: arguments.to_vec() }
}

fn any(arguments: Vec<Expression>) -> Expression {
    Expression::Logical { logic: Logic::Or, arguments }
}

fn call(function: Oid, arguments: Vec<Expression>) -> Expression {
    Expression::Call { function, result: BOOL, returns_set: false, collation: 0, arguments }
}

fn not(argument: Expression) -> Expression {
    Expression::Logical { logic: Logic::Not, arguments: vec![argument] }
}

fn query(targets: Vec<Expression>) -> Query {
    let target =
        |expression| Target { expression, number: 1, name: String::new(), is_hidden: false };
    Query {
        command: Command::Select,
        written: 0,
        entries: Vec::new(),
        from: Vec::new(),
        condition: None,
        targets: targets.into_iter().map(target).collect(),
        with: Vec::new(),
        is_recursive: false,
        has_aggregates: false,
        has_window_functions: false,
        has_set_targets: false,
        has_distinct: false,
        group: false,
        grouping_sets: false,
        having: None,
        limit: false,
        offset: false,
        set_operation: None,
        on_conflict: None,
    }
}

fn select_from(relation: Oid, condition: Option<Expression>) -> Query {
    let (kind, is_sample) = (Some(RelationKind::Table), false);
    let range = Range::Relation { oid: relation, with_children: true, kind, is_sample };
    Query {
        entries: vec![RangeEntry { name: "r".to_owned(), range }],
        from: vec![FromItem::Entry(1)],
        condition,
        ..query(vec![boolean(Some(true))])
    }
}

fn exists(query: Query) -> Expression {
    Expression::Subquery { link: Link::Exists, test: None, query: Box::new(query) }
}

fn proven(catalog: &Fake, expression: &Expression) -> (bool, bool) {
    let Proven { is_always_true, is_never_true, .. } = prove(catalog, TABLE, expression);
    (is_always_true, is_never_true)
}

const ALWAYS: (bool, bool) = (true, false);
const NEVER: (bool, bool) = (false, true);
const NEITHER: (bool, bool) = (false, false);

#[test]
fn helper_is_its_body_with_arguments_and_defaults() {
    let first = Expression::Parameter { parameter: Parameter::Argument(1), data_type: BOOL };
    let catalog = Fake { body: Some(Body::Query(Box::new(query(vec![first])))), ..Fake::default() };
    assert_eq!(proven(&catalog, &call(HELPER, vec![])), ALWAYS);
    assert_eq!(proven(&catalog, &call(HELPER, vec![boolean(Some(false))])), NEVER);
    assert_eq!(proven(&catalog, &call(HELPER, vec![column(4, BOOL)])), NEITHER);
}

#[test]
fn strict_helper_is_null_where_an_argument_is() {
    let body = Some(Body::Constant(Some(true)));
    let (lax, strict) =
        (Fake { body: body.clone(), is_strict: false }, Fake { body, is_strict: true });
    let of_nullable = call(HELPER, vec![column(2, INT4)]);
    assert_eq!(proven(&lax, &of_nullable), ALWAYS);
    assert_eq!(proven(&strict, &of_nullable), NEITHER);
    assert_eq!(proven(&strict, &call(HELPER, vec![column(1, INT4)])), ALWAYS);
}

#[test]
fn opaque_call_is_one_value_unless_it_is_volatile() {
    let complement = |function| {
        let is = |test| Expression::IsBoolean { argument: Box::new(call(function, vec![])), test };
        any(vec![is(BooleanTest::IsTrue), is(BooleanTest::IsNotTrue)])
    };
    assert_eq!(proven(&Fake::default(), &complement(HELPER)), ALWAYS);
    assert_eq!(proven(&Fake::default(), &complement(RANDOM)), NEITHER);
}

#[test]
fn generated_column_is_its_expression() {
    assert_eq!(proven(&Fake::default(), &column(3, BOOL)), ALWAYS);
    assert_eq!(proven(&Fake::default(), &not(column(3, BOOL))), NEVER);
}

#[test]
fn comparison_with_itself_is_true_unless_null_or_by_an_operator_of_an_application() {
    let of = |operator, number| {
        proven(&Fake::default(), &equal(operator, 0, [column(number, INT4), column(number, INT4)]))
    };
    assert_eq!(of(EQUAL, 1), ALWAYS);
    assert_eq!(of(EQUAL, 2), NEITHER);
    let nullable = equal(EQUAL, 0, [column(2, INT4), column(2, INT4)]);
    assert!(prove(&Fake::default(), TABLE, &nullable).is_true_unless_null);
    assert_eq!(of(FOREIGN_EQUAL, 1), NEITHER);
}

#[test]
fn texts_are_different_unless_the_collation_may_call_them_equal() {
    let both = |collation| {
        let is = |value| equal(EQUAL, collation, [column(2, TEXT), text(value)]);
        Expression::Logical { logic: Logic::And, arguments: vec![is("a"), is("A")] }
    };
    assert_eq!(proven(&Fake::default(), &both(100)), NEVER);
    assert_eq!(proven(&Fake::default(), &both(FUZZY)), NEITHER);
}

#[test]
fn subquery_of_a_table_may_find_nothing_and_one_without_from_is_exact() {
    let catalog = Fake::default();
    assert_eq!(proven(&catalog, &exists(select_from(LOOKUP, None))), NEITHER);
    assert_eq!(proven(&catalog, &exists(select_from(LOOKUP, Some(boolean(None))))), NEVER);
    assert_eq!(proven(&catalog, &exists(query(vec![]))), ALWAYS);
    let none = Query { condition: Some(boolean(Some(false))), ..query(vec![]) };
    assert_eq!(proven(&catalog, &exists(none)), NEVER);
}

#[test]
fn view_that_goes_too_deep_is_a_table_of_which_nothing_is_known() {
    assert_eq!(proven(&Fake::default(), &exists(select_from(VIEW, None))), NEITHER);
}

#[test]
fn condition_that_is_too_large_is_neither() {
    let choose = |a: Expression| Expression::Coalesce {
        arguments: vec![column(2, INT4), a, column(2, INT4)],
        result: INT4,
    };
    let large = (0..14).fold(column(2, INT4), |part, _| choose(part));
    let condition = equal(EQUAL, 0, [large.clone(), large]);
    assert_eq!(proven(&Fake::default(), &condition), NEITHER);
}
